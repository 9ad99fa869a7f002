"""The plan on a trained residual network: exact costs, slices, the refit, refusals, and what is left alone."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from amc_lowrank._lowrank import LowRank
from amc_lowrank._options import Statistics
from amc_lowrank.plugin import LowRankSettings
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Calibration, Divergence, collect_moments
from amc_plugins.graph import ReconstructedNetwork, capture, profile
from amc_plugins.plugin import BudgetError, SettingsError

if TYPE_CHECKING:
    from amc_lowrank._plan import LowRankPlan


def prepared(digits: Any, **settings: Any) -> LowRankPlan:
    return LowRank(LowRankSettings(**settings)).prepare(digits.network, [digits.train], seed=0)


@pytest.fixture(scope="module")
def plan(digits: Any) -> LowRankPlan:
    return prepared(digits)


def same(a: ReconstructedNetwork, b: ReconstructedNetwork) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return list(mine) == list(other) and all(torch.equal(mine[name], other[name]) for name in mine)


def test_variables_and_views(plan: LowRankPlan) -> None:
    views = {view.name: view for view in plan.layers}
    assert "first convolution: 1 input channels" in str(views["stem"].why_not) and not views["stem"].variables
    names = [variable.name for variable in plan.variables]
    assert names == [
        "stage1.conv1",
        "stage1.conv2",
        "stage2.conv1",
        "stage2.conv2",
        "stage2.shortcut.0",
        "fc",
    ]
    for variable in plan.variables:
        assert variable.choices == tuple(sorted(set(variable.choices))) and variable.choices[-1] == variable.full
        assert variable.errors is not None and variable.errors[-1] == 0.0
        assert list(variable.errors) == sorted(variable.errors, reverse=True)
        assert views[variable.name].variables == (variable.name,) and views[variable.name].why_not is None
        assert {"index", "in_channels", "out_channels", "kernel", "stride", "macs"} <= set(variable.features)


def test_macs_are_those_of_the_assembled_network(plan: LowRankPlan) -> None:
    rng = random.Random(0)
    assert plan.macs(plan.full) == profile(plan.network).total_macs
    for _ in range(6):
        candidate = {variable.name: rng.choice(variable.choices) for variable in plan.variables}
        assert profile(plan.assemble(candidate)).total_macs == plan.macs(candidate)
    assert same(plan.assemble(plan.full), plan.network)


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_a_cached_candidate_is_a_fresh_solve(digits: Any, scheme: str) -> None:
    """What is assembled from slices maps patches as a fit of that one rank alone does, its system solved anew."""
    plan = prepared(digits, scheme=scheme)
    moments = collect_moments(plan.network, plan.calibration, [info.name for info in plan.infos], seed=0)
    candidate = plan.candidate(ratio=0.5)
    for info in plan.infos[:4]:
        option = plan.tables[info.name].options[candidate[info.name]]
        statistics = Statistics.of(moments[info.name])
        solver = plan.compressor.schemes()[option.scheme]
        modules, error = solver.refit(info, solver.fit(info, statistics), option, replace(statistics, weight=None))
        cached = plan.tables[info.name].chain(info, candidate[info.name])
        x = torch.randn(20, info.channels, *info.in_map, generator=torch.Generator().manual_seed(1))
        fresh, sliced = nn.Sequential(*modules)(x).detach(), nn.Sequential(*cached)(x).detach()
        if scheme == "channel":
            assert float((fresh - sliced).norm() / sliced.norm()) < 1e-3
            assert error == pytest.approx(option.error, rel=1e-3)
        else:  # the search's slices alternate once, the final fit goes on
            assert 0.7 * option.error < error <= option.error * (1 + 1e-6)


def test_auto_takes_per_layer_what_has_the_least_error_for_its_macs(digits: Any, plan: LowRankPlan) -> None:
    alone = {scheme: prepared(digits, scheme=scheme) for scheme in ("spatial", "channel", "tucker2")}
    taken: set[str] = set()
    for info in plan.infos:
        offered = [option for one in alone.values() for option in one.tables[info.name].options.values()]
        table = list(plan.tables[info.name].options.values())
        for option in table:
            assert option.macs < info.macs
            rivals = [one for one in offered if one.macs <= option.macs]
            assert option.error <= min(one.error for one in rivals) * (1 + 1e-6)
        for share in (0.3, 0.5, 0.8):
            affordable = [one for one in offered if one.macs <= share * info.macs]
            chosen = plan.candidate(ratios={info.name: 1 - share})[info.name]
            option = plan.tables[info.name].options[chosen]
            assert option.macs <= share * info.macs
            assert option.error == pytest.approx(min(one.error for one in affordable), rel=1e-6)
            taken.add(option.scheme)
    assert len(taken) > 1  # no scheme is best everywhere


@pytest.mark.parametrize("total", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("allocation", ["curves", "uniform"])
def test_the_target_is_met(plan: LowRankPlan, total: float, allocation: Any) -> None:
    candidate = plan.candidate(total=total, allocation=allocation)
    # one ratio for all cannot use up a budget in steps finer than the ranks of so small layers
    assert total <= plan.removed(candidate) <= total + (0.01 if allocation == "curves" else 0.03)
    assert profile(plan.assemble(candidate)).total_macs == plan.macs(candidate)


def test_what_cannot_be_reached_is_refused(plan: LowRankPlan) -> None:
    with pytest.raises(BudgetError, match=r"reaches 0 to 0\.9"):
        plan.candidate(total=0.99)
    with pytest.raises(SettingsError, match="first convolution"):
        plan.candidate(ratios={"stem": 0.5})
    with pytest.raises(SettingsError, match="can be"):
        plan.macs({**plan.full, "fc": 10_000})
    with pytest.raises(SettingsError, match="has the variables"):
        plan.macs({"fc": 1})


def test_a_ratio_is_the_share_removed_from_the_layer(digits: Any) -> None:
    plan = prepared(digits, scheme="channel")
    candidate = plan.candidate(ratios={"stage2.*": 0.5})
    assert candidate["stage1.conv1"] == plan.full["stage1.conv1"]
    assert candidate["stage2.conv2"] == (216 * 24 // 2) // (216 + 24)  # floor((1 - ratio) k^2 c n / (k^2 c + n))
    result = plan.apply(candidate, refit=False)
    for layer in result.layers:
        if layer.name.startswith("stage2.conv"):
            assert layer.macs_after <= 0.5 * layer.macs_before
            assert layer.change == f"channel rank {candidate[layer.name]}"


def test_half_of_the_macs_costs_little_before_any_training(digits: Any, plan: LowRankPlan) -> None:
    before = digits.accuracy(digits.network)
    result = plan.apply(plan.candidate(total=0.5))
    assert before > 97.0
    assert digits.accuracy(result.network) >= before - 3.0
    assert result.removed >= 0.5 and result.macs_after == profile(result.network).total_macs
    assert result.macs_before == profile(digits.network).total_macs
    changed = [layer for layer in result.layers if layer.change]
    assert changed and all(layer.error is not None and 0 < layer.error < 0.2 for layer in changed)


def test_the_refit_brings_the_outputs_nearer(digits: Any, plan: LowRankPlan) -> None:
    divergence = Divergence(digits.network, Calibration(digits.test))
    for total in (0.5, 0.7):
        candidate = plan.candidate(total=total)
        assembled = plan.assemble(candidate)
        once, refitted = plan.apply(candidate, refit=False), plan.apply(candidate)
        assert same(once.network, assembled)
        assert divergence(refitted.network) < 0.6 * divergence(once.network)


def test_the_networks_given_and_kept_stay_as_they_are(digits: Any, plan: LowRankPlan) -> None:
    before = digits.network.graph.to_json()
    weights = {name: value.clone() for name, value in digits.network.state_dict().items()}
    trained = digits.network.clone().train()
    other = LowRank(LowRankSettings(scheme="channel")).prepare(trained, [digits.train[:300]], seed=0)
    assert all(module.training for module in trained.modules())
    other.apply(other.candidate(total=0.4))
    plan.apply(plan.candidate(total=0.4))
    assert digits.network.graph.to_json() == before
    assert all(torch.equal(weights[name], value) for name, value in digits.network.state_dict().items())
    assert all(torch.equal(weights[name], value) for name, value in plan.network.state_dict().items())


def test_a_plan_pickles_and_goes_on(plan: LowRankPlan) -> None:
    again = pickle.loads(pickle.dumps(plan))
    candidate = plan.candidate(total=0.6)
    assert again.candidate(total=0.6) == candidate
    assert same(again.apply(candidate).network, plan.apply(candidate).network)


def test_the_same_seed_gives_the_same_bits(digits: Any, plan: LowRankPlan) -> None:
    state = torch.get_rng_state()
    again = prepared(digits)
    candidate = plan.candidate(total=0.5)
    assert again.candidate(total=0.5) == candidate
    assert same(again.apply(candidate).network, plan.apply(candidate).network)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_result_can_be_compressed_further(digits: Any, plan: LowRankPlan) -> None:
    first = plan.apply(plan.candidate(total=0.3))
    further = plan.rebase(first)
    second = further.apply(further.candidate(total=0.3))
    assert second.macs_before == first.macs_after
    assert profile(second.network).total_macs <= 0.7 * first.macs_after
    assert any(node.origin == "stage1.conv1" for node in second.network.graph.nodes)
    assert digits.accuracy(second.network) > 80


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="solver"):
        LowRankSettings(solver="qr")  # type: ignore[arg-type]


def test_settings_of_the_source_system(digits: Any, tmp_path: Path) -> None:
    result = amc.compress(
        digits.network,
        "lowrank",
        calibration=[digits.train],
        compress_ratio={"stage2.conv*": 0.5},
        trainset_ratio=0.5,
        sampled_pixels_per_img=5,
        solver="gsvd",
        scheme="channel",
        checkpointfolder=tmp_path / "out",
        drawgraph=True,
    )
    assert {layer.name for layer in result.layers if layer.change} == {"stage2.conv1", "stage2.conv2"}
    written = json.loads((tmp_path / "out" / "lowrank.json").read_text())
    assert written["candidate"] == dict(result.candidate)
    assert written["layers"]["stage2.conv2"]["change"] == f"channel rank {result.candidate['stage2.conv2']}"
    assert len(written["curves"]["fc"]["rank"]) == len(written["curves"]["fc"]["errors"])
    assert "stage2.conv1" in (tmp_path / "out" / "compressed.html").read_text()


class Awkward(nn.Module):
    """Grouped and depthwise convolutions, a layer that runs twice, and one that is too small."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.tiny = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.grouped(torch.relu(self.wide(x))))))
        return self.tiny(self.twice(torch.relu(self.twice(x))))


def test_what_is_left_alone_says_why() -> None:
    torch.manual_seed(0)
    network = capture(Awkward().eval(), torch.rand(2, 8, 8, 8))
    data = torch.randn(200, 8, 8, 8)
    plan = LowRank(LowRankSettings()).prepare(network, [data], seed=0)
    reasons = {view.name: view.why_not for view in plan.layers}
    assert reasons["wide"] is None
    assert "grouped (4 groups)" in str(reasons["grouped"])
    assert "depthwise" in str(reasons["depthwise"])
    assert "runs 2 times" in str(reasons["twice"])
    assert "no rank" in str(reasons["tiny"])
    result = plan.apply(plan.candidate(ratios={"wide": 0.6}))
    assert profile(result.network).total_macs == result.macs_after
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    nothing = LowRank(LowRankSettings()).prepare(capture(plain, torch.rand(1, 1, 8, 8)), [torch.rand(9, 1, 8, 8)], seed=0)
    with pytest.raises(BudgetError, match="first convolution"):
        nothing.candidate(total=0.2)
