"""The plan on real graphs: exact costs, cached weights, masked equals shrunk, groups, refusals, reproducibility."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from amc_pruning._cost import CandidateCost
from amc_pruning._parts import admissible_counts
from amc_pruning._plan import PruningPlan
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Candidate, install, linear_at
from amc_plugins.graph import ReconstructedNetwork, profile, walk
from amc_plugins.plugin import BudgetError, SettingsError


class Residual(nn.Module):
    """Two blocks on one stage; biases and batch norms mixed; a flatten of 3 x 3 positions into the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.a1, self.a2 = nn.Conv2d(8, 10, 3, padding=1, bias=False), nn.Conv2d(10, 8, 3, padding=1, bias=False)
        self.an1, self.an2 = nn.BatchNorm2d(10), nn.BatchNorm2d(8)
        self.b1, self.b2 = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.last = nn.Conv2d(8, 6, 3, stride=2)
        self.fc = nn.Linear(54, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.an2(self.a2(F.relu(self.an1(self.a1(x))))))
        x = F.relu(self.b2(F.relu(self.b1(x))) + x)
        x = F.relu(self.last(x))
        return self.fc(torch.flatten(x, 1))


class Dense(nn.Module):
    """A concatenation of two groups, read by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(14, 9, 3, padding=1), nn.Conv2d(14, 9, 1)
        self.fc = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        both = torch.cat([a, F.relu(self.b(a))], 1)
        return self.fc((F.relu(self.c(both)) * self.d(both)).mean((2, 3)))


class Mobile(nn.Module):
    """A depthwise convolution between producer and consumer, a grouped convolution after it."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(1, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.depth_norm = nn.BatchNorm2d(12)
        self.project = nn.Conv2d(12, 8, 1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.expand(x)))
        x = F.relu6(self.depth_norm(self.depth(x)))
        x = F.relu(self.grouped(F.relu(self.project(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def images(count: int = 600, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def captured(build: Callable[[], nn.Module], seed: int = 0, double: bool = False) -> ReconstructedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build().train()
        for batch in images(320, 5).split(32):  # batch norms with statistics of their own
            model(batch)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.5)
    model.eval()
    dtype = torch.float64 if double else torch.float32
    return amc.capture(model.to(dtype), images(2).to(dtype))


def prepared(network: ReconstructedNetwork, **settings: object) -> PruningPlan:
    plan = amc.prepare(network, "pruning", calibration=[images()], **settings)
    assert isinstance(plan, PruningPlan)
    return plan


def masked(plan: PruningPlan, candidate: Candidate) -> ReconstructedNetwork:
    """The original with the candidate's weights and zeros for what it removes, nothing cut away."""
    network = plan.base(candidate).network.clone()
    removed = plan.removed_channels(candidate)
    for layer, fitted in plan.fits(candidate).items():
        linear = linear_at(network, layer)
        columns = plan.channels.inputs[layer].repeat_interleave(linear.taps).reshape(linear.groups, -1)[0]
        weight = torch.zeros_like(linear.weight)
        weight[:, ~torch.isin(columns, removed)] = fitted.weight
        install(network, layer, weight, fitted.bias)
    return network


def uneven(plan: PruningPlan) -> Candidate:
    """A candidate that prunes every variable, each by another share."""
    shares = (0.5, 0.7, 0.35, 0.6, 0.8)
    return Candidate({v.name: v.nearest_choice(shares[i % 5] * v.full) for i, v in enumerate(plan.variables)})


NETWORKS = [Residual, Dense, Mobile]
LAYERS = ("stem", "a1", "a2", "mix", "grouped", "point", "fc")


@pytest.fixture(scope="module")
def plans() -> Callable[[type[nn.Module]], PruningPlan]:
    """One plan per network, in float64."""
    return lru_cache(lambda build: prepared(captured(build, double=True)))


Plans = Callable[[type[nn.Module]], PruningPlan]


@pytest.mark.parametrize("build", NETWORKS)
def test_masked_equals_shrunk_in_float64(build: type[nn.Module], plans: Plans) -> None:
    plan = plans(build)
    assert len(plan.variables) >= 2
    x = images(50, 9).double()
    for candidate in (uneven(plan), plan.smallest):
        assert torch.allclose(plan.assemble(candidate)(x), masked(plan, candidate)(x), rtol=0, atol=1e-10)
    assert torch.equal(plan.assemble(plan.full)(x), plan.network(x))


@pytest.mark.parametrize("build", NETWORKS)
def test_costs_are_those_of_the_assembled_network(build: type[nn.Module], plans: Plans) -> None:
    plan = plans(build)
    assert plan.macs(plan.full) == profile(plan.network).total_macs
    for candidate in (uneven(plan), plan.smallest, plan.candidate(total=0.4)):
        assert plan.macs(candidate) == profile(plan.assemble(candidate)).total_macs
    result = plan.apply(uneven(plan), refit=False)
    assert result.macs_after == plan.macs(uneven(plan))
    assert result.macs_before == sum(layer.macs_before for layer in result.layers)
    assert result.macs_after == sum(layer.macs_after for layer in result.layers)


def test_costs_that_are_no_quadratic_form_are_counted_exactly(plans: Plans) -> None:
    plan = plans(Residual)

    class Cubic:
        def macs(self, kept: dict[str, int]) -> int:
            return math.prod(kept.get(variable.name, variable.full) for variable in plan.variables)

    cost = CandidateCost(Cubic(), plan.variables)  # type: ignore[arg-type]
    assert cost(uneven(plan)) == math.prod(uneven(plan).values())


@pytest.mark.parametrize("build", NETWORKS)
def test_the_target_is_met_by_curves_and_by_one_ratio(build: type[nn.Module], plans: Plans) -> None:
    plan = plans(build)
    reachable = plan.removed(plan.smallest)
    by_name = {variable.name: variable for variable in plan.variables}
    for total in (0.2, 0.5, 0.9 * reachable):
        curves, uniform = plan.candidate(total=total), plan.candidate(total=total, allocation="uniform")
        # three variables of six to twelve channels are coarse
        assert total <= plan.removed(curves) <= total + (0.04 if build is Dense else 0.015)
        assert total <= plan.removed(uniform) <= total + 0.15
        errors = [sum(by_name[name].error(count) for name, count in one.items()) for one in (curves, uniform)]
        assert errors[0] <= errors[1] + 0.05
    with pytest.raises(BudgetError, match=f"reaches 0 to {reachable:.4f}"):
        plan.candidate(total=reachable + 0.01)


def test_cached_weights_are_a_fresh_least_squares_fit() -> None:
    """From the samples themselves: convolutions, a linear layer behind a flatten, and a layer behind a concatenation."""
    x = images().double()
    for build, layers in ((Residual, ("a1", "b2", "fc")), (Dense, ("c",))):
        plan = prepared(captured(build, double=True), sampled_pixels_per_img=64, ridge=0.0)
        candidate, network = uneven(plan), plan.network
        removed = plan.removed_channels(candidate)
        for layer in layers:
            linear, node = linear_at(network, layer), network.nodes_of(layer)[0]
            given, made = values_of(network, x, node.inputs[0]), values_of(network, x, node.outputs[0])
            positions = linear.positions(tuple(made.shape), None, torch.Generator())
            stays = ~torch.isin(plan.channels.inputs[layer].repeat_interleave(linear.taps), removed)
            patches, responses = linear.patches(given, positions)[:, stays], linear.responses(made, positions)
            augmented = torch.cat([patches, torch.ones(len(patches), 1, dtype=torch.float64)], 1)
            solution = torch.linalg.lstsq(augmented, responses).solution
            fitted = plan.fits(candidate)[layer]
            torch.testing.assert_close(fitted.weight, solution[:-1].T, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(fitted.bias, solution[-1], rtol=1e-6, atol=1e-7)
            if layer != "a1":  # its errors are in the metric of the batch norm that follows
                error = (responses - augmented @ solution).square().sum() / (responses - responses.mean(0)).square().sum()
                assert plan.error(layer, candidate) == pytest.approx(float(error), rel=1e-6)


def values_of(network: ReconstructedNetwork, x: Tensor, name: str) -> Tensor:
    with torch.no_grad():
        for step in walk(network, (x,)):
            if name in step.node.outputs:
                return step.outputs[step.node.outputs.index(name)]
    raise AssertionError(name)


@pytest.mark.needs("amc-op-activation")  # the plan may be from an earlier test
@pytest.mark.parametrize("build", NETWORKS)
def test_constants_of_removed_channels_are_kept(build: type[nn.Module], plans: Plans) -> None:
    """Mean responses of consumers fitted on the original's inputs stay what they were, whatever is removed."""
    plan, x = plans(build), images().double()
    network = masked(plan, plan.smallest)
    first = next(layer for layer in plan.nested if plan.network.nodes_of(layer))
    value = plan.network.nodes_of(first)[0].outputs[0]
    linear = linear_at(plan.network, first)
    original = values_of(plan.network, x, value).movedim(linear.input_axis, 0).flatten(1).mean(1)
    fitted = plan.fits(plan.smallest)[first]
    given = values_of(plan.network, x, plan.network.nodes_of(first)[0].inputs[0])
    columns = ~torch.isin(plan.channels.inputs[first].repeat_interleave(linear.taps), plan.removed_channels(plan.smallest))
    if linear.groups == 1:
        made = values_of(plan.network, x, value)
        patches = linear.patches(given, linear.positions(tuple(made.shape), None, torch.Generator()))[:, columns]
        mean = (patches @ fitted.weight.T + fitted.bias).mean(0)
        assert torch.allclose(mean, original, rtol=0, atol=0.02 * float(original.abs().max()))
    assert len(network.layer_names) == len(plan.network.layer_names)


def test_coupled_channels_go_together_and_conflicting_ratios_name_the_layers(plans: Plans) -> None:
    plan = plans(Residual)
    stage = next(variable for variable in plan.variables if variable.name == "stem")
    assert stage.layers == ("a1", "b1", "last")
    with pytest.raises(SettingsError, match=r"equal ratios: a1 = 0\.5, b1 = 0\.25, last = 0") as caught:
        plan.candidate(ratios={"a1": 0.5, "b1": 0.25})
    assert "a1, b1, last" in str(caught.value.hint)
    chosen = plan.candidate(ratios={"a1": 0.5, "b1": 0.5, "last": 0.5, "fc": 0.25})
    assert chosen["stem"] == 4
    assert chosen["last"] == 5  # ceil(0.75 * 6)
    assert plan.network.layer("stem").out_channels == 8
    result = plan.apply(chosen, refit=False)
    assert [result.network.layer(name).out_channels for name in ("stem", "a2", "b2")] == [4, 4, 4]
    assert result.kept["a1"] == result.kept["b1"] == result.kept["last"]
    assert len(result.kept["a1"]) == 4
    assert len(result.kept["fc"]) == 45
    changes = {layer.name: layer.change for layer in result.layers}
    assert changes["a1"] == "8 -> 4 input channels"
    assert changes["last"] == "8 -> 4 input channels, 6 -> 5 output channels"


def test_every_layer_says_what_applies_or_why_not(plans: Plans) -> None:
    views = {view.name: view for view in plans(Residual).layers}
    assert views["stem"].variables == ()
    assert "input" in str(views["stem"].why_not)
    assert views["fc"].variables == ("last",)
    views = {view.name: view for view in plans(Mobile).layers}
    assert views["depth"].why_not == "its channels follow those of its input"
    assert views["project"].variables == ("expand",)
    assert views["grouped"].variables == ("project",)
    skipping = prepared(captured(Residual), shared_inputs="skip")
    assert "stem" not in {variable.name for variable in skipping.variables}
    assert "shared_inputs" in str({view.name: view for view in skipping.layers}["a1"].why_not)


def test_a_group_whose_statistics_exceed_the_cap_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amc_pruning._parts.MEMORY", 8 * 108**2 - 1)  # `fc` has patches of 54, `a2` of 90, `b2` of 12
    plan = prepared(captured(Residual))
    assert {variable.name for variable in plan.variables} == {"stem", "a1", "b1", "last"}
    monkeypatch.setattr("amc_pruning._parts.MEMORY", 8 * 72**2)  # exactly what `a1` needs
    plan = prepared(captured(Residual))
    assert {variable.name for variable in plan.variables} == {"stem", "b1", "last"}
    assert "statistics" in str({view.name: view for view in plan.layers}["a2"].why_not)


def test_samplers_leave_the_shared_map_whole() -> None:
    network = captured(Residual, double=True)
    plan = prepared(network, shared_inputs="sample")
    assert {"a1.sampler", "b1.sampler", "last.sampler", "a1", "b1", "last"} == {one.name for one in plan.variables}
    candidate = plan.full.replaced(**{"a1.sampler": 5, "b1.sampler": 3, "a1": 6})
    smaller = plan.assemble(candidate)
    assert plan.macs(candidate) == profile(smaller).total_macs < plan.macs(plan.full)
    assert [smaller.layer(name).out_channels for name in ("stem", "a2", "b2")] == [8, 8, 8]
    assert (smaller.layer("a1").in_channels, smaller.layer("b1").in_channels, smaller.layer("last").in_channels) == (5, 3, 8)
    result = plan.apply(candidate)
    assert smaller.layer("a1.sampler").index.tolist() == result.kept["a1"]
    assert "8 -> 3 input channels (sampled)" in {layer.change for layer in result.layers}
    x = images(100, 4).double()
    with torch.no_grad():
        expected, once, final = network(x), smaller(x), result.network(x)
        zeroed = network.clone()
        gone = torch.tensor([i for i in range(8) if i not in result.kept["b1"]])
        fitted = plan.fits(candidate)["b1"]
        weight = torch.zeros(12, 8, 9, dtype=torch.float64)
        weight[:, result.kept["b1"]] = fitted.weight.reshape(12, 3, 9)
        install(zeroed, "b1", weight.flatten(1), fitted.bias)
        alone = plan.assemble(plan.full.replaced(**{"b1.sampler": 3}))
        assert torch.allclose(alone(x), zeroed(x), rtol=0, atol=1e-10)
    assert len(gone) == 5
    assert (final - expected).square().mean() < (once - expected).square().mean() < expected.var()
    target = plan.candidate(total=0.5)
    assert 0.5 <= plan.removed(target) <= 0.52


@pytest.mark.parametrize("build", [Residual, Dense])
def test_a_swap_polish_lowers_errors_at_the_same_cost_and_leaves_the_plan_alone(build: type[nn.Module]) -> None:
    network = captured(build)
    plain, plan = prepared(network, selection="magnitude"), prepared(network, selection="magnitude", swap_polish=True)
    candidate = uneven(plan)
    before, after = plain.apply(candidate, refit=False), plan.apply(candidate, refit=False)
    assert after.macs_after == before.macs_after == profile(after.network).total_macs
    assert {name: len(kept) for name, kept in after.kept.items()} == {name: len(kept) for name, kept in before.kept.items()}
    assert after.kept != before.kept
    for variable in plan.variables:  # coupled readers share one choice: what falls is the sum of their errors
        sums = [sum(one.error or 0.0 for one in result.layers if one.name in variable.layers) for result in (after, before)]
        assert sums[0] <= sums[1] * (1 + 1e-6) + 1e-9
    x = images(64, 3)
    with torch.no_grad():
        wanted = network(x)
        errors = [float((plan_.apply(candidate).network(x) - wanted).square().mean()) for plan_ in (plan, plain)]
        assert errors[0] < errors[1]
        assert torch.equal(plan.assemble(candidate)(x), plain.assemble(candidate)(x))  # a search goes on with the nested order
    again = plan.apply(candidate, refit=False)
    assert all(torch.equal(a, b) for a, b in zip(again.network.parameters(), after.network.parameters(), strict=True))
    with pytest.raises(SettingsError, match="several `steps`"):
        prepared(network, swap_polish=True, steps=2)


def test_dead_channels_go_first_and_for_nothing() -> None:
    network = captured(Residual, double=True)
    with torch.no_grad():
        network.layer("b1").weight[[2, 5]] = 0.0
        network.layer("b1").bias[[2, 5]] = torch.tensor([-1.0, 3.0], dtype=torch.float64)  # one silent, one constant
    plan = prepared(network)
    group = plan.channels.group("b1")
    assert set(plan.orders["b1"][-2:].tolist()) == {int(group.ids[2]), int(group.ids[5])}
    variable = next(one for one in plan.variables if one.name == "b1")
    assert variable.error(10) < 1e-5
    x = images(50, 3).double()
    with torch.no_grad():
        smaller, whole = plan.assemble(plan.full.replaced(b1=10))(x), network(x)
    assert torch.allclose(smaller, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))


def test_admissible_counts() -> None:
    assert admissible_counts(10, 1, 0.25) == (3, 4, 5, 6, 7, 8, 9, 10)
    assert admissible_counts(30, 8, 0.1) == (8, 16, 24, 30)
    assert admissible_counts(6, 8, 0.1) == (6,)
    plan = prepared(captured(Residual), round_to=4, keep_at_least=0.3)
    choices = {variable.name: variable.choices for variable in plan.variables}
    assert choices == {"stem": (4, 8), "a1": (4, 8, 10), "b1": (4, 8, 12), "last": (4, 6)}


class Sixteen(nn.Module):
    """A residual stage, a concatenation, a convolution of four groups, a shuffle and a flatten; widths that 4 divides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.a1, self.a2 = nn.Conv2d(16, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
        self.mix = nn.Conv2d(28, 16, 1)
        self.grouped, self.point = nn.Conv2d(16, 32, 3, padding=1, groups=4), nn.Conv2d(32, 16, 1)
        self.fc = nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        inner = F.relu(self.a1(x))
        x = F.relu(x + self.a2(inner))
        x = F.relu(self.mix(torch.cat([x, inner], 1)))
        x = F.relu(self.grouped(x)).unflatten(1, (4, 8)).transpose(1, 2).flatten(1, 2)
        return self.fc(F.max_pool2d(F.relu(self.point(x)), 2).flatten(1))


RATIOS = {"a1": 0.5, "a2": 0.5, "mix": 0.5, "fc": 0.99, "point": 0.3}


@pytest.mark.parametrize("given", [{"total": 0.5}, {"ratio": 0.4}, {"ratios": RATIOS}])
def test_round_to_holds_in_every_layer_of_coupled_groups(given: dict[str, Any]) -> None:
    network = captured(Sixteen)
    whole = {name: network.layer(name).get_parameter("weight").shape[:2] for name in network.layer_names if name in LAYERS}
    result = amc.compress(network, "pruning", calibration=[images()], round_to=4, keep_at_least=0.01, **given)
    left = {name: result.network.layer(name).get_parameter("weight").shape[:2] for name in whole}
    for name, (outputs, inputs) in left.items():
        assert name == "fc" or outputs % 4 == 0, left
        groups = getattr(network.layer(name), "groups", 1)
        assert name == "stem" or inputs * groups % 4 == 0, left
    assert sum(a != b for a, b in zip(whole.values(), left.values(), strict=True)) >= 3
    assert result.network.layer("grouped").groups == 4
    if "ratios" in given:  # counts are rounded up to what is admissible, and nothing else changes
        assert left["a1"] == (8, 8) and left["a2"] == (8, 8) and left["mix"] == (16, 16)
        assert left["fc"][1] == 4 * 16 and left["point"] == (4, 24) and left["grouped"] == (24, 4)
    assert result.macs_after == profile(result.network).total_macs


def test_a_choice_in_a_grouped_convolution_counts_once_in_each_group() -> None:
    plan = prepared(captured(Sixteen), round_to=8, keep_at_least=0.1)
    choices = {variable.name: variable.choices for variable in plan.variables}
    assert choices["grouped"] == (2, 4, 6, 8), "each stands for four channels"
    assert choices["point"] == (8, 16)


@pytest.mark.parametrize("share", [0.9, 0.999])
def test_one_channel_of_every_group_survives_any_ratio(share: float) -> None:
    network = captured(Mobile)
    result = amc.compress(network, "pruning", calibration=[images()], ratio=share, keep_at_least=1e-6)
    widths = [result.network.layer(name).get_parameter("weight").shape[:2] for name in ("depth", "project", "grouped", "fc")]
    assert min(min(one) for one in widths) >= 1
    assert result.network(images(3)).isfinite().all()


@pytest.mark.parametrize("rule", ["block_backward", "scalar_backward", "lasso", "magnitude", "random"])
def test_every_rule_gives_the_same_bits_for_a_seed(rule: str) -> None:
    network = captured(Residual)
    state = torch.get_rng_state()
    first, second = (prepared(network, selection=rule) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    candidate = first.candidate(total=0.5)
    assert candidate == second.candidate(total=0.5)
    a, b = (plan.apply(candidate).network.state_dict() for plan in (first, second))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_plan_pickles_and_goes_on_without_its_data() -> None:
    plan = prepared(captured(Dense))
    candidate = plan.candidate(total=0.4)
    expected = plan.apply(candidate)
    again = pickle.loads(pickle.dumps(plan))
    found = again.apply(candidate)
    x = images(20, 2)
    assert torch.equal(found.network(x), expected.network(x))
    assert again.candidate(total=0.4) == candidate
    further = again.rebase(found)
    assert further.macs(further.full) == found.macs_after


def test_what_a_candidate_must_have(plans: Plans) -> None:
    plan = plans(Residual)
    with pytest.raises(SettingsError, match="this plan has"):
        plan.assemble({"stem": 4})
    with pytest.raises(SettingsError, match=r"`stem` can keep .* given was 40"):
        plan.assemble({**plan.full, "stem": 40})


def test_settings_of_the_source_system(tmp_path: Path) -> None:
    network = captured(Residual)
    given = {"calibration": [images()], "trainset_ratio": 1.0, "sampled_pixels_per_img": 10, "lars_alpha_init": 1e-3}
    result = amc.compress(
        network, "pruning", compress_ratio={"b2": 0.5}, selection="lasso", checkpointfolder=tmp_path / "out", **given
    )
    assert result.network.layer("b2").in_channels == 6
    written = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert written["kept"]["b2"] == result.kept["b2"]
    assert len(written["curves"]["b1"]["errors"]) == len(written["curves"]["b1"]["channels"])
    drawing = {"drawgraph": True, "checkpointfolder": tmp_path / "out"}
    drawn = amc.compress(network, "pruning", ratio=0.5, calibration=[images()], **drawing)
    assert drawn.network.layer("b2").in_channels == 6
    assert "b2" in (tmp_path / "out" / "compressed.html").read_text()
    with pytest.raises(SettingsError, match="`drawgraph` needs `checkpointfolder`"):
        amc.prepare(network, "pruning", calibration=[images()], drawgraph=True)
