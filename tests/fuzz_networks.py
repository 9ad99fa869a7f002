"""Random networks for property tests: hypothesis draws a program of up to twenty steps, which becomes an `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.zoo.common import finished

CHANNELS, AREA, DEPTH = 24, 160, 20
"""Limits: channels of a value, its pixels, steps of a program."""
BYTES = 8
"""Choices of a step."""


class Draw:
    """Choices from the bytes of one step. What is beyond them is the first choice, and so is what shrank to zero."""

    def __init__(self, tape: bytes) -> None:
        self.tape = list(tape)

    def integers(self, low: int, high: int) -> int:
        return low + (self.tape.pop(0) if self.tape else 0) % (high - low + 1)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integers(0, len(options) - 1)]

    def flag(self) -> bool:
        return bool(self.integers(0, 1))


class Step(nn.Module):
    """One step: layers by keyword, and a function of them, the inputs and the parameters that the program shows."""

    def __init__(self, name: str, run: Callable[..., Any], layers: dict[str, Any] | None = None, **shown: Any) -> None:
        super().__init__()
        self.name, self.run, self.shown = name, run, shown
        for key, layer in (layers or {}).items():
            setattr(self, key, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)

    def __repr__(self) -> str:
        parts = [f"{key}={layer!r}" for key, layer in self._modules.items()]
        return f"{self.name}({', '.join([*parts, *(f'{key}={value}' for key, value in self.shown.items())])})"


class Network(nn.Module):
    """Runs the steps; `wiring` holds the sources of each (0 is the input), `heads` what becomes an output."""

    def __init__(self, steps: list[Step], wiring: list[tuple[int, ...]], heads: list[Step], ends: list[int]) -> None:
        super().__init__()
        self.steps, self.wiring = nn.ModuleList(steps), wiring
        self.heads, self.ends = nn.ModuleList(heads), ends

    def forward(self, x: Tensor) -> Any:
        values = [x]
        for step, sources in zip(self.steps, self.wiring, strict=True):
            made = step(*(values[index] for index in sources))
            values.extend(made if isinstance(made, tuple) else [made])
        outputs = [head(values[index]) for head, index in zip(self.heads, self.ends, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        lines = [f"{sources} -> {step!r}" for step, sources in zip(self.steps, self.wiring, strict=True)]
        lines += [f"{end} -> output {head!r}" for head, end in zip(self.heads, self.ends, strict=True)]
        return "\n".join(["Network:", *lines])


# --- layers ---


def conv(draw: Draw, x: Tensor) -> Step:
    kernel, stride = draw.choice([(1, 1), (3, 1), (3, 2), (2, 2)])
    stride = stride if x.shape[2] > 3 and x.shape[3] > 3 else 1
    kernel = kernel if stride > 1 or kernel != 2 else 1
    n, bias = draw.integers(1, 12), draw.flag()
    mode = draw.choice(["zeros", "zeros", "reflect"])
    if kernel != 3 or min(x.shape[2:]) < 2:  # one pixel has no neighbour to reflect
        mode = "zeros"
    layer = nn.Conv2d(x.shape[1], n, kernel, stride, kernel // 2, bias=bias, padding_mode=mode)
    return Step("conv", lambda self, x: self.conv(x), {"conv": layer})


def grouped(draw: Draw, x: Tensor) -> Step | None:
    c = x.shape[1]
    groups = draw.choice([g for g in range(1, c + 1) if c % g == 0])
    n = groups * draw.integers(1, max(1, min(4, CHANNELS // groups)))
    if n > CHANNELS:
        return None
    return Step("grouped", lambda self, x: self.conv(x), {"conv": nn.Conv2d(c, n, 3, padding=1, groups=groups)})


def depthwise(draw: Draw, x: Tensor) -> Step | None:
    c, multiplier = x.shape[1], draw.choice([1, 2, 3])
    if c * multiplier > CHANNELS:
        return None
    layer = nn.Conv2d(c, c * multiplier, 3, padding=1, groups=c, bias=draw.flag())
    return Step("depthwise", lambda self, x: self.conv(x), {"conv": layer})


def transposed(draw: Draw, x: Tensor) -> Step | None:
    c = x.shape[1]
    if 4 * x.shape[2] * x.shape[3] > AREA:
        return None
    groups = draw.choice([g for g in range(1, c + 1) if c % g == 0])
    n = groups * draw.integers(1, 3)
    if n > CHANNELS:
        return None
    return Step("transposed", lambda self, x: self.conv(x), {"conv": nn.ConvTranspose2d(c, n, 2, 2, groups=groups)})


def norm(draw: Draw, x: Tensor) -> Step:
    affine = draw.flag()
    return Step("norm", lambda self, x: self.bn(x), {"bn": nn.BatchNorm2d(x.shape[1], affine=affine)})


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "silu": F.silu, "sigmoid": torch.sigmoid, "leaky": lambda x: F.leaky_relu(x, 0.1), "tanh": torch.tanh,
    "hardswish": F.hardswish, "in_place": lambda x: (x * 1.0).relu_().add_(1), "gelu": F.gelu,
}  # fmt: skip


def activation(draw: Draw, x: Tensor) -> Step | None:
    name = draw.choice(list(ACTIVATIONS))
    if name == "in_place" and 1 in x.shape and x.stride() != torch.empty(x.shape).stride():
        return None  # such an axis keeps its stride in place alone, and torch chooses kernels by it: not the same bits
    return Step(name, lambda self, x: ACTIVATIONS[name](x))


def prelu(draw: Draw, x: Tensor) -> Step:
    n = draw.choice([1, x.shape[1]])
    return Step("prelu", lambda self, x: self.act(x), {"act": nn.PReLU(n)})


def channels_last(draw: Draw, x: Tensor) -> Step:
    layer = nn.Linear(x.shape[1], draw.integers(1, 10), bias=draw.flag())
    return Step("channels_last", lambda self, x: self.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), {"fc": layer})


def tokens(draw: Draw, x: Tensor) -> Step:
    def run(self: Any, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        y = self.fc(x.flatten(2).transpose(1, 2))
        return y.transpose(1, 2).reshape(b, -1, h, w)

    return Step("tokens", run, {"fc": nn.Linear(x.shape[1], draw.integers(1, 10))})


def class_token(draw: Draw, x: Tensor) -> Step:
    """A token of its own in front, and a position embedding, as in a vision transformer."""
    c, h, w = x.shape[1:]
    keep = draw.flag()

    def run(self: Any, x: Tensor) -> Tensor:
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1) + self.position
        y = y + self.fc(y)
        return y.transpose(1, 2)[..., 1:].unflatten(2, (h, w)) + (y[:, 0].view(-1, c, 1, 1) if keep else 0.0)

    layers = {"fc": nn.Linear(c, c), "token": nn.Parameter(torch.zeros(1, 1, c))}
    return Step("class_token", run, {**layers, "position": nn.Parameter(torch.zeros(1, h * w + 1, c))}, keep=keep)


def attention(draw: Draw, x: Tensor) -> Step:
    heads, width = draw.integers(1, 3), draw.integers(1, 4)
    fused, inner = draw.flag(), heads * width

    def run(self: Any, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.qkv(x.flatten(2).transpose(1, 2)).reshape(b, h * w, 3, heads, width).permute(2, 0, 3, 1, 4)
        q, k, v = y.unbind(0) if fused else (y[0], y[1], y[2])
        y = F.scaled_dot_product_attention(q, k, v) if fused else (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        return x + self.proj(y.transpose(1, 2).reshape(b, h * w, inner)).transpose(1, 2).reshape(b, c, h, w)

    layers = {"qkv": nn.Linear(x.shape[1], 3 * inner), "proj": nn.Linear(inner, x.shape[1])}
    return Step("attention", run, layers, heads=heads, fused=fused)


def other_norms(draw: Draw, x: Tensor) -> Step:
    c = x.shape[1]
    if draw.flag():
        groups = draw.choice([g for g in range(1, c + 1) if c % g == 0])
        return Step("group_norm", lambda self, x: self.norm(x), {"norm": nn.GroupNorm(groups, c)})
    return Step("layer_norm", lambda self, x: self.norm(x.movedim(1, -1)).movedim(-1, 1), {"norm": nn.LayerNorm(c)})


# --- several inputs ---


def residual(draw: Draw, x: Tensor, y: Tensor) -> Step:
    how = draw.choice(["add", "sub", "gate", "product"])
    layers = {"project": nn.Conv2d(y.shape[1], x.shape[1], 1)} if x.shape[1] != y.shape[1] else {}

    def run(self: Any, x: Tensor, y: Tensor) -> Tensor:
        y = self.project(y) if layers else y
        return {"add": x + y, "sub": x - y, "gate": x * y.sigmoid(), "product": x.tanh() * y}[how]

    return Step(how, run, layers)


def broadcast(draw: Draw, x: Tensor, y: Tensor) -> Step:
    """The means of one map on another."""
    layers = {"project": nn.Conv2d(y.shape[1], x.shape[1], 1)} if x.shape[1] != y.shape[1] else {}

    def run(self: Any, x: Tensor, y: Tensor) -> Tensor:
        return x + (self.project(y) if layers else y).mean((2, 3), keepdim=True)

    return Step("broadcast", run, layers)


def concatenated(draw: Draw, *given: Tensor) -> Step | None:
    if sum(one.shape[1] for one in given) > CHANNELS:
        return None
    return Step("cat", lambda self, *given: torch.cat(given, 1))


def stacked(draw: Draw, x: Tensor, y: Tensor) -> Step | None:
    """Interleaved channels."""
    if x.shape[1] != y.shape[1] or 2 * x.shape[1] > CHANNELS:
        return None
    axis = draw.choice([1, 2])
    return Step("stacked", lambda self, x, y: torch.stack([x, y], axis).flatten(1, 2), axis=axis)


# --- shapes ---


def pieces(draw: Draw, x: Tensor) -> Step | None:
    c = x.shape[1]
    if c < 2:
        return None
    if draw.flag():
        count = draw.integers(2, 3)
        return Step("chunk", lambda self, x: x.chunk(count, 1), count=count)
    first = draw.integers(1, c - 1)
    return Step("split", lambda self, x: tuple(torch.split(x, [first, x.shape[1] - first], dim=1)), first=first)


def shuffled(draw: Draw, x: Tensor) -> Step | None:
    divisors = [g for g in range(2, x.shape[1]) if x.shape[1] % g == 0]
    if not divisors:
        return None
    groups, literal = draw.choice(divisors), draw.flag()
    c = x.shape[1]

    def run(self: Any, x: Tensor) -> Tensor:
        b, computed, h, w = x.shape
        count = c if literal else computed
        return x.view(b, groups, count // groups, h, w).transpose(1, 2).reshape(b, count, h, w)

    return Step("shuffle", run, groups=groups, literal=literal)


def pixel_shuffled(draw: Draw, x: Tensor) -> Step | None:
    _, c, h, w = x.shape
    if draw.flag():
        if h % 2 or w % 2 or 4 * c > CHANNELS:
            return None
        return Step("pixel_unshuffle", lambda self, x: F.pixel_unshuffle(x, 2))
    if c % 4 or 4 * h * w > AREA:
        return None
    return Step("pixel_shuffle", lambda self, x: F.pixel_shuffle(x, 2))


def sliced(draw: Draw, x: Tensor) -> Step:
    c = x.shape[1]
    start, step = draw.integers(0, c - 1), draw.choice([1, 1, 2])
    stop = draw.integers(start + 1, c)
    how = draw.choice(["literal", "half", "image", "one"])
    cuts: dict[str, Callable[[Any], Any]] = {
        "literal": lambda x: x[:, start:stop:step],
        "half": lambda x: x[:, : (x.shape[1] + 1) // 2],
        "image": lambda x: x[..., 1:, :-1] if min(x.shape[2:]) > 2 else x[:, :, :1],
        "one": lambda x: x[:, start].unsqueeze(1),
    }
    return Step("slice", lambda self, x: cuts[how](x), how=how, start=start, stop=stop, step=step)


def folded(draw: Draw, x: Tensor) -> Step | None:
    """Through five dimensions and back."""
    if x.shape[1] % 2:
        return None
    how = draw.choice(["flatten", "unflatten", "tokens"])

    def run(self: Any, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        if how == "flatten":
            return (x.view(b, c // 2, 2, h, w) * 2).flatten(1, 2)
        if how == "unflatten":
            return x.unflatten(1, (2, -1)).permute(0, 1, 3, 4, 2).tanh().permute(0, 1, 4, 2, 3).reshape(b, c, h, w)
        return x.reshape(b, c, h * w).unsqueeze(-1).squeeze(3).view(b, -1, h, w)

    return Step("folded", run, how=how)


def repeated(draw: Draw, x: Tensor) -> Step | None:
    c = x.shape[1]
    how = draw.choice(["unbind", "flip", "glu", "repeat", "interleave"])
    if (how in ("unbind", "glu") and c % 2) or (how in ("repeat", "interleave") and 2 * c > CHANNELS):
        return None
    ways: dict[str, Callable[[Any], Any]] = {
        "unbind": lambda x: torch.cat(x.unflatten(1, (2, -1)).unbind(1)[::-1], 1),
        "flip": lambda x: x.flip(1),
        "glu": lambda x: F.glu(x, 1),
        "repeat": lambda x: x.repeat(1, 2, 1, 1),
        "interleave": lambda x: x.repeat_interleave(2, dim=1),
    }
    return Step(how, lambda self, x: ways[how](x))


def resized(draw: Draw, x: Tensor) -> Step | None:
    h, w = x.shape[2:]
    how = draw.choice(["max", "avg", "adaptive", "nearest", "bilinear", "pad", "roll"])
    if (how in ("nearest", "bilinear", "pad") and 4 * h * w > AREA) or (how in ("max", "avg") and min(h, w) < 2):
        return None
    ways: dict[str, Callable[[Any], Any]] = {
        "max": lambda x: F.max_pool2d(x, 2),
        "avg": lambda x: F.avg_pool2d(x, 3, 2, 1),
        "adaptive": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
        "nearest": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
        "bilinear": lambda x: F.interpolate(x, size=(x.shape[2] + 1, x.shape[3] * 2), mode="bilinear", align_corners=False),
        "pad": lambda x: F.pad(x, (1, 0, 0, 2), value=0.5),
        "roll": lambda x: torch.roll(x, (1, 1), (2, 3)),
    }
    return Step(how, lambda self, x: ways[how](x))


# --- gates and constants ---


def squeezed(draw: Draw, x: Tensor) -> Step:
    c, hidden = x.shape[1], draw.integers(1, 4)
    if draw.flag():
        layers = {"reduce": nn.Conv2d(c, hidden, 1), "expand": nn.Conv2d(hidden, c, 1)}
        return Step("se", lambda self, x: x * self.expand(self.reduce(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid(), layers)

    def run(self: Any, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        gate = self.expand(self.reduce(x.mean((2, 3))).relu()).sigmoid()
        return x * gate.view(b, c, 1, 1).expand_as(x)

    return Step("se_linear", run, {"reduce": nn.Linear(c, hidden), "expand": nn.Linear(hidden, c)})


def spatial_gate(draw: Draw, x: Tensor) -> Step:
    return Step("spatial", lambda self, x: x * self.conv(x).sigmoid(), {"conv": nn.Conv2d(x.shape[1], 1, 3, padding=1)})


def scaled(draw: Draw, x: Tensor) -> Step:
    c, how = x.shape[1], draw.choice(["channel", "batch", "one", "buffer", "last", "image"])
    shapes = {
        "channel": (c, 1, 1),
        "batch": (1, c, 1, 1),
        "one": (),
        "buffer": (c,),
        "last": (c,),
        "image": (1, 1, *x.shape[2:]),
    }
    constant: Any = nn.Parameter(torch.zeros(shapes[how]))

    def run(self: Any, x: Tensor) -> Tensor:
        if how == "last":
            return (x.permute(0, 2, 3, 1) * self.constant + self.constant).permute(0, 3, 1, 2)
        if how == "buffer":
            return x + self.constant.view(1, -1, 1, 1)
        return self.constant * x - 1

    return Step(f"scale_{how}", run, {"constant": constant})


def written(draw: Draw, x: Tensor) -> Step:
    """In place, through a view."""
    c = x.shape[1]
    start = draw.integers(0, c - 1)
    stop, how = draw.integers(start + 1, c), draw.choice(["slice", "strided", "permuted", "flat", "piece", "copy", "under"])

    def run(self: Any, x: Tensor) -> Tensor:
        x = x * 1.0
        if how == "slice":
            x[:, start:stop].mul_(0.5).add_(1)
        elif how == "strided":
            x[:, ::2] += 0.5
        elif how == "permuted":
            x.permute(0, 2, 3, 1)[..., start:stop].tanh_()
        elif how == "flat":
            F.relu(x.flatten(1), inplace=True)
        elif how == "piece":
            x.split([start + 1, c - start - 1], 1)[0].sub_(1) if start + 1 < c else x.view_as(x).sub_(1)
        elif how == "copy":
            x[:, :, :1].copy_(x[:, :, -1:])
        else:
            first = x[:, : start + 1]
            x.mul_(2)
            return torch.cat([first, x[:, start + 1 :]], 1) if start + 1 < c else first
        return x

    return Step("written", run, how=how, start=start, stop=stop)


ONE: list[Callable[..., Step | None]] = [
    conv, norm, activation, grouped, depthwise, transposed, prelu, channels_last, tokens, pieces, shuffled, pixel_shuffled,
    sliced, folded, resized, squeezed, spatial_gate, scaled,
    class_token, attention, other_norms, repeated, written,
]  # fmt: skip
TWO: list[Callable[..., Step | None]] = [residual, concatenated, broadcast, stacked]


@st.composite
def networks(draw: Any) -> nn.Module:
    """A network in eval mode that takes (N, 3, 6, 8).

    All choices come from one draw of bytes, so many for each step: hypothesis would repeat parts of a longer sequence of
    draws within an example and from one example to the next, and find less.
    """
    tape = draw(st.binary(min_size=BYTES * (DEPTH + 1), max_size=BYTES * (DEPTH + 1)))
    portions = [Draw(tape[start : start + BYTES]) for start in range(0, len(tape), BYTES)]
    values = [torch.zeros(2, 3, 6, 8)]
    steps: list[Step] = []
    wiring: list[tuple[int, ...]] = []

    def append(step: Step | None, *sources: int) -> None:
        if step is None:  # it does not fit
            return
        with torch.no_grad():
            made = step.eval()(*(values[index] for index in sources))
        values.extend(made if isinstance(made, tuple) else [made])
        steps.append(step)
        wiring.append(sources)

    last = portions.pop(0)
    depth = min(last.integers(1, DEPTH + 10), DEPTH)
    append(conv(portions[0], values[0]), 0)
    for one in portions[1:depth]:
        x = pick(one, list(range(1, len(values))))
        kind = one.integers(0, 9)
        if kind < 7:
            append(one.choice(ONE)(one, values[x]), x)
        elif kind < 9:
            alike = [index for index in range(len(values)) if values[index].shape[2:] == values[x].shape[2:]]
            y = pick(one, alike)
            append(one.choice(TWO)(one, values[x], values[y]), x, y)
        else:
            append(again(one, steps, values[x]), x)
    ends = [len(values) - 1]
    if last.integers(0, 3) == 3:
        ends.append(last.integers(1, len(values) - 1))
    return finished(Network(steps, wiring, [head(last, values[end]) for end in ends], ends))


def pick(draw: Draw, candidates: list[int]) -> int:
    """One of the last four, the last one most often."""
    return candidates[-1 - draw.choice([back for back in (0, 0, 0, 1, 1, 2, 3) if back < len(candidates)])]


def again(draw: Draw, steps: list[Step], x: Tensor) -> Step | None:
    """A layer of an earlier step once more."""
    fitting = []
    for step in steps:
        for layer in step.children():
            takes = getattr(layer, "in_channels", getattr(layer, "num_features", None))
            reflects = getattr(layer, "padding_mode", "zeros") == "reflect"
            fits = min(x.shape[2:]) > 1 or not reflects
            if takes == x.shape[1] and fits and not isinstance(layer, nn.ConvTranspose2d):
                fitting.append(layer)
    if not fitting:
        return None
    return Step("again", lambda self, x: self.layer(x), {"layer": draw.choice(fitting)})


def head(draw: Draw, x: Tensor) -> Step:
    how = draw.choice(["mean", "flatten", "view", "map", "conv"])
    c, features = x.shape[1], x[0].numel()
    if how == "conv":
        return Step("conv", lambda self, x: self.conv(x), {"conv": nn.Conv2d(c, 3, 1)})
    if how == "mean":
        return Step("mean", lambda self, x: self.fc(x.mean(dim=[2, 3])), {"fc": nn.Linear(c, 4)})
    if how == "flatten":
        layers = {"bn": nn.BatchNorm1d(features), "fc": nn.Linear(features, 4)}
        return Step("flatten", lambda self, x: self.fc(F.relu(self.bn(torch.flatten(x, 1)))), layers)
    if how == "view":
        layers = {"fc1": nn.Linear(features, 6), "fc2": nn.Linear(6, 4)}
        return Step("view", lambda self, x: self.fc2(torch.relu(self.fc1(x.reshape(-1, features)))), layers)
    return Step("map", lambda self, x: x * 1.0)
