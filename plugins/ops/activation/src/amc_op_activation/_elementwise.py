"""Activations that work on each entry alone: one class of `torch.nn` each, with its settings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError
from torch import nn

from amc_plugins.handlers import Call, Declined, ElementwiseHandler
from amc_plugins.handlers import Params as BaseParams

__all__ = [
    "ActivationHandler",
    "CELUHandler",
    "ELUHandler",
    "GELUHandler",
    "HardshrinkHandler",
    "HardsigmoidHandler",
    "HardswishHandler",
    "HardtanhHandler",
    "LeakyReLUHandler",
    "LogSigmoidHandler",
    "MishHandler",
    "ReLU6Handler",
    "ReLUHandler",
    "SELUHandler",
    "SiLUHandler",
    "SigmoidHandler",
    "SoftplusHandler",
    "SoftshrinkHandler",
    "SoftsignHandler",
    "TanhHandler",
    "TanhshrinkHandler",
]


class ActivationHandler(ElementwiseHandler):
    """Every spelling becomes a new module of `module_class`, which never works in place.

    The fields of `Params` are the optional arguments of the functional form, in its order.
    """

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {}).train(call.original.training)
        return self.build(self._recorded(call), {})

    def _recorded(self, call: Call) -> BaseModel:
        optional: dict[str, Any] = {name: field.default for name, field in self.Params.model_fields.items()}
        if not call.target.endswith("_"):  # `relu_` and its like have no such argument
            optional["inplace"] = False
        bound = call.bind("input", **optional)
        try:
            return self.Params(**{name: bound[name] for name in self.Params.model_fields})
        except ValidationError as error:
            raise Declined(f"{call.target} with settings that the network computes: {error}") from error


class ReLUHandler(ActivationHandler):
    """max(x, 0)"""

    module_class = nn.ReLU


class ReLU6Handler(ActivationHandler):
    """min(max(x, 0), 6)"""

    module_class = nn.ReLU6


class LeakyReLUHandler(ActivationHandler):
    """x where x > 0, else negative_slope * x"""

    class Params(BaseParams):
        negative_slope: float = 0.01

    module_class = nn.LeakyReLU


class ELUHandler(ActivationHandler):
    """x where x > 0, else alpha * (exp(x) - 1)"""

    class Params(BaseParams):
        alpha: float = 1.0

    module_class = nn.ELU


class SiLUHandler(ActivationHandler):
    """x * sigmoid(x)"""

    module_class = nn.SiLU


class GELUHandler(ActivationHandler):
    """x * Phi(x); `approximate` is "none" or "tanh"."""

    class Params(BaseParams):
        approximate: str = "none"

    module_class = nn.GELU


class HardswishHandler(ActivationHandler):
    """x * relu6(x + 3) / 6"""

    module_class = nn.Hardswish


class HardsigmoidHandler(ActivationHandler):
    """relu6(x + 3) / 6"""

    module_class = nn.Hardsigmoid


class HardtanhHandler(ActivationHandler):
    """min(max(x, min_val), max_val)"""

    class Params(BaseParams):
        min_val: float = -1.0
        max_val: float = 1.0

    module_class = nn.Hardtanh


class TanhHandler(ActivationHandler):
    """Hyperbolic tangent."""

    module_class = nn.Tanh


class SigmoidHandler(ActivationHandler):
    """1 / (1 + exp(-x))"""

    module_class = nn.Sigmoid


class MishHandler(ActivationHandler):
    """x * tanh(softplus(x))"""

    module_class = nn.Mish


class SoftplusHandler(ActivationHandler):
    """log(1 + exp(beta * x)) / beta, and x where beta * x > threshold"""

    class Params(BaseParams):
        beta: float = 1.0
        threshold: float = 20.0

    module_class = nn.Softplus


class SoftsignHandler(ActivationHandler):
    """x / (1 + |x|)"""

    module_class = nn.Softsign


class LogSigmoidHandler(ActivationHandler):
    """log(1 / (1 + exp(-x)))"""

    module_class = nn.LogSigmoid


class CELUHandler(ActivationHandler):
    """x where x > 0, else alpha * (exp(x / alpha) - 1)"""

    class Params(BaseParams):
        alpha: float = 1.0

    module_class = nn.CELU


class SELUHandler(ActivationHandler):
    """ELU with the scale and alpha that keep mean and variance"""

    module_class = nn.SELU


class HardshrinkHandler(ActivationHandler):
    """x where |x| > lambd, else 0"""

    class Params(BaseParams):
        lambd: float = 0.5

    module_class = nn.Hardshrink


class SoftshrinkHandler(ActivationHandler):
    """x moved towards 0 by lambd, 0 within it"""

    class Params(BaseParams):
        lambd: float = 0.5

    module_class = nn.Softshrink


class TanhshrinkHandler(ActivationHandler):
    """x - tanh(x)"""

    module_class = nn.Tanhshrink
