"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

_PLACES = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch", "Tensor": "torch.Tensor"}

# name: target, summary, spellings
_HANDLERS = {
    "relu": (
        "_elementwise:ReLUHandler",
        "max(x, 0)",
        "nn.ReLU F.relu F.relu_ torch.relu torch.relu_ Tensor.relu Tensor.relu_",
    ),
    "relu6": ("_elementwise:ReLU6Handler", "min(max(x, 0), 6)", "nn.ReLU6 F.relu6"),
    "leaky_relu": (
        "_elementwise:LeakyReLUHandler",
        "x where x > 0, else negative_slope * x",
        "nn.LeakyReLU F.leaky_relu F.leaky_relu_",
    ),
    "elu": ("_elementwise:ELUHandler", "x where x > 0, else alpha * (exp(x) - 1)", "nn.ELU F.elu F.elu_"),
    "silu": ("_elementwise:SiLUHandler", "x * sigmoid(x)", "nn.SiLU F.silu"),
    "gelu": ("_elementwise:GELUHandler", "x * Phi(x), exact or by tanh", "nn.GELU F.gelu"),
    "hardswish": ("_elementwise:HardswishHandler", "x * relu6(x + 3) / 6", "nn.Hardswish F.hardswish"),
    "hardsigmoid": ("_elementwise:HardsigmoidHandler", "relu6(x + 3) / 6", "nn.Hardsigmoid F.hardsigmoid"),
    "hardtanh": ("_elementwise:HardtanhHandler", "x cut to [min_val, max_val]", "nn.Hardtanh F.hardtanh F.hardtanh_"),
    "mish": ("_elementwise:MishHandler", "x * tanh(softplus(x))", "nn.Mish F.mish"),
    "softplus": ("_elementwise:SoftplusHandler", "log(1 + exp(beta * x)) / beta", "nn.Softplus F.softplus"),
    "softsign": ("_elementwise:SoftsignHandler", "x / (1 + |x|)", "nn.Softsign F.softsign"),
    "logsigmoid": ("_elementwise:LogSigmoidHandler", "logarithm of the sigmoid", "nn.LogSigmoid F.logsigmoid"),
    "celu": (
        "_elementwise:CELUHandler",
        "x where x > 0, else alpha * (exp(x / alpha) - 1)",
        "nn.CELU F.celu F.celu_ torch.celu",
    ),
    "selu": (
        "_elementwise:SELUHandler",
        "ELU with the scale and alpha that keep mean and variance",
        "nn.SELU F.selu F.selu_ torch.selu",
    ),
    "hardshrink": (
        "_elementwise:HardshrinkHandler",
        "x where |x| > lambd, else 0",
        "nn.Hardshrink F.hardshrink torch.hardshrink Tensor.hardshrink",
    ),
    "softshrink": ("_elementwise:SoftshrinkHandler", "x moved towards 0 by lambd", "nn.Softshrink F.softshrink"),
    "tanhshrink": ("_elementwise:TanhshrinkHandler", "x - tanh(x)", "nn.Tanhshrink F.tanhshrink"),
    "glu": ("_glu:GLUHandler", "half an axis gated by the sigmoid of the other half", "nn.GLU F.glu"),
    "tanh": (
        "_elementwise:TanhHandler",
        "hyperbolic tangent",
        "nn.Tanh F.tanh torch.tanh torch.tanh_ Tensor.tanh Tensor.tanh_",
    ),
    "sigmoid": (
        "_elementwise:SigmoidHandler",
        "1 / (1 + exp(-x))",
        "nn.Sigmoid F.sigmoid torch.sigmoid torch.sigmoid_ torch.special.expit Tensor.sigmoid Tensor.sigmoid_",
    ),
    "prelu": (
        "_prelu:PReLUHandler",
        "x where x > 0, else weight * x, per channel or shared",
        "nn.PReLU F.prelu torch.prelu Tensor.prelu",
    ),
    "softmax": (
        "_softmax:SoftmaxHandler",
        "softmax along one axis",
        "nn.Softmax nn.Softmax2d F.softmax torch.softmax torch.special.softmax Tensor.softmax",
    ),
    "log_softmax": (
        "_softmax:LogSoftmaxHandler",
        "logarithm of softmax along one axis",
        "nn.LogSoftmax F.log_softmax torch.log_softmax torch.special.log_softmax Tensor.log_softmax",
    ),
    "dropout": (
        "_dropout:DropoutHandler",
        "dropout of entries or of whole channels, in training mode only",
        "nn.Dropout nn.Dropout1d nn.Dropout2d nn.Dropout3d F.dropout F.dropout1d F.dropout2d F.dropout3d "
        "torch.dropout torch.dropout_ "
        "torch.feature_dropout torch.feature_dropout_",
    ),
    "identity": (
        "_identity:IdentityHandler",
        "what changes no value: Identity, contiguous, clone, detach",
        "nn.Identity torch.clone torch.detach torch.detach_ torch.positive Tensor.contiguous Tensor.clone Tensor.detach "
        "Tensor.detach_ Tensor.data.__get__ Tensor.positive Tensor.__pos__",
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, spellings) in _HANDLERS.items():
        places = (spelling.partition(".") for spelling in spellings.split())
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_activation._examples:examples",
            target=f"amc_op_activation.{target}",
            captures=tuple(f"{_PLACES[place]}.{rest}" for place, _, rest in places),
        )
