"""Every op with a handler installed here agrees with PyTorch in ONNX Runtime, in the variants that handlers record."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from amc_onnx_export._table import EMITTERS
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.graph import handler_for
from amc_plugins.testing.scenes import residual

BUILT_IN = [record.name for record in amc.plugins("layer_handlers") if record.distribution.startswith("amc-")]


def test_every_built_in_op_has_an_emitter() -> None:
    assert len(BUILT_IN) > 150 and set(EMITTERS) == {*(f"vn.{name}" for name in BUILT_IN), "vn.constant"}


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "fake_quantize"])  # which is tested in a network
def test_examples_of_the_handler(name: str, agrees: Callable[..., Any]) -> None:
    module, _, function = str(handler_for(f"vn.{name}").spec.examples).partition(":")
    calls = getattr(import_module(module), function)(name)
    assert calls
    for call, *inputs in calls:
        agrees(call, *inputs)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X = random(2, 6, 9, 8)


def written(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3, 0] = x[:, 3:5, 1] * 2.0
    x[:, 4] = 1.5
    x[..., [0, -1]] = 0.0
    return x


def used(norm: nn.Module) -> nn.Module:
    for _ in range(3):
        norm.train()(X)
    return norm.eval()


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(6, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, output_size=[x.shape[2] * 2 + 2, x.shape[3] * 2 + 1])
        return out


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        if not states:
            return self.layer(x)
        return self.layer(x, states if len(states) > 1 else states[0])


class MultiHead(nn.Module):
    def __init__(self, mask: Tensor | None, **settings: Any) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(6, 2, **settings)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, x, x, attn_mask=self.mask)


CALLS: dict[str, tuple[Any, ...]] = {
    "arithmetic of sizes": (lambda x: (x, -(-x.shape[0] // 3), x.shape[0] % -3, (x.shape[0] - 7) // 2, -x.shape[0]), X),
    "a size as an output": (lambda x: (x.relu(), x.shape[0]), X),
    "an input as an output": (lambda x: {"same": x, "twice": [x + 1.0, x + 1.0]}, X),
    "slices": (lambda x: (x[1:, ::2, -3:-1], x[:, [0, -1, 2]], x[:, None, ..., 3, 1:100], x[:1]), X),
    "computed places": (lambda x: x[:, x[0, :, 0, 0].argsort()], X),
    "writing": (written, X),
    "squeeze of what is one": (lambda x: x[:, :1].squeeze(), X),
    "squeeze of what is not one": (lambda x: x.squeeze(1), X),
    "repeats": (lambda x: (x.repeat(2, 1, 1, 1, 1), x.repeat_interleave(2, 2), x.repeat_interleave(3, 0)), X),
    "rolls": (lambda x: x.roll((-3, 20, 1), (2, 3, 0)), X),
    "splits": (lambda x: (*x.split(4, 2), *x.chunk(4, 3), *x.tensor_split(2, 2)), X),
    "expand as": (lambda x: x.mean(1, keepdim=True).expand_as(x), X),
    "windows": (lambda x: (x.unfold(2, 3, 2), F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=2)), X),
    "remainders": (lambda x: (x % 0.7, x // -0.7, x.remainder(-0.3), torch.div(x, 0.3, rounding_mode="trunc")), X),
    "integers": (lambda x: ((5 * x).long() // 3, (5 * x).long() % 3, (5 * x).int() / 2, (5 * x).long() * 0.5, (x > 0) + x), X),
    "choices": (lambda x: torch.clamp(x, x.mean(1, keepdim=True), torch.tensor(0.7)), X),
    "ceilings": (lambda x: (F.max_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)), X),
    "averages": (
        lambda x: (
            F.avg_pool2d(x, (3, 2), 3, 1, ceil_mode=True, count_include_pad=False),
            F.avg_pool2d(x, 3, 2, 1, divisor_override=2),
            F.avg_pool2d(x, x.shape[2:]),
        ),
        X,
    ),
    "dilated": (lambda x: F.max_pool2d(x, 3, 1, 1, dilation=2), X),
    "adaptive": (lambda x: (F.adaptive_avg_pool2d(x, (4, 3)), F.adaptive_max_pool2d(x, (5, 1))), X),
    "one sample": (lambda x: F.max_pool2d(F.conv2d(x, torch.ones(4, 6, 3, 3)), 2), X[0]),
    "resizing": (
        lambda x: (
            F.interpolate(x, scale_factor=1.7, mode="bilinear"),
            F.interpolate(x, size=(5, 13), mode="bicubic", align_corners=True),
            F.interpolate(x, scale_factor=(0.5, 2.0), mode="nearest-exact"),
            F.interpolate(x, size=(4, 5), mode="area"),
            F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
            F.interpolate(x, size=(5, 4), mode="bilinear", antialias=True),
        ),
        X,
    ),
    "padding": (
        lambda x: (
            F.pad(x, (1, 2, 0, 3), mode="circular"),
            F.pad(x, (-1, 2), value=3.0),
            F.pad(x, (1, 2, 3, 4), mode="replicate"),
        ),
        X,
    ),
    "volumes": (lambda x: F.max_pool3d(F.avg_pool3d(x, 2, 1), (1, 2, 2)), X),
    "convolution, same": (nn.Conv2d(6, 4, (4, 3), padding="same", padding_mode="reflect"), X),
    "convolution, circular": (nn.Conv2d(6, 4, 3, stride=2, padding=(2, 1), padding_mode="circular"), X),
    "transposed to a size": (Transposed(), X),
    "statistics of the batch": (nn.BatchNorm2d(6, track_running_stats=False), X),
    "statistics of instances": (used(nn.InstanceNorm2d(6, affine=True, track_running_stats=True)), X),
    "norms": (
        lambda x: (
            *(x.norm(p=p, dim=dim) for p, dim in ((2, 1), (1, (2, 3)), (float("inf"), -1), (3.0, 0))),
            *(x.std((0, 2)), x.var(dim=1, correction=0), x.logsumexp((1, 2))),
        ),
        X,
    ),
    "order": (lambda x: (*x.sort(1), x.argsort(2, descending=True), *x.topk(3, 1, largest=False), x.cumprod(3), x.argmax()), X),
    "grouped queries": (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:4], is_causal=True, enable_gqa=True),
        X.transpose(2, 3).contiguous(),
    ),
    "masked attention": (lambda x: F.scaled_dot_product_attention(x, x, x, (torch.ones(9, 9) * 0.3).tril() > 0), X),
    "added mask": (lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(9, 9).tril()), X),
    "heads": (MultiHead(torch.ones(9, 9).triu(1).bool(), batch_first=True), random(2, 9, 6)),
    "heads, tokens first": (MultiHead(torch.ones(2, 2).triu(1), bias=False), random(2, 3, 6)),
    "made tensors": (
        lambda x: (
            x + torch.eye(x.shape[2], x.shape[3]),
            torch.arange(x.shape[0]) * 2,
            torch.linspace(0.0, 1.0, x.shape[0] + 1),
            torch.stack(torch.meshgrid(torch.arange(x.shape[0]), torch.arange(x.shape[3]), indexing="xy")),
            x.new_zeros(x.shape[0], 2),
        ),
        X,
    ),
    "recurrent": (Recurrent(nn.LSTM(6, 5, 2, bidirectional=True)), random(4, 2, 6), random(4, 2, 5), random(4, 2, 5, seed=1)),
    "recurrent, a state": (Recurrent(nn.GRU(6, 5, bias=False, batch_first=True)), random(2, 4, 6), random(1, 2, 5)),
    "recurrent, one sample": (Recurrent(nn.RNN(6, 5, nonlinearity="relu")), random(4, 6)),
    "equations": (lambda x: torch.einsum("b c ... , b d ... -> b c d", x, x), X),
    "unshuffled": (lambda x: F.pixel_unshuffle(x[:, :, :8], 2), X),
    "sampled": (lambda x: F.grid_sample(x, x[:, :2].tanh().permute(0, 2, 3, 1), "nearest", "border", align_corners=True), X),
}


@pytest.mark.parametrize("name", CALLS)
def test_variants(name: str, agrees: Callable[..., Any]) -> None:
    call, *inputs = CALLS[name]
    agrees(call, *inputs)


def test_sizes_that_change_between_runs(agrees: Callable[..., Any]) -> None:
    """With open heights and widths nothing of the recorded size stays in the file."""

    def call(x: Tensor) -> Any:
        y = F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="bilinear")
        rows = F.unfold(y, 3, padding=1).transpose(1, 2)
        return {
            "tokens": rows.reshape(x.shape[0], -1, 6, 9).flatten(1, 2),
            "halves": (x[..., : x.shape[3] // 2], x.roll(x.shape[2] // 3, 2), F.pad(x, (0, x.shape[2] % 4))),
            "spread": (x.std((2, 3)), F.layer_norm(x, x.shape[1:]), F.group_norm(x, 3), torch.zeros_like(x) + x.sort(3)[0]),
            "masked": F.scaled_dot_product_attention(x, x, x, is_causal=True),
            "made": (torch.eye(x.shape[2], x.shape[3]), x.unfold(3, 3, 2), F.pixel_unshuffle(y[:, :, :8, :4], 2)),
            "pooled": (F.avg_pool2d(x, 3, 2, ceil_mode=True), F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
        }

    other = [random(3, 6, 14, 10, seed=1)]
    agrees(call, X, more=(other,), image_size="dynamic")


def test_rounded_values_of_quantized_networks(agrees: Callable[..., Any]) -> None:
    x = random(4, 1, 8, 8)
    data = [(one, torch.zeros(2, dtype=torch.long)) for one in x.split(2)]
    trained = amc.train(residual(), "quantization", train=data, epochs=1, calibration_batches=1).network
    assert "vn.fake_quantize" in {node.op for node in trained.graph.nodes}
    agrees(trained, x)
