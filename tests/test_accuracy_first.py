"""Accuracy first: the most that can be removed above a floor, found by bisection; what is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import amc_plugins as amc
from amc_plugins.compression import Candidate, CompressionResult, Plan, Variable
from amc_plugins.core.accuracy_first import most_above
from amc_plugins.core.recipe import CompressSection
from amc_plugins.plugin import BudgetError, CompressorSettings, SettingsError
from tests.networks import SmallResNet, randomized


class Line(Plan):
    """One variable of 400 steps; a network is the share of MACs that it is without."""

    def __init__(self) -> None:
        self.variables = [Variable("width", ("layer",), tuple(range(1, 401)), 400, "channels", tuple(range(399, -1, -1)))]
        self.layers = []
        self.applied: list[float] = []

    def macs(self, candidate: Mapping[str, int]) -> int:
        return 10 * candidate["width"]

    def value(self, variable: Variable, ratio: float) -> int:
        raise AssertionError

    def assemble(self, candidate: Mapping[str, int]) -> Any:
        raise AssertionError

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        removed = self.removed(candidate)
        self.applied.append(removed)
        return CompressionResult(removed, Candidate(candidate), 4000, self.macs(candidate), [])  # type: ignore[arg-type]


@pytest.mark.parametrize("edge", [0.0, 0.003, 0.2, 0.4237, 0.9, 0.997])
def test_the_most_that_passes_is_found_and_nothing_below_the_floor(edge: float) -> None:
    """Accuracy is 0.9 up to the edge and falls behind it."""
    plan = Line()
    most = plan.removed(plan.smallest)

    def score(removed: Any) -> float:
        return 0.9 - max(0.0, removed - edge)

    found = most_above(plan, 0.9, score, lambda share: plan.candidate(total=share * most))
    assert score(found.network) >= 0.9
    assert edge - 0.005 - 1 / 400 <= found.removed <= edge
    assert len(plan.applied) <= 11


def test_scores_that_jump_never_end_below_the_floor() -> None:
    plan = Line()
    most = plan.removed(plan.smallest)

    def score(removed: Any) -> float:
        return 0.9 if int(1000 * removed) % 7 < 3 else 0.5

    found = most_above(plan, 0.8, score, lambda share: plan.candidate(total=share * most))
    assert score(found.network) == 0.9


def test_all_of_it_where_all_passes() -> None:
    plan = Line()
    found = most_above(plan, 0.5, lambda _: 1.0, lambda share: plan.candidate(total=share * 0.7))
    assert found.removed == pytest.approx(0.7)
    assert plan.applied == [0.0, found.removed]


def test_a_network_below_the_floor_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"at or above 0\.9, and that of the network itself is 0\.8") as caught:
        most_above(Line(), 0.9, lambda _: 0.8, lambda share: Line().candidate(total=share))
    assert "accuracy_threshold" in str(caught.value.hint)


def test_settings_that_contradict_each_other() -> None:
    assert CompressorSettings(accuracy_threshold=0.9).accuracy_threshold == 0.9
    assert CompressorSettings(accuracy_first=False).accuracy_threshold == 0
    with pytest.raises(ValueError, match="`accuracy_first` needs `accuracy_threshold`"):
        CompressorSettings(accuracy_first=True)
    with pytest.raises(ValueError, match="`accuracy_threshold` is given and `accuracy_first` is off"):
        CompressorSettings(accuracy_first=False, accuracy_threshold=0.9)


def test_a_recipe_may_leave_the_amount_open_only_with_a_threshold() -> None:
    assert CompressSection(method="pruning", settings={"accuracy_threshold": 0.9}).accuracy_first
    with pytest.raises(ValueError, match="exactly one of `total`, `ratio` and `ratios` is needed"):
        CompressSection(method="pruning")
    with pytest.raises(ValueError, match="exactly one"):
        CompressSection(method="pruning", total=0.5, ratio=0.5, settings={"accuracy_threshold": 0.9})


def test_evaluate_is_needed() -> None:
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = amc.capture(randomized(SmallResNet()), images[:2])
    with pytest.raises(SettingsError, match="`accuracy_threshold` needs `evaluate`"):
        amc.compress(network, "pruning", calibration=[images], accuracy_threshold=0.9)
