"""Checks of compressors, on a small residual network and digits."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from amc_plugins.compression import Candidate, CompressionResult, Compressor, Plan
from amc_plugins.core.errors import AmcError, BudgetError, SettingsError
from amc_plugins.graph import ReconstructedNetwork, channel_map, profile
from amc_plugins.testing.checks import DoesNotApply, Subject, check
from amc_plugins.testing.oracle import assert_masked_equals_shrunk
from amc_plugins.testing.rebuilt import assert_rebuilds, assert_same_outputs
from amc_plugins.testing.scenes import branching, digits, residual
from amc_plugins.testing.unchanged import assert_untouched, fingerprint, same_tensors, steady_random_states

__all__ = ["Under"]

TOTAL = 0.3
"""The share of the MACs that most checks ask for, or half of what the plan reaches when that is less."""


class Under(Subject):
    """A compressor, and a plan of the residual network that its checks share."""

    @cached_property
    def calibration(self) -> list[Tensor]:
        return list(digits(128)[0].split(32))

    def prepare(self, network: ReconstructedNetwork, calibration: Any = None, seed: int = 0) -> Plan:
        """A new plan, as `amc.prepare` makes it."""
        compressor: Compressor = self.make()
        plan = compressor.prepare(network, self.calibration if calibration is None else calibration, seed=seed)
        plan.compressor, plan.seed = compressor, seed
        return plan

    @cached_property
    def network(self) -> ReconstructedNetwork:
        return residual()

    @cached_property
    def plan(self) -> Plan:
        return self.prepare(self.network)

    @property
    def reach(self) -> float:
        """The largest share that the plan can remove."""
        return self.plan.removed(self.plan.smallest)

    @cached_property
    def candidate(self) -> Candidate:
        if not self.plan.variables:
            raise DoesNotApply("it finds nothing to compress in the network of the checks")
        return self.plan.candidate(total=min(TOTAL, self.reach / 2))

    @cached_property
    def result(self) -> CompressionResult:
        return self.plan.apply(self.candidate)


@check("compressors")
def check_inputs_are_left_alone(subject: Under) -> None:
    """Preparing, choosing, assembling and applying change neither the network (tensors, modes, document) nor the data."""
    network, calibration = residual().train(), [images.clone() for images in subject.calibration]
    before, data = fingerprint(network), fingerprint(calibration)
    plan = subject.prepare(network, calibration)
    assert_untouched(network, before, "the network given to `prepare`")
    kept = fingerprint(plan.network)
    assembled = plan.assemble(plan.candidate(total=min(TOTAL, plan.removed(plan.smallest) / 2)))
    applied = plan.apply(plan.candidate(total=min(TOTAL, plan.removed(plan.smallest) / 2))).network
    assert_untouched(network, before, "the network given to `prepare`, after `apply`")
    assert_untouched(plan.network, kept, "the plan's network")
    assert_untouched(calibration, data, "the calibration data")
    owned = {tensor.data_ptr() for tensor in network.state_dict().values()}
    for made, what in ((assembled, "assemble"), (applied, "apply")):
        shared = [name for name, tensor in made.state_dict().items() if tensor.numel() and tensor.data_ptr() in owned]
        assert not shared, f"`{what}` gives a network that shares `{shared[0]}` with the one given"


@check("compressors")
def check_random_states_are_left_alone(subject: Under) -> None:
    """The global random states of Python, numpy and torch are as they were."""
    with steady_random_states("`prepare`"):
        plan = subject.prepare(residual())
    with steady_random_states("`candidate`, `assemble` or `apply`"):
        candidate = plan.candidate(total=min(TOTAL, plan.removed(plan.smallest) / 2))
        plan.assemble(candidate)
        plan.apply(candidate)


@check("compressors")
def check_repeatable(subject: Under) -> None:
    """Equal seeds give equal candidates and networks, bit for bit, whatever the global random state is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        second = subject.prepare(residual())
        candidate = second.candidate(total=min(TOTAL, second.removed(second.smallest) / 2))
        assert candidate == subject.candidate, f"a second plan of the same seed chooses {candidate}, not {subject.candidate}"
        networks = (subject.result.network, second.apply(candidate).network)
    differs = same_tensors(*networks)
    assert differs is None, f"a second run with the same seed gives another `{differs}`"
    again = same_tensors(subject.plan.assemble(candidate), subject.plan.assemble(candidate))
    assert again is None, f"`assemble` gives another `{again}` the second time"


