"""What searches gain over the plan's own candidates: every tuner on every network and budget, some seeds each.

    python -m benchmarks.search

Trains the networks first if they are not cached. A finished cell stays, and a cell that was interrupted goes on at the
candidate where it stopped; `--again` measures anew, which is needed after the compressor has changed. Everything lies in
`benchmarks/.cache/search`. Writes `benchmarks/results/search.json` and `search.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import amc_plugins as amc
from amc_plugins.compression import Calibration, Candidate, Divergence, Plan
from benchmarks import data
from benchmarks.networks import NETWORKS
from benchmarks.search_table import markdown
from benchmarks.train import accuracy, cache, trained

__all__ = ["BUDGETS", "TUNERS", "main"]

HERE = Path(__file__).parent
TUNERS = ("uniform", "allocation", "random", "annealing", "ga", "ddpg")
SINGLE = ("uniform", "allocation")
"""Tuners of one candidate, the same for every seed."""
BUDGETS = (0.5, 0.7)
SEEDS = (0, 1, 2)
WANTED = len(NETWORKS) * len(BUDGETS) * (len(SINGLE) + len(SEEDS) * (len(TUNERS) - len(SINGLE)))
"""Cells of the whole table."""
TIMED = 10
"""Candidates whose cost is measured beside the bare pass over the same images."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the tuners on three networks and write the table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--tuners", nargs="+", choices=TUNERS, default=list(TUNERS))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="shares of the MACs to remove")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of the searches")
    parser.add_argument("--method", default="pruning", help="the compressor")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1024, help="images that a candidate is scored on")
    parser.add_argument("--nice", type=int, default=19, help="how much this gives way to other processes")
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again, plans too")
    parser.add_argument("--only-report", action="store_true", help="measure nothing, write the table of what there is")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of the table")
    asked = parser.parse_args()
    os.nice(asked.nice)
    torch.set_num_threads(1)
    bench = _Bench(asked.method, asked.evaluations, asked.samples)
    if asked.again and not asked.only_report:
        for name in asked.networks:
            bench.forget(name)
    # seed by seed, so that an unfinished table has every network
    cells = [
        (name, budget, tuner, seed)
        for seed in asked.seeds
        for name in asked.networks
        for budget in asked.budgets
        for tuner in asked.tuners
        if tuner not in SINGLE or seed == asked.seeds[0]
    ]
    for name, budget, tuner, seed in [] if asked.only_report else cells:
        one = 0 if tuner in SINGLE else seed
        if not bench.path(name, budget, tuner, one).is_file():
            bench.measure(name, budget, tuner, one)
            bench.report(asked.output)
    bench.report(asked.output)
    return 0


