"""Running a recipe: capture, (compress, retrain) x rounds, exports, report; every step is kept and not done twice."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from amc_plugins.core import engine
from amc_plugins.core.budgets import Budget
from amc_plugins.core.entries import compression_detail, file_entry, network_entry, search_detail, write_results
from amc_plugins.core.errors import CheckFailed, RecipeError
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.objectives import accuracy
from amc_plugins.core.opening import RecipeData, open_network
from amc_plugins.core.preparation import forget
from amc_plugins.core.recipe import Recipe
from amc_plugins.core.registry import registry
from amc_plugins.core.results import NAME
from amc_plugins.core.rounds import remaining, share_of_round
from amc_plugins.core.runs import Run
from amc_plugins.core.snapshots import load_snapshot, save_snapshot
from amc_plugins.core.speed import measured_speed

__all__ = ["RunResult", "done_before", "run_recipe"]

logger = logging.getLogger("amc_plugins.run.steps")


@dataclass
class RunResult:
    """A finished run. `steps` is what `results.json` holds, one entry a step."""

    folder: Path
    network: ReconstructedNetwork
    steps: list[dict[str, Any]]
    files: list[Path] = field(default_factory=list)


class _Runner:
    def __init__(self, recipe: Recipe, base: Path, run: Run, folder: Path) -> None:
        self.recipe = recipe
        self.base = base
        self.run = run
        self.folder = folder
        self.data = RecipeData(recipe.data, base, recipe.seed)
        self.done: dict[str, dict[str, Any]] = {}
        self.steps: list[dict[str, Any]] = []
        self.result = "capture"
        """The step whose network is the result so far."""
        self.stopped = ""
        """Why there were fewer rounds than planned."""
        self.files = _fingerprints(recipe, base)
        found = _read_results(folder)
        if found is not None:
            _check_same(found, _identity(recipe), self.files, folder)
            self.done = {step["name"]: step for step in found["steps"]}

    # --- steps ---

    def step(
        self, name: str, kind: str, work: Callable[[], tuple[ReconstructedNetwork, dict[str, Any]]]
    ) -> ReconstructedNetwork:
        """Do one step, or take its result from the run folder when it was finished before."""
        snapshot = self.folder / f"{name}.pt"
        if name in self.done and snapshot.is_file():
            logger.info("%s: done before, taken from %s", name, snapshot)
            self.steps.append(self.done[name])
            return load_snapshot(snapshot).to(self.recipe.device)
        started = time.perf_counter()
        network, detail = work()
        seconds = time.perf_counter() - started
        measured = {part: self.accuracy(network, part) for part in ("validation", "test") if self.data.get(part) is not None}
        entry = network_entry(name, kind, network, seconds=seconds, detail=detail, accuracy=measured)
        kept = save_snapshot(network, snapshot)
        if not kept:
            logger.warning("%s cannot be kept for a resumed run: the network has opaque operations", name)
        self.steps.append(entry)
        self.write()
        forget(self.folder)
        logger.info("%s: %s MACs%s, %.1f s", name, f"{entry['macs']:,}", _shown(entry["accuracy"]), seconds)
        # The next step starts from what a resumed run would start from.
        return load_snapshot(snapshot).to(self.recipe.device) if kept else network

    def accuracy(self, network: ReconstructedNetwork, part: str) -> float:
        return accuracy(network, self.data.need(part))

    def write(self) -> None:
        more = {"files": self.files, "result": self.result, "stopped": self.stopped}
        write_results(self.folder, self.recipe.title, _identity(self.recipe), self.steps, **more)

    def captured(self) -> tuple[ReconstructedNetwork, dict[str, Any]]:
        network = open_network(self.recipe.network, self.base, seed=self.recipe.seed).to(self.recipe.device)
        return network, {"opaque": [text for key, text in network.graph.metadata.items() if key.startswith("opaque:")]}

    def rounds(self, original: ReconstructedNetwork) -> ReconstructedNetwork:
        """Compress and retrain until the recipe's rounds are done, its aim is reached, or its floor is missed."""
        network = original
        for number in range(1, self.recipe.planned_rounds + 1):
            total = self.share(number)
            if total is None and self.recipe.until is not None:
                self.stopped = f"{1 - remaining(self.steps):.1%} were removed by then"
                break
            before = network
            network = self.step(f"round{number}-compress", "compress", partial(self.compressed, before, number, total))
            if self.recipe.train is not None:
                network = self.step(f"round{number}-train", "train", partial(self.trained, network, original))
            missed = self.below_floor(self.steps[-1])
            if missed and number > 1:
                self.stopped = f"round {number} is left out: its {missed}"
                network = before
                break
            self.result = self.steps[-1]["name"]
            if missed and number < self.recipe.planned_rounds:
                self.stopped = f"after round 1, {missed}"
                break
        if self.stopped:
            logger.info("no further round: %s", self.stopped)
        return network

    def share(self, number: int) -> float | None:
        """What a round removes of the network that it starts from; None when there is no such share, or none is missing."""
        total, until = self.recipe.compress.total, self.recipe.until
        if total is None or until is None:
            return total
        return share_of_round(total, until, remaining(self.steps), last=number == self.recipe.planned_rounds)

    def below_floor(self, step: dict[str, Any]) -> str:
        """How a step's network misses the recipe's floor, in words; nothing when it does not."""
        floor = self.recipe.floor
        if floor is None or (reached := step["accuracy"]["validation"]) >= floor.accuracy:
            return ""
        return f"validation accuracy is {reached:.4f}, below the floor of {floor.accuracy:g}"

    def check_floor(self) -> None:
        """Raises `CheckFailed` when the result misses the recipe's floor."""
        (step,) = (one for one in self.steps if one["name"] == self.result)
        if missed := self.below_floor(step):
            raise CheckFailed(
                f"the result's {missed}",
                hint=f"remove less, train longer, or lower the floor; everything is kept in {self.folder}",
            )

    def compressed(
        self, network: ReconstructedNetwork, number: int, total: float | None
    ) -> tuple[ReconstructedNetwork, dict[str, Any]]:
        section = self.recipe.compress
        budget = Budget(section.budget, section.batch, section.threads)
        plan = engine.prepare(
            network,
            section.method,
            calibration=self.data.calibration,
            seed=self.recipe.seed,
            budget=total if section.budget == "macs" else None,
            run=self.run,
            **section.settings,
        )
        detail: dict[str, Any] = {"method": section.method}
        if self.recipe.tune is None:
            result = engine.carry_out(
                plan,
                total=total,
                ratio=section.ratio,
                ratios=section.ratios,
                allocation=section.allocation,
                budget=budget,
                refit=section.refit,
                evaluate=(lambda one: self.accuracy(one, "validation")) if section.accuracy_first else None,
                run=self.run,
                near=self.recipe.until is None,  # what a round removes is not the user's number
            )
        else:
            tune = self.recipe.tune
            assert total is not None
            search = engine.tune(
                plan,
                tune.method,
                total=total,
                budget=budget,
                evaluate=tune.objective,
                data=self.data.need("validation") if tune.objective == "accuracy" else None,
                evaluations=tune.evaluations,
                confirm=tune.confirm,
                workers=tune.workers,
                seed=self.recipe.seed,
                folder=self.folder / f"round{number}-search",
                run=self.run,
                **tune.settings,
            )
            detail["search"] = search_detail(search)
            result = engine.apply_plan(plan, search.best.candidate, refit=section.refit, run=self.run, budget=budget)
        return result.network, {**detail, **compression_detail(result)}

    def trained(
        self, network: ReconstructedNetwork, original: ReconstructedNetwork
    ) -> tuple[ReconstructedNetwork, dict[str, Any]]:
        section = self.recipe.train
        assert section is not None
        result = engine.train(
            network,
            section.method,
            train=self.data.need("train"),
            validation=self.data.get("validation"),
            teacher=original if section.teacher else None,
            seed=self.recipe.seed,
            run=self.run,
            resume=True,
            **section.settings,
        )
        assert isinstance(result.network, ReconstructedNetwork)
        history = {"epochs": result.epochs, "best_epoch": result.best_epoch, "history": result.history}
        return result.network, {"method": section.method, **history}

    def exported(self, network: ReconstructedNetwork) -> list[Path]:
        files = []
        for name, section in self.recipe.export.items():
            path = engine.export(network, name, self.folder / section.path, run=self.run, **section.settings)
            files.append(path)
        return files


