"""The pieces of every candidate of a plan, from a few assembled networks: their sizes are sums of what variables add."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from amc_plugins.core.outlines import Frame, Piece, pieces_of

if TYPE_CHECKING:
    from amc_plugins.compression import Plan, Variable

__all__ = ["Sizes"]

_log = logging.getLogger(__name__)

_CHECKS = 3
"""Random candidates that the predictions are checked on."""
_KINDS = 64
"""A node with more combinations of kinds than that learns them as they are asked for."""

Values = tuple[int, ...]


@dataclass(frozen=True)
class _Kind:
    """Values of one variable with which a piece has one structure. `straight`: its sizes are a straight line in the value."""

    values: tuple[int, ...]
    anchor: int
    straight: bool

    @property
    def far(self) -> int:
        return max(self.values, key=lambda value: abs(value - self.anchor))


class Sizes:
    """Predicts `pieces_of` of any candidate, exactly, without assembling it.

    What stands for one node of the original depends on few variables; which, is seen by changing one at a time. Its structure
    depends on the kinds of their values (a layer whole or decomposed in one way or another), and for given kinds every size is
    a sum of one term per variable, mostly a multiple of its value. All of it is read off networks that the plan assembles, many
    nodes at a time, and checked on random candidates; a node for which it does not hold is read off one assembled network per
    combination instead.

    Args:
        plan: `assemble` is called a few times per variable.
        batch: samples that the sizes are for.
    """

    def __init__(self, plan: Plan, batch: int) -> None:
        self.plan = plan
        self.batch = batch
        self.assembled = 0
        self.frame = Frame.of(plan.network, batch)
        self._variables = {variable.name: variable for variable in plan.variables}
        self._full = dict(plan.full)
        self.names: dict[str, tuple[str, ...]] = dict.fromkeys(self.frame.nodes, ())
        """Per node: the variables that it depends on."""
        self._known: dict[tuple[str, Values], Piece] = {}
        self._kinds: dict[tuple[str, str], list[_Kind]] = {}
        self._single: set[str] = set()
        """Nodes that no prediction holds for."""
        self._find_names()
        self._learn([request for key in self.frame.nodes for request in self._first_requests(key)])
        self._learn([request for key in self.frame.nodes for request in self._kind_requests(key)])
        for key in self.frame.nodes:
            for name in self.names[key]:
                self._kinds[key, name] = self._kinds_of(key, name)
        self._learn([request for key in self.frame.nodes for request in self._joint_requests(key)])
        self._check()

    def values(self, key: str, candidate: Mapping[str, int]) -> Values:
        """What a node's piece depends on."""
        return tuple(candidate[name] for name in self.names[key])

    def piece(self, key: str, values: Values) -> Piece:
        """The piece of a node for these values of its variables."""
        known = self._known.get((key, values))
        if known is None:
            known = self._known[key, values] = self._predicted(key, values)
        return known

    def seen(self, key: str) -> list[Piece]:
        """The pieces of a node that are known so far: the ends of everything that it depends on are among them."""
        return [piece for (name, _), piece in self._known.items() if name == key]

    def pieces(self, candidate: Mapping[str, int]) -> dict[str, Piece]:
        return {key: self.piece(key, self.values(key, candidate)) for key in self.frame.nodes}

    # --- reading networks ---

    def _read(self, candidate: Mapping[str, int]) -> dict[str, Piece]:
        self.assembled += 1
        return pieces_of(self.plan.assemble({**self._full, **candidate}), self.frame, self.batch)

    def _find_names(self) -> None:
        whole = self._read({})
        for variable in self._variables.values():
            others = [value for value in variable.choices if value != variable.full]
            for value in others[:1] if variable.ordered else others:
                for key, piece in self._read({variable.name: value}).items():
                    if piece != whole[key] and variable.name not in self.names[key]:
                        self.names[key] = (*self.names[key], variable.name)

    def _learn(self, requests: Iterable[tuple[str, Values]]) -> None:
        """Read pieces off as few networks as hold them all: values of different nodes go together unless they disagree."""
        missing = [one for one in dict.fromkeys(requests) if one not in self._known]
        packs: list[dict[str, int]] = []
        for key, values in missing:
            wanted = dict(zip(self.names[key], values, strict=True))
            for pack in packs:
                if all(pack.get(name, value) == value for name, value in wanted.items()):
                    pack.update(wanted)
                    break
            else:
                packs.append(wanted)
        for pack in packs:
            candidate = {**self._full, **pack}
            for key, piece in self._read(pack).items():
                self._known.setdefault((key, self.values(key, candidate)), piece)

    def _with(self, key: str, changed: Mapping[str, int]) -> Values:
        return tuple(changed.get(name, self._full[name]) for name in self.names[key])

    def _first_requests(self, key: str) -> list[tuple[str, Values]]:
        found = [(key, self._with(key, {}))]
        for name in self.names[key]:
            found += [(key, self._with(key, {name: value})) for value in _probed(self._variables[name])]
        return found

    def _kind_requests(self, key: str) -> list[tuple[str, Values]]:
        """All the other choices of variables that are not straight where they were probed."""
        found = []
        for name in self.names[key]:
            variable = self._variables[name]
            probed = [value for value in _probed(variable) if value != variable.full]
            if len(probed) < len(variable.choices) - 1 and not self._straight(key, name, probed):
                found += [(key, self._with(key, {name: value})) for value in variable.choices]
        return found

    def _straight(self, key: str, name: str, values: Sequence[int]) -> bool:
        pieces = [self._known[key, self._with(key, {name: value})] for value in values]
        if len({structure for structure, _ in pieces}) > 1:
            return False
        first, last = np.array(pieces[0][1], dtype=np.float64), np.array(pieces[-1][1], dtype=np.float64)
        span = values[-1] - values[0]
        return all(
            np.allclose(first + (last - first) * ((value - values[0]) / span if span else 0.0), piece[1], rtol=0, atol=1e-6)
            for value, piece in zip(values, pieces, strict=True)
        )

    def _kinds_of(self, key: str, name: str) -> list[_Kind]:
        variable = self._variables[name]
        others = [value for value in variable.choices if value != variable.full]
        probed = [value for value in _probed(variable) if value != variable.full]
        if len(probed) < len(others) and self._straight(key, name, probed):
            if self._straight(key, name, [*probed, variable.full]):
                return [_Kind(variable.choices, variable.full, straight=True)]
            return [_Kind(tuple(others), probed[0], straight=True), _Kind((variable.full,), variable.full, straight=True)]
        groups: dict[object, list[int]] = {}
        for value in (variable.full, *others):
            groups.setdefault(self._known[key, self._with(key, {name: value})][0], []).append(value)
        return [_Kind(tuple(values), values[0], self._straight(key, name, sorted(values))) for values in groups.values()]

    def _joint_requests(self, key: str) -> list[tuple[str, Values]]:
        kinds = [self._kinds[key, name] for name in self.names[key]]
        if math.prod(map(len, kinds)) > _KINDS:
            return []
        return [request for chosen in itertools.product(*kinds) for request in self._needed(key, chosen)]

    def _needed(self, key: str, chosen: Sequence[_Kind]) -> list[tuple[str, Values]]:
        """What a prediction for values of these kinds is made of."""
        anchor = tuple(kind.anchor for kind in chosen)
        found = [(key, anchor)]
        for place, kind in enumerate(chosen):
            for value in (kind.far,) if kind.straight else kind.values:
                found.append((key, (*anchor[:place], value, *anchor[place + 1 :])))
        return found

    # --- predicting ---

    def _predicted(self, key: str, values: Values) -> Piece:
        if key in self._single:
            self._learn([(key, values)])
            return self._known[key, values]
        chosen = [self._kind(key, name, value) for name, value in zip(self.names[key], values, strict=True)]
        self._learn(self._needed(key, chosen))
        anchor = tuple(kind.anchor for kind in chosen)
        structure, start = self._known[key, anchor]
        total = np.array(start, dtype=np.float64)
        for place, (kind, value) in enumerate(zip(chosen, values, strict=True)):
            if value == kind.anchor:
                continue
            at = kind.far if kind.straight else value
            other, ints = self._known[key, (*anchor[:place], at, *anchor[place + 1 :])]
            if other != structure:  # kinds that are not what they are alone
                self._give_up(key)
                return self._predicted(key, values)
            total += (np.array(ints) - np.array(start)) * ((value - kind.anchor) / (at - kind.anchor))
        return structure, tuple(int(one) for one in np.rint(total))

    def _kind(self, key: str, name: str, value: int) -> _Kind:
        return next(kind for kind in self._kinds[key, name] if value in kind.values)

    def _give_up(self, key: str) -> None:
        _log.info("the sizes of `%s` are no sums over %s: each combination is assembled", key, ", ".join(self.names[key]))
        self._single.add(key)

    def _check(self) -> None:
        """Compare with candidates that were not probed; a variable that was missed is added to the node's."""
        rng = np.random.default_rng(0)
        for number in range(_CHECKS if self._variables else 0):
            candidate = {
                name: min(one.choices) if number == 0 else int(rng.choice(one.choices)) for name, one in self._variables.items()
            }
            exact = self._read(candidate)
            for key, piece in exact.items():
                if self.piece(key, self.values(key, candidate)) != piece:
                    self._forget(key)
                    self._known[key, self.values(key, candidate)] = piece

    def _forget(self, key: str) -> None:
        """Predictions do not hold for a node: from now on it depends on everything, and each combination is assembled."""
        self.names[key] = tuple(self._variables)
        self._known = {place: piece for place, piece in self._known.items() if place[0] != key}
        self._give_up(key)


def _probed(variable: Variable) -> list[int]:
    """The choices that stand for the others of an ordered variable: ends, quarters, the last one before the full."""
    count = len(variable.choices)
    if not variable.ordered or count <= 5:
        return list(variable.choices)
    places = sorted({0, count // 4, count // 2, 3 * count // 4, count - 2, count - 1})
    return [variable.choices[place] for place in places]
