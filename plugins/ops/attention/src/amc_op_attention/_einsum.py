"""`vn.einsum`: sums of products of any axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from amc_op_attention import _modules
from amc_op_attention._contract import contracted
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EinsumHandler"]

_SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class EinsumParams(Params):
    """As in `torch.einsum`."""

    equation: str


class EinsumHandler(LayerHandler):
    """Letters that are summed tie the channels along them; letters of the result keep theirs. Diagonals are declined."""

    Params = EinsumParams
    module_class = _modules.Einsum

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        equation, *operands = call.args
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = list(operands[0])
        if not isinstance(equation, str) or call.kwargs or not all(isinstance(one, Value) for one in operands):
            raise Declined(f"{call.target} without an equation of letters")
        letters, _ = _letters(equation, [len(one.shape) for one in operands])
        if any(len(set(names)) < len(names) for names in letters):
            raise Declined(f"{call.target} of a diagonal: {equation!r}")
        return _modules.Einsum(equation)

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        """Operands are taken from left to right, as torch does without an optimiser of the order."""
        letters, result = _letters(params.equation, [len(shape) for shape in inputs])
        sizes: dict[str, int] = {}
        for names, shape in zip(letters, inputs, strict=True):
            for name, size in zip(names, shape, strict=True):
                sizes[name] = max(sizes.get(name, 1), size)
        total, left = 0, letters[0]
        for place, second in enumerate(letters[1:], 1):
            needed = set(result).union(*letters[place + 1 :])
            # A letter of one side alone is summed before anything is multiplied.
            sides = ((left, second), (second, left))
            left, right = ("".join(name for name in one if name in needed or name in other) for one, other in sides)
            union = dict.fromkeys(left + right)
            if any(name not in needed for name in union):
                total += prod(sizes[name] for name in union)
            left = "".join(name for name in union if name in needed)
        return total

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        letters, result = _letters(params.equation, [one.dim() for one in inputs])
        return contracted(inputs, letters, result, ids, self.spec.op)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of the operands' axes and of the result's, `...` and an absent result written out."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    spare = "".join(name for name in _SPARE if name not in equation)
    operands = []
    widest = ""
    for names, rank in zip(given.split(","), ranks, strict=True):
        hidden = rank - len(names.replace("...", ""))
        dots = spare[:20][20 - hidden :] if "..." in names else ""
        widest = max(widest, dots, key=len)
        operands.append(names.replace("...", dots))
    if arrow:
        return operands, result.replace("...", widest)
    every = "".join(names.replace("...", "") for names in given.split(","))
    return operands, widest + "".join(sorted(name for name in set(every) if every.count(name) == 1))