def run_recipe(recipe: Recipe, base: Path, observers: Iterable[object] = ()) -> RunResult:
    """See `amc_plugins.run`."""
    folder = base / recipe.folder
    told = [*observers, *registry().make_observers(recipe.observers)]
    with Run(recipe.title, folder, told, _step_names(recipe)) as run:
        runner = _Runner(recipe, base, run, folder)
        original = runner.step("capture", "capture", runner.captured)
        network = runner.rounds(original)
        files = runner.exported(network)
        exported: dict[str, Any] = {"name": "export", "kind": "export", "files": [file_entry(path, folder) for path in files]}
        if recipe.speed and recipe.report:
            exported["detail"] = {"speed": measured_speed({"before": original, "after": network})}
        runner.steps.append(exported)
        runner.write()
        if recipe.report:
            from amc_plugins.core.report import write_report

            report = write_report(folder)
            run.artifact_written(report)
            files.append(report)
        result = RunResult(folder, network, runner.steps, files)
        runner.check_floor()
    return result


def done_before(recipe: Recipe, base: Path) -> list[str]:
    """Names of the steps that a run of the recipe would take from its folder.

    Raises:
        RecipeError: the folder holds the run of another recipe.
    """
    folder = base / recipe.folder
    found = _read_results(folder)
    if found is None:
        return []
    _check_same(found, _identity(recipe), _fingerprints(recipe, base), folder)
    return [step["name"] for step in found["steps"] if (folder / f"{step['name']}.pt").is_file()]


