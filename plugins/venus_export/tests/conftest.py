"""Documents and networks that the tests of this distribution share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.document import Document


class Net(nn.Module):
    """A residual, a layer used twice, a weight used by two layers, sizes that are computed, a buffer that is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 8, 1, bias=False)
        self.two = nn.Conv2d(8, 8, 1, bias=False)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8 * 4, 5)
        self.register_buffer("anchors", torch.tensor([[1, -2], [3, 4]], dtype=torch.int16))

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = F.relu(self.bn(self.stem(x)))
        x = self.two(F.relu(self.one(x))) + x
        small = F.adaptive_avg_pool2d(self.one(x), 2)
        big = F.interpolate(small, size=x.shape[2:])
        return {"scores": self.head(small.view(x.size(0), -1)), "maps": (big, self.anchors)}


def trained(net: nn.Module) -> nn.Module:
    """Statistics and weights that are not those of the constructor."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
    return net.eval()


@pytest.fixture
def network() -> amc.ReconstructedNetwork:
    return amc.capture(trained(Net()), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def inputs() -> list[Tensor]:
    return [torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))]


def hand_made(**tensors: Tensor) -> tuple[Document, dict[str, Tensor]]:
    """A document of one unknown op with any tensors."""
    names = {value: key for key, value in DTYPES.items()}
    node = {"name": "n", "layer": "n", "op": "com.acme.thing", "inputs": ["x"], "outputs": ["y"]}
    return Document.from_plain(
        {
            "inputs": [{"name": "x", "dtype": "f32", "shape": [None, 3]}],
            "signature": ["x"],
            "nodes": [{**node, "tensors": {name: name for name in tensors}}],
            "outputs": "y",
            "tensors": [{"name": name, "dtype": names[one.dtype], "shape": list(one.shape)} for name, one in tensors.items()],
        }
    ), tensors


DTYPES = {
    "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64, "i8": torch.int8,
    "u8": torch.uint8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "bool": torch.bool,
}  # fmt: skip


@pytest.fixture
def make() -> Any:
    return hand_made


@pytest.fixture
def all_dtypes() -> dict[str, Tensor]:
    """Every dtype, as random bytes where any byte is a value, with odd, empty and scalar shapes."""
    generator = torch.Generator().manual_seed(5)
    made: dict[str, Tensor] = {}
    for name, dtype in DTYPES.items():
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (7 * dtype.itemsize,), dtype=torch.uint8, generator=generator)
        made[name] = raw.view(dtype)
    made["scalar"] = torch.tensor(-0.0)
    made["empty"] = torch.empty(3, 0, 2)
    made["nans"] = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=torch.bfloat16)
    return made
