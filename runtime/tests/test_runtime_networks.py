"""Every network of the small zoo, and every op's example calls: the runtime agrees with PyTorch."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import open_vnmodel
from torch import Tensor

import amc_plugins as amc
import tests.zoo
from amc_plugins.core.structure import tensors_in
from amc_plugins.graph import ReconstructedNetwork, channel_map, handler_for
from amc_plugins.testing import random_removal
from amc_plugins.testing.layer_handlers import Captured, Under

NETWORKS = sorted(
    found.name for found in pkgutil.iter_modules(tests.zoo.__path__) if found.name != "common" and "test" not in found.name
)
OPS = sorted(record.name for record in amc.plugins("layer_handlers") if handler_for(f"vn.{record.name}"))
TOLERANCE = 1e-5
"""Of the largest output."""


def assert_agree(network: ReconstructedNetwork, model: Any, inputs: Any) -> None:
    given = list(tensors_in(inputs))
    with torch.no_grad():
        expected = tensors_in(network(*inputs))
    made = model.run(*given)
    assert len(made) == len(expected) > 0
    for theirs, mine in zip(expected, made, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        if theirs.is_floating_point():
            assert mine.isfinite().all() and (mine - theirs).abs().max() <= TOLERANCE * theirs.abs().max()
        else:
            assert torch.equal(mine, theirs)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo(library: Any, name: str, tmp_path: Path) -> None:
    zoo = importlib.import_module(f"tests.zoo.{name}")
    network = amc.capture(zoo.build(), *zoo.inputs(2))
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    model = library.open(tmp_path / "a.vnmodel")
    for batch in (1, 3):
        assert_agree(network, model, zoo.inputs(batch))
    if zoo.OTHER_SIZE is not None and all(None in spec.shape[2:] for spec in network.graph.inputs):
        assert_agree(network, model, zoo.inputs(2, zoo.OTHER_SIZE))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo_with_half_of_their_channels_gone(library: Any, name: str, tmp_path: Path) -> None:
    zoo = importlib.import_module(f"tests.zoo.{name}")
    channels = channel_map(amc.capture(zoo.build(), *zoo.inputs(2)))
    network = channels.shrink(random_removal(channels, seed=1))
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    model = library.open(tmp_path / "a.vnmodel")
    for batch in (1, 3):
        assert_agree(network, model, zoo.inputs(batch))


class Padded(torch.nn.Module):
    """Margins that a convolution can add itself, and margins that it cannot: other numbers, read twice, an output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(4, 6, 3, stride=2)
        self.depthwise = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = torch.nn.BatchNorm2d(6)
        self.last = torch.nn.Conv2d(6, 4, (1, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pad = torch.nn.functional.pad
        x = self.first(pad(x, (0, 1, 2, 1)))
        x = self.norm(self.depthwise(pad(x, (1, 0, 0, 2))))
        wide = pad(x, (1, 1))
        return self.last(wide), self.last(pad(x, (1, 1), value=0.5)), pad(self.last(wide) + wide[:, :4, :, 1:-1], (0, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_networks_of_the_zoo_with_xnnpack(native: Any, tmp_path: Path) -> None:
    """The same files on the other kernels, also when the batch changes between runs and back."""
    if not any((Path(folder) / "xnnpack.h").exists() for folder in ("/usr/include", "/usr/local/include")):
        pytest.skip("XNNPACK is not installed (Debian: libxnnpack-dev and libpthreadpool-dev)")
    library = native.Library(native.built("xnnpack", ("vn",), VN_XNNPACK="ON", VN_BUILD_TOOL="OFF"))
    assert library.lib.vn_version() == b"1.0 xnnpack"
    for name in NETWORKS:
        zoo = importlib.import_module(f"tests.zoo.{name}")
        network = amc.capture(zoo.build(), *zoo.inputs(2))
        amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
        model = library.open(tmp_path / "a.vnmodel")
        for batch in (1, 3, 1):
            assert_agree(network, model, zoo.inputs(batch))
    x = torch.rand(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    network = amc.capture(Padded().eval(), x)
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    assert_agree(network, library.open(tmp_path / "a.vnmodel"), (x,))
    for name in OPS:
        for example in examples(name) if f"vn.{name}" in library.ops() else []:
            amc.export(example.network, "vnmodel", tmp_path / "a.vnmodel")
            specs = open_vnmodel(tmp_path / "a.vnmodel").document.inputs
            if all(spec.dtype == "f32" for spec in specs):
                assert_agree(example.network, library.open(tmp_path / "a.vnmodel"), example.inputs)


@cache
def examples(name: str) -> list[Captured]:
    subject = Under.__new__(Under)
    subject.spec, subject.name = handler_for(f"vn.{name}").spec, name
    return subject.captured


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OPS)
def test_example_calls_of_every_op(native: Any, library: Any, name: str, tmp_path: Path) -> None:
    for number, example in enumerate(examples(name)):
        path = tmp_path / f"{number}.vnmodel"
        amc.export(example.network, "vnmodel", path)
        if f"vn.{name}" not in library.ops():
            with pytest.raises(native.RefusedError, match=rf"has no `vn\.{name}` \[OP_UNKNOWN"):
                library.open(path)
            continue
        specs = open_vnmodel(path).document.inputs
        dtypes = {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64}
        inputs = tuple(one.to(dtypes[spec.dtype]) for one, spec in zip(example.inputs, specs, strict=True))
        assert_agree(example.network, library.open(path), inputs)


def test_ops_of_the_document_itself_are_there(library: Any) -> None:
    assert {"vn.size", "vn.int", "vn.require", "vn.constant"} <= set(library.ops())
    assert set(library.ops()) - {f"vn.{name}" for name in OPS} == {"vn.size", "vn.int", "vn.require", "vn.constant"}
    assert len(library.ops()) >= 165  # those without a kernel are refused by name, and are few


CALLS: dict[str, Any] = {
    "bicubic": lambda x: torch.nn.functional.interpolate(x, scale_factor=1.7, mode="bicubic"),
    "bilinear": lambda x: torch.nn.functional.interpolate(x, (9, 5), mode="bilinear"),
    "nearest-exact": lambda x: torch.nn.functional.interpolate(x, (7, 11), mode="nearest-exact"),
    "area": lambda x: torch.nn.functional.interpolate(x, (3, 4), mode="area"),
    "circular": lambda x: torch.nn.functional.pad(x, (2, 1, 3, 0), mode="circular"),
    "replicate": lambda x: torch.nn.functional.pad(x, (2, 1, 3, 0), mode="replicate"),
    "sort down": lambda x: x.sort(1, descending=True),
    "bool sums": lambda x: ((x > 0).sum(2), (x > 0).float().mean((2, 3))),
    "int division": lambda x: (10 * x).long() // 3,
    "int remainder": lambda x: (10 * x).long() % -3,
    "negative power": lambda x: (x.abs() + 1) ** -1.5,
    "std": lambda x: (x.std((1, 2), keepdim=True), x.var(dim=3, correction=0)),
    "norms": lambda x: (x.norm(p=1, dim=1), x.norm(p=float("inf"), dim=2), x.norm(p=3.0, dim=3)),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "positions": lambda x: x[:, [3, 0, 3], 1:],
    "several axes": lambda x: x.permute(3, 1, 0, 2).flatten(1, 2).unsqueeze(1).squeeze(),
    "double": lambda x: torch.nn.functional.softmax(x.double() @ x.double().mT, -1).float(),
    "half": lambda x: (x.half() * 3).float(),
}


@pytest.mark.parametrize("name", CALLS)
def test_more_calls(library: Any, name: str, tmp_path: Path) -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    network = amc.capture(_Call(CALLS[name]), x)
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    assert_agree(network, library.open(tmp_path / "a.vnmodel"), (x,))


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "hardswish", "hardsigmoid"])
def test_bounds_and_numbers_that_are_none(library: Any, name: str, tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[nan, inf, -inf, 0.0, -0.0, 1.0, 6.0, 6.5, -1.0, -3.0, -3.5, 3.0, 1e30, -1e-40, 2.0, 5.0, nan]])
    network = amc.capture(_Call(getattr(torch.nn.functional, name)), x)
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel", verify=False)
    (made,) = library.open(tmp_path / "a.vnmodel").run(x)
    with torch.no_grad():
        assert torch.allclose(made, network(x), rtol=1e-6, atol=0, equal_nan=True)


class _Call(torch.nn.Module):
    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call
        self.scale = torch.nn.Parameter(torch.ones(()))  # float32, so that inputs are recorded as such

    def forward(self, x: Tensor) -> Any:
        return self.call(x * self.scale)


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_stored_forms_are_expanded_as_the_reference_reader_does(library: Any, weights: str, tmp_path: Path) -> None:
    zoo = importlib.import_module("tests.zoo.resnet")
    network = amc.capture(zoo.build(), *zoo.inputs(2))
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel", storage=weights)
    assert_agree(amc.load(tmp_path / "a.vnmodel"), library.open(tmp_path / "a.vnmodel"), zoo.inputs(2))
