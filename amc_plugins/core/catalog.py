"""Which distribution provides which built-in plugin: what to install when one is missing.

A test holds it against the entry points and declarations of the distributions in this repository.
"""

from __future__ import annotations

__all__ = ["BUILT_IN", "DISTRIBUTIONS", "OPS", "distribution_of", "distribution_of_op"]

DISTRIBUTIONS: dict[str, dict[str, str]] = {
    "amc-archive-export": {"exporters": "json pkl"},
    "amc-baselines": {"tuners": "allocation annealing random uniform"},
    "amc-ddpg": {"tuners": "ddpg"},
    "amc-ga": {"tuners": "ga"},
    "amc-lowrank": {"compressors": "lowrank"},
    "amc-mixed": {"compressors": "mixed"},
    "amc-onnx-export": {"exporters": "onnx"},
    "amc-op-activation": {
        "layer_handlers": "celu dropout elu gelu glu hardshrink hardsigmoid hardswish hardtanh identity leaky_relu"
        " log_softmax logsigmoid mish prelu relu relu6 selu sigmoid silu softmax softplus softshrink softsign tanh tanhshrink"
    },
    "amc-op-arithmetic": {
        "layer_handlers": "abs add addcmul cast ceil clamp cos div eq erf exp expm1 floor floor_divide ge gt le log log1p"
        " log2 logical_and logical_not logical_or logical_xor lt masked_fill maximum minimum mul ne neg pow reciprocal"
        " remainder round rsqrt sign sin sqrt square sub where"
    },
    "amc-op-attention": {"layer_handlers": "addmm attention einsum matmul multihead_attention"},
    "amc-op-conv": {"layer_handlers": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"},
    "amc-op-creation": {"layer_handlers": "arange eye full full_like linspace meshgrid one_hot tensor tril triu"},
    "amc-op-linear": {"layer_handlers": "embedding linear"},
    "amc-op-norm": {
        "layer_handlers": "batchnorm1d batchnorm2d batchnorm3d group_norm instance_norm layer_norm local_response_norm"
        " normalize rms_norm"
    },
    "amc-op-pooling": {
        "layer_handlers": "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d"
        " adaptive_max_pool2d adaptive_max_pool3d all amax amin any argmax argmin argsort avg_pool1d avg_pool2d avg_pool3d"
        " cumprod cumsum logsumexp max max_pool1d max_pool2d max_pool3d mean min norm prod sort std sum topk var"
    },
    "amc-op-recurrent": {"layer_handlers": "gru lstm rnn"},
    "amc-op-resize": {
        "layer_handlers": "affine_grid channel_shuffle fold grid_sample interpolate pad pixel_shuffle pixel_unshuffle unfold"
    },
    "amc-op-shape": {
        "layer_handlers": "cat chunk expand flatten flip gather permute repeat repeat_interleave reshape roll setitem slice"
        " split squeeze stack transpose unbind unflatten unsqueeze windows"
    },
    "amc-pruning": {"compressors": "pruning", "layer_handlers": "pruning_sampler"},
    "amc-training": {
        "layer_handlers": "fake_quantize",
        "observers": "tensorboard",
        "trainers": "distillation quantization supervised",
    },
    "amc-venus-export": {"exporters": "vnmodel"},
}
"""Distribution -> kind -> names of its entry points."""

BUILT_IN: dict[str, dict[str, str]] = {
    kind: {name: distribution for distribution, kinds in DISTRIBUTIONS.items() for name in kinds.get(kind, "").split()}
    for kind in ("layer_handlers", "compressors", "tuners", "trainers", "exporters", "observers")
}
"""Kind -> name -> distribution."""

OPS: dict[str, str] = {f"vn.{name}": name for name in BUILT_IN["layer_handlers"]}
"""Op id -> name of its layer handler."""


def distribution_of(kind: str, name: str) -> str | None:
    """The distribution of a built-in plugin, None when it is not a built-in one."""
    return BUILT_IN.get(kind, {}).get(name)


def distribution_of_op(op: str) -> str | None:
    """The distribution that handles a built-in op, None when it is not a built-in one."""
    name = OPS.get(op)
    return None if name is None else distribution_of("layer_handlers", name)
