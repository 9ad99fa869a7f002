"""What a search maximises, on which data, and the scoring of one candidate: assemble, run, measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, Plan
from amc_plugins.core.calibration import Calibration
from amc_plugins.core.errors import SettingsError
from amc_plugins.core.labelled import Accuracy, Labelled, data_digest
from amc_plugins.core.objectives import Divergence

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["SAMPLES", "Judge", "Nearness", "Objective", "Score"]

Score = Callable[["ReconstructedNetwork"], "float | Mapping[str, float]"]

SAMPLES = 1024
"""Samples that a candidate is scored on. The ranks of candidates by divergence on 1000 images correlate with those by held-out
loss at .98, on 200 images at .97, those by accuracy on 1000 at .93 (30 random candidates of a small network)."""
_UNSEEN = 4
"""What the best are confirmed on: at most so many times the search's samples."""


class Nearness:
    """Scores a network by minus the divergence of its outputs from the original's; 0 is the best."""

    def __init__(self, original: ReconstructedNetwork, data: Calibration) -> None:
        self.data = data
        self._divergence = Divergence(original, data)

    def __call__(self, network: ReconstructedNetwork) -> float:
        return -self._divergence(network)

    def with_samples(self, network: ReconstructedNetwork) -> tuple[float, Tensor | None]:
        """The score, and that of each sample, (N,), float64; None where outputs have no row a sample."""
        divergence, samples = self._divergence.with_samples(network)
        return -divergence, None if samples is None else -samples


@dataclass(frozen=True)
class Objective:
    """What a search maximises. `unseen` scores by the same measure on data that the search does not see."""

    name: str
    score: Score
    unseen: Score | None
    digest: str
    """Of the data that `score` uses, as far as it is known."""

    @classmethod
    def of(
        cls, plan: Plan, evaluate: Score | str | None, data: Any, samples: int, confirm: int, confirm_on: Any, seed: int
    ) -> Objective:
        """See `amc_plugins.tune` for the arguments.

        Raises:
            SettingsError: they do not fit each other.
        """
        if samples < 1 or confirm < 0:
            raise SettingsError(f"`samples` must be at least 1 and `confirm` at least 0; given were {samples} and {confirm}")
        if callable(evaluate):
            return cls._of_a_function(evaluate, data, confirm, confirm_on)
        if evaluate not in (None, "divergence", "accuracy"):
            raise SettingsError(f"`evaluate` is `divergence`, `accuracy` or a function of a network; given was {evaluate!r}")
        if evaluate == "accuracy" and data is None:
            raise SettingsError('evaluate="accuracy" needs labelled data', hint="data=loader, of (input, labels) batches")
        labelled = evaluate == "accuracy"

        def read(given: Any) -> Calibration | Labelled:
            return Labelled.of(given, seed=seed) if labelled else Calibration.of(given, seed=seed)

        def made(part: Calibration | Labelled) -> Score:
            return Accuracy(part) if isinstance(part, Labelled) else Nearness(plan.network, part)

        whole = read(plan.calibration if data is None else data)
        seen, rest = whole.split(samples if confirm_on is not None or not confirm else min(samples, max(1, len(whole) // 2)))
        if confirm_on is not None:
            rest = read(confirm_on)
        elif rest is not None:
            rest = rest.split(_UNSEEN * samples)[0]
        unseen = made(rest) if confirm and rest is not None else None
        return cls(evaluate or "divergence", made(seen), unseen, data_digest(seen))

    @classmethod
    def _of_a_function(cls, evaluate: Score, data: Any, confirm: int, confirm_on: Any) -> Objective:
        if data is not None:
            raise SettingsError("`data` is for the objectives `divergence` and `accuracy`; a function has data of its own")
        if confirm_on is not None and not callable(confirm_on):
            raise SettingsError("with a function as `evaluate`, `confirm_on` is a function too: the same measure on other data")
        name = f"{getattr(evaluate, '__module__', '?')}.{getattr(evaluate, '__qualname__', type(evaluate).__qualname__)}"
        return cls(name, evaluate, confirm_on if confirm else None, "")


@dataclass(frozen=True)
class Judge:
    """Scores candidates of a plan; pickles, so that processes can do it."""

    plan: Plan
    score: Score

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """`score` (higher is better), `macs` and `parameters` (both lower), and what else the evaluation gives.

        Raises:
            SettingsError: the evaluation gave something else than finite numbers.
        """
        network = self.plan.assemble(candidate)
        return self._objectives(candidate, network, self.score(network))

    def with_samples(self, candidate: Candidate) -> tuple[dict[str, float], Tensor | None]:
        """The same, and the score of each sample, (N,), where the evaluation can tell it."""
        network = self.plan.assemble(candidate)
        with_samples = getattr(self.score, "with_samples", None)
        given, samples = with_samples(network) if with_samples is not None else (self.score(network), None)
        return self._objectives(candidate, network, given), samples

    def _objectives(
        self, candidate: Candidate, network: ReconstructedNetwork, given: float | Mapping[str, float]
    ) -> dict[str, float]:
        found = dict(given) if isinstance(given, Mapping) else {"score": given}
        if "score" not in found:
            raise SettingsError(
                f"`evaluate` gives a number, or numbers by name with `score` among them; given were {list(found)}"
            )
        objectives = {name: float(value) for name, value in found.items()}
        bad = [name for name, value in objectives.items() if not math.isfinite(value)]
        if bad:
            raise SettingsError(
                f"the {bad[0]} of a candidate is {objectives[bad[0]]}; it must be a finite number: {dict(candidate)}",
                hint="let `evaluate` return a very low number for a network that fails",
            )
        objectives.setdefault("macs", float(self.plan.macs(candidate)))
        objectives.setdefault("parameters", float(sum(one.numel() for one in network.parameters())))
        return objectives
