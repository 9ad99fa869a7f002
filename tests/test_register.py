"""`amc.register`: ops of a script or notebook, from capture to the file and back, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.errors import DocumentError, PluginError, UnsupportedOpError
from amc_plugins.core.registry import registry, reset_registry
from amc_plugins.core.user_ops import find
from amc_plugins.handlers import ChannelIds, ElementwiseHandler, Kept, LayerHandler, Params
from amc_plugins.plugin import barrier, transparent
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Swish(nn.Module):
    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.beta * x)


class Scale(nn.Module):
    """A factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.factor = nn.Parameter(torch.linspace(0.5, 2.0, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.xlogy(self.factor[:, None, None], 1.0 + x.abs())


class Net(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


class Calls(nn.Module):
    """Functions that nothing handles: with other arguments, two tensors, two results."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.logit(eps=0.1) + torch.special.xlogy(x.abs(), other=x.abs() + 1.0)
        mantissa, _ = torch.frexp(y)
        return torch.nextafter(mantissa, x)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    reset_registry()
    yield
    reset_registry()


def example(batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net(middle: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(middle).eval()


def ops(network: amc.ReconstructedNetwork) -> list[str]:
    return [node.op for node in network.graph.nodes]


def pinned(network: amc.ReconstructedNetwork, name: str) -> tuple[str, ...]:
    return next(group.pinned for group in amc.channel_groups(network) if group.name == name)


def ids(network: amc.ReconstructedNetwork) -> Tensor:
    return next(group.ids for group in amc.channel_groups(network) if group.name == "first")


def saved_and_loaded(network: amc.ReconstructedNetwork, folder: Path) -> None:
    """Equal in every bit, through each format."""
    x = example(2)
    for name in ("net.pkl", "net.json", "net.vnmodel"):
        amc.export(network, Path(name).suffix[1:], folder / name)
        assert torch.equal(amc.load(folder / name)(x), network.eval()(x)), name


# --- one line -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("captured", [Swish, f"{__name__}:Swish"], ids=["class", "name"])
def test_a_transparent_layer_goes_all_the_way(captured: Any, tmp_path: Path) -> None:
    spec = transparent(captured)
    assert amc.register(spec) is spec
    network = amc.capture(net(Swish(0.5)), example())
    op = f"{__name__.partition('.')[0]}.swish"
    assert ops(network) == ["vn.conv2d", op, "vn.conv2d"]
    assert pinned(network, "first") == ()
    assert_rebuilds(network, example(2))
    assert_masked_equals_shrunk(network, example(2), removed=ids(network)[::2])
    saved_and_loaded(network, tmp_path)
    result = amc.compress(network, "pruning", calibration=[example(64)], total=1 / 3)
    assert result.macs_after < 0.75 * result.macs_before
    assert result.network.layer("first").out_channels < 6


def test_a_barrier_keeps_the_channels_and_says_why() -> None:
    amc.register(barrier(Swish, why="I said so"))
    (why,) = pinned(amc.capture(net(Swish()), example()), "first")
    assert "swish: I said so at test_register.py:" in why


def test_functions_are_declared_like_classes(tmp_path: Path) -> None:
    opaque = amc.capture(net(Calls()), example())
    targets = [opaque.layer(node.layer).target for node in opaque.graph.nodes if node.op == "opaque"]
    assert len(targets) >= 4
    for target in targets:
        amc.register(transparent(target))
    network = amc.capture(net(Calls()), example())
    assert "opaque" not in ops(network)
    assert pinned(network, "first") == ()
    assert_rebuilds(network, example(2))
    assert_masked_equals_shrunk(network, example(2), removed=ids(network)[1:4])
    saved_and_loaded(network, tmp_path)


def test_operators_of_libraries_and_objects_are_found() -> None:
    assert find("torch.special.xlogy") is torch.special.xlogy
    assert find("torch.Tensor.logit") is torch.Tensor.logit
    assert find(f"{__name__}:Swish") is Swish
    assert find("aten.relu") is torch.ops.aten.relu
    assert transparent(torch.special.xlogy).captures == ("torch.special.xlogy",)
    with pytest.raises(PluginError, match=r"`nowhere\.Swish` is needed and cannot be found"):
        find("nowhere.Swish")


def test_inputs_that_do_not_lie_on_each_other_are_no_silent_success() -> None:
    class Crossed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.xlogy(x[:, :, :, :1].transpose(1, 3).abs(), x[..., :6].abs() + 1.0)

    amc.register(transparent("torch.special.xlogy"))
    (why, *_) = pinned(amc.capture(net(Crossed()), example()), "first")
    assert "spreads one channel over several" in why


# --- handler classes ----------------------------------------------------------------------------------------------------


class ScaleHandler(LayerHandler):
    """A factor per channel."""

    class Params(Params):
        channels: int

    module_class = Scale

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.channels(inputs[0], axis=1)
        return inputs[0]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        assert isinstance(module, Scale)
        kept = inputs[0].axis(1)
        smaller = Scale(len(kept))
        smaller.factor = nn.Parameter(module.factor.detach()[kept])
        return smaller


def test_a_handler_class_goes_all_the_way(tmp_path: Path) -> None:
    assert amc.register(ScaleHandler) is ScaleHandler
    network = amc.capture(net(Scale(6)), example())
    assert "opaque" not in ops(network) and pinned(network, "first") == ()
    assert_rebuilds(network, example(2))
    assert_masked_equals_shrunk(network, example(2), removed=ids(network)[[0, 3]])
    saved_and_loaded(network, tmp_path)
    spec = next(one for one in registry().handlers() if one.name == "scale")
    assert spec.summary == "A factor per channel." and spec.captures == (f"{__name__}.Scale",)


def test_a_handler_class_of_a_function_or_a_notebook_cell() -> None:
    def cell(beta: float) -> type[LayerHandler]:
        class Handler(ElementwiseHandler):
            """Of a cell."""

            class Params(Params):
                beta: float = 0.0

            module_class = Swish
            version = beta

        return amc.register(Handler, name="mine", op="com.acme.swish")

    cell(1.0)
    again = cell(2.0)  # the cell is run again
    assert type(registry().handler_for_op("com.acme.swish")) is again
    assert "com.acme.swish" in ops(amc.capture(net(Swish()), example()))


def test_the_last_word_on_a_layer_counts() -> None:
    amc.register(barrier(Swish, why="not understood yet", name="careful"))
    amc.register(transparent(Swish))
    assert pinned(amc.capture(net(Swish()), example()), "first") == ()
    assert [one.name for one in amc.plugins("layer_handlers") if one.distribution == "this script"] == ["swish"]


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "words", "hint"),
    [
        (lambda: transparent("torch.nn:ReLU"), "layer handler `relu` is provided by amc-op-activation", "another name"),
        (
            lambda: transparent("torch.nn:ReLU", name="mine"),
            "the capture of `torch.nn.ReLU` belongs to the layer handler `relu` of amc-op-activation",
            "replaces=('amc-op-activation',)",
        ),
        (
            lambda: transparent(Swish, op="vn.relu"),
            "the op `vn.relu` belongs to the layer handler `relu` of amc-op-activation",
            "replaces=",
        ),
        (lambda: transparent("torch.nn:Relu"), "`torch.nn` has no `Relu`; did you mean", None),
        (lambda: Swish, "given was the class Swish", "transparent("),
        (Swish, "given was a Swish", "transparent("),
        (lambda: LayerHandler, "`LayerHandler` does not say what it handles", "captures="),
    ],
)
def test_what_is_refused_changes_nothing(plugin: Callable[[], Any], words: str, hint: str | None) -> None:
    before = [(one.name, one.status) for one in registry().load_all()]
    with pytest.raises(PluginError) as caught:
        amc.register(plugin())
    assert words in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)
    assert [(one.name, one.status) for one in registry().load_all()] == before
    assert registry().handler_for_op("vn.relu").spec.name == "relu"


def test_names_that_make_no_declaration() -> None:
    class Local(nn.Module):
        pass

    with pytest.raises(PluginError, match="is defined inside a function"):
        transparent(Local)
    with pytest.raises(PluginError, match="`nonsense` makes no declaration") as caught:
        transparent("nonsense")
    assert "package.module:Class" in str(caught.value.hint)
    with pytest.raises(PluginError, match="captures: only for a handler class"):
        amc.register(transparent(Swish), captures=Swish)


# --- other processes ----------------------------------------------------------------------------------------------------

MODULE = """
import amc_plugins as amc
from amc_plugins.plugin import transparent
{first}
import torch
from torch import nn

class Wave(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), Wave(), nn.Conv2d(4, 2, 1))
{last}
"""


@pytest.mark.parametrize("when", ["first", "last"], ids=["before-torch", "after-torch"])
def test_a_file_needs_the_registration_where_it_is_read(tmp_path: Path, when: str) -> None:
    line = {"first": "", "last": "", when: 'amc.register(transparent("wave_pkg:Wave"))'}
    (tmp_path / "wave_pkg.py").write_text(MODULE.format(**line))
    write = (
        "import wave_pkg, torch, amc_plugins as amc\n"
        "network = amc.capture(wave_pkg.net(), torch.rand(1, 3, 8, 8))\n"
        "network.save(pkl='net.pkl')\n"
    )
    done = subprocess.run([sys.executable, "-c", write], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises((UnsupportedOpError, DocumentError)) as caught:
        amc.load(tmp_path / "net.pkl")
    assert "`wave_pkg.wave`" in str(caught.value)
    assert "amc.register" in str(caught.value.hint) and "wave_pkg" in str(caught.value.hint)
    read = "import wave_pkg, torch, amc_plugins as amc\n"
    read += "assert amc.load('net.pkl')(torch.rand(2, 3, 8, 8)).shape == (2, 2, 6, 6)"
    done = subprocess.run([sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
