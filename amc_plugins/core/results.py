"""What a run left in its `results.json`, validated, and the figures that a report makes of it. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from amc_plugins.core.drawing.matching import made_from
from amc_plugins.core.errors import RecipeError

__all__ = ["LayerLine", "Results", "Step", "layer_lines", "read_results"]

NAME = "results.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ProfileRow(_Part):
    """One node of a step's network."""

    name: str
    layer: str
    op: str = ""
    type: str
    macs: int | None
    parameters: int
    output_shape: list[int] = Field(default_factory=list)


class File(_Part):
    """An exported file, relative to the run folder."""

    path: str
    bytes: int


class Step(_Part):
    """One step. An export has files, every other step a network with its figures."""

    name: str
    kind: str
    macs: int | None = None
    parameters: int | None = None
    unknown: list[str] = Field(default_factory=list)
    accuracy: dict[str, float] = Field(default_factory=dict)
    seconds: float | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
    profile: list[ProfileRow] = Field(default_factory=list)
    files: list[File] = Field(default_factory=list)


class Results(_Part):
    """A whole run, finished or not."""

    version: Literal[1] = Field(alias="schema")
    title: str = "AMC run"
    recipe: dict[str, Any] = Field(default_factory=dict)
    steps: list[Step] = Field(min_length=1)
    result: str = ""
    """The step whose network is the result so far; later ones were left out."""
    stopped: str = ""
    """Why there were fewer rounds than planned."""

    @model_validator(mode="after")
    def _result_is_a_step(self) -> Results:
        if self.result and self.result not in [step.name for step in self.networks]:
            raise ValueError(f"`result` is `{self.result}`, which is no step with a network")
        return self

    @property
    def networks(self) -> list[Step]:
        """The steps that have a network, in order; the first is the original."""
        return [step for step in self.steps if step.profile]

    @property
    def kept(self) -> list[Step]:
        """The networks up to the result; all of them while a run is not finished."""
        networks = self.networks
        finished = any(step.kind == "export" for step in self.steps)
        end = [step.name for step in networks].index(self.result) + 1 if finished and self.result else len(networks)
        return networks[:end]


def read_results(folder: Path) -> Results:
    """Read a run folder. Raises `RecipeError` when it holds no results, or damaged ones."""
    path = folder / NAME
    if not path.is_file():
        raise RecipeError(f"`{folder}` holds no {NAME}", hint="give the folder of `amc run` or `amc tune`")
    try:
        results = Results.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        raise RecipeError(f"`{path}` is not what a run writes: {problems}", hint="run the recipe again") from error
    except (ValueError, OSError) as error:
        raise RecipeError(f"`{path}` is damaged: {error}", hint="delete it and run the recipe again") from error
    if not results.networks:
        raise RecipeError(f"`{path}` has no network in it", hint="the run stopped before its first step was done; run it again")
    return results


@dataclass
class LayerLine:
    """One layer of the original, with all that stands for it now; a removed or inserted layer is in one of the two only."""

    name: str
    before: str = ""
    """Its type; `` for an inserted layer."""
    parts: list[str] = field(default_factory=list)
    """The types of what stands for it; none for a removed layer."""
    macs_before: int | None = 0
    macs_after: int | None = 0
    parameters_before: int = 0
    parameters_after: int = 0
    shape_before: tuple[int, ...] = ()
    shape_after: tuple[int, ...] = ()
    changes: list[str] = field(default_factory=list)
    """In words, one a round."""
    errors: list[float | None] = field(default_factory=list)
    """Relative response error, one a round."""

    @property
    def after(self) -> str:
        """The parts in words: `2 × Conv2d` (which does not break), `Conv2d + Linear`, `` for none."""
        same = len(self.parts) > 1 and len(set(self.parts)) == 1
        return f"{len(self.parts)}\u00a0×\u00a0{self.parts[0]}" if same else " + ".join(self.parts)

    @property
    def costs(self) -> bool:
        """Whether it has MACs or parameters, or its MACs are unknown."""
        unknown = self.macs_before is None or self.macs_after is None
        return unknown or bool(self.macs_before or self.macs_after or self.parameters_before or self.parameters_after)

    @property
    def error(self) -> float | None:
        """The largest of the rounds."""
        return max((one for one in self.errors if one is not None), default=None)


def layer_lines(
    before: Sequence[ProfileRow], after: Sequence[ProfileRow], rounds: Iterable[dict[str, Any]] = ()
) -> list[LayerLine]:
    """The layers of two networks side by side, in the order of the first. `rounds` are the details of the compressions."""
    lines: dict[str, LayerLine] = {}
    for row in before:
        line = lines.setdefault(row.layer, LayerLine(row.layer, before=row.type, parameters_before=row.parameters))
        line.macs_before = _plus(line.macs_before, row.macs)
        line.shape_before = tuple(row.output_shape)
    known = frozenset(lines)
    seen: set[str] = set()
    previous: str | None = None
    places = list(lines)
    for row in after:
        source = made_from(row.layer, known)
        if source is None and row.layer not in lines:
            lines[row.layer] = LayerLine(row.layer)
            places.insert(places.index(previous) + 1 if previous is not None else 0, row.layer)
        line = lines[source or row.layer]
        line.macs_after = _plus(line.macs_after, row.macs)
        line.shape_after = tuple(row.output_shape)
        if row.layer not in seen:
            seen.add(row.layer)
            line.parts.append(row.type)
            line.parameters_after += row.parameters
        previous = source or row.layer
    for number, detail in enumerate(rounds, 1):
        for line in lines.values():
            line.errors.append(None)
        for one in detail.get("layers", ()):
            source = made_from(str(one.get("name", "")), known)
            if source is None:
                continue
            line = lines[source]
            if isinstance(one.get("error"), int | float):
                line.errors[number - 1] = max(float(one["error"]), line.errors[number - 1] or 0.0)
            if one.get("change"):
                line.changes.append(str(one["change"]))
    return [lines[name] for name in places]


def _plus(sum_: int | None, macs: int | None) -> int | None:
    return None if sum_ is None or macs is None else sum_ + macs
