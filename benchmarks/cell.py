"""One cell of the table, in a process of its own: one network, one method, one budget. Prints its record as JSON.

`python -m benchmarks.cell resnet20 pruning 0.5`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from typing import Any

import torch

import amc_plugins as amc
from benchmarks import data
from benchmarks.baselines import BASELINES, pruned
from benchmarks.measure import figures, peak_mib
from benchmarks.networks import NETWORKS
from benchmarks.train import accuracy, trained

__all__ = ["measured"]


def measured(name: str, method: str, total: float, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of one cell. CPU seconds and peak memory are those of the compression, its statistics included."""
    torch.set_num_threads(1)
    model = trained(name, seed)
    calibration = data.calibration()
    network = amc.capture(model, calibration[:2])
    layers: list[dict[str, Any]] = []
    memory = peak_mib()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    if method in BASELINES:
        compressed = pruned(network, method, total=total, seed=seed)
    else:
        result = amc.compress(network, method, calibration=calibration, total=total, seed=seed, **settings)
        compressed = result.network
        layers = [
            {"layer": one.name, "before": one.macs_before, "after": one.macs_after, "error": one.error, "change": one.change}
            for one in result.layers
        ]
    cpu, wall, peak = _cpu_seconds() - cpu, time.perf_counter() - wall, peak_mib()
    before, after = (amc.profile(one, calibration[:1]).total_macs for one in (network, compressed))
    return {
        "network": name,
        "method": method,
        "budget": total,
        "removed": 1.0 - after / before,
        "original": accuracy(model, data.load("test")),
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "peak_mib": round(peak),
        "start_mib": round(memory),
        **figures(model, compressed, calibration, seed=seed).record(),
        "layers": layers,
    }


def _cpu_seconds() -> float:
    """Of this process, all threads, and of the children that it waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure one network, one method, one budget.")
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("method")
    parser.add_argument("total", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting of the compressor")
    asked = parser.parse_args()
    settings: dict[str, Any] = {}
    for given in asked.set:
        key, _, value = given.partition("=")
        settings[key] = value
        with contextlib.suppress(json.JSONDecodeError):
            settings[key] = json.loads(value)
    try:
        record = measured(asked.network, asked.method, asked.total, asked.seed, settings)
    except (amc.AmcError, data.MissingDataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    json.dump(record, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
