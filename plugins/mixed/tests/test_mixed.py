"""`mixed` on a small network and real data: exact costs, both methods in one candidate, and what comes out."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import amc_plugins as amc
from amc_plugins.compression import Plan
from amc_plugins.plugin import BudgetError, SettingsError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.wide, self.bn3 = nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32)
        self.classes = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn0(self.stem(x)).relu()
        x = (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()
        return self.classes(self.bn3(self.wide(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    return torch.from_numpy(digits.images.astype(np.float32) / 16.0).unsqueeze(1), torch.from_numpy(digits.target)


@pytest.fixture(scope="module")
def network(images: Any) -> amc.ReconstructedNetwork:
    x, y = images
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net().train()
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(12):
            for chosen in torch.randperm(1200).split(100):
                loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return amc.capture(net.eval(), x[:2])


@pytest.fixture(scope="module")
def plan(network: Any, images: Any) -> Plan:
    return amc.prepare(network, "mixed", calibration=[images[0][:1200]], seed=0)


def accuracy(network: nn.Module, images: Any) -> float:
    x, y = images[0][1200:], images[1][1200:]
    with torch.no_grad():
        return float((network(x).argmax(1) == y).double().mean())


def candidates(plan: Plan, count: int) -> Iterator[dict[str, int]]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield {one.name: int(rng.choice(one.choices)) for one in plan.variables}


def test_variables_are_those_of_both_plans(plan: Plan) -> None:
    kinds = {one.name.partition("/")[0] for one in plan.variables}
    assert kinds == {"pruning", "lowrank"}
    both = [view.name for view in plan.layers if {name.partition("/")[0] for name in view.variables} == kinds]
    assert {"conv1", "conv2", "wide"} <= set(both)


def test_macs_are_exact_and_assembling_solves_nothing(plan: Plan, images: Any) -> None:
    pruned_and_split = 0
    for candidate in candidates(plan, 12):
        made = plan.assemble(candidate)
        assert amc.profile(made, images[0][:1]).total_macs == plan.macs(candidate)
        names = made.layer_names
        pruned_and_split += "conv2.0" in names and made.layer("conv2.0").in_channels < 16
    assert pruned_and_split >= 3
    assert torch.equal(plan.assemble(plan.full)(images[0][:5]), plan.network(images[0][:5]))


@pytest.mark.parametrize(("total", "most"), [(0.5, 0.02), (0.7, 0.05)])
def test_it_loses_no_more_than_either_method_alone(total: float, most: float, plan: Plan, network: Any, images: Any) -> None:
    result = plan.apply(plan.candidate(total=total))
    assert abs(result.removed - total) < 0.01 and result.macs_after == amc.profile(result.network, images[0][:1]).total_macs
    alone = [
        amc.compress(network, method, calibration=[images[0][:1200]], total=total, seed=0).network
        for method in ("pruning", "lowrank")
    ]
    lost = accuracy(network, images) - accuracy(result.network, images)
    assert lost < most
    # One standard error of 597 images is 0.01.
    assert accuracy(result.network, images) >= max(accuracy(one, images) for one in alone) - 0.02
    assert any(one.change for one in result.layers)


def test_the_refit_helps_and_is_the_same_twice(plan: Plan, images: Any) -> None:
    candidate = plan.candidate(total=0.7)
    before = {name: one.clone() for name, one in plan.network.state_dict().items()}

    def distance(network: nn.Module) -> float:
        with torch.no_grad():
            theirs = plan.network(images[0][1200:]).log_softmax(1)
            ours = network(images[0][1200:]).log_softmax(1)
            return float(nn.functional.kl_div(ours, theirs, log_target=True, reduction="batchmean"))

    fitted, again = plan.apply(candidate).network, plan.apply(candidate).network
    assert distance(fitted) < 0.7 * distance(plan.assemble(candidate))
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in fitted.state_dict().items())
    assert all(torch.equal(one, plan.network.state_dict()[name]) for name, one in before.items())


def test_it_pickles_saves_and_says_what_it_did(plan: Plan, images: Any, tmp_path: Path) -> None:
    loaded = pickle.loads(pickle.dumps(plan))
    candidate = plan.candidate(total=0.6)
    assert torch.equal(loaded.assemble(candidate)(images[0][:4]), plan.assemble(candidate)(images[0][:4]))
    given = {"checkpointfolder": tmp_path, "lowrank": {"scheme": "spatial"}}
    result = amc.compress(plan.network, "mixed", calibration=[images[0][:600]], total=0.6, **given)
    assert (tmp_path / "mixed.json").is_file()
    path = amc.export(result.network, "vnmodel", tmp_path / "net.vnmodel")
    assert torch.equal(amc.load(path)(images[0][:4]), result.network(images[0][:4]))


def test_a_search_over_both_kinds(plan: Plan) -> None:
    search = amc.tune(plan, "ga", total=0.6, evaluations=24, seed=0, confirm=0)
    assert plan.removed(search.best.candidate) >= 0.6 - 1e-9
    assert set(search.best.candidate) == {one.name for one in plan.variables}


def test_what_is_refused(plan: Plan, network: Any, images: Any) -> None:
    with pytest.raises(BudgetError, match="this plan reaches 0 to"):
        plan.candidate(total=0.999)
    with pytest.raises(SettingsError, match="can be"):
        plan.macs({**plan.full, plan.variables[0].name: 10**6})
    with pytest.raises(SettingsError, match="selection"):
        amc.prepare(network, "mixed", calibration=[images[0][:100]], pruning={"selection": "best"})
    for setting in ({"steps": 2}, {"swap_polish": True}):
        with pytest.raises(SettingsError, match="makes its network alone"):
            amc.prepare(network, "mixed", calibration=images[0], pruning=setting)


def test_rounding_holds_for_the_channels_of_pruned_and_decomposed_layers(network: Any, images: Any) -> None:
    """`round_to` is of channels: where a layer is decomposed, of those that it reads and gives; its ranks are free."""
    plan = amc.prepare(network, "mixed", calibration=[images[0][:400]], seed=0, pruning={"round_to": 8})
    pruned, ranks = 0, set()
    for candidate in [plan.candidate(total=total) for total in (0.5, 0.7)] + list(candidates(plan, 6)):
        result = plan.apply(candidate, refit=False)
        pruned += sum(len(kept) < 16 for kept in result.kept.values())
        assert all(len(kept) % 8 == 0 for name, kept in result.kept.items() if name != "stem")
        chains: dict[str, list[nn.Module]] = {}
        for name in result.network.layer_names:
            layer = result.network.layer(name)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                chains.setdefault(name.partition(".")[0], []).append(layer)
        for name, chain in chains.items():
            inner = [_widths(one)[1] for one in chain[:-1]]
            ranks |= set(inner)
            assert name == "stem" or _widths(chain[0])[0] % 8 == 0, (name, candidate)
            assert name == "classes" or _widths(chain[-1])[1] % 8 == 0, (name, candidate)
    assert pruned >= 4 and any(rank % 8 for rank in ranks)


def _widths(layer: Any) -> tuple[int, int]:
    """Channels that it reads, and that it makes."""
    return (layer.in_channels, layer.out_channels) if isinstance(layer, nn.Conv2d) else (layer.in_features, layer.out_features)
