"""Which layer handler owns which op and which captured name, and where two distributions claim the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from amc_plugins.core.discovery import PluginRecord, listed, normalized
from amc_plugins.core.errors import PluginError
from amc_plugins.core.specs import LayerHandlerSpec

__all__ = ["HandlerIndex", "index_handlers"]

Claim = tuple[PluginRecord, LayerHandlerSpec]


@dataclass
class HandlerIndex:
    """What is left after conflicts: the handlers that run, by op."""

    specs: list[LayerHandlerSpec] = field(default_factory=list)
    """In the order given; `captures` without the names that another distribution's handler takes over by `replaces`."""
    by_op: dict[str, LayerHandlerSpec] = field(default_factory=dict)
    conflicts: dict[str, list[PluginRecord]] = field(default_factory=dict)
    """What is claimed twice, as words for a message (``the op `vn.x` ``), and by whom."""
    replaced: list[tuple[PluginRecord, PluginRecord]] = field(default_factory=list)
    """(loser, winner) of ops that a handler takes over from another distribution."""

    def drop(self, spec: LayerHandlerSpec) -> None:
        """Take out a handler that turns out not to work."""
        self.specs.remove(spec)
        del self.by_op[spec.op]


def index_handlers(claims: Sequence[Claim]) -> HandlerIndex:
    """Give every op and every captured name one owner.

    Two handlers for one op or one captured name are a conflict, unless exactly one of them declares that it replaces the
    distributions of the others. Who loses an op is out; who loses a captured name keeps the rest.
    """
    index = HandlerIndex()
    lost: set[tuple[str, str, str]] = set()
    for op, rivals in _claimed(claims, lambda spec: (spec.op,)).items():
        if len(rivals) == 1:
            continue
        if (winner := _winner(rivals)) is None:
            index.conflicts[f"the op `{op}`"] = [record for record, _ in rivals]
        else:
            losers = [record for record, _ in rivals if record is not winner]
            index.replaced += [(loser, winner) for loser in losers]
            lost |= {loser.key for loser in losers}
    running = [(record, spec) for record, spec in claims if record.key not in lost]
    given_up: dict[tuple[str, str, str], set[str]] = {}
    for name, rivals in _claimed(running, lambda spec: sorted(_captured(spec))).items():
        if len(rivals) == 1:
            continue
        if (winner := _winner(rivals)) is None:
            index.conflicts[f"the capture of `{name}`"] = [record for record, _ in rivals]
        else:
            for record, _ in rivals:
                if record is not winner:
                    given_up.setdefault(record.key, set()).add(name)
    stopped = {record.key for records in index.conflicts.values() for record in records}
    for record, spec in running:
        if record.key in stopped:
            continue
        without = given_up.get(record.key, set())
        kept = tuple(name for name in spec.captures if name.replace(":", ".") not in without)
        index.specs.append(spec.model_copy(update={"captures": kept}) if without else spec)
        index.by_op[spec.op] = index.specs[-1]
    return index


def superseded(new: Claim, claims: Sequence[Claim]) -> set[tuple[str, str, str]]:
    """Keys of the earlier handlers of the same origin whose captures `new` takes over whole; it then stands for them.

    Raises:
        PluginError: an op or a capture of `new` is somebody else's, and it does not replace that.
    """
    record, spec = new
    mine = _captured(spec)
    others = [claim for claim in claims if claim[0].key != record.key]
    gone = {one.key for one, other in others if one.distribution == record.distribution and set() < _captured(other) <= mine}
    for what, rivals in index_handlers([*(claim for claim in others if claim[0].key not in gone), new]).conflicts.items():
        if record not in rivals:
            continue
        owner = next(one for one in rivals if one is not record)
        way_out = f"declare replaces=({owner.distribution!r},), or leave it to that handler"
        if owner.distribution == record.distribution:
            way_out = f"register it under the same name, `{owner.name}`, to replace that one"
        raise PluginError(f"{what} belongs to the layer handler {listed_with_names([owner])}", hint=way_out)
    return gone


def _captured(spec: LayerHandlerSpec) -> set[str]:
    return {dotted.replace(":", ".") for dotted in spec.captures}


def clash(what: str, records: Sequence[PluginRecord]) -> str:
    """The problem of a conflict over `what`."""
    return f"{what} is claimed by the layer handlers {listed_with_names(records)}"


def listed_with_names(records: Sequence[PluginRecord]) -> str:
    return " and ".join(f"`{record.name}` of {listed([record])}" for record in records)


def _claimed(claims: Sequence[Claim], names: Callable[[LayerHandlerSpec], Sequence[str]]) -> Mapping[str, list[Claim]]:
    claimed: dict[str, list[Claim]] = {}
    for record, spec in claims:
        for name in dict.fromkeys(names(spec)):
            claimed.setdefault(name, []).append((record, spec))
    return claimed


def _winner(rivals: Sequence[Claim]) -> PluginRecord | None:
    """The one claimant that replaces the distributions of all the others, if there is exactly one."""
    return winner_of([(record, spec.replaces) for record, spec in rivals])


def winner_of(rivals: Sequence[tuple[PluginRecord, Sequence[str]]]) -> PluginRecord | None:
    """The one record whose `replaces` names the distributions of all the others; None if there is none or more than one."""
    winners = []
    for record, replaces in rivals:
        others = {normalized(other.distribution) for other, _ in rivals if other is not record}
        if others <= {normalized(name) for name in replaces}:
            winners.append(record)
    return winners[0] if len(winners) == 1 else None
