"""The verbs of the user's API: prepare, compress, tune, train, export, load. Each finds a plugin by name and hands over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from amc_plugins.compression import Candidate, CompressionResult, Compressor, Plan
from amc_plugins.core.accuracy_first import most_above
from amc_plugins.core.budgets import Budget, cost_of
from amc_plugins.core.document import Document
from amc_plugins.core.draw import draw
from amc_plugins.core.errors import AmcError, SettingsError, UnknownPluginError
from amc_plugins.core.folding import fold_norms
from amc_plugins.core.near_files import nearest_file
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.refits import refits_kept
from amc_plugins.core.registry import registry
from amc_plugins.core.runs import Run
from amc_plugins.core.scoring import SAMPLES, Objective, Score
from amc_plugins.core.search import Search, search
from amc_plugins.core.specs import CompressorSettings, ExporterSpec
from amc_plugins.core.structure import map_leaves
from amc_plugins.exporting import Exporter
from amc_plugins.training import Trainer, TrainingResult

__all__ = ["Run", "apply_plan", "compress", "export", "load", "prepare", "random_inputs", "train", "tune"]

Evaluate = Callable[[ReconstructedNetwork], float]
Allocation = Literal["curves", "uniform"]


def _method(kind: str, name: str, settings: Mapping[str, Any]) -> Any:
    """The plugin's class with validated settings. Raises `UnknownPluginError`, `PluginError` or `SettingsError`."""
    validated, target = registry().create(kind, name, dict(settings))
    return target(validated)


def _captured(network: object) -> ReconstructedNetwork:
    if isinstance(network, ReconstructedNetwork):
        return network
    raise AmcError(
        f"a captured network is needed, given was a {type(network).__name__}",
        hint="network = amc.capture(model, example_input)",
    )


def prepare(
    network: ReconstructedNetwork,
    compressor: str,
    *,
    calibration: Iterable[Any],
    seed: int = 0,
    evaluate: Evaluate | None = None,
    budget: float | None = None,
    run: Run | None = None,
    **settings: Any,
) -> Plan:
    """Do a compressor's ratio-independent work once; the plan gives any number of candidates afterwards.

    Args:
        network: a captured network; not changed.
        compressor: the plugin's name, see `amc plugins list --kind compressors`.
        calibration: an iterable of tensors, or of tuples whose first item is the input; labels are not needed.
        seed: all randomness of the plan.
        evaluate: `network -> score`, higher is better; only for methods that use it.
        budget: the total share that will be asked for, if it is known.
        run: told about progress.
        settings: of the compressor, see `amc plugins show NAME`.
    """
    method: Compressor = _method("compressors", compressor, settings)
    plan = method.prepare(_captured(network), calibration, seed=seed, evaluate=evaluate, budget=budget, run=run)
    plan.compressor, plan.seed = method, seed
    return plan


def compress(
    network: ReconstructedNetwork,
    compressor: str,
    *,
    calibration: Iterable[Any],
    total: float | None = None,
    ratio: float | None = None,
    ratios: Mapping[str, float] | None = None,
    allocation: Allocation = "curves",
    budget: str | Budget = "macs",
    batch: int | None = None,
    threads: int | None = None,
    refit: bool = True,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    run: Run | None = None,
    **settings: Any,
) -> CompressionResult:
    """Compress a captured network: `prepare`, choose a candidate, `apply`.

    Exactly one of `total` (share of the network's MACs to remove), `ratio` (share of each layer's) and `ratios` (by
    layer name or glob) says how much; the setting `compress_ratio` of the source system, a number or a mapping,
    serves in place of the last two. With the setting `accuracy_threshold` that is the most, and as much of it is
    removed as leaves `evaluate(network)` at or above the threshold; without any of them, as much as can be. See
    `prepare` for the other arguments and `Plan.candidate` for what is refused; so is a `total` of MACs that would be exceeded
    by more than the plan allows (`Plan.spare`), with one that would not.

    `budget` is what `total` is a share of: `macs`, `parameters`, `activations` (peak memory of one sample), or `latency`,
    measured on this machine at `batch` samples (default 1) and so many `threads` (default: torch's). The result's `spent` says
    what became of it.
    """
    counted = Budget.of(budget, batch, threads)
    asked = settings.get("compress_ratio")
    amounts = {"total": total, "ratio": ratio, "ratios": ratios, "compress_ratio": asked}
    given = [name for name, value in amounts.items() if value is not None]
    if len(given) != 1 and (given or not settings.get("accuracy_threshold")):
        raise SettingsError(
            f"exactly one of `total`, `ratio`, `ratios` and `compress_ratio` is needed, given: {', '.join(given) or 'none'}",
            hint="total=0.5 removes half of the network's MACs",
        )
    if asked is not None:
        ratio, ratios = (None, asked) if isinstance(asked, Mapping) else (asked, None)
    if counted.counts != "macs" and given not in (["total"], []):
        raise SettingsError(f"a budget of {counted.words} needs `total`; `{given[0]}` is a share of MACs")
    hint = total if counted.counts == "macs" else None
    plan = prepare(network, compressor, calibration=calibration, seed=seed, evaluate=evaluate, budget=hint, run=run, **settings)
    return carry_out(
        plan,
        total=total,
        ratio=ratio,
        ratios=ratios,
        allocation=allocation,
        budget=counted,
        refit=refit,
        evaluate=evaluate,
        run=run,
    )


