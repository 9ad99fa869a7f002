"""What changes no value: `nn.Identity`, `contiguous`, `clone`, `detach`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from amc_plugins.handlers import Call, Declined, ElementwiseHandler, assign_tensors
from amc_plugins.handlers import Params as BaseParams

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Contiguous", "Detach", "IdentityHandler"]


class Contiguous(nn.Module):
    """The same values in one block of memory, so that a later `view` finds what it found in the recorded network."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous()


class Detach(nn.Module):
    """The same values, and no gradient through them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


Effect = Literal["none", "contiguous", "detach"]
_MODULES: dict[Effect, type[nn.Module]] = {"none": nn.Identity, "contiguous": Contiguous, "detach": Detach}


class IdentityHandler(ElementwiseHandler):
    """`effect` is what happens beside nothing: "contiguous" memory (also for `clone`), or "detach".

    Deployment can skip all three.
    """

    class Params(BaseParams):
        effect: Effect = "none"

    def module(self, call: Call) -> nn.Module:
        if isinstance(call.original, nn.Identity):
            return nn.Identity().train(call.original.training)
        if call.original is not None:
            raise Declined(f"{call.target} is not torch.nn.Identity")
        name = call.target.rpartition(".")[2]
        if name in {"detach", "detach_", "__get__"}:  # the last is `x.data`
            call.bind("input")
            return Detach()
        if name in {"positive", "__pos__"}:
            call.bind("input")
            return nn.Identity()
        call.bind("input", memory_format=None)
        return Contiguous()

    def params(self, module: nn.Module) -> BaseModel:
        return self.Params(effect=next((name for name, one in _MODULES.items() if type(module) is one), "none"))

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = _MODULES[params.effect]()
        assign_tensors(module, tensors)
        return module
