"""Reductions along axes: `x.mean((2, 3))` is global average pooling.

Channels that a reduction does not run over pass. Those that it does run over are pinned: a removed channel is zero in the
masked network, and a zero counts in a mean, a maximum or a norm. A sum over channels would be a layer with fixed weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from amc_op_pooling import _reductions
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = [
    "DeviationHandler",
    "MeanHandler",
    "NormHandler",
    "ReductionHandler",
    "axes_of",
    "truth",
]


class MeanParams(Params):
    """`dim` None: of all entries."""

    dim: list[int] | None = None
    keepdim: bool = False


class DeviationParams(MeanParams):
    """`correction` is subtracted from the number of entries."""

    correction: int | float = 1


class NormParams(MeanParams):
    """`ord` is the exponent."""

    ord: int | float = 2


class MeanHandler(LayerHandler):
    """A mean along axes that channels do not differ on keeps them; a mean over channels pins them."""

    Params: ClassVar[type[BaseModel]] = MeanParams
    module_class = _reductions.TensorMean
    verb: ClassVar[str] = "averages"

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", dim=None, keepdim=False, dtype=None)
        if bound["dtype"] not in (None, bound["input"].dtype):
            raise Declined(f"{call.target} with `dtype`")
        return self.made(dim=axes_of(call, bound["dim"]), keepdim=truth(call, "keepdim", bound["keepdim"]))

    def made(self, **params: Any) -> nn.Module:
        """The module with these parameters."""
        return _reductions.TensorMean(**params)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = tuple(inputs[0])
        if not sizes or not params.dim:
            return None
        axes = {axis % len(sizes) for axis in params.dim}
        kept = [1 if axis in axes else size for axis, size in enumerate(sizes) if params.keepdim or axis not in axes]
        return [tuple(kept)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = inputs[0]
        axes = sorted({axis % given.dim() for axis in params.dim}) if params.dim else list(range(given.dim()))
        result = ids.mixed(given, axes, f"{self.spec.op} {self.verb} over them")
        return result.reshape(ids.output_shapes[0])


class ReductionHandler(MeanHandler):
    """The function is the name of the op: `vn.sum` is `torch.sum`."""

    verb = "reduces"

    def made(self, **params: Any) -> nn.Module:
        return _reductions.Reduction(self.spec.name, **params)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        return None if self.spec.name in ("any", "all", "prod") else super().shapes(params, inputs)  # of one axis, or of bools

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return self.made(**{name: getattr(params, name) for name in self.Params.model_fields})

    def module(self, call: Call) -> nn.Module:
        if call.original is not None or self.spec.name == "sum":
            return super().module(call)
        bound = call.bind("input", dim=None, keepdim=False)
        return self.made(dim=axes_of(call, bound["dim"]), keepdim=truth(call, "keepdim", bound["keepdim"]))


class DeviationHandler(ReductionHandler):
    """`std` and `var`."""

    Params = DeviationParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        if len(call.args) == 2 and isinstance(call.args[1], bool):  # x.std(False)
            bound = call.bind("input", "unbiased")
        else:
            bound = call.bind("input", dim=None, unbiased=True, keepdim=False, correction=None)
        correction = bound.get("correction")
        if correction is None:
            correction = int(truth(call, "unbiased", bound["unbiased"]))
        if not isinstance(correction, int | float):
            raise Declined(f"{call.target} with {correction!r} for `correction`")
        return self.made(
            dim=axes_of(call, bound.get("dim")),
            keepdim=truth(call, "keepdim", bound.get("keepdim", False)),
            correction=correction,
        )


class NormHandler(ReductionHandler):
    """Norms of vectors along axes; those of matrices are declined."""

    Params = NormParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        if ".linalg." in call.target:
            names = ("A", "ord") if call.target.endswith(".norm") else ("x", "ord")
            bound = call.bind(names[0], ord=None, dim=None, keepdim=False, dtype=None)
            exponent = bound["ord"]
        else:
            bound = call.bind("input", p="fro", dim=None, keepdim=False, out=None, dtype=None)
            exponent = bound["p"]
        axes = axes_of(call, bound["dim"])
        matrix = call.target == "torch.linalg.norm" and exponent is not None and (axes is None or len(axes) == 2)
        odd = exponent != "fro" and not isinstance(exponent, int | float | None)
        if matrix or odd or bound["dtype"] is not None:
            raise Declined(f"{call.target} with order {exponent!r} along {bound['dim']!r}")
        plain = exponent if isinstance(exponent, int | float) else 2
        return self.made(dim=axes, keepdim=truth(call, "keepdim", bound["keepdim"]), ord=plain)


def axes_of(call: Call, dim: Any) -> list[int] | None:
    """Literal axes; None for all of them. Raises Declined for computed ones."""
    dims = None if dim is None else list(dim) if isinstance(dim, list | tuple) else [dim]
    if any(not isinstance(one, int) or isinstance(one, bool) for one in dims or ()):
        raise Declined(f"{call.target} along {dims}: axes must be literal ints")
    return dims or None  # torch reads an empty list as all axes


def truth(call: Call, name: str, value: Any) -> bool:
    """A literal truth value."""
    if not isinstance(value, bool | int):
        raise Declined(f"{call.target} with {value!r} for `{name}`")
    return bool(value)
