"""Networks and data as recipes and commands name them: made by factories, loaded from files, captured on an example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amc_plugins.core import engine
from amc_plugins.core.capture import capture
from amc_plugins.core.errors import AmcError
from amc_plugins.core.example_inputs import make_inputs
from amc_plugins.core.factories import call_factory, load_weights
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.recipe import DataSection, NetworkSection
from amc_plugins.core.stepping import evaluating

__all__ = ["RecipeData", "open_network"]


def open_network(section: NetworkSection, base: Path, *, seed: int = 0, strict: bool = False) -> ReconstructedNetwork:
    """The network of a recipe or a command: loaded from a file, or made by a factory and captured."""
    if ":" not in section.source:
        return engine.load(base / section.source)
    model = call_factory(section.source, section.settings, base=base, seed=seed)
    if not isinstance(model, nn.Module):
        raise AmcError(f"`{section.source}` made a {type(model).__name__}; a factory of a network makes a torch module")
    if section.weights is not None:
        load_weights(model, base / section.weights)
    assert section.input is not None  # the section's own validation
    example = make_inputs(section.inputs, base=base, seed=seed)
    try:
        return capture(model, *example, strict=strict)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, AmcError) or _runs(model, example):
            raise
        raise AmcError(
            f"`{section.source}` does not run on the example input {section.input}: {type(error).__name__}: {error}",
            hint="give the shape that the network was made for, the batch first: `input` of a recipe, --input of a command",
        ) from error


def _runs(model: nn.Module, example: Sequence[Any]) -> bool:
    """Whether the user's own network takes the example: else it is the example that is wrong, and not the capture."""
    try:
        with torch.no_grad(), evaluating(model):
            model(*example)
    except Exception:  # noqa: BLE001 - the answer
        return False
    return True


class RecipeData:
    """The loaders of a recipe, made when they are first needed."""

    def __init__(self, section: DataSection, base: Path, seed: int) -> None:
        self._section = section
        self._base = base
        self._seed = seed
        self._made: dict[str, Iterable[Any]] = {}

    def get(self, part: str) -> Iterable[Any] | None:
        reference = getattr(self._section, part)
        if reference is None:
            return None
        if part not in self._made:
            self._made[part] = call_factory(reference, self._section.settings, base=self._base, seed=self._seed)
        return self._made[part]

    def need(self, part: str) -> Iterable[Any]:
        found = self.get(part)
        assert found is not None  # the recipe's own validation
        return found

    @property
    def calibration(self) -> Iterable[Any]:
        return self.need("calibration" if self._section.calibration else "train")
