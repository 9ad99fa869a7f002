"""The hooks. Collecting hooks return declarations; observer hooks are told what happens in a run.

A hook implementation may take any subset of the arguments. Implementations of collecting hooks must be free of torch:
they run when one plugin of the distribution is asked for, and in `amc plugins show`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from amc_plugins.core.runs import Run
    from amc_plugins.core.specs import (
        CompressorSpec,
        ExporterSpec,
        LayerHandlerSpec,
        ObserverSpec,
        TrainerSpec,
        TunerSpec,
    )

PROJECT = "amc_plugins"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def amc_layer_handlers() -> Iterable[LayerHandlerSpec]:
    """Declare handlers of operations.

    Example:
        @hookimpl
        def amc_layer_handlers():
            yield LayerHandlerSpec(
                name="swish", op="com.acme.swish", summary="x * sigmoid(x)", api=(1, 1),
                target="acme_ops._swish:SwishHandler", captures=("acme.nn.Swish",), examples="acme_ops._examples:examples",
            )
            yield transparent("acme.nn:HardMish")
    """
    raise NotImplementedError


@hookspec
def amc_compressors() -> Iterable[CompressorSpec]:
    """Declare compressors.

    Example:
        @hookimpl
        def amc_compressors():
            yield CompressorSpec(
                name="lowrank", summary="low-rank decomposition", api=(1, 0),
                target="amc_lowrank._decompose:LowRank", settings=LowRankSettings,
            )
    """
    raise NotImplementedError


@hookspec
def amc_tuners() -> Iterable[TunerSpec]:
    """Declare tuners: searches over a plan's variables.

    Example:
        @hookimpl
        def amc_tuners():
            yield TunerSpec(name="random", summary="random candidates", api=(1, 0), target="amc_baselines._random:RandomTuner")
    """
    raise NotImplementedError


@hookspec
def amc_trainers() -> Iterable[TrainerSpec]:
    """Declare trainers.

    Example:
        @hookimpl
        def amc_trainers():
            yield TrainerSpec(
                name="supervised", summary="train on labels", api=(1, 0),
                target="amc_training._supervised:SupervisedTrainer", settings=SupervisedSettings,
            )
    """
    raise NotImplementedError


@hookspec
def amc_exporters() -> Iterable[ExporterSpec]:
    """Declare exporters.

    Example:
        @hookimpl
        def amc_exporters():
            yield ExporterSpec(
                name="vnmodel", summary="one self-describing file", api=(1, 0),
                target="amc_venus_export._exporter:VnModelExporter", suffixes=(".vnmodel",), loads=True,
            )
    """
    raise NotImplementedError


@hookspec
def amc_observers() -> Iterable[ObserverSpec]:
    """Declare observers of runs.

    Example:
        @hookimpl
        def amc_observers():
            yield ObserverSpec(name="slack", summary="say when a run ends", api=(1, 0), target="acme_amc._slack:Slack")
    """
    raise NotImplementedError


@hookspec
def amc_run_started(run: Run) -> None:
    """A run begins; `run.folder`, `run.title` and `run.steps` say what it is."""


@hookspec
def amc_layer_prepared(run: Run, layer: str, done: int, count: int) -> None:
    """A compressor has done its ratio-independent work for one layer or channel group, the `done`-th of `count`."""


@hookspec
def amc_layer_compressed(run: Run, layer: str, error: float, macs: int) -> None:
    """One layer has its final form. `error` is its relative response error, `macs` what it costs now."""


@hookspec
def amc_candidate_scored(run: Run, candidate: Mapping[str, int], objectives: Mapping[str, float]) -> None:
    """A search has scored one candidate."""


@hookspec
def amc_epoch_ended(run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
    """A trainer has finished an epoch (counted from 1)."""


@hookspec
def amc_artifact_written(run: Run, path: Path) -> None:
    """A file of the run is complete on disk."""


@hookspec
def amc_run_ended(run: Run, error: BaseException | None) -> None:
    """A run is over; `error` is what stopped it, or None."""