class _Bench:
    """Plans and cells of one compressor at one number of evaluations."""

    def __init__(self, method: str, evaluations: int, samples: int) -> None:
        self.method, self.evaluations, self.samples = method, evaluations, samples
        self.folder = cache() / "search" / f"{method}-{evaluations}-{samples}"
        self._plans: dict[str, Plan] = {}
        self._unseen: dict[str, tuple[Divergence, float]] = {}
        """Per network: the measure on the test images, and the original's accuracy there."""

    def path(self, name: str, budget: float, tuner: str, seed: int) -> Path:
        return self.folder / f"{name}-{budget:g}-{tuner}-{seed}.json"

    def forget(self, name: str) -> None:
        for path in self.folder.glob(f"{name}-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def plan(self, name: str) -> Plan:
        """The network's plan; made once and kept, so that all cells search the same space."""
        if name not in self._plans:
            path = self.folder / f"{name}-plan.pickle"
            if not path.is_file():
                images = data.calibration()
                plan = amc.prepare(amc.capture(trained(name), images[:2]), self.method, calibration=images)
                self.folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                partial.write_bytes(pickle.dumps(plan))
                partial.replace(path)
            self._plans[name] = pickle.loads(path.read_bytes())
        return self._plans[name]

    @staticmethod
    def scored_on() -> Calibration:
        """Validation images, without labels: on those that a network was trained on other candidates look best."""
        unlabelled = data.load("validation").inputs()
        return Calibration(unlabelled, samples=len(unlabelled))

    def measure(self, name: str, budget: float, tuner: str, seed: int) -> None:
        """Search, look at the winner on the test images, keep the record."""
        plan = self.plan(name)
        path = self.path(name, budget, tuner, seed)
        started = time.process_time()
        search = amc.tune(
            plan,
            tuner,
            data=self.scored_on(),
            total=budget,
            samples=self.samples,
            evaluations=self.evaluations,
            seed=seed,
            folder=path.with_suffix(""),
        )
        spent = time.process_time() - started
        best = search.best
        assert best.confirmed is not None
        if name not in self._unseen:
            test = data.load("test")
            everything = Calibration(test.inputs(), samples=len(test))
            self._unseen[name] = Divergence(plan.network, everything), accuracy(plan.network, test)
        divergence, original = self._unseen[name]
        record = {
            "network": name,
            "method": self.method,
            "budget": budget,
            "tuner": tuner,
            "seed": seed,
            "evaluations": len(search.evaluations),
            "found_at": 1 + [one.candidate for one in search.evaluations].index(best.candidate),
            "removed": plan.removed(best.candidate),
            "score": best.score,
            "confirmed": best.confirmed.score,
            "gains": search.gains,
            "test_divergence": divergence(plan.assemble(best.candidate)),
            "test_accuracy": accuracy(best.network, data.load("test")),
            "original": original,
            "cpu_seconds": spent,
            **self._cost(plan, [one.candidate for one in search.evaluations]),
            "candidate": dict(best.candidate),
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(path)
        print(
            f"{path.stem}: divergence {record['test_divergence']:.4f}, accuracy {record['test_accuracy']:.2f} of "
            f"{record['original']:.2f}, found at {record['found_at']} of {len(search.evaluations)}, {spent:.0f} CPU s",
            flush=True,
        )

    def _cost(self, plan: Plan, candidates: list[Candidate]) -> dict[str, float]:
        """CPU seconds of scoring a candidate, and of the pass alone, over the same candidates by turns."""
        from amc_plugins.core.scoring import Judge, Nearness

        nearness = Nearness(plan.network, self.scored_on().subset(self.samples))
        judge = Judge(plan, nearness)
        whole = bare = 0.0
        for candidate in candidates[:: max(1, len(candidates) // TIMED)][:TIMED]:
            whole += _seconds(lambda: judge(candidate))  # noqa: B023 - called at once
            network = plan.assemble(candidate)
            bare += _seconds(lambda: nearness(network))  # noqa: B023
        count = min(TIMED, len(candidates))
        return {"candidate_seconds": whole / count, "pass_seconds": bare / count, "cost": whole / bare}

    def report(self, folder: Path) -> None:
        """Write the table of all cells that there are."""
        cells = sorted(self._cells(), key=lambda one: (list(NETWORKS).index(one["network"]), one["budget"], _place(one)))
        if not cells:
            return
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "" if self.method == "pruning" else f"-{self.method}"
        options = "" if self.method == "pruning" else f" --method {self.method}"
        command = f"python -m benchmarks.search{options} --evaluations {self.evaluations} --samples {self.samples}"
        text = json.dumps({"command": command, "cells": [_short(one) for one in cells]}, indent=1)
        (folder / f"search{suffix}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"search{suffix}.md").write_text(markdown(cells, command, self.samples, WANTED), encoding="utf-8")

    def _cells(self) -> Iterator[dict[str, Any]]:
        for path in self.folder.glob("*.json"):
            yield json.loads(path.read_text(encoding="utf-8"))


def _place(cell: dict[str, Any]) -> tuple[int, int]:
    return TUNERS.index(cell["tuner"]), cell["seed"]


def _short(cell: dict[str, Any]) -> dict[str, Any]:
    """A record without its candidate, figures rounded."""
    kept = {key: value for key, value in cell.items() if key != "candidate"}
    kept["gains"] = {key: round(value, 5) for key, value in cell["gains"].items()}
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in kept.items()}


def _seconds(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
