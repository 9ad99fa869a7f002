"""The source page's way to capture a network: a boundary's start and end around the user's own forward.

    from amc_plugins import reconstructor

    reconstructor.insertCaptureBoundaryStart(network)
    oup = network(torch.rand(1, 3, 32, 32))
    reconstructor.insertCaptureBoundaryEnd()
    reconstructed_network, graph = reconstructor.getReconstructedNetwork(ifDraw=True, drawPath="./origin_net")

One boundary is open at a time. It closes by itself when the network's forward is over, also when that raises; whatever is left
of it is taken away by the next start, and at the end of the interpreter. `amc.capture` and `amc.capturing` do the same without
state.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from amc_plugins.core.capture import Boundary, capturing, unwrap
from amc_plugins.core.document import Document
from amc_plugins.core.draw import SUFFIXES, draw_all
from amc_plugins.core.errors import AmcError, CaptureError, SettingsError
from amc_plugins.core.network import ReconstructedNetwork

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

__all__ = ["getReconstructedNetwork", "insertCaptureBoundaryEnd", "insertCaptureBoundaryStart"]

logger = logging.getLogger("amc_plugins.capture")
_START = "insertCaptureBoundaryStart(network)"
_END = "insertCaptureBoundaryEnd()"


class _Session:
    """One boundary. `close` takes its hooks and its mode away; it may be called any number of times."""

    def __init__(self, network: nn.Module) -> None:
        self._root = unwrap(network)
        self._context: AbstractContextManager[Boundary] | None = capturing(network)
        self.boundary = self._context.__enter__()
        self.ended = False
        self.displaced = False
        self.failure: BaseException | None = None
        self._depth = 0  # a network may call itself
        self._handles: list[RemovableHandle] = [torch_module.register_module_forward_pre_hook(self._before)]

    def _before(self, module: nn.Module, inputs: Any) -> None:
        if module is not self._root:
            return
        if not self._depth:  # now, so that it comes after the recorder's hook and the user's
            self._handles.append(module.register_forward_hook(self._after, always_call=True))
        self._depth += 1

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The last hook after the forward; also inside the handling of the exception of one that raised."""
        self._depth -= 1
        if self._depth:
            return
        if not self.boundary._recorder.done:
            self.failure = sys.exc_info()[1]
            if next(reversed(module._forward_hooks)) != self._handles[-1].id:
                return  # torch is going through the hooks that are left, so they may not change now: the end will close
        self.close()

    def close(self) -> None:
        context, self._context = self._context, None
        if context is None:
            return
        for handle in self._handles:
            handle.remove()
        above: list[TorchFunctionMode] = []  # modes that the user entered after the start and is still in
        stack = _get_current_function_mode_stack()
        if self.boundary._recorder in stack:
            while stack[-1 - len(above)] is not self.boundary._recorder:
                above.append(_pop_mode())
        else:
            # A mode that was entered before the start has left inside the boundary, and its exit took the uppermost one, ours,
            # off the stack: now the exit of ours takes that one off.
            self.displaced = True
            if not stack:
                _push_mode(self.boundary._recorder)
        context.__exit__(None, None, None)
        for mode in reversed(above):
            _push_mode(mode)


_session: _Session | None = None


def insertCaptureBoundaryStart(network: nn.Module) -> None:  # noqa: N802 - the source page's name
    """Record the next forward of `network`, in the mode that it is in. A boundary that was left open is closed first.

    Raises:
        CaptureError: `network` is not a module that can be recorded.
    """
    global _session  # noqa: PLW0603 - the page's functions share a state
    if _session is not None and not _session.ended:
        logger.warning("a capture boundary was started again before %s: the earlier one is dropped", _END)
    _drop()
    _session = _Session(network)


def insertCaptureBoundaryEnd() -> None:  # noqa: N802 - the source page's name
    """Close the boundary.

    Raises:
        CaptureError: there is no open boundary, the network was not called inside it, or its forward raised.
        AmcError: what the recording itself raised there.
    """
    session = _session
    if session is None or session.ended:
        raise CaptureError("there is no capture boundary to end", hint=f"call {_START}, then the network, then {_END}")
    session.close()
    session.ended = True
    if session.displaced:
        _drop()
        raise CaptureError(
            "a `with` block that began before the capture boundary ended inside it, and took the recorder with it",
            hint=f"call {_START}, the network and {_END} inside the same `with` blocks",
        )
    if isinstance(session.failure, AmcError):
        _drop()
        raise session.failure
    if session.failure is not None:
        _drop()
        raise CaptureError(
            f"the network's forward raised {type(session.failure).__name__} inside the capture boundary: {session.failure}",
            hint=f"mend the call, then start again with {_START}",
        ) from session.failure
    if not session.boundary._recorder.done:
        _drop()
        raise CaptureError(
            "the network was not called inside the capture boundary", hint=f"call the network between {_START} and {_END}"
        )


def getReconstructedNetwork(  # noqa: N802 - the source page's name
    ifDraw: bool = False,
    drawPath: str | os.PathLike[str] | None = None,
) -> tuple[ReconstructedNetwork, Document]:
    """The network that was recorded, verified against the original, and its graph document.

    Args:
        ifDraw: draw it.
        drawPath: where: with one of the suffixes `.svg`, `.png`, `.html` that file, without one all three.

    Raises:
        CaptureError: the boundary is missing or still open, or the record does not reproduce the network.
        SettingsError: `ifDraw` without `drawPath`.
    """
    session = _session
    if session is None:
        raise CaptureError("nothing was captured", hint=f"call {_START}, the network, and {_END} first")
    if not session.ended:
        raise CaptureError("the capture boundary is still open", hint=f"call {_END} first")
    if ifDraw and drawPath is None:
        raise SettingsError("`ifDraw` needs a `drawPath`", hint='drawPath="./origin_net" writes origin_net.svg, .png and .html')
    network = session.boundary.network
    if ifDraw and drawPath is not None:
        path = Path(drawPath)
        named = path.suffix in SUFFIXES
        draw_all(network, [path] if named else [path.with_name(path.name + suffix) for suffix in SUFFIXES], title=path.name)
    return network, network.graph


@atexit.register
def _drop() -> None:
    """Forget the boundary, with whatever it has put into torch."""
    global _session  # noqa: PLW0603
    if _session is not None:
        _session.close()
        _session = None
