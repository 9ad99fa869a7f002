"""The handlers: what each layer is in a document, and what stays of it when channels go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amc_plugins.handlers import ChannelIds, ElementwiseHandler, Kept, LayerHandler, Shape
from amc_plugins.handlers import Params as BaseParams
from torch import Tensor, nn

from amc_op_convnext.layers import LayerScale, ResponseNorm, StarReLU


class _PerChannel(LayerHandler):
    """Passes channels on, and owns numbers for each."""

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return [inputs[0]]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.channels(inputs[0], 1)
        return inputs[0]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        kept = inputs[0].axis(1)
        smaller = self.smaller(module, len(kept))
        for name, parameter in module.named_parameters():
            setattr(smaller, name, nn.Parameter(parameter.detach()[kept.to(parameter.device)]))
        return smaller

    def smaller(self, module: nn.Module, channels: int) -> nn.Module:
        raise NotImplementedError


class LayerScaleHandler(_PerChannel):
    """`LayerScale`: all that it is are its tensors."""

    class Params(BaseParams):
        """The number of channels."""

        channels: int

    module_class = LayerScale

    def params(self, module: nn.Module) -> BaseParams:
        return self.Params(channels=len(module.get_parameter("gamma")))

    def smaller(self, module: nn.Module, channels: int) -> nn.Module:
        return LayerScale(channels)


class ResponseNormHandler(_PerChannel):
    """`ResponseNorm`: removed channels had the norm zero in the sum, so only its divisor must stay what it was."""

    class Params(BaseParams):
        """Arguments of the layer."""

        channels: int
        width: int

    module_class = ResponseNorm

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return ids.mixed(super().channels(params, inputs, ids), (2, 3), "the norm is over the map").expand(inputs[0].shape)

    def smaller(self, module: nn.Module, channels: int) -> nn.Module:
        assert isinstance(module, ResponseNorm)
        return ResponseNorm(channels, module.width)


class StarReLUHandler(ElementwiseHandler):
    """`StarReLU`: entry by entry, with two numbers for all channels."""

    module_class = StarReLU
