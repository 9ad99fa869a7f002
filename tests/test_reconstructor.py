"""The source page's capture boundary: what it gives, and that nothing of it stays in torch, whatever the user does between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack

from amc_plugins import reconstructor
from amc_plugins.core.document import Document
from amc_plugins.core.errors import CaptureError, SettingsError
from amc_plugins.graph import ReconstructedNetwork
from tests.networks import SmallResNet

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "source_programs" / "code1.py"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, fails: bool = False) -> Tensor:
        x = self.conv(x)
        if fails:
            raise ValueError("as asked")
        return x.relu()


X = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def traces() -> dict[str, int]:
    """What a boundary puts into torch."""
    names = [name for name in vars(torch_module) if name.startswith("_global_") and "hooks" in name]
    found = {name: len(getattr(torch_module, name)) for name in names if hasattr(getattr(torch_module, name), "__len__")}
    return {**found, "modes": len(_get_current_function_mode_stack())}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    reconstructor._drop()
    before = traces()
    yield
    reconstructor._drop()
    assert traces() == before


def capture(network: nn.Module, x: Tensor = X) -> tuple[ReconstructedNetwork, Document]:
    reconstructor.insertCaptureBoundaryStart(network)
    network(x)
    reconstructor.insertCaptureBoundaryEnd()
    return reconstructor.getReconstructedNetwork()


def test_the_network_and_its_document() -> None:
    model = SmallResNet().eval()
    x = torch.rand(2, 3, 16, 16)
    before = traces()
    network, graph = capture(model, x)
    assert traces() == before
    assert isinstance(network, ReconstructedNetwork) and graph is network.graph
    assert torch.equal(network(x), model(x))
    assert [node.op for node in graph.nodes][:2] == ["vn.conv2d", "vn.relu"]
    assert reconstructor.getReconstructedNetwork()[0] is network
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_the_boundary_closes_with_the_forward() -> None:
    before = traces()
    network = Small()
    reconstructor.insertCaptureBoundaryStart(network)
    assert traces() != before
    network(X)
    assert traces() == before


def test_only_the_first_call_is_recorded() -> None:
    network = Small()
    reconstructor.insertCaptureBoundaryStart(network)
    network(X)
    network(X[:1])
    reconstructor.insertCaptureBoundaryEnd()
    assert [node.name for node in reconstructor.getReconstructedNetwork()[1].nodes] == ["conv", "relu_0"]


@pytest.mark.parametrize("suffix", ["", ".v2", ".svg", ".png", ".html"])
def test_drawings(tmp_path: Path, suffix: str) -> None:
    capture(Small())
    reconstructor.getReconstructedNetwork(ifDraw=True, drawPath=tmp_path / f"origin_net{suffix}")
    written = sorted(path.name for path in tmp_path.iterdir())
    if suffix in ("", ".v2"):
        assert written == [f"origin_net{suffix}{one}" for one in (".html", ".png", ".svg")]
    else:
        assert written == [f"origin_net{suffix}"]
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())


# --- out of order ---


def test_calls_out_of_order_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no capture boundary to end") as caught:
        reconstructor.insertCaptureBoundaryEnd()
    assert "insertCaptureBoundaryStart(network)" in (caught.value.hint or "")
    with pytest.raises(CaptureError, match="nothing was captured"):
        reconstructor.getReconstructedNetwork()
    network = Small()
    reconstructor.insertCaptureBoundaryStart(network)
    network(X)
    with pytest.raises(CaptureError, match="still open") as caught:
        reconstructor.getReconstructedNetwork()
    assert "insertCaptureBoundaryEnd()" in (caught.value.hint or "")
    reconstructor.insertCaptureBoundaryEnd()
    with pytest.raises(CaptureError, match="no capture boundary to end"):
        reconstructor.insertCaptureBoundaryEnd()
    with pytest.raises(SettingsError, match="drawPath"):
        reconstructor.getReconstructedNetwork(ifDraw=True)
    assert reconstructor.getReconstructedNetwork()[1].nodes


def test_a_network_that_was_not_called() -> None:
    before = traces()
    reconstructor.insertCaptureBoundaryStart(Small())
    Small()(X)
    with pytest.raises(CaptureError, match="was not called inside"):
        reconstructor.insertCaptureBoundaryEnd()
    assert traces() == before
    with pytest.raises(CaptureError, match="nothing was captured"):
        reconstructor.getReconstructedNetwork()


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(CaptureError, match="function"):
        reconstructor.insertCaptureBoundaryStart(lambda x: x)  # type: ignore[arg-type]


# --- what the user's own code may do between start and end ---


def test_a_forward_that_raises_leaves_nothing_and_the_end_says_so() -> None:
    before = traces()
    network = Small()
    reconstructor.insertCaptureBoundaryStart(network)
    with pytest.raises(ValueError, match="as asked"):
        network(X, fails=True)
    assert traces() == before
    with pytest.raises(CaptureError, match=r"forward raised ValueError.*as asked") as caught:
        reconstructor.insertCaptureBoundaryEnd()
    assert isinstance(caught.value.__cause__, ValueError)
    assert capture(network)[1].nodes[0].name == "conv"


def test_a_forward_that_hooks_itself_and_raises_is_closed_by_the_end() -> None:
    """Hooks that came after ours are still to be called then, so torch's table may not change under it."""

    class Hooking(Small):
        def forward(self, x: Tensor, fails: bool = False) -> Tensor:
            self.register_forward_hook(lambda *_: called.append(1), always_call=True)
            return super().forward(x, fails)

    called: list[int] = []
    before = traces()
    network = Hooking()
    reconstructor.insertCaptureBoundaryStart(network)
    with pytest.raises(ValueError, match="as asked"):
        network(X, fails=True)
    assert called == [1]
    with pytest.raises(CaptureError, match="forward raised ValueError"):
        reconstructor.insertCaptureBoundaryEnd()
    assert traces() == before and len(network._forward_hooks) == 1


