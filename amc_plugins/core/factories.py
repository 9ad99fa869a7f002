"""Things named on the command line and in recipes: factories as `package.module:name` or `file.py:name`, checkpoints,
networks.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc_plugins.core.errors import AmcError, nearest
from amc_plugins.core.near_files import nearest_file

__all__ = ["call_factory", "import_reference", "load_weights"]


def call_factory(reference: str, settings: Mapping[str, Any] | None = None, *, base: Path | None = None, seed: int = 0) -> Any:
    """Import and call a factory. It runs under its own seed; the global random state is left as it was.

    Args:
        reference: `package.module:factory` or `file.py:factory`, a relative file being looked for in `base`.
        settings: keywords for the factory.
        base: a folder; the working directory by default. It is on the import path during the import and the call, as is the
            folder of a file.
        seed: of `torch`'s global generator during the call.

    Raises:
        AmcError: the file, the module or the name does not exist, or importing or calling it fails (its own error is
            the cause).
    """
    factory = import_reference(reference, base)
    with torch.random.fork_rng(), _importable(reference, base):
        torch.manual_seed(seed)
        try:
            return factory(**(settings or {}))
        except AmcError:
            raise
        except Exception as error:
            raise AmcError(f"`{reference}` failed: {type(error).__name__}: {error}") from error


def import_reference(reference: str, base: Path | None = None) -> Any:
    """What a reference names, not called; see `call_factory`."""
    where, _, name = reference.rpartition(":")
    if not where or not name:
        raise AmcError(f"`{reference}` names no factory", hint="write `package.module:factory` or `file.py:factory`")
    with _importable(reference, base) as folder:
        module = _imported(where, folder)
    found = getattr(module, name, None)
    if found is None:
        raise AmcError(f"`{where}` has no `{name}`{nearest(name, vars(module))}")
    return found


@contextmanager
def _importable(reference: str, base: Path | None) -> Iterator[Path]:
    """The base, and the folder of a referenced file, on the import path."""
    base = (base or Path.cwd()).resolve()
    where = reference.rpartition(":")[0]
    folders = [str(base)]
    if where.endswith(".py"):
        folders.insert(0, str((base / Path(where).expanduser()).resolve().parent))
    added = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    sys.path[:0] = added
    try:
        yield base
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def _imported(where: str, base: Path) -> Any:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = (base / Path(where).expanduser()).resolve()
        if not path.is_file():
            raise AmcError(f"there is no file `{path}`{nearest_file(path)}")
        # A name of its own: two files called model.py must not replace one another.
        name = f"_amc_file_{sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # pickles of classes defined in the file need to find it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except AmcError:
        raise
    except Exception as error:
        raise AmcError(f"`{where}` cannot be imported: {type(error).__name__}: {error}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state_dict (or a checkpoint holding one under `state_dict` or `model`) into a module, strictly.

    Raises:
        AmcError: the file is missing, needs code to load, or does not fit the module.
    """
    if not path.is_file():
        raise AmcError(f"there is no checkpoint `{path}`{nearest_file(path)}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise AmcError(
            f"`{path}` cannot be loaded as plain tensors: {error}", hint="save it with torch.save(model.state_dict(), path)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise AmcError(f"`{path}` holds a {type(state).__name__}, expected was a state_dict")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AmcError(f"`{path}` does not fit {type(model).__name__}: {error}") from error
