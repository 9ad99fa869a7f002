"""Budgets of parameters, activation memory and latency: exact costs without assembling, targets met or refused."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Budget, Candidate, CompressionResult, LayerView, Plan, Variable
from amc_plugins.core.budgets import COUNTS, cost_of
from amc_plugins.core.costs import Activations
from amc_plugins.core.latency import check_batch
from amc_plugins.core.latency_model import NodeModel
from amc_plugins.core.latency_table import LatencyTable, kernel_of
from amc_plugins.core.network import walk
from amc_plugins.core.outlines import nodes_of, pieces_of
from amc_plugins.core.sizes import Sizes
from amc_plugins.core.stopwatch import Stopwatch, Work
from amc_plugins.graph import ReconstructedNetwork, channel_map, profile
from amc_plugins.plugin import BudgetError, SettingsError
from tests.digits_search import digits, fitted_plan
from tests.fake_times import FakeTimer, blocks, seconds_of


class Residual(nn.Module):
    """A stem, a residual block and a wide tail; 1.9 MB of weights less than it sounds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.first, self.second = nn.Conv2d(32, 48, 3, padding=1), nn.Conv2d(48, 32, 3, padding=1)
        self.tail = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.second(torch.relu(self.first(x))) + x)
        return self.head(torch.relu(self.tail(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    images, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = amc.capture(Residual().eval(), images[:2])
    return {name: amc.prepare(network, name, calibration=images[:256], seed=0) for name in ("pruning", "lowrank")}


def drawn(plan: Plan, count: int, seed: int = 1) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [Candidate({one.name: int(rng.choice(one.choices)) for one in plan.variables}) for _ in range(count)]


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def peak(network: ReconstructedNetwork) -> int:
    """Bytes alive at the worst moment, from a run that really frees values: storages of the values that are still needed."""
    needed: dict[str, int] = {}
    nodes = network.graph.nodes
    for index, node in enumerate(nodes):
        needed.update(dict.fromkeys((*node.inputs, *node.outputs), index))
    needed[str(network.graph.outputs)] = len(nodes)
    values: dict[str, Tensor] = dict(zip(network.input_nodes, network.example_inputs(batch=1), strict=True))
    most = 0
    for index, step in enumerate(walk(network, network.example_inputs(batch=1))):
        values.update(zip(step.node.outputs, step.outputs, strict=True))
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in values.values()}
        most = max(most, sum(storages.values()))
        values = {name: one for name, one in values.items() if needed[name] > index}
    return most


# --- sizes without assembling ---


@pytest.mark.parametrize("method", ["pruning", "lowrank"])
def test_sizes_are_those_of_assembled_networks(plans: dict[str, Plan], method: str) -> None:
    plan = plans[method]
    sizes = Sizes(plan, 1)
    used = sizes.assembled
    assert used <= 2 * max(len(one.choices) for one in plan.variables) + 40, "not one network per combination"
    for candidate in drawn(plan, 6):
        assert sizes.pieces(candidate) == pieces_of(plan.assemble(candidate), sizes.frame, 1)
    assert sizes.assembled == used


@pytest.mark.parametrize("method", ["pruning", "lowrank"])
def test_costs_are_exact(plans: dict[str, Plan], method: str) -> None:
    plan = plans[method]
    counts = {name: cost_of(plan, name) for name in ("macs", "parameters", "activations")}
    for candidate in (plan.full, plan.smallest, *drawn(plan, 4)):
        network = plan.assemble(candidate)
        assert counts["macs"](candidate) == profile(network).total_macs
        assert counts["parameters"](candidate) == parameters(network)
        assert counts["activations"](candidate) == peak(network)


def test_activations_of_a_network_by_hand(plans: dict[str, Plan]) -> None:
    plan = plans["pruning"]
    steps = Activations(Sizes(plan, 1)).steps(plan.full).tolist()
    pixel = 8 * 8 * 4
    x, stem, first, tail = pixel, 32 * pixel, 48 * pixel, 64 * 4 * 4 * 4
    assert steps == [
        x,
        x + stem,
        2 * stem,
        stem + first,
        stem + 2 * first,  # what the shortcut still needs, and both sides of the activation
        stem + first + stem,
        3 * stem,
        2 * stem,
        stem + tail,
        2 * tail,
        tail + 64 * 4,
        64 * 4 + 40,
    ]


class Squares(Plan):
    """A plan from outside with nothing but the contract: the value v keeps v * v channels of a layer."""

    def __init__(self, network: ReconstructedNetwork, layer: str) -> None:
        self.network, self.seed = network, 0
        self._channels = channel_map(network)
        self._ids = self._channels.outputs[layer]
        choices = tuple(range(1, math.isqrt(len(self._ids)) + 1))
        self.variables = [Variable("width", (layer,), choices, choices[-1], "root of the channels")]
        self.layers = [LayerView(layer, "vn.conv2d", 1, ("width",))]

    def macs(self, candidate: Mapping[str, int]) -> int:
        return profile(self.assemble(candidate)).total_macs

    def value(self, variable: Variable, ratio: float) -> int:
        return variable.nearest_choice((1.0 - ratio) * variable.full)

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        gone = self._ids[candidate["width"] ** 2 : variable_full(self) ** 2]
        return self._channels.shrink(gone) if len(gone) else self.network.clone()

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        before, after = self.macs(self.full), self.macs(candidate)
        return CompressionResult(self.assemble(candidate), Candidate(candidate), before, after, [])


def variable_full(plan: Plan) -> int:
    return plan.variables[0].full


def test_a_plan_from_outside_needs_assemble_alone(plans: dict[str, Plan]) -> None:
    plan = Squares(plans["pruning"].network, "tail")  # 64 channels
    whole, timer = parameters(plan.network), FakeTimer()
    for name in ("parameters", "activations"):
        cost = cost_of(plan, name)
        for value in plan.variables[0].choices:
            network = plan.assemble({"width": value})
            assert cost({"width": value}) == (parameters(network) if name == "parameters" else peak(network))
    candidate = plan.candidate(total=0.3, budget="parameters")
    assert parameters(plan.assemble(candidate)) <= 0.7 * whole < parameters(plan.assemble({"width": candidate["width"] + 1}))
    latency = Budget("latency", batch=4, timer=timer)
    cost = cost_of(plan, latency)
    for value in plan.variables[0].choices:
        assert cost({"width": value}) == pytest.approx(1e9 * cost.count.whole([{"width": value}])[0], rel=0.02)  # type: ignore[attr-defined]


# --- targets ---


@pytest.mark.parametrize("method", ["pruning", "lowrank"])
@pytest.mark.parametrize("allocation", ["curves", "uniform"])
def test_a_total_of_parameters_is_met(plans: dict[str, Plan], method: str, allocation: Any) -> None:
    plan = plans[method]
    for total in (0.2, 0.5, 0.8):
        candidate = plan.candidate(total=total, budget="parameters", allocation=allocation)
        left = parameters(plan.assemble(candidate)) / parameters(plan.network)
        assert left <= 1.0 - total and left >= 1.0 - total - (0.02 if allocation == "curves" else 0.15)
        assert plan.removed(candidate, "parameters") == pytest.approx(1.0 - left)


@pytest.mark.parametrize("allocation", ["curves", "uniform"])
def test_a_total_of_activations_is_met(plans: dict[str, Plan], allocation: Any) -> None:
    plan = plans["pruning"]
    for total in (0.1, 0.3, 0.5):
        candidate = plan.candidate(total=total, budget="activations", allocation=allocation)
        assert peak(plan.assemble(candidate)) <= (1.0 - total) * peak(plan.network)
    curves = plan.candidate(total=0.3, budget="activations")
    uniform = plan.candidate(total=0.3, budget="activations", allocation="uniform")
    assert sum(one.loss(curves[one.name]) for one in plan.variables) < sum(
        one.loss(uniform[one.name]) for one in plan.variables
    )
    tail = next(one for one in plan.variables if "head" in one.layers)
    assert curves[tail.name] == tail.full, "what is never alive at the peak stays whole"


@pytest.mark.parametrize("budget", ["parameters", "activations", "latency"])
def test_what_is_out_of_reach_is_refused_with_the_range(plans: dict[str, Plan], budget: str) -> None:
    plan = plans["pruning"]
    asked = Budget(budget, timer=FakeTimer())
    reach = cost_of(plan, asked).reachable
    assert 0.3 < reach < 1.0
    for allocation in ("curves", "uniform"):
        with pytest.raises(
            BudgetError, match=f"of the {COUNTS[budget][0]} cannot be removed: this plan reaches 0 to {reach:.4f}"
        ):
            plan.candidate(total=0.999, budget=asked, allocation=allocation)  # type: ignore[arg-type]
        within = plan.candidate(total=0.9 * reach, budget=asked, allocation=allocation)  # type: ignore[arg-type]
        assert cost_of(plan, asked).removed(within) >= 0.85 * reach


def test_a_total_that_coarse_choices_cannot_meet_is_refused_with_one_that_they_can(plans: dict[str, Plan]) -> None:
    network, images = plans["pruning"].network, digits()[0][:256]
    met, refused = [], []
    for total in (0.3, 0.45, 0.5, 0.55, 0.6, 0.7):
        asked: dict[str, Any] = {"calibration": images, "round_to": 16, "refit": False}
        try:
            met.append((total, amc.compress(network, "pruning", total=total, **asked).removed))
        except BudgetError as error:
            assert f"`total` = {total:g} of the MACs cannot be met within 1%" in str(error)
            found = re.search(r"ask for total = (0\.\d{4}), or for less", str(error.hint))
            assert found
            refused.append(float(found[1]) - total)
            met.append((float(found[1]), amc.compress(network, "pruning", total=float(found[1]), **asked).removed))
            within = amc.compress(network, "pruning", total=total, allocation="uniform", **asked)
            assert within.removed >= total, "one ratio for all is no promise of 1 %"
    assert all(total <= removed <= total + 0.01 for total, removed in met)
    assert 0 < len(refused) < 6 and all(spare > 0.01 - 1e-4 for spare in refused)


def test_what_does_not_fit_is_refused(plans: dict[str, Plan]) -> None:
    plan = plans["pruning"]
    with pytest.raises(SettingsError, match="`budget` is one of macs, parameters, activations, latency; given was 'watts'"):
        plan.candidate(total=0.5, budget="watts")
    with pytest.raises(SettingsError, match="did you mean `latency`"):
        Budget("latncy")
    with pytest.raises(SettingsError, match="a budget of parameters needs `total`"):
        plan.candidate(ratio=0.5, budget="parameters")
    with pytest.raises(SettingsError, match="`ratio` is a share of MACs"):
        amc.compress(plan.network, "pruning", calibration=digits()[0][:64], ratio=0.5, budget="latency")
    with pytest.raises(SettingsError, match="`batch` must be at least 1"):
        Budget("latency", batch=0)
    with pytest.raises(SettingsError, match="in the budget already"):
        Budget.of(Budget("latency"), batch=2)


def test_compress_says_what_became_of_the_budget(plans: dict[str, Plan]) -> None:
    network, images = plans["pruning"].network, digits()[0][:256]
    result = amc.compress(network, "pruning", calibration=images, total=0.5, budget="parameters")
    assert result.spent is not None and result.spent.counts == "parameters"
    assert (result.spent.before, result.spent.after) == (parameters(network), parameters(result.network))
    assert 0.5 <= result.spent.removed < 0.53 and result.spent.removed != result.removed
    timer = FakeTimer()
    result = amc.compress(network, "pruning", calibration=images, total=0.4, budget=Budget("latency", batch=8, timer=timer))
    assert result.spent is not None and result.spent.unit == "s" and result.spent.batch == 8
    before, after = timer([Work(one, one.example_inputs(batch=8)) for one in (network, result.network)])
    assert (result.spent.before, result.spent.after) == (before, after)
    assert 1.0 - after / before == pytest.approx(0.4, abs=0.05 * 0.6)
    plain = amc.compress(network, "pruning", calibration=images, total=0.4)
    assert plain.spent is not None and plain.spent.removed == plain.removed


# --- latency ---


def test_latency_is_predicted_from_few_layers(plans: dict[str, Plan]) -> None:
    plan, timer = plans["pruning"], FakeTimer()
    cost = cost_of(plan, Budget("latency", batch=4, timer=timer))
    combinations = math.prod(len(one.choices) for one in plan.variables)
    assert timer.layers < 200 < combinations
    counted = timer.layers
    for candidate in (plan.full, plan.smallest, *drawn(plan, 10)):
        (whole,) = cost.count.whole([candidate])  # type: ignore[attr-defined]
        assert 1e-9 * cost(candidate) == pytest.approx(whole, rel=0.02)
    assert timer.layers == counted, "predicting measures nothing"


@pytest.mark.parametrize("overhead", [0.0, 2e-4])
@pytest.mark.parametrize("allocation", ["curves", "uniform"])
def test_the_whole_network_meets_the_target_within_5_percent(plans: dict[str, Plan], overhead: float, allocation: Any) -> None:
    """Also where whole networks take what no layer shows."""
    plan, timer = plans["pruning"], FakeTimer(overhead)
    budget = Budget("latency", batch=4, timer=timer)
    for total in (0.2, 0.4):
        candidate = plan.candidate(total=total, budget=budget, allocation=allocation)
        before, after = cost_of(plan, budget).count.whole([plan.full, candidate])  # type: ignore[attr-defined]
        assert after / before <= 1.05 * (1.0 - total)
        if allocation == "curves":
            assert after / before >= 0.85 * (1.0 - total), "blocks of 16 are steps of a few percent"


def test_a_target_between_choices_is_met_from_below(plans: dict[str, Plan]) -> None:
    """What is measured later on a machine that is never quite the same has the tolerance left."""

    def smooth(module: nn.Module, inputs: Sequence[Any], output: Any) -> float:
        work = module.in_channels * math.prod(module.kernel_size) * output.numel() if isinstance(module, nn.Conv2d) else 0
        return 1e-6 + 1e-9 * work

    plan = plans["pruning"]
    for overhead in (0.0, 5e-4, 2e-3):
        budget = Budget("latency", batch=4, timer=FakeTimer(overhead, seconds=smooth))
        for total in (0.1, 0.2, 0.3):
            candidate = plan.candidate(total=total, budget=budget)
            before, after = cost_of(plan, budget).count.whole([plan.full, candidate])  # type: ignore[attr-defined]
            assert 0.95 * (1.0 - total) <= after / before <= 0.985 * (1.0 - total), (overhead, total)


def test_whole_networks_are_measured_until_the_machine_leaves_them_alone(plans: dict[str, Plan]) -> None:
    plan = plans["pruning"]

    class Disturbed(FakeTimer):
        """All but every fifth measurement takes up to twice as long, each network by another share."""

        calls, shares = 0, random.Random(3)

        def __call__(self, works: Sequence[Work]) -> list[float]:
            times = super().__call__(works)
            if not isinstance(works[0].module, ReconstructedNetwork):
                return times
            self.calls += 1
            return times if self.calls % 5 == 4 else [one * (1.1 + self.shares.random()) for one in times]

    quiet, disturbed = FakeTimer(), Disturbed()
    counts = [cost_of(plan, Budget("latency", batch=4, timer=timer)).count for timer in (quiet, disturbed)]
    times = [count.whole([plan.full, plan.smallest]) for count in counts]  # type: ignore[attr-defined]
    assert times[0] == times[1]
    assert quiet.networks == 2 * 3 and disturbed.networks == 2 * 9  # the fourth and the ninth agree


def test_channels_end_where_blocks_do(plans: dict[str, Plan]) -> None:
    def convolutions(module: nn.Module, inputs: Sequence[Any], output: Any) -> float:
        return seconds_of(module, inputs, output) if isinstance(module, nn.Conv2d) else 0.0

    plan = plans["pruning"]
    budget = Budget("latency", batch=4, timer=FakeTimer(seconds=convolutions))
    for variable in cost_of(plan, budget).variables:
        assert [choice for choice in variable.choices if choice % 16 and choice != variable.full] == []
        assert len(variable.choices) == blocks(variable.full)
    candidate = plan.candidate(total=0.4, budget=budget)
    assert any(plan.candidate(total=0.4)[one.name] % 16 for one in plan.variables), "MACs do not know of them"
    assert all(value % 16 == 0 for value in candidate.values())


def test_nothing_is_used_that_is_slower_than_what_it_replaces(plans: dict[str, Plan]) -> None:
    """On a machine where kernels of one row or column are slow, only some chains pay."""

    def slow_rows(module: nn.Module, inputs: Sequence[Any], output: Any) -> float:
        slow = isinstance(module, nn.Conv2d) and tuple(module.kernel_size) in ((1, 3), (3, 1))
        return seconds_of(module, inputs, output) * (4.0 if slow else 1.0)

    plan, timer = plans["lowrank"], FakeTimer(seconds=slow_rows)
    budget = Budget("latency", batch=4, timer=timer)
    cost = cost_of(plan, budget)
    candidate = plan.candidate(total=0.8 * cost.reachable, budget=budget)
    changed = [name for name, value in candidate.items() if value != plan.full[name]]
    assert changed
    for variable in plan.variables:
        left = next(one for one in cost.variables if one.name == variable.name)
        times = {choice: cost({**plan.full, variable.name: choice}) for choice in variable.choices}
        assert all(times[choice] < times[variable.full] for choice in left.choices if choice != variable.full)
        assert sorted(left.choices, key=left.choices.index) == sorted(left.choices, key=times.__getitem__), "more costs more"
        if variable.name in changed:
            assert cost(candidate) < cost({**candidate, variable.name: variable.full})
    by_macs = plan.candidate(total=0.5)
    assert any(by_macs[one.name] not in one.choices for one in cost.variables), "the MACs would have it"


def test_blocks_of_a_machine_are_found() -> None:
    """Between knots and beside steps: every count of a layer is predicted, for blocks of 16, of 8 and none."""
    for block in (16, 8, 1):

        def seconds(inputs: int, outputs: int, block: int = block) -> float:
            return 1e-6 * (1 + (-(-inputs // block) * block) * (-(-outputs // block) * block))

        samples = [("conv", (a, 9, b)) for a, b in itertools.product((8, 48, 64), (16, 70, 128))]
        model = NodeModel.of(samples, dict.fromkeys(samples, 1.0))
        needed = model.needed()
        assert len(needed) < 50 < 57 * 113
        model.learn({kernel: seconds(kernel[1][0], kernel[1][2]) for kernel in needed})
        for a, b in itertools.product(range(16, 65), range(16, 129)):
            found = model.seconds(("conv", (a, 9, b)), 1.0)
            assert found == pytest.approx(seconds(a, b), rel=1e-6), (block, a, b)


def test_three_sizes_that_vary_are_told_by_what_is_read_and_written() -> None:
    samples = [("cat", (a, b, a * b % 7 + a)) for a in (4, 8) for b in (4, 16)]
    entries = {one: float(sum(one[1])) for one in samples}
    model = NodeModel.of(samples, entries)
    assert 2 <= len(model.needed()) <= 3
    model.learn({one: 1e-6 * entries[one] for one in model.needed()})
    assert model.seconds(("cat", (6, 9, 3)), 18.0) == pytest.approx(18e-6)


def test_layers_are_measured_once_on_a_machine(plans: dict[str, Plan], tmp_path: Path) -> None:
    sizes = Sizes(plans["pruning"], 2)
    pieces = sizes.pieces(plans["pruning"].full).values()
    kernels = [kernel_of(node) for piece in pieces for node in nodes_of(piece)]
    timer, path = FakeTimer(), tmp_path / "cache" / "latency.sqlite"
    first = LatencyTable(timer, 1, torch.device("cpu"), path)
    times = first.times(kernels)
    assert timer.layers == len(set(kernels)) < len(kernels), "equal layers once"
    assert first.times(kernels) == times and timer.layers == len(set(kernels))
    again = LatencyTable(timer, 1, torch.device("cpu"), path)
    assert again.times(kernels) == times and again.measured == 0
    other = LatencyTable(timer, 2, torch.device("cpu"), path)
    other.times(kernels)
    assert other.measured == len(set(kernels)), "other threads, other times"


def test_the_stopwatch_reads_in_turns_and_leaves_everything_as_it_was() -> None:
    order: list[int] = []

    class Slow(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, x: Tensor) -> Tensor:
            assert not self.training and not torch.is_grad_enabled() and torch.get_num_threads() == 1
            order.append(self.number)
            sum(range(100_000))
            return x

    modules = [Slow(0).train(), Slow(1).eval()]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        times = Stopwatch(1, torch.device("cpu"))([Work(one, (torch.zeros(1),)) for one in modules])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [one.training for one in modules] == [True, False]
    assert len(times) == 2 and all(0.0 < one < 60.0 for one in times)
    rounds = [number for number, _ in itertools.groupby(order[4:])]  # after warm-up and a first look at each
    assert len(rounds) >= 10 and rounds == [0, 1] * (len(rounds) // 2)


def test_a_network_of_a_fixed_batch_is_timed_at_that() -> None:
    plan = fitted_plan()
    fixed = plan.network.clone()
    fixed.graph.inputs[0].shape[0] = 2
    check_batch(fixed, 2)
    check_batch(plan.network, 8)
    with pytest.raises(SettingsError, match="captured for 2 samples at once; asked was a batch of 8"):
        check_batch(fixed, 8)


# --- searches ---


def test_a_search_within_a_latency(tmp_path: Path) -> None:
    plan, timer = fitted_plan(), FakeTimer(1e-5)
    budget = Budget("latency", batch=4, timer=timer)
    cost = cost_of(plan, budget)
    total = 0.6 * cost.reachable
    arguments: dict[str, Any] = {"total": total, "budget": budget, "seed": 0, "population": 6, "folder": tmp_path}
    search = amc.tune(plan, "ga", evaluations=18, **arguments)
    for one in search.evaluations:
        assert one.objectives["latency"] == pytest.approx(1e-9 * cost(one.candidate))
    limit = max(one.objectives["latency"] for one in search.baselines.values())
    assert all(one.objectives["latency"] <= 1.1 * limit for one in search.evaluations)
    before, after = cost.count.whole([plan.full, search.best.candidate])  # type: ignore[attr-defined]
    assert search.measured[search.best.candidate] == pytest.approx(after / before)
    assert after / before <= 1.05 * (1.0 - total)
    networks = timer.networks
    plan.__dict__.pop("_costs")
    again = amc.tune(plan, "ga", evaluations=18, **arguments)
    assert [one.candidate for one in again.evaluations] == [one.candidate for one in search.evaluations]
    assert again.best.candidate == search.best.candidate
    assert timer.networks - networks <= 2, "a search that goes on has its limit, and measures no target again"
    with pytest.raises(SettingsError, match="another search: budget differ"):
        amc.tune(plan, "ga", evaluations=18, **{**arguments, "budget": Budget("latency", batch=2, timer=timer)})


def test_a_winner_that_is_too_slow_when_measured_is_passed_over() -> None:
    plan = fitted_plan()
    budget = Budget("latency", batch=4, timer=FakeTimer())
    search = amc.tune(plan, "random", total=0.2, budget=budget, evaluations=8, confirm=0)
    first, second = search.ranked()[:2]
    search.measured[first.candidate] = 0.85
    assert search.best.candidate == second.candidate
    search.measured.update({one.candidate: 0.99 for one in search.evaluations})
    with pytest.raises(BudgetError, match=r"no candidate of the search meets 0.2 of the measured latency"):
        _ = search.best


@pytest.mark.parametrize("cost", ["parameters", "activations", "latency"])
def test_the_front_of_score_against_any_cost(cost: str) -> None:
    plan = fitted_plan()
    budget = Budget(batch=4, timer=FakeTimer())  # of MACs; the timer is for the objective
    search = amc.tune(
        plan, "ga", total=0.2, budget=budget, evaluations=40, population=10, objectives=("score", cost), confirm=0
    )
    front = search.front(cost)
    assert len(front) >= 4
    assert all(a.objectives[cost] < b.objectives[cost] and a.score < b.score for a, b in itertools.pairwise(front))
    for one in search.evaluations[:5]:
        network = plan.assemble(one.candidate)
        exact = {"parameters": parameters(network), "activations": peak(network)}
        if cost in exact:
            assert one.objectives[cost] == exact[cost]


@pytest.mark.parametrize("tuner", ["random", "annealing", "ddpg", "allocation", "uniform"])
@pytest.mark.parametrize("counts", ["activations", "latency"])
def test_every_tuner_stays_within_any_budget(tuner: str, counts: str) -> None:
    plan = fitted_plan()
    settings = {"warm_up": 3, "batch": 4, "hidden": 8} if tuner == "ddpg" else {}
    budget = Budget(counts, batch=4, timer=FakeTimer())
    search = amc.tune(plan, tuner, total=0.3, budget=budget, evaluations=6, confirm=0, samples=64, **settings)
    cost = cost_of(plan, budget)
    assert search.evaluations
    assert all(cost(one.candidate) <= cost.limit(0.3) for one in search.evaluations)


def test_costs_do_not_travel_with_a_plan(plans: dict[str, Plan]) -> None:
    plan = plans["lowrank"]
    budget = Budget("latency", timer=FakeTimer())
    cost_of(plan, budget)
    copy = pickle.loads(pickle.dumps(plan))
    assert not copy.__dict__.get("_costs") and len(plan.__dict__["_costs"]) > 0
    assert json.dumps(dict(copy.candidate(total=0.2))) == json.dumps(dict(plan.candidate(total=0.2)))


def test_a_budget_is_in_the_users_api() -> None:
    assert amc.Budget is Budget and amc.Budget("latency", batch=64).words == "measured latency"


def test_the_fake_machine_has_blocks() -> None:
    assert [blocks(one) for one in (1, 16, 17, 48)] == [1, 1, 2, 3]
