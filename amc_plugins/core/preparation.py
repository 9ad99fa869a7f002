"""Finished parts of a compressor's preparation, kept in the folder of its run: a run that was stopped goes on behind them."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch

import amc_plugins
from amc_plugins.core.describe import digest_of
from amc_plugins.core.labelled import data_digest
from amc_plugins.exporting import atomic_write

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.runs import Run
    from amc_plugins.core.specs import Settings

__all__ = ["FOLDER", "Preparation", "folder_name", "forget", "versions_of"]

T = TypeVar("T")
FOLDER = "prepared"
"""Of a run's folder: what a step that was stopped goes on from."""

_log = logging.getLogger(__name__)


class Preparation:
    """Does each part of a preparation once per run folder; without a folder it only tells the run how far it is.

    A part that was finished before comes back as it was, bit for bit, if network, data, settings, seed and versions (of the
    framework, of the plugin and of torch) are the same. Parts are pickled: the folder is as much to be trusted as the code that
    runs in it.

    Args:
        run: the run that `prepare` was given, or None.
        method: the compressor's name.
        network: what is compressed.
        data: the calibration data.
        settings: of the compressor.
        seed: of the plan.
    """

    def __init__(
        self, run: Run | None, method: str, network: ReconstructedNetwork, data: Calibration, settings: Settings, seed: int
    ) -> None:
        self._run = run
        self._folder: Path | None = None
        if run is not None and run.folder is not None:
            identity = [*versions_of(settings), method, str(seed)]
            identity += [network.graph.to_json(), digest_of(network), data_digest(data)]
            self._folder = run.folder / FOLDER / folder_name(identity)

    def part(self, name: str, work: Callable[[], T]) -> T:
        """The result of `work()`, or what it gave before the run was stopped. `name` is unique in the preparation."""
        if self._folder is None:
            return work()
        path = self._folder / f"{folder_name([name])}.pickle"
        if path.is_file():
            _log.info("%s: done before, taken from %s", name, path)
            with path.open("rb") as file:
                return cast("T", pickle.load(file))
        result = work()
        with atomic_write(path, durable=True) as temporary, temporary.open("wb") as file:
            pickle.dump(result, file, protocol=pickle.HIGHEST_PROTOCOL)
        return result

    def layers(self, names: Iterable[str]) -> Iterator[str]:
        """The names one after the other; after each the run is told that this layer, or group of layers, is prepared."""
        ordered = list(names)
        for done, name in enumerate(ordered, start=1):
            yield name
            if self._run is not None:
                self._run.layer_prepared(name, done, len(ordered))


def versions_of(settings: Settings) -> list[str]:
    """The settings of a compressor, and the versions of the framework, of the compressor's package and of torch."""
    plugin = import_module(type(settings).__module__.partition(".")[0])
    return [amc_plugins.__version__, getattr(plugin, "__version__", ""), torch.__version__, settings.model_dump_json()]


def folder_name(identity: Iterable[str]) -> str:
    """A name for what these texts tell apart."""
    return sha256("\n".join(identity).encode()).hexdigest()[:16]


def forget(folder: Path) -> None:
    """Delete what preparations and refits kept in a run's folder: the step is done, and its result is kept instead."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
