"""One cell of the table, in a process of its own: one network, one method, one budget. Prints its record as JSON.

`python -m benchmarks.cell resnet20 pruning 0.5`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import amc_plugins as amc
from benchmarks import data
from benchmarks.baselines import BASELINES, pruned
from benchmarks.measure import record
from benchmarks.networks import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["measured"]


def measured(
    name: str, method: str, total: float, seed: int, settings: dict[str, Any], exchange: Path | None = None
) -> dict[str, Any]:
    """The record of one cell; for a compressor with what became of each layer."""
    layers: list[dict[str, Any]] = []

    def compress(model: nn.Module, images: Tensor) -> nn.Module:
        network = amc.capture(model, images[:2])
        if method in BASELINES:
            return pruned(network, method, total=total, seed=seed)
        result = amc.compress(network, method, calibration=images, total=total, seed=seed, **settings)
        layers.extend(
            {"layer": one.name, "before": one.macs_before, "after": one.macs_after, "error": one.error, "change": one.change}
            for one in result.layers
        )
        return result.network

    return record(name, method, total, seed, compress, exchange) | {"layers": layers}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure one network, one method, one budget.")
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("method")
    parser.add_argument("total", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exchange", type=Path, help="folder for both networks as `torch.export` programs")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting of the compressor")
    asked = parser.parse_args()
    settings: dict[str, Any] = {}
    for given in asked.set:
        key, _, value = given.partition("=")
        settings[key] = value
        with contextlib.suppress(json.JSONDecodeError):
            settings[key] = json.loads(value)
    try:
        found = measured(asked.network, asked.method, asked.total, asked.seed, settings, asked.exchange)
    except (amc.AmcError, data.MissingDataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
