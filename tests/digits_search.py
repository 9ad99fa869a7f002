"""A small trained network of the digits, its pruning plan, and a search of it as a program that may be killed.

    python -m tests.digits_search FOLDER TUNER EVALUATIONS SEED SECONDS [WORKERS]

prints one line per scored candidate and, at the end, the best; each score takes SECONDS longer than it must.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Plan
from amc_plugins.core.search import Search
from amc_plugins.plugin import hookimpl

__all__ = ["SETTINGS", "digits", "fitted_plan", "say", "searched"]

SETTINGS: dict[str, dict[str, Any]] = {
    "ddpg": {"warm_up": 6, "batch": 16, "hidden": 32},
    "ga": {"population": 6},
}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) images in [0, 1], and their labels."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16.0, torch.tensor(data.target)


@cache
def fitted_plan() -> Plan:
    """A plan of `pruning` for a network of four convolutions, trained for a moment on 1400 of the digits."""
    images, labels = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 12), (12, 16), (16, 24), (24, 24)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        network = nn.Sequential(
            *layers[:6], nn.MaxPool2d(2), *layers[6:], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)
        )
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(4):
            for chosen in torch.randperm(1400).split(64):
                loss = F.cross_entropy(network(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    captured = amc.capture(network.eval(), images[:2])
    return amc.prepare(captured, "pruning", calibration=images[:1400], seed=0)


class _Slow:
    """Minus the divergence on 200 images, after a pause."""

    def __init__(self, plan: Plan, seconds: float) -> None:
        from amc_plugins.core.scoring import Nearness

        self._nearness = Nearness(plan.network, plan.calibration.subset(200))
        self._seconds = seconds

    def __call__(self, network: nn.Module) -> float:
        time.sleep(self._seconds)
        return self._nearness(network)  # type: ignore[arg-type]


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - the parent process reads it


def searched(folder: str | Path | None, tuner: str, evaluations: int, seed: int, seconds: float, workers: int = 1) -> Search:
    plan = fitted_plan()

    class Lines:
        @hookimpl
        def amc_candidate_scored(self, candidate: Mapping[str, int], objectives: Mapping[str, float]) -> None:
            say(dict(candidate), objectives["score"])

    from amc_plugins.core.runs import Run

    with Run("search", None, [Lines()]) as run:
        say("ready")
        return amc.tune(
            plan,
            tuner,
            total=0.5,
            evaluate=_Slow(plan, seconds),
            evaluations=evaluations,
            seed=seed,
            folder=folder,
            workers=workers,
            run=run,
            **SETTINGS.get(tuner, {}),
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    torch.set_num_threads(1)
    found = searched(given[0], given[1], int(given[2]), int(given[3]), float(given[4]), int(given[5]) if len(given) > 5 else 1)
    say("best", dict(found.best.candidate), found.best.score)
