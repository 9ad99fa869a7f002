"""What `amc run --dry-run` does: what a run needs is opened and tried as far as that is cheap; nothing is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from amc_plugins.core import engine
from amc_plugins.core.calibration import Calibration, own_randomness
from amc_plugins.core.errors import AmcError, RecipeError, SettingsError, nearest
from amc_plugins.core.labelled import Labelled
from amc_plugins.core.macs import profile
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.opening import RecipeData, open_network
from amc_plugins.core.pipeline import done_before
from amc_plugins.core.recipe import Recipe
from amc_plugins.core.registry import registry
from amc_plugins.core.stepping import evaluating
from amc_plugins.exporting import refuse_opaque

__all__ = ["PlannedStep", "rehearse"]

_TRIAL_PARAMETERS = 2_000_000
"""A plan is prepared to see whether a budget can be met only for networks up to this size: larger ones take minutes."""
_TRIAL_SAMPLES = 64


@dataclass(frozen=True)
class PlannedStep:
    """One step of the run to come, in words."""

    name: str
    does: str
    done: bool = False
    """Kept in the run's folder from before."""


def rehearse(recipe: Recipe, base: Path) -> list[PlannedStep]:
    """The steps of a run, after a look at everything that they need.

    The network is made and captured, every loader gives its first batch, every plugin's class is imported, and for a network
    of at most two million parameters a plan is prepared on one batch to see whether the budget can be reached.

    Raises:
        RecipeError: lists every problem that was found.
    """
    return _Rehearsal(recipe, base).steps()