def carry_out(
    plan: Plan,
    *,
    total: float | None,
    ratio: float | None,
    ratios: Mapping[str, float] | None,
    allocation: Allocation,
    refit: bool,
    evaluate: Evaluate | None,
    run: Run | None,
    budget: Budget | None = None,
    near: bool = True,
) -> CompressionResult:
    """Choose a candidate of a plan and apply it: as `compress` says. Not `near`: a `total` of MACs may be far exceeded."""
    budget = budget or Budget()
    settings = plan.compressor.settings
    floor = settings.accuracy_threshold if isinstance(settings, CompressorSettings) else 0.0
    if not floor:
        candidate = plan.candidate(total=total, ratio=ratio, ratios=ratios, allocation=allocation, budget=budget)
        if near and total is not None and allocation == "curves":
            cost_of(plan, budget).check_met(total, candidate)
        return apply_plan(plan, candidate, refit=refit, run=run, budget=budget)
    if evaluate is None:
        raise SettingsError(
            "`accuracy_threshold` needs `evaluate`",
            hint="evaluate=lambda network: accuracy of the network on validation data, in the unit of the threshold",
        )

    def at(share: float) -> Candidate:
        if ratios is not None:
            return plan.candidate(ratios={name: share * one for name, one in ratios.items()})
        if ratio is not None:
            return plan.candidate(ratio=share * ratio)
        most = cost_of(plan, budget).reachable if total is None else total
        return plan.candidate(total=share * most, allocation=allocation, budget=budget)

    with refits_kept(run, plan):
        result = most_above(plan, floor, evaluate, at, refit=refit)
    return _told(plan, result, run, budget)


def apply_plan(
    plan: Plan, candidate: Mapping[str, int], *, refit: bool = True, run: Run | None = None, budget: Budget | None = None
) -> CompressionResult:
    """`plan.apply`, then what settings of every compressor ask for (folding, a drawing); the run is told of changed layers."""
    with refits_kept(run, plan):
        result = plan.apply(candidate, refit=refit)
    return _told(plan, result, run, budget or Budget())


def _told(plan: Plan, result: CompressionResult, run: Run | None, budget: Budget) -> CompressionResult:
    settings = plan.compressor.settings
    if isinstance(settings, CompressorSettings) and settings.fold_norms:
        result.network = fold_norms(result.network)
    result.spent = cost_of(plan, budget).spent(result.candidate, result.network)
    if run is not None:
        for layer in result.layers:
            if layer.change:
                run.layer_compressed(layer.name, float("nan") if layer.error is None else layer.error, layer.macs_after)
    if isinstance(settings, CompressorSettings) and settings.drawgraph and settings.checkpointfolder is not None:
        settings.checkpointfolder.mkdir(parents=True, exist_ok=True)
        path = draw(result.network, settings.checkpointfolder / "compressed.html", before=plan.network)
        if run is not None:
            run.artifact_written(path)
    return result


def tune(
    plan: Plan,
    tuner: str,
    *,
    total: float,
    budget: str | Budget = "macs",
    evaluate: Score | Literal["divergence", "accuracy"] | None = None,
    data: Iterable[Any] | None = None,
    samples: int = SAMPLES,
    evaluations: int = 200,
    confirm: int = 3,
    confirm_on: Iterable[Any] | Score | None = None,
    baselines: bool = True,
    workers: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    run: Run | None = None,
    **settings: Any,
) -> Search:
    """Search the plan's variables for the best network that removes the share `total` of what the budget counts.

    Args:
        plan: from `prepare`.
        tuner: the plugin's name, see `amc plugins list --kind tuners`.
        total: share to remove; every candidate removes at least that.
        budget: what `total` is a share of: `macs`, `parameters`, `activations`, `latency`, or a `Budget` that says at which
            batch and with how many threads latency is measured. Candidates fit a latency as predicted from measured layers;
            the best is one whose measured whole network is at most 5 % over the target.
        evaluate: what to maximise. `divergence` (default): minus the divergence of the outputs from the original's; needs no
            labels and ranks candidates best. `accuracy`: on labelled `data`. Or a function of a network that gives a number, or
            numbers by name with `score` among them (others are costs that a tuner may minimise, say a latency).
        data: what candidates are scored on: inputs for `divergence` (default: the plan's calibration data), `(input, labels)`
            batches for `accuracy`.
        samples: at most so many samples of it; candidates are ranked well by few.
        evaluations: how many different candidates to score.
        confirm: so many of the best are scored again on unseen data, and the winner there is the search's best: the best
            of many noisy scores is too good to be true. The plan's own allocations give way only to what leads them there by
            more than two standard errors (`Search.lucky`). 0: the best score wins.
        confirm_on: the unseen data, as `data`; for a function as `evaluate`, a function. Default: the samples of `data` that
            the search does not use (never more than half of `data` is used then); nothing for functions.
        baselines: score the plan's own candidates too (`Search.baselines`, `Search.gains`).
        workers: processes that score; or set joblib's backend around this call to use a cluster. A tuner is asked for so many
            candidates at a time, which changes the course of some (`ddpg`, `annealing`) and not of others (`ga`, `random`).
        seed: all randomness of the search.
        folder: keeps every score at once in SQLite; the same call goes on where a killed one stopped.
        run: told about every candidate.
        settings: of the tuner.

    Raises:
        BudgetError: the plan cannot remove `total`.
        SettingsError: arguments do not fit each other, or `folder` holds another search.
    """
    validated, target = registry().create("tuners", tuner, dict(settings))
    return search(
        plan,
        tuner,
        target,
        validated,
        total=total,
        budget=Budget.of(budget),
        objective=Objective.of(plan, evaluate, data, samples, confirm, confirm_on, seed),
        evaluations=evaluations,
        seed=seed,
        confirm=confirm,
        baselines=baselines,
        workers=workers,
        folder=folder,
        run=run,
    )


