"""How wide layers become for a candidate of the pruning plan, without building its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from amc_plugins.compression import Plan, linear_at

if TYPE_CHECKING:
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["Width", "Widths"]

Width = tuple[int, int]
"""Input and output channels."""
_PROBES = 4


@dataclass
class Widths:
    """Input and output channels of layers: affine in the variables of a plan. Read off assembled networks, and checked on
    others; where they are not, networks are assembled to look."""

    plan: Plan
    layers: tuple[str, ...]
    whole: dict[str, Width]
    slopes: dict[str, dict[str, tuple[float, float]]]
    """Per layer and variable: channels that one step of the variable takes away."""
    affine: bool
    full: dict[str, int]
    _known: dict[tuple[int, ...], dict[str, Width]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, layers: Sequence[str]) -> Widths:
        whole = _seen(plan.network, layers)
        slopes: dict[str, dict[str, tuple[float, float]]] = {layer: {} for layer in layers}
        for variable in plan.variables:
            least = min(variable.choices)
            steps = variable.full - least
            found = _seen(plan.assemble({**plan.full, variable.name: least}), layers)
            for layer in layers:
                lost = tuple((a - b) / steps for a, b in zip(whole[layer], found[layer], strict=True))
                if any(lost):
                    slopes[layer][variable.name] = (lost[0], lost[1])
        made = cls(plan, tuple(layers), whole, slopes, affine=True, full=dict(plan.full))
        rng = np.random.default_rng(0)
        for _ in range(_PROBES if plan.variables else 0):
            candidate = {variable.name: int(rng.choice(variable.choices)) for variable in plan.variables}
            found = _seen(plan.assemble(candidate), layers)
            made.affine = made.affine and all(made(layer, candidate) == found[layer] for layer in layers)
        return made

    def __call__(self, layer: str, candidate: Mapping[str, int]) -> Width:
        """Channels of one layer."""
        if not self.affine:
            key = tuple(candidate[variable.name] for variable in self.plan.variables)
            if key not in self._known:
                self._known[key] = _seen(self.plan.assemble(candidate), self.layers)
            return self._known[key][layer]
        inputs, outputs = self.whole[layer]
        lost_inputs = lost_outputs = 0.0
        for name, (less_in, less_out) in self.slopes[layer].items():
            steps = self.full[name] - candidate[name]
            lost_inputs += less_in * steps
            lost_outputs += less_out * steps
        return inputs - round(lost_inputs), outputs - round(lost_outputs)


def _seen(network: ReconstructedNetwork, layers: Sequence[str]) -> dict[str, Width]:
    found = {}
    for layer in layers:
        linear = linear_at(network, layer)
        found[layer] = (linear.in_channels, linear.out_channels)
    return found
