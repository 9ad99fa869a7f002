"""What a budget of latency buys beside one of MACs: measured latency and test accuracy right after compression.

    .venv/bin/python -m benchmarks.latency            # writes results/latency.md

One thread, batch 64, eager; both networks timed in turns. Layer times are kept in the user's cache (`AMC_CACHE`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import amc_plugins as amc
from benchmarks import data
from benchmarks.train import accuracy, trained

CASES = (("vgg", "pruning", 0.5), ("resnet20", "pruning", 0.5), ("mobilenetv2", "pruning", 0.5), ("vgg", "lowrank", 0.2))
BUDGET = amc.Budget("latency", batch=64, threads=1)
RESULT = Path(__file__).parent / "results" / "latency.md"


def rows(name: str, method: str, total: float) -> list[str]:
    """One row for each budget."""
    from amc_plugins.core.budgets import cost_of

    model, test, images = trained(name).eval(), data.load("test"), data.calibration(2048)
    plan = amc.prepare(amc.capture(model, images[:2]), method, calibration=images)
    found = []
    for budget in (amc.Budget(), BUDGET):
        try:
            result = plan.apply(plan.candidate(total=total, budget=budget))
        except amc.AmcError as error:
            found.append(f"| {name} | {method} | {total:.0%} of {budget.words} | {error} | | |")
            continue
        spent = cost_of(plan, BUDGET).spent(result.candidate, result.network)
        points = accuracy(result.network, test) - accuracy(model, test)
        figures = f"{result.removed:.1%} | {spent.before * 1e3:.2f} -> {spent.after * 1e3:.2f} ms ({spent.removed:.1%})"
        found.append(f"| {name} | {method} | {total:.0%} of {budget.words} | {figures} | {points:+.2f} |")
    return found


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    lines = ["# A budget of latency", "", f"`{Path(__file__).stem}.py`; one thread, batch 64, before any retraining.", ""]
    lines += ["| network | method | asked to remove | MACs removed | latency | accuracy, points |", "|---|---|---|---|---|---|"]
    for case in CASES:
        lines += rows(*case)
        print(lines[-1])
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