def _step_names(recipe: Recipe) -> tuple[str, ...]:
    kinds = ("compress", "train") if recipe.train is not None else ("compress",)
    rounds = (f"round{number}-{kind}" for number in range(1, recipe.planned_rounds + 1) for kind in kinds)
    return ("capture", *rounds, "export")


def _fingerprints(recipe: Recipe, base: Path) -> dict[str, str]:
    """SHA-256 of the files that a recipe names, by the path written there: the run's results depend on them."""
    data = [getattr(recipe.data, part) for part in ("train", "validation", "test", "calibration")]
    made = [one for one in (recipe.network.inputs if recipe.network.input else ()) if isinstance(one, str)]
    references = [recipe.network.source, *made, *filter(None, data)]
    names = {one.rpartition(":")[0] if ":" in one else one for one in references}
    names = {name for name in names if not name.isidentifier() and Path(name).suffix}
    paths = {name: base / Path(name).expanduser() for name in sorted({*names, *filter(None, [recipe.network.weights])})}
    return {name: sha256(path.read_bytes()).hexdigest() for name, path in paths.items() if path.is_file()}


def _check_same(found: dict[str, Any], identity: dict[str, Any], files: dict[str, str], folder: Path) -> None:
    """Refuse to go on with a run whose results would not be those of this recipe."""
    hint = "give this recipe another `folder`, or delete that one"
    if found["recipe"] != identity:
        different = sorted(_differences(found["recipe"], identity))
        raise RecipeError(f"`{folder}` holds the run of another recipe: {', '.join(different)} differ", hint=hint)
    before = found.get("files", {})
    changed = sorted(name for name in {*before, *files} if before.get(name) != files.get(name))
    if changed:
        raise RecipeError(f"`{folder}` holds a run from before {', '.join(changed)} changed", hint=hint)


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = {*a, *b}
        return [one for key in keys for one in _differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)]
    return [] if a == b else [path]


def _read_results(folder: Path) -> dict[str, Any] | None:
    """What `results.json` of a run's folder holds; None when there is none. Raises `RecipeError` when it is damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"`{path}` is damaged: {error}", hint="delete it to start over") from error
    return found


def _identity(recipe: Recipe) -> dict[str, Any]:
    """What a run's results depend on, as JSON data; where they go and who watches is left out."""
    return json.loads(recipe.model_dump_json(exclude={"title", "folder", "observers", "report", "speed", "export", "floor"}))  # type: ignore[no-any-return]


def _shown(accuracies: dict[str, float]) -> str:
    return "".join(f", {part} accuracy {value:.4f}" for part, value in accuracies.items())