def train(
    network: nn.Module,
    trainer: str,
    *,
    train: Iterable[Any],
    validation: Iterable[Any] | None = None,
    teacher: nn.Module | None = None,
    seed: int = 0,
    run: Run | None = None,
    resume: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Retrain a network; the given one is not changed. See `amc_plugins.training.Trainer.fit` for the arguments."""
    method: Trainer = _method("trainers", trainer, settings)
    return method.fit(network, train, validation, seed=seed, teacher=teacher, run=run, resume=resume)


def export(
    network: ReconstructedNetwork,
    exporter: str,
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    run: Run | None = None,
    **settings: Any,
) -> Path:
    """Write a network to a file, whole or not at all, and check the file against the network.

    Args:
        network: a captured network, or what compression or training made of one.
        exporter: the plugin's name, see `amc plugins list --kind exporters`.
        path: the file; the exporter's suffix is added to a name without one.
        verify: read it back and compare on random inputs.
        run: told about the file.
        settings: of the exporter.

    Raises:
        UnsupportedOpError: a node cannot be written; named with its source line.
        CheckFailed: the file does not compute what the network does.
    """
    method: Exporter = _method("exporters", exporter, settings)
    path = export_path(exporter, Path(path))
    method.export(_captured(network), path)
    if verify:
        method.verify(path, network, random_inputs(network))
    if run is not None:
        run.artifact_written(path)
    return path


def export_path(exporter: str, path: Path) -> Path:
    """The file that `export` writes: a name without a suffix gets the exporter's.

    Raises:
        SettingsError: the exporter does not write files of that suffix.
    """
    spec = registry().spec("exporters", exporter)
    assert isinstance(spec, ExporterSpec)
    if not path.suffix:
        return path.with_suffix(spec.suffixes[0])
    if path.suffix not in spec.suffixes:
        raise SettingsError(f"`{exporter}` writes {', '.join(spec.suffixes)}, given was `{path.name}`")
    return path


def load(path: str | os.PathLike[str]) -> ReconstructedNetwork:
    """Read a network from a file, by its suffix; no code of the user's network is needed.

    Raises:
        UnknownPluginError: no installed exporter reads that suffix.
        AmcError: the file is missing or not what its name says.
    """
    return _reader(Path(path)).load(Path(path))


def file_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file says beside its network. Raises as `load` does."""
    return _reader(Path(path)).facts(Path(path))


def file_document(path: str | os.PathLike[str]) -> Document:
    """The graph in a file; formats that can do so read it without the handlers of its ops. Raises as `load` does."""
    return _reader(Path(path)).document(Path(path))


def _reader(path: Path) -> Exporter:
    readers = [spec for spec in registry().specs("exporters") if isinstance(spec, ExporterSpec) and spec.loads]
    for spec in readers:
        if path.suffix in spec.suffixes:
            if not path.is_file():
                raise AmcError(f"there is no file `{path}`{nearest_file(path)}")
            exporter: Exporter = _method("exporters", spec.name, {})
            return exporter
    suffixes = sorted(suffix for spec in readers for suffix in spec.suffixes)
    raise UnknownPluginError(
        f"no installed exporter reads `{path.suffix or path.name}` files; those installed read {', '.join(suffixes) or 'none'}",
        hint="`pip install amc-archive-export` reads .pkl and .json, `pip install amc-venus-export` reads .vnmodel",
    )


def random_inputs(network: ReconstructedNetwork, *, seed: int = 0, batch: int = 2) -> tuple[Any, ...]:
    """Inputs of the captured shapes: standard normal floats, zeros for integers. A fixed batch stays as it is."""
    generator = torch.Generator().manual_seed(seed)

    def fill(item: Any) -> Any:
        if isinstance(item, Tensor) and item.is_floating_point():
            return torch.randn(item.shape, generator=generator).to(dtype=item.dtype, device=item.device)
        return item

    filled: tuple[Any, ...] = map_leaves(network.example_inputs(batch=batch), fill)
    return filled
