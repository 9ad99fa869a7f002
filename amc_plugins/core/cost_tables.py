"""Losses and exact costs of a space's choices as tables, and the cheapest candidate at a price per MAC."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from amc_plugins.compression import Candidate, Variable

__all__ = ["Array", "CostMemo", "CostTables", "Macs"]

Macs = Callable[[Mapping[str, int]], int]
Array = NDArray[np.float64]

_WIDEST = 3_000_000
"""Entries of the largest table that the elimination may form; wider problems are minimised coordinate by coordinate."""


class CostMemo:
    """MACs of value tuples in the variables' order, each computed once."""

    def __init__(self, variables: Sequence[Variable], macs: Macs) -> None:
        self.names = [variable.name for variable in variables]
        self.macs = macs
        self.known: dict[tuple[int, ...], int] = {}

    def __call__(self, values: Sequence[int]) -> int:
        key = tuple(values)
        if key not in self.known:
            self.known[key] = self.macs(dict(zip(self.names, key, strict=True)))
        return self.known[key]

    def candidate(self, values: Sequence[int]) -> Candidate:
        from amc_plugins.compression import Candidate

        return Candidate(dict(zip(self.names, values, strict=True)))


class CostTables:
    """Losses and costs by choice index: `cost(v) = base + sum_i single[i][v_i] + sum_ij pairs[i, j][v_i, v_j]`, and triples.

    Pairs and triples are found by probing. A pair's table is the product of two vectors when one further probe confirms it
    (products of channel counts are), else every entry is asked for. A triple is looked for among three variables that are all
    pairs (a layer's inputs, outputs and rank); its table is taken for the product of three vectors.
    """

    def __init__(self, variables: Sequence[Variable], cost: CostMemo) -> None:
        self.variables = variables
        self.full = [variable.choices.index(variable.full) for variable in variables]
        self.sizes = [len(variable.choices) for variable in variables]
        self.losses = [np.array(variable.losses or variable.errors, dtype=np.float64) for variable in variables]
        self.base = float(cost([variable.full for variable in variables]))
        self._ask = cost
        self.single = [np.array([self._at({i: a}) - self.base for a in range(size)]) for i, size in enumerate(self.sizes)]
        self.pairs: dict[tuple[int, int], Array] = {}
        for i in range(len(variables)):
            for j in range(i + 1, len(variables)):
                ends = self._joint(i, self._probe(i), j, self._probe(j))
                if ends or self._joint(i, self.sizes[i] // 2, j, self.sizes[j] // 2):
                    self.pairs[i, j] = self._pair(i, j)
        self.triples: dict[tuple[int, int, int], Array] = {}
        for i, j in self.pairs:
            for k in range(j + 1, len(variables)):
                if (i, k) in self.pairs and (j, k) in self.pairs:
                    table = self._triple(i, j, k)
                    if table is not None:
                        self.triples[i, j, k] = table
        self.partners: list[list[tuple[int, Array]]] = [[] for _ in variables]
        for (i, j), table in self.pairs.items():
            self.partners[i].append((j, table))
            self.partners[j].append((i, table.T))

    def _probe(self, i: int) -> int:
        return 0 if self.full[i] else self.sizes[i] - 1

    def _at(self, places: Mapping[int, int]) -> float:
        values = [variable.full for variable in self.variables]
        for index, place in places.items():
            values[index] = self.variables[index].choices[place]
        return float(self._ask(values))

    def _joint(self, i: int, a: int, j: int, b: int) -> float:
        return float(self._at({i: a, j: b}) - self.base - self.single[i][a] - self.single[j][b])

    def _pair(self, i: int, j: int) -> Array:
        p, q = self._probe(i), self._probe(j)
        column = np.array([self._joint(i, a, j, q) for a in range(self.sizes[i])])
        row = np.array([self._joint(i, p, j, b) for b in range(self.sizes[j])])
        if column[p]:
            table: Array = np.outer(column, row) / column[p]
            middle = (self.sizes[i] // 2, self.sizes[j] // 2)
            if abs(table[middle] - self._joint(i, middle[0], j, middle[1])) <= 1e-9 * self.base:
                return table
        return np.array([[self._joint(i, a, j, b) for b in range(self.sizes[j])] for a in range(self.sizes[i])])

    def _triple(self, i: int, j: int, k: int) -> Array | None:
        """The table of what three variables cost together beyond singles and pairs; None where that is nothing."""

        def beyond(a: int, b: int, c: int) -> float:
            singles = self.single[i][a] + self.single[j][b] + self.single[k][c]
            pairs = self.pairs[i, j][a, b] + self.pairs[i, k][a, c] + self.pairs[j, k][b, c]
            return float(self._at({i: a, j: b, k: c}) - self.base - singles - pairs)

        p, q, r = self._probe(i), self._probe(j), self._probe(k)
        corner = beyond(p, q, r)
        if abs(corner) <= 1e-9 * self.base:
            return None
        first = np.array([beyond(a, q, r) for a in range(self.sizes[i])])
        second = np.array([beyond(p, b, r) for b in range(self.sizes[j])]) / corner
        third = np.array([beyond(p, q, c) for c in range(self.sizes[k])]) / corner
        table: Array = first[:, None, None] * second[:, None] * third
        return table

    def joint(self, i: int, j: int, chosen: Sequence[int]) -> Array | None:
        """What the choices of `i` < `j` cost together beside the others' present choices; None if nothing."""
        found = self.pairs.get((i, j))
        for key, table in self.triples.items():
            if i in key and j in key:
                (other,) = set(key) - {i, j}
                part = np.take(table, chosen[other], axis=key.index(other))
                found = part if found is None else found + part
        return found

    def values(self, chosen: Sequence[int]) -> tuple[int, ...]:
        return tuple(variable.choices[place] for variable, place in zip(self.variables, chosen, strict=True))

    def cost(self, chosen: Sequence[int]) -> float:
        total = self.base + sum(self.single[i][place] for i, place in enumerate(chosen))
        total += sum(table[chosen[i], chosen[j]] for (i, j), table in self.pairs.items())
        return float(total + sum(table[chosen[i], chosen[j], chosen[k]] for (i, j, k), table in self.triples.items()))

    def loss(self, chosen: Sequence[int]) -> float:
        return float(sum(self.losses[i][place] for i, place in enumerate(chosen)))

    def given(self, i: int, chosen: Sequence[int]) -> Array:
        """Cost of each choice of variable `i` beside the others' present choices, up to a constant."""
        row = self.single[i].copy()
        for j, table in self.partners[i]:
            row += table[:, chosen[j]]
        for key, table in self.triples.items():
            if i in key:
                row += table[tuple(slice(None) if other == i else chosen[other] for other in key)]
        return row

    def cheapest(self) -> list[int]:
        return self.minimum(1.0, [0] * len(self.sizes), losses=0.0)

    def minimum(self, price: float, start: Sequence[int], losses: float = 1.0) -> list[int]:
        """argmin of `losses * loss + price * cost`: by elimination, or by coordinates from `start` where that is too wide."""
        theta = [losses * self.losses[i] + price * self.single[i] for i in range(len(self.sizes))]
        factors: list[tuple[tuple[int, ...], Array]] = [((i,), table) for i, table in enumerate(theta)]
        factors += [(key, price * table) for key, table in self.pairs.items()]
        factors += [(key, price * table) for key, table in self.triples.items()]
        found = _eliminate(factors, self.sizes)
        if found is not None:
            return found
        chosen = list(start)
        for _ in range(50):
            before = list(chosen)
            for i in range(len(chosen)):
                chosen[i] = int(np.argmin(losses * self.losses[i] + price * self.given(i, chosen)))
            if chosen == before:
                break
        return chosen


def _eliminate(factors: list[tuple[tuple[int, ...], Array]], sizes: Sequence[int]) -> list[int] | None:
    """The exact joint minimiser of a sum of tables, by bucket elimination (smallest table first); None if too wide.

    On a chain of layers this is the Viterbi recursion.
    """
    remaining = set(range(len(sizes)))
    decided: list[tuple[int, tuple[int, ...], NDArray[np.int64]]] = []
    while remaining:
        scopes = {i: sorted({k for scope, _ in factors if i in scope for k in scope} - {i}) for i in remaining}
        pick = min(remaining, key=lambda i: (math.prod(sizes[k] for k in scopes[i]), i))
        axes = (*scopes[pick], pick)
        if math.prod(sizes[k] for k in axes) > _WIDEST:
            return None
        joint = np.zeros([sizes[k] for k in axes])
        for scope, table in factors:
            if pick in scope:
                by_axis = sorted(scope, key=axes.index)
                shape = [sizes[k] if k in scope else 1 for k in axes]
                joint += np.transpose(table, [scope.index(k) for k in by_axis]).reshape(shape)
        factors = [factor for factor in factors if pick not in factor[0]]
        factors.append((tuple(scopes[pick]), joint.min(-1)))
        decided.append((pick, tuple(scopes[pick]), np.asarray(joint.argmin(-1))))
        remaining.remove(pick)
    chosen = [0] * len(sizes)
    for pick, scope, best in reversed(decided):
        chosen[pick] = int(best[tuple(chosen[k] for k in scope)])
    return chosen