class _Rehearsal:
    def __init__(self, recipe: Recipe, base: Path) -> None:
        self.recipe = recipe
        self.base = base
        self.data = RecipeData(recipe.data, base, recipe.seed)
        self.problems: list[str] = []

    def steps(self) -> list[PlannedStep]:
        done: list[str] = []
        with self._problems("folder"):
            self._check_folder()
            done = done_before(self.recipe, self.base)
        network, words = self._captured()
        batches = self._first_batches(network)
        compresses, trains = self._compresses(network, batches), self._trains()
        planned = [("capture", words)]
        for number in range(1, (rounds := self.recipe.planned_rounds) + 1):
            last = f"; only what is missing of {self.recipe.until:.1%}" if self.recipe.until and number == rounds > 1 else ""
            planned.append((f"round{number}-compress", compresses + last))
            if self.recipe.train is not None:
                planned.append((f"round{number}-train", trains))
        planned += [("export", words) for words in self._exports(network)]
        if self.recipe.report:
            planned.append(("report", str(Path(self.recipe.folder) / "report.html")))
        if self.recipe.floor is not None:
            planned.append(("floor", self._floor(self.recipe.floor.accuracy)))
        self._plugins("observers", self.recipe.observers, "observers")
        if self.problems:
            listed = "\n".join(f"  {line}" for line in self.problems)
            raise RecipeError(f"the recipe is valid, but the run would fail:\n{listed}")
        return [PlannedStep(name, does, name in done) for name, does in planned]

    @contextmanager
    def _problems(self, where: str) -> Iterator[None]:
        try:
            yield
        except AmcError as error:
            self.problems.append(f"{where}: {error}" + (f" ({error.hint})" if error.hint else ""))

    def _check_folder(self) -> None:
        folder = (self.base / self.recipe.folder).absolute()
        if folder.exists() and not folder.is_dir():
            raise AmcError(f"`{folder}` is a file", hint="give `folder` another name")
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise AmcError(f"`{there}` cannot be written", hint="give `folder` a place of your own")

    def _captured(self) -> tuple[ReconstructedNetwork | None, str]:
        with self._problems("network"):
            network = open_network(self.recipe.network, self.base, seed=self.recipe.seed)
            counted = profile(network)
            opaque = len(counted.unknown)
            unknown = f", {opaque} calls without a handler" if opaque else ""
            costs = f"{counted.total_macs:,} MACs, {counted.total_parameters:,} parameters{unknown}"
            return network, f"{self.recipe.network.source}: {len(network.layer_names)} layers, {costs}"
        return None, ""

    # --- data ---

    def _first_batches(self, network: ReconstructedNetwork | None) -> dict[str, Any]:
        """The first batch of every loader, tried on the network; those that labels are needed of are checked for them."""
        found: dict[str, Any] = {}
        for part in ("train", "validation", "test", "calibration"):
            with self._problems(f"data.{part}"):
                loader = self.data.get(part)
                if loader is None:
                    continue
                if not isinstance(loader, Iterable):
                    raise SettingsError(f"the factory made a {type(loader).__name__}, not batches")
                with own_randomness(self.recipe.seed, getattr(loader, "generator", None)):
                    batch = next(iter(loader), None)
                if batch is None:
                    raise SettingsError("it is empty: it gave no batch")
                found[part] = batch
                self._try(part, batch, network)
        return found

    def _try(self, part: str, batch: Any, network: ReconstructedNetwork | None) -> None:
        if part in ("validation", "test"):  # the accuracy of every step is measured on these
            Labelled.of([batch])
        if network is not None:
            inputs = next(Calibration([batch], samples=_TRIAL_SAMPLES).chunks(network))
            with torch.no_grad(), evaluating(network):
                network(*inputs)

    def _source(self, part: str) -> str:
        return str(getattr(self.recipe.data, part))

    # --- steps ---

    def _compresses(self, network: ReconstructedNetwork | None, batches: dict[str, Any]) -> str:
        section = self.recipe.compress
        self._plugins("compressors", [section.method], "compress", section.settings)
        amounts = {name: value for name in ("total", "ratio", "ratios") if (value := getattr(section, name)) is not None}
        how_much = ", ".join(f"{name} {value}" for name, value in amounts.items()) or "as much as the accuracy allows"
        counted = f" of {section.budget}" if section.total is not None else ""
        part = "calibration" if self.recipe.data.calibration else "train"
        words = f"{section.method}, {how_much}{counted}, fitted on {self._source(part)}"
        if (tune := self.recipe.tune) is not None:
            self._plugins("tuners", [tune.method], "tune", tune.settings)
            words += f"; {tune.evaluations} candidates by {tune.method}, scored by {tune.objective}"
        if network is not None and part in batches and not self.problems:
            with self._problems("compress"):
                words += self._reached(network, batches[part])
        return words

    def _reached(self, network: ReconstructedNetwork, batch: Any) -> str:
        """Whether the amount can be had: from a plan on one batch, where that is cheap; else only that names match layers."""
        section = self.recipe.compress
        size = sum(one.numel() for one in network.parameters())
        if size > _TRIAL_PARAMETERS:
            for pattern in section.ratios or {}:
                if not any(fnmatchcase(name, pattern) for name in network.layer_names):
                    raise SettingsError(f"`{pattern}` in `ratios` matches no layer{nearest(pattern, network.layer_names)}")
            return f"; whether that can be reached was not tried: {size:,} parameters take long"
        data = Calibration([batch], samples=_TRIAL_SAMPLES)
        with _silent():  # one batch is fewer samples than a fit wants
            plan = engine.prepare(network, section.method, calibration=data, seed=self.recipe.seed, **section.settings)
        if section.total is None and section.ratio is None and section.ratios is None:  # as much as the accuracy allows
            return ""
        if section.budget == "latency":
            return "; latency is measured when it runs"
        plan.candidate(section.total, section.ratio, section.ratios, allocation=section.allocation, budget=section.budget)
        return "; within reach"

    def _trains(self) -> str:
        section = self.recipe.train
        if section is None:
            return ""
        self._plugins("trainers", [section.method], "train", section.settings)
        chosen = ", the best epoch on " + self._source("validation") if self.recipe.data.validation else ""
        taught = ", taught by the original" if section.teacher else ""
        return f"{section.method} on {self._source('train')}{chosen}{taught}"

    def _exports(self, network: ReconstructedNetwork | None) -> Iterator[str]:
        for name, section in self.recipe.export.items():
            self._plugins("exporters", [name], f"export.{name}", section.settings)
            path = Path(self.recipe.folder) / section.path
            with self._problems(f"export.{name}"):
                path = engine.export_path(name, path)
                if network is not None:
                    refuse_opaque(network, path.suffix)
            yield f"{name} to {path}"

    def _floor(self, least: float) -> str:
        later = "; a later round below it is left out" if self.recipe.planned_rounds > 1 else ""
        return f"validation accuracy of at least {least:g}, else exit code 1{later}"

    def _plugins(self, kind: str, names: Iterable[str], where: str, settings: dict[str, Any] | None = None) -> None:
        for name in names:
            with self._problems(where):
                registry().create(kind, name, settings or {})


@contextmanager
def _silent() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