def test_a_network_that_calls_itself() -> None:
    class Twice(Small):
        def forward(self, x: Tensor, fails: bool = True) -> Tensor:
            x = self.conv(x)
            return self(x[:, :3], False) if fails else x.relu()

    before = traces()
    network, _ = capture(Twice())
    assert network(X).shape == (2, 4, 4, 4) and traces() == before


def test_what_the_recording_refuses_is_said_at_the_end_too() -> None:
    network = Small()
    before = traces()
    reconstructor.insertCaptureBoundaryStart(network)
    with pytest.raises(CaptureError, match="keyword") as first:
        network(X, fails=torch.zeros(()))
    with pytest.raises(CaptureError, match="keyword") as second:
        reconstructor.insertCaptureBoundaryEnd()
    assert second.value is first.value and traces() == before


def test_an_interrupt_inside_forward_is_recovered_by_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    class Interrupted(Small):
        def forward(self, x: Tensor, fails: bool = False) -> Tensor:
            raise KeyboardInterrupt

    before = traces()
    network = Interrupted()
    reconstructor.insertCaptureBoundaryStart(network)
    with pytest.raises(KeyboardInterrupt):
        network(X)
    assert traces() != before  # torch calls no hook then
    assert capture(Small())[1].nodes
    assert traces() == before
    assert "started again" in caplog.text


def test_a_new_start_drops_the_open_one() -> None:
    before = traces()
    first, second = Small(), Small()
    reconstructor.insertCaptureBoundaryStart(first)
    reconstructor.insertCaptureBoundaryStart(second)
    first(X)  # not the one that is recorded
    second(X)
    reconstructor.insertCaptureBoundaryEnd()
    network = reconstructor.getReconstructedNetwork()[0]
    assert torch.equal(network(X), second(X)) and not torch.equal(network(X), first(X))
    assert traces() == before


def test_modes_of_the_user_around_the_call_stay() -> None:
    network = Small()
    reconstructor.insertCaptureBoundaryStart(network)
    with BaseTorchFunctionMode() as mode:
        network(X)
        assert _get_current_function_mode_stack() == [mode]
    reconstructor.insertCaptureBoundaryEnd()
    assert [node.name for node in reconstructor.getReconstructedNetwork()[1].nodes] == ["conv", "relu_0"]


def test_a_mode_that_ends_inside_the_boundary_is_named() -> None:
    before = traces()
    network = Small()
    with BaseTorchFunctionMode():
        reconstructor.insertCaptureBoundaryStart(network)
    network(X)
    assert traces() == before
    with pytest.raises(CaptureError, match="`with` block") as caught:
        reconstructor.insertCaptureBoundaryEnd()
    assert "same `with` blocks" in (caught.value.hint or "")


# --- the program ---


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


def test_the_program_of_the_source_page_runs(tmp_path: Path) -> None:
    done = run(str(PROGRAM), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["origin_net.html", "origin_net.png", "origin_net.svg"]
    text = (tmp_path / "origin_net.svg").read_text(encoding="utf-8")
    assert "555 M MACs" in text and "11.2 M parameters" in text and "layer4.1.conv2" in text


def test_the_program_is_the_pages() -> None:
    """But for import lines and the head that says what was changed."""
    page = """\
network = ResNet18()
reconstructor.insertCaptureBoundaryStart(network)
oup = network(torch.rand(1, 3, 32, 32))
reconstructor.insertCaptureBoundaryEnd()
reconstructed_network, graph = reconstructor.getReconstructedNetwork(
    ifDraw=True,
    drawPath=os.path.join('./', "origin_net")
    )
"""
    lines = [line.rstrip() for line in PROGRAM.read_text(encoding="utf-8").splitlines()]
    assert "\n".join(lines[lines.index("network = ResNet18()") :]) + "\n" == page


def test_a_boundary_that_is_left_open_goes_with_the_interpreter(tmp_path: Path) -> None:
    program = (
        "import atexit, torch\n"
        "from torch.nn.modules import module\n"
        "from torch.overrides import _get_current_function_mode_stack as modes\n"
        "def left(): return len(modes()), len(module._global_forward_hooks), len(module._global_forward_pre_hooks)\n"
        "atexit.register(lambda: print('after', *left()))\n"  # runs last: what is registered later runs earlier
        "from amc_plugins import reconstructor\n"
        "reconstructor.insertCaptureBoundaryStart(torch.nn.Conv2d(1, 1, 1))\n"
        "print('open', *left())\n"
    )
    done = run("-c", program, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    opened, after = done.stdout.splitlines()
    assert int(opened.split()[1]) == 1 and int(opened.split()[2]) >= 1
    assert after == "after 0 0 0"