@check("compressors")
def check_plan_is_sound(subject: Under) -> None:
    """Every layer with MACs is in `layers`, with the variables that its ratio sets or the reason why nothing applies; choices
    are ascending and hold `full`, and the full candidate costs what the network costs.
    """
    plan = subject.plan
    costs = {row.layer: row.macs for row in profile(subject.network).rows if row.macs}
    views = {view.name: view for view in plan.layers}
    missing = sorted(set(costs) - set(views))
    assert not missing, f"`layers` leaves out {', '.join(missing)}"
    names = [variable.name for variable in plan.variables]
    assert len(set(names)) == len(names), f"two variables have one name: {names}"
    for view in plan.layers:
        assert not set(view.variables) - set(names), f"layer `{view.name}` names variables that there are not: {view.variables}"
        assert view.variables or view.why_not or not costs.get(view.name), (
            f"nothing applies to layer `{view.name}` and `why_not` is empty"
        )
    for variable in plan.variables:
        assert list(variable.choices) == sorted(set(variable.choices)), f"choices of `{variable.name}` do not ascend"
        assert variable.full in variable.choices, f"`full` is not among the choices of `{variable.name}`"
        assert variable.errors is None or len(variable.errors) == len(variable.choices), f"errors of `{variable.name}`"
        assert set(variable.layers) <= set(views), f"variable `{variable.name}` has layers that `layers` lacks"
    total = profile(subject.network).total_macs
    assert plan.macs(plan.full) == total, f"the full candidate has {plan.macs(plan.full)} MACs, the network {total}"


@check("compressors")
def check_macs_are_exact(subject: Under) -> None:
    """`plan.macs` is what the assembled and the final network cost, to the last MAC; the result reports the same numbers."""
    plan, result = subject.plan, subject.result
    picks = [subject.candidate, plan.smallest, plan.candidate(ratio=min(0.3, subject.reach / 2))]
    for candidate in picks:
        told, real = plan.macs(candidate), profile(plan.assemble(candidate)).total_macs
        assert told == real, f"`macs` says {told}, the network of `assemble` has {real} ({candidate})"
    real = profile(result.network).total_macs
    assert result.macs_after == real, f"the result says {result.macs_after} MACs, its network has {real}"
    assert result.macs_before == profile(subject.network).total_macs, "`macs_before` is not what the network had"
    assert plan.macs(subject.candidate) == real, f"`macs` says {plan.macs(subject.candidate)}, `apply` gives {real}"
    told = sum(layer.macs_after for layer in result.layers)
    assert told == real, f"the layers of the result have {told} MACs together, its network {real}"


@check("compressors")
def check_budgets_are_met(subject: Under) -> None:
    """Every `total` up to what the plan can reach is reached, by both allocations, up to the very end of the range."""
    plan = subject.plan
    for total in (0.05, TOTAL, 0.6, 0.999):
        share = total * subject.reach
        for allocation in ("curves", "uniform"):
            candidate = plan.candidate(total=share, allocation=allocation)
            assert set(candidate) == {one.name for one in plan.variables}, f"{candidate} does not have the plan's variables"
            removed = plan.removed(candidate)
            assert removed >= share - 1e-9, f"total={share:.4f} with `{allocation}` removes {removed:.4f} of the MACs only"
    assert plan.removed(plan.candidate(total=subject.reach)) >= subject.reach - 1e-9, "the end of the range is not reached"


