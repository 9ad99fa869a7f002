"""Layers that a refit has fitted, kept in the folder of its run: a refit that was stopped goes on behind them."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.core.describe import digest_of
from amc_plugins.core.edit import set_layer
from amc_plugins.core.labelled import data_digest
from amc_plugins.core.preparation import FOLDER, folder_name, versions_of
from amc_plugins.exporting import atomic_write

if TYPE_CHECKING:
    from torch import nn

    from amc_plugins.compression import Plan
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.runs import Run

__all__ = ["FittedLayers", "refits_kept"]

_log = logging.getLogger(__name__)
_PLACE: ContextVar[tuple[Path, Plan] | None] = ContextVar("place of the refits", default=None)
"""The folder of the run whose plan is being applied, and that plan: `Plan.apply` knows nothing of runs."""


@contextmanager
def refits_kept(run: Run | None, plan: Plan) -> Iterator[None]:
    """Refits that `plan` does inside keep their layers in the run's folder, if there is one."""
    token = _PLACE.set(None if run is None or run.folder is None else (run.folder, plan))
    try:
        yield
    finally:
        _PLACE.reset(token)


class FittedLayers:
    """What one refit has done so far. Taken up again only by the same refit: same networks, data, settings and versions."""

    def __init__(self, folder: Path, compressed: ReconstructedNetwork, noted: MutableMapping[str, Any]) -> None:
        self._folder = folder
        self._compressed = compressed
        self._noted = noted

    @classmethod
    def of(
        cls,
        original: ReconstructedNetwork,
        compressed: ReconstructedNetwork,
        calibration: Calibration,
        asked: Sequence[object],
        noted: MutableMapping[str, Any] | None,
    ) -> FittedLayers | None:
        """None where nothing is kept: no run with a folder is applying a plan, or `fit` does not say what it notes.

        `asked` is what else the refit depends on; each must have a repr that tells it all.
        """
        place = _PLACE.get()
        if place is None or noted is None:
            return None
        folder, plan = place
        identity = [*versions_of(plan.compressor.settings), data_digest(calibration), *map(repr, asked)]
        for network in (original, compressed):
            identity += [network.graph.to_json(), digest_of(network)]
        return cls(folder / FOLDER / f"refit-{folder_name(identity)}", compressed, noted)

    def restored(self, layers: Sequence[str]) -> int:
        """Install what is kept of the first of these layers, in order. Returns how many they are."""
        for count, layer in enumerate(layers):
            path = self._path(layer)
            if not path.is_file():
                return count
            with path.open("rb") as file:
                modules, noted = pickle.load(file)
            for name, module in modules.items():
                set_layer(self._compressed, name, module)
            self._noted.update(noted)
            _log.info("%s: fitted before, taken from %s", layer, path)
        return len(layers)

    @contextmanager
    def keeping(self, layer: str) -> Iterator[None]:
        """Keep what the fit of a layer inside changes: modules, also in place, and what it notes."""
        layers, noted = _versions(self._compressed), dict(self._noted)
        yield
        now = _versions(self._compressed)
        if now.keys() != layers.keys():  # another structure: nothing to go on behind
            return
        changed = {
            name: module
            for name, (module, versions) in now.items()
            if module is not layers[name][0] or versions != layers[name][1]
        }
        new = {name: value for name, value in self._noted.items() if name not in noted or noted[name] != value}
        with atomic_write(self._path(layer), durable=True) as temporary, temporary.open("wb") as file:
            pickle.dump((changed, new), file, protocol=pickle.HIGHEST_PROTOCOL)

    def _path(self, layer: str) -> Path:
        return self._folder / f"{folder_name([layer])}.pickle"


def _versions(network: ReconstructedNetwork) -> Mapping[str, tuple[nn.Module, list[int]]]:
    """Per layer its module, and how often each of its tensors was written to."""
    found = {}
    for name in network.layer_names:
        module = network.layer(name)
        found[name] = module, [one._version for one in (*module.parameters(), *module.buffers())]
    return found
