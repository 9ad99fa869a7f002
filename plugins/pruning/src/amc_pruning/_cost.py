"""MACs of a candidate as one quadratic form, so that an allocation or a search may ask for them ten thousand times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amc_plugins.compression import ShrinkCost, Variable

__all__ = ["CandidateCost", "ExactCost"]

_PROBES = 8


class ExactCost:
    """`ShrinkCost` with samplers: a layer that reads k of its c input channels costs k / c.

    Args:
        cost: of removing channels from the network.
        sampled: variable name to (node name, c) of the layers that may have a sampler.
    """

    def __init__(self, cost: ShrinkCost, sampled: Mapping[str, tuple[str, int]]) -> None:
        self._cost = cost
        self._sampled = dict(sampled)

    def layer_macs(self, kept: Mapping[str, int]) -> dict[str, int]:
        """MACs by node name; variables left out are whole."""
        found = self._cost.layer_macs({name: count for name, count in kept.items() if name not in self._sampled})
        for name, (node, width) in self._sampled.items():
            if name in kept:
                found[node] = found[node] * kept[name] // width
        return found

    def macs(self, kept: Mapping[str, int]) -> int:
        """Total MACs of one sample."""
        return sum(self.layer_macs(kept).values())


class CandidateCost:
    """Total MACs from kept counts.

    A layer costs a product of two sums of counts, so the total is a quadratic form in the counts. It is read off `cost`, the
    exact count, at a few points and checked against it at others; where some op's MACs are no such form, every candidate is
    counted exactly instead.
    """

    def __init__(self, cost: ExactCost, variables: Sequence[Variable]) -> None:
        self.exact = cost
        self._names = [variable.name for variable in variables]
        self._full = np.array([variable.full for variable in variables], dtype=np.float64)
        self._base = float(cost.macs({}))
        self._linear, self._square = self._read(variables)
        self._quadratic = self._holds(variables)

    def __call__(self, kept: Mapping[str, int]) -> int:
        return round(self._form(kept)) if self._quadratic else self.exact.macs(kept)

    def _form(self, kept: Mapping[str, int]) -> float:
        removed = self._full - np.array([kept[name] for name in self._names], dtype=np.float64)
        return float(self._base + removed @ self._linear + removed @ self._square @ removed)

    def _read(self, variables: Sequence[Variable]) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of the removed counts: at one and two removals per variable, and at one in each of two."""
        n = len(variables)
        linear, square = np.zeros(n), np.zeros((n, n))
        at_end = np.zeros(n)
        ends = np.array([variable.choices[0] for variable in variables])
        spans = self._full - ends
        for i, variable in enumerate(variables):
            middle = (variable.full + int(ends[i])) // 2
            at_end[i] = self.exact.macs({variable.name: int(ends[i])}) - self._base
            if middle in (variable.full, int(ends[i])):
                linear[i] = at_end[i] / spans[i]
                continue
            half = variable.full - middle
            at_middle = self.exact.macs({variable.name: middle}) - self._base
            square[i, i] = (at_end[i] / spans[i] - at_middle / half) / (spans[i] - half)
            linear[i] = at_middle / half - square[i, i] * half
        for i in range(n):
            for j in range(i):
                both = self.exact.macs({self._names[i]: int(ends[i]), self._names[j]: int(ends[j])})
                joint = both - self._base - at_end[i] - at_end[j]
                square[i, j] = square[j, i] = joint / (2 * spans[i] * spans[j])
        return linear, square

    def _holds(self, variables: Sequence[Variable]) -> bool:
        rng = np.random.default_rng(0)
        for _ in range(_PROBES):
            kept = {variable.name: int(rng.choice(variable.choices)) for variable in variables}
            exact = self.exact.macs(kept)
            if abs(self._form(kept) - exact) > min(0.2, 1e-12 * self._base + 1e-3):
                return False
        return True
