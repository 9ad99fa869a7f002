"""The choices of one layer: over all schemes, what has the least error for its MACs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Fitted, Option
from amc_plugins.compression import Variable

if TYPE_CHECKING:
    from torch import nn

__all__ = ["OptionTable"]

_POWER = 0.75


@dataclass
class OptionTable:
    """Options by the value that chooses them, values and MACs ascending, errors descending; `full` stands for the layer
    itself."""

    options: dict[int, Option]
    full: int
    unit: str
    fits: dict[str, Fitted]
    importance: float = 1.0
    """What a unit of relative error does to the outputs."""

    @classmethod
    def of(cls, info: LayerInfo, fits: Mapping[str, Fitted], importance: float = 1.0) -> OptionTable:
        """Options that cost as much as the layer, or no less than one with a smaller error, are left out.

        The value is the rank where one scheme with one rank is all there is, else the MACs.
        """
        offered = sorted((option for fit in fits.values() for option in fit.options), key=lambda one: (one.macs, one.error))
        useful: list[Option] = []
        for option in offered:
            if option.macs < info.macs and (not useful or (option.macs > useful[-1].macs and option.error < useful[-1].error)):
                useful.append(option)
        by_rank = len(fits) == 1 and all(len(option.ranks) == 1 for option in useful)
        if by_rank:
            table = {option.ranks[0]: option for option in useful}
            full = max(min(info.m, info.n), max(table, default=0) + 1)
        else:
            table = {option.macs: option for option in useful}
            full = info.macs
        used = {name: {option for option in useful if option.scheme == name} for name in fits}
        kept = {name: fit.trimmed(used[name]) for name, fit in fits.items() if used[name]}
        return cls(table, full, "rank" if by_rank else "macs", kept, importance)

    def variable(self, info: LayerInfo, importance: float = 1.0) -> Variable:
        """`importance`: what a unit of error does to the outputs; losses are `divergence^0.75 error^0.25`, as measured ones."""
        choices = (*self.options, self.full)
        errors = (*(option.error for option in self.options.values()), 0.0)
        losses = tuple(importance**_POWER * error for error in errors)
        return Variable(info.name, (info.name,), choices, self.full, self.unit, errors, dict(info.features), losses=losses)

    def chain(self, info: LayerInfo, value: int) -> list[nn.Module]:
        option = self.options[value]
        return self.fits[option.scheme].chain(info, option)