@check("compressors")
def check_budgets_out_of_reach_are_refused(subject: Under) -> None:
    """A `total` beyond the plan is a `BudgetError` with the range that it reaches; what is no share is a `SettingsError`."""
    plan, beyond = subject.plan, (1.0 + subject.reach) / 2
    try:
        candidate = plan.candidate(total=beyond)
    except BudgetError as error:
        digits_of = re.findall(r"\d\.\d+", str(error))
        assert any(abs(float(one) - subject.reach) < 1e-3 for one in digits_of), (
            f"the refusal does not give the range, 0 to {subject.reach:.4f}: {error}"
        )
    else:
        raise AssertionError(f"total={beyond:.4f} is beyond the plan ({subject.reach:.4f}), and {candidate} is given")
    for wrong in (-0.1, 1.0, 1.5, float("nan")):
        _is_refused(lambda wrong=wrong: plan.candidate(total=wrong), f"total={wrong}")
    _is_refused(plan.candidate, "no amount at all")
    _is_refused(lambda: plan.candidate(total=0.1, ratio=0.1), "a total and a ratio")


@check("compressors")
def check_ratios_are_obeyed(subject: Under) -> None:
    """A layer's ratio changes the variables of that layer and no other; names that match nothing are refused."""
    plan = subject.plan
    view = next((one for one in plan.layers if one.variables), None)
    if view is None:
        raise DoesNotApply("no layer of the network of the checks has a variable")
    members = {one.name: one.layers for one in plan.variables}
    layers = {layer for name in view.variables for layer in members[name]}
    asked = {layer: 0.3 for layer in layers if any(one.name == layer and one.variables for one in plan.layers)}
    candidate = plan.candidate(ratios=asked)
    full = plan.full
    assert any(candidate[name] != full[name] for name in view.variables), f"ratio 0.3 of `{view.name}` changes nothing of it"
    for variable in plan.variables:
        if not set(variable.layers) & set(asked):
            assert candidate[variable.name] == variable.full, f"a ratio of `{view.name}` changes `{variable.name}`"
    _is_refused(lambda: plan.candidate(ratios={"no.such.layer": 0.3}), "a layer that there is not")
    _is_refused(lambda: plan.candidate(ratios={view.name: 1.0}), "the ratio 1")


def _is_refused(call: Any, what: str) -> None:
    try:
        given = call()
    except SettingsError:
        return
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__} ({error}) instead of SettingsError") from error
    raise AssertionError(f"{what} is accepted: {given}")


@check("compressors")
def check_full_changes_nothing(subject: Under) -> None:
    """The full candidate gives a network that computes what the original does, within rounding, at the same cost."""
    plan, images = subject.plan, digits(16, seed=1)[0]
    with torch.no_grad():
        expected = subject.network.eval()(images)
        for what, made in (("assemble", plan.assemble(plan.full)), ("apply", plan.apply(plan.full).network)):
            worst = float((made.eval()(images) - expected).abs().max() / expected.abs().max())
            assert worst < 1e-4, f"`{what}` of the full candidate changes the outputs by {worst:.2e} of the largest"
    assert profile(plan.assemble(plan.full)).total_macs == plan.macs(plan.full), "the full candidate costs something else"


@check("compressors")
def check_results_are_sound(subject: Under) -> None:
    """The final network is finite, trains (gradients reach every parameter), and can be compressed once more."""
    result, images = subject.result, digits(32, seed=1)[0]
    for name, tensor in result.network.state_dict().items():
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"`{name}` of the result is not finite"
    network = result.network.clone().train()
    network(images).square().mean().backward()
    still = [name for name, one in network.named_parameters() if not one.requires_grad or one.grad is None]
    assert not still, f"no gradient reaches {', '.join(still[:3])}"
    went_on = subject.plan.rebase(result)
    assert went_on.macs(went_on.full) == result.macs_after, "`rebase` starts from another cost than the result has"


@check("compressors")
def check_mode_is_kept(subject: Under) -> None:
    """The final network is in the mode of the one given: training or eval."""
    assert not subject.result.network.training, "the network given was in eval mode, the result is in training mode"
    plan = subject.prepare(residual().train())
    candidate = plan.candidate(total=min(TOTAL, plan.removed(plan.smallest) / 2))
    assert plan.apply(candidate).network.training, "the network given was in training mode, the result is in eval mode"


@check("compressors")
def check_masked_equals_shrunk(subject: Under) -> None:
    """Channels of the compressed network can be removed again: it equals itself masked. What the plan says it removes leaves
    layers of exactly the sizes that the compressed network has.
    """
    images = digits(2, seed=1)[0]
    assert_masked_equals_shrunk(subject.result.network, images)
    removed = subject.plan.removed_channels(subject.candidate)
    if not len(removed):
        return
    shrunk = channel_map(subject.plan.reference(subject.candidate)).shrink(removed)
    ours = {node.layer: (node.op, _sizes(subject.result.network, node.layer)) for node in subject.result.network.graph.nodes}
    for node in shrunk.graph.nodes:
        op, sizes = ours.get(node.layer, ("", {}))
        expected = _sizes(shrunk, node.layer)
        assert op != node.op or sizes == expected, (
            f"`{node.layer}` has the tensors {sizes}, `removed_channels` leaves {expected}"
        )


def _sizes(network: ReconstructedNetwork, layer: str) -> dict[str, tuple[int, ...]]:
    state: Mapping[str, Tensor] = network.layer(layer).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name != "bias"}


@check("compressors")
def check_results_survive_saving(subject: Under) -> None:
    """The final network survives its document, pickle and `state_dict`, bit for bit."""
    images = digits(2, seed=1)[0]
    for candidate in (subject.candidate, subject.plan.smallest):
        network = subject.result.network if candidate is subject.candidate else subject.plan.apply(candidate).network
        assert_rebuilds(network, images)
        assert_same_outputs(network, pickle.loads(pickle.dumps(network)), images)
        other = network.clone()
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.zero_()
        other.load_state_dict(network.state_dict())
        assert_same_outputs(network, other, images)


@check("compressors")
def check_plans_survive_pickle(subject: Under) -> None:
    """A plan goes to another process and assembles the same bits there, which searches with workers need."""
    text = pickle.dumps(subject.plan)
    again: Plan = pickle.loads(text)
    differs = same_tensors(again.assemble(subject.candidate), subject.plan.assemble(subject.candidate))
    assert differs is None, f"the plan that was pickled assembles another `{differs}`"
    assert again.macs(subject.candidate) == subject.plan.macs(subject.candidate), "and other MACs"


@check("compressors")
def check_any_calibration_data(subject: Under) -> None:
    """A loader may give inputs, or tuples with labels behind them, and may be a generator that is read once."""
    labels = torch.zeros(32, dtype=torch.long)
    for what, loader in (
        ("tuples of inputs and labels", [(images, labels) for images in subject.calibration]),
        ("a generator", (images for images in subject.calibration)),
    ):
        plan = subject.prepare(residual(), loader)
        differs = same_tensors(plan.assemble(subject.candidate), subject.plan.assemble(subject.candidate))
        assert differs is None, f"{what} give another `{differs}` than a list of the same inputs"


@check("compressors")
def check_other_networks(subject: Under) -> None:
    """Depthwise convolutions, concatenations, a layer that runs twice and a flatten are served, or left alone with a reason."""
    plan = subject.prepare(branching())
    if not plan.variables:
        assert all(view.why_not for view in plan.layers), "nothing applies, and `why_not` does not say why"
        try:
            plan.candidate(total=0.1)
        except BudgetError:
            return
        raise AssertionError("a plan without variables gives a candidate")
    candidate = plan.candidate(total=0.5 * plan.removed(plan.smallest))
    result = plan.apply(candidate)
    real = profile(result.network).total_macs
    assert plan.macs(candidate) == real, f"`macs` says {plan.macs(candidate)}, the result has {real}"
    told = sum(layer.macs_after for layer in result.layers)
    assert told == real, f"the layers of the result have {told} MACs together, its network {real}"
    assert_rebuilds(result.network, digits(2, seed=1)[0])
    assert_masked_equals_shrunk(result.network, digits(2, seed=1)[0])


@check("compressors")
def check_no_data_is_refused(subject: Under) -> None:
    """A calibration loader that gives nothing is refused as an `AmcError`."""
    try:
        plan = subject.prepare(residual(), [])
    except AmcError:
        return
    except Exception as error:
        raise AssertionError(f"no calibration data raises {type(error).__name__} ({error}) instead of an AmcError") from error
    raise AssertionError(f"no calibration data is accepted: {plan}")
