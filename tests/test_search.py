"""Searches on a real network: what they report, what a candidate costs, what is confirmed, and how they go on."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch

import amc_plugins as amc
from amc_plugins.compression import Candidate, Plan
from amc_plugins.core.chance import LEAD_ERROR
from amc_plugins.core.labelled import Accuracy, Labelled
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.objectives import Divergence
from amc_plugins.core.runs import Run
from amc_plugins.core.scoring import Judge, Nearness
from amc_plugins.core.search import Search
from amc_plugins.core.store import EvaluationStore
from amc_plugins.plugin import BudgetError, SettingsError, hookimpl
from tests.digits_search import SETTINGS, digits, fitted_plan, searched


@pytest.fixture(scope="module")
def plan() -> Plan:
    return fitted_plan()


def tuned(plan: Plan, tuner: str = "random", **arguments: Any) -> Search:
    return amc.tune(plan, tuner, **{"total": 0.5, "evaluations": 8, **SETTINGS.get(tuner, {}), **arguments})


def trajectory(search: Search) -> list[tuple[Candidate, float]]:
    return [(one.candidate, one.score) for one in search.evaluations]


# --- what a search gives ---


@pytest.mark.parametrize("tuner", ["random", "annealing", "ga", "ddpg"])
def test_it_reports_what_it_gained_over_the_plans_own_candidates(plan: Plan, tuner: str) -> None:
    search = tuned(plan, tuner, evaluations=24)
    full = plan.macs(plan.full)
    assert len(search.evaluations) == 24 and len({one.candidate for one in search.evaluations}) == 24
    assert all(plan.macs(one.candidate) == one.objectives["macs"] <= 0.5 * full for one in search.evaluations)
    assert search.baselines["allocation"].candidate == plan.candidate(total=0.5)
    assert search.baselines["uniform"].candidate == plan.candidate(total=0.5, allocation="uniform")
    assert [one.candidate for one in search.evaluations[:2]] == [one.candidate for one in search.baselines.values()]
    unseen = {one.candidate: one.score for one in search.confirmed}
    assert search.best.confirmed is not None
    for name, gain in search.gains.items():
        assert gain == search.best.confirmed.score - unseen[search.baselines[name].candidate] >= 0.0
    best = search.best.network
    assert amc.profile(best).total_macs == search.best.evaluation.objectives["macs"]


def test_a_search_improves_on_the_plans_own_candidates(plan: Plan) -> None:
    """Never worse, and better where there is something to gain: the exact allocation may be the best there is at one total, and
    at which depends on how a processor rounds while the network is trained.
    """
    gained = []
    for total in (0.5, 0.7):
        search = tuned(plan, "ga", total=total, evaluations=60)
        best = max(one.score for one in search.evaluations)
        own = max(one.score for one in search.baselines.values())
        assert best >= own
        assert min(search.gains.values()) >= 0.0 and max(search.gains.values()) > 0.0
        gained.append(best > 0.98 * own)  # scores are negative: less divergence
    assert any(gained)


def test_single_candidates(plan: Plan) -> None:
    for name in ("uniform", "allocation"):
        search = tuned(plan, name)
        assert [one.candidate for one in search.evaluations] == [search.baselines[name].candidate]
        assert search.best.candidate == search.baselines[name].candidate and search.gains[name] == 0.0


def test_baselines_may_be_left_out(plan: Plan) -> None:
    search = tuned(plan, baselines=False, from_allocations=False, confirm=0)
    assert search.baselines == {} and search.gains == {} and search.confirmed == []
    assert search.evaluations[0].candidate not in (plan.candidate(total=0.5), plan.candidate(total=0.5, allocation="uniform"))
    assert search.best.score == max(one.score for one in search.evaluations)


def test_the_front(plan: Plan) -> None:
    search = tuned(plan, "ga", total=0.2, evaluations=60, population=20, objectives=("score", "macs"))
    front = search.front()
    assert len(front) >= 5
    assert all(a.objectives["macs"] < b.objectives["macs"] and a.score < b.score for a, b in itertools.pairwise(front))
    for one in search.evaluations:
        assert any(two.objectives["macs"] <= one.objectives["macs"] and two.score >= one.score for two in front)
    assert plan.removed(front[0].candidate) > 0.7 and plan.removed(front[-1].candidate) < 0.35


# --- what is maximised ---


def test_the_default_objective_is_the_divergence_on_a_part_of_the_data(plan: Plan) -> None:
    search = tuned(plan, evaluations=3, samples=300)
    seen, rest = plan.calibration.split(300)
    assert rest is not None and len(seen) == 300 and len(rest) == len(plan.calibration) - 300
    for one in search.evaluations:
        assert one.score == -Divergence(plan.network, seen)(plan.assemble(one.candidate))
        network = plan.assemble(one.candidate)
        assert one.objectives["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    for one in search.confirmed:
        assert one.score == -Divergence(plan.network, rest)(plan.assemble(one.candidate))


def test_accuracy_on_labelled_data(plan: Plan) -> None:
    images, labels = digits()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images[1400:], labels[1400:]), 50, shuffle=True)
    before = torch.get_rng_state()
    search = tuned(plan, evaluate="accuracy", data=loader, evaluations=4, samples=10_000)
    assert torch.equal(before, torch.get_rng_state())
    assert search.objective == "accuracy"
    again = tuned(plan, evaluate="accuracy", data=loader, evaluations=4, samples=10_000)
    assert trajectory(again) == trajectory(search)  # the split does not depend on the order of the loader
    for one in search.evaluations:
        assert 0.1 < one.score < 1.0 and one.score * 198 == pytest.approx(round(one.score * 198))  # half of 397
    assert [round(one.score * 199, 6) % 1 for one in search.confirmed] == [0.0] * len(search.confirmed)


def test_a_function_may_give_costs_beside_the_score(plan: Plan) -> None:
    def evaluate(network: ReconstructedNetwork) -> Mapping[str, float]:
        width = float(network.layer("0").out_channels)  # type: ignore[arg-type]
        return {"score": -abs(width - 7.0), "width": width}

    search = tuned(plan, "ga", evaluate=evaluate, objectives=("score", "width"), evaluations=20)
    assert search.best.evaluation.objectives["width"] == 7.0 and search.best.score == 0.0
    assert search.confirmed == [] and search.best.confirmed is None
    assert search.front("width")[0].objectives["width"] == min(one.objectives["width"] for one in search.evaluations)


def test_the_winner_is_the_best_on_unseen_data_and_confirmed_by_the_same_function(plan: Plan) -> None:
    def narrow(network: ReconstructedNetwork) -> float:
        return -float(network.layer("0").out_channels)  # type: ignore[arg-type]

    search = tuned(plan, evaluate=narrow, confirm_on=lambda network: -narrow(network), evaluations=12, confirm=2)
    ranked = sorted(search.evaluations, key=lambda one: -one.score)
    assert len(search.confirmed) == 4
    own = [*ranked[:2], *search.evaluations[:2]]  # the starts are the tuner's own evaluations here
    assert search.best.score == min(one.score for one in own)
    assert search.best.confirmed is not None and search.best.confirmed.score == -search.best.score


def test_the_samples_of_a_score_have_it_as_their_mean(plan: Plan) -> None:
    images, labels = digits()
    candidate = plan.candidate(total=0.5)
    for score in (Nearness(plan.network, plan.calibration), Accuracy(Labelled.of([(images, labels)]))):
        objectives, samples = Judge(plan, score).with_samples(candidate)
        assert objectives == Judge(plan, score)(candidate)
        assert samples is not None and samples.mean().item() == pytest.approx(objectives["score"], rel=1e-12)
        assert len(samples) == (len(plan.calibration) if isinstance(score, Nearness) else len(labels))
    function = Judge(plan, lambda network: -1.0).with_samples(candidate)
    assert function == ({**function[0], "score": -1.0}, None)


class Noisy:
    """Scores by a candidate's width, with a noise of the samples that does not change what their mean is."""

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def __call__(self, network: ReconstructedNetwork) -> float:
        return self.with_samples(network)[0]

    def with_samples(self, network: ReconstructedNetwork) -> tuple[float, torch.Tensor]:
        width = float(network.layer("0").out_channels)  # type: ignore[arg-type]
        wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
        return width, width + self.noise * width * wave


@pytest.mark.parametrize(("noise", "lucky"), [(0.1, False), (100.0, True)])
def test_a_baseline_gives_way_only_to_what_leads_by_more_than_chance(
    plan: Plan, tmp_path: Path, noise: float, lucky: bool
) -> None:
    score = Noisy(noise)
    search = tuned(plan, evaluate=score, confirm_on=score, evaluations=12, confirm=4, folder=tmp_path)
    better = max(search.baselines.values(), key=lambda one: one.score)
    widest = max(search.evaluations, key=lambda one: one.score)
    assert widest.score > better.score, "or this test shows nothing"
    wider = {one.candidate for one in search.confirmed if one.score > better.score}
    for one in search.confirmed:
        if one.candidate in wider:
            assert one.objectives[LEAD_ERROR] == pytest.approx(noise * (one.score - better.score) / 99**0.5)
    assert search.lucky() == (wider if lucky else set())
    assert search.best.candidate == (better.candidate if lucky else widest.candidate)
    assert min(search.gains.values()) == (0.0 if lucky else widest.score - better.score)
    with sqlite3.connect(tmp_path / "evaluations.sqlite") as database:  # as if it had been killed after the baselines
        for one in search.confirmed:
            if LEAD_ERROR in one.objectives:
                database.execute(
                    "DELETE FROM others WHERE purpose = 'confirm' AND candidate = ?",
                    [json.dumps(dict(one.candidate), sort_keys=True)],
                )
        left = database.execute("SELECT COUNT(*) FROM others WHERE purpose = 'confirm'").fetchone()
    database.close()
    assert left == (2,)
    again = tuned(plan, evaluate=score, confirm_on=score, evaluations=12, confirm=4, folder=tmp_path)
    assert again.confirmed == search.confirmed and again.best.candidate == search.best.candidate


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(plan: Plan, value: float) -> None:
    with pytest.raises(SettingsError, match="must be a finite number"):
        tuned(plan, evaluate=lambda network: value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"evaluate": "loss"}, "`divergence`, `accuracy` or a function"),
        ({"evaluate": "accuracy"}, "needs labelled data"),
        ({"evaluate": "accuracy", "data": [torch.zeros(2, 1, 8, 8)]}, "no \\(input, labels\\) pair"),
        ({"evaluate": lambda network: 0.0, "data": [1]}, "a function has data of its own"),
        ({"evaluate": lambda network: 0.0, "confirm_on": [1]}, "`confirm_on` is a function too"),
        ({"evaluate": lambda network: {"loss": 1.0}}, "`score` among them; given were \\['loss'\\]"),
        ({"evaluations": 0}, "`evaluations` must be at least 1"),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"samples": 0}, "`samples` must be at least 1"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_does_not_fit_is_refused(plan: Plan, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        tuned(plan, **arguments)


def test_an_infeasible_budget_is_refused_with_the_reachable_range(plan: Plan) -> None:
    with pytest.raises(BudgetError, match=f"reaches 0 to {plan.removed(plan.smallest):.4f}"):
        tuned(plan, total=0.9999)


def test_a_budget_of_parameters(plan: Plan) -> None:
    full = sum(parameter.numel() for parameter in plan.network.parameters())
    search = tuned(plan, "ga", budget="parameters", total=0.6, evaluations=20)
    for one in (*search.evaluations, *search.baselines.values()):
        exact = sum(parameter.numel() for parameter in plan.assemble(one.candidate).parameters())
        assert exact == one.objectives["parameters"] <= 0.4 * full
    assert max(one.objectives["parameters"] for one in search.evaluations) > 0.36 * full, "the budget is used"
    assert search.baselines["allocation"].score > search.baselines["uniform"].score
    with pytest.raises(BudgetError, match=r"cannot be removed: this plan reaches 0 to 0\.9"):
        tuned(plan, budget="parameters", total=0.9999)
    with pytest.raises(SettingsError, match="`budget` is one of macs, parameters"):
        tuned(plan, budget="watts")


# --- what a candidate costs ---


class Counted:
    """Counts what a search does to a plan and its networks."""

    def __init__(self, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        self.assembled = self.forwards = self.applied = 0
        assemble, apply, forward = type(plan).assemble, type(plan).apply, ReconstructedNetwork.forward

        def count_assemble(*arguments: Any) -> Any:
            self.assembled += 1
            return assemble(*arguments)

        def count_apply(*arguments: Any, **more: Any) -> Any:
            self.applied += 1
            return apply(*arguments, **more)

        def count_forward(*arguments: Any) -> Any:
            self.forwards += 1
            return forward(*arguments)

        monkeypatch.setattr(type(plan), "assemble", count_assemble)
        monkeypatch.setattr(type(plan), "apply", count_apply)
        monkeypatch.setattr(ReconstructedNetwork, "forward", count_forward)


def test_a_candidate_costs_one_assembly_and_one_pass(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counted = Counted(plan, monkeypatch)
    search = tuned(plan, "ga", evaluations=20, samples=512, folder=tmp_path)
    candidates = 20 + len(search.confirmed)
    chunks, unseen = 2, 4  # of 256 samples: 512 seen, 888 unseen
    assert counted.assembled == candidates
    assert counted.forwards == (1 + 20) * chunks + (1 + len(search.confirmed)) * unseen  # the original runs once on each part
    assert counted.applied == 0
    assert search.best.result.network is search.best.network
    assert counted.applied == 1
    counted.assembled = counted.forwards = 0
    again = tuned(plan, "ga", evaluations=20, samples=512, folder=tmp_path)
    assert trajectory(again) == trajectory(search) and again.confirmed == search.confirmed
    assert counted.assembled == 0 and counted.forwards == chunks + unseen


# --- going on ---


@pytest.mark.parametrize("tuner", ["random", "annealing", "ga", "ddpg"])
def test_a_search_in_pieces_is_the_search_in_one(plan: Plan, tuner: str, tmp_path: Path) -> None:
    whole = tuned(plan, tuner, evaluations=21)
    for count in (1, 2, 9, 21):
        pieces = tuned(plan, tuner, evaluations=count, folder=tmp_path)
    assert trajectory(pieces) == trajectory(whole)
    assert pieces.best.candidate == whole.best.candidate
    names = [variable.name for variable in plan.variables]
    assert sorted(names) != names, "the store sorts by name"
    assert {tuple(one.candidate) for one in (*pieces.evaluations, *pieces.confirmed)} == {tuple(names)}


@pytest.mark.parametrize("tuner", ["random", "annealing", "ga", "ddpg"])
def test_scores_after_the_last_state_are_told_again_and_not_scored_again(
    plan: Plan, tuner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(plan, tuner, evaluations=20, confirm=0)
    saved = EvaluationStore.save_state
    monkeypatch.setattr("amc_plugins.core.search._STATE_SHARE", 0)
    monkeypatch.setattr(
        EvaluationStore, "save_state", lambda self, state, told: saved(self, state, told) if told <= 7 else None
    )
    tuned(plan, tuner, evaluations=15, confirm=0, folder=tmp_path / "killed")
    monkeypatch.undo()
    with sqlite3.connect(tmp_path / "killed" / "evaluations.sqlite") as database:
        (text,) = database.execute("SELECT value FROM meta WHERE key = 'state'").fetchone()
        assert '"told": 7' in text
    database.close()
    counted = Counted(plan, monkeypatch)
    gone_on = tuned(plan, tuner, evaluations=20, folder=tmp_path / "killed", confirm=0)
    assert trajectory(gone_on) == trajectory(whole)
    assert counted.assembled == 5


def test_only_what_is_new_is_told_to_observers_and_duplicates_cost_nothing(plan: Plan, tmp_path: Path) -> None:
    seen: list[float] = []

    class Watch:
        @hookimpl
        def amc_candidate_scored(self, objectives: Mapping[str, float]) -> None:
            seen.append(objectives["score"])

    with Run("search", None, [Watch()]) as run:
        first = tuned(plan, "ddpg", run=run, evaluations=10, folder=tmp_path)
        assert seen == [one.score for one in first.evaluations]
        tuned(plan, "ddpg", run=run, evaluations=13, folder=tmp_path)
    assert len(seen) == 13


def test_another_search_is_refused_and_named(plan: Plan, tmp_path: Path) -> None:
    tuned(plan, evaluations=2, folder=tmp_path)
    for changed, words in (
        ({"seed": 1}, "seed"),
        ({"total": 0.4}, "total"),
        ({"samples": 100}, "data"),
        ({"evaluate": lambda network: 0.0}, "data, objective"),
        ({"from_allocations": False}, "settings"),
    ):
        with pytest.raises(SettingsError, match=f"another search: {words} differ"):
            tuned(plan, evaluations=2, folder=tmp_path, **changed)
    with EvaluationStore(tmp_path / "other.sqlite", {}), pytest.raises(SettingsError, match="another process is searching"):
        EvaluationStore(tmp_path / "other.sqlite", {})


# --- in processes ---


@pytest.mark.parametrize("tuner", ["random", "ga"])
def test_workers_change_nothing_but_the_time(plan: Plan, tuner: str, tmp_path: Path) -> None:
    images, _ = digits()
    first = images[:1]

    def evaluate(network: ReconstructedNetwork) -> float:  # a local function: it travels all the same
        with torch.no_grad():
            return -float((network(first) - 3.0).square().sum())

    alone = tuned(plan, tuner, evaluations=14, evaluate=evaluate)
    together = tuned(plan, tuner, evaluations=14, evaluate=evaluate, workers=2, folder=tmp_path)
    assert trajectory(together) == trajectory(alone)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".workers")] == []
    with sqlite3.connect(tmp_path / "evaluations.sqlite") as database:
        assert [place for (place,) in database.execute("SELECT position FROM evaluations ORDER BY 1")] == list(range(14))
    database.close()


REGISTERED = """
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.plugin import transparent


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


amc.register(transparent(Swish))
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), Swish(), nn.Conv2d(8, 8, 3), Swish(), nn.Flatten(), nn.Linear(128, 4)).eval()
images = torch.randn(64, 3, 8, 8)
plan = amc.prepare(amc.capture(model, images[:2]), "pruning", calibration=images)
scores = [
    [one.score for one in amc.tune(plan, "random", total=0.3, evaluations=6, seed=0, workers=count).evaluations]
    for count in (1, 2)
]
assert len(scores[0]) > 3 and scores[0] == scores[1], scores
assert "Swish" in {type(one).__name__ for one in plan.network.layers.values()}
print("equal")
"""


@pytest.mark.needs("amc-pruning")
def test_what_a_script_registers_is_known_to_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(REGISTERED, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip() == "equal", done.stderr


def test_another_engine_of_joblib(plan: Plan) -> None:
    """What a cluster is to joblib: a backend that the caller chooses. Here, threads."""
    alone = tuned(plan, "ga", evaluations=14)
    with joblib.parallel_config(backend="threading"):
        threads = tuned(plan, "ga", evaluations=14, workers=3)
    assert trajectory(threads) == trajectory(alone)


@pytest.mark.slow
def test_a_cluster_engine_of_joblib(plan: Plan) -> None:
    """Ray, on this machine. It is not installed with the project: `pip install ray`."""
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    alone = tuned(plan, "ga", evaluations=10)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        register_ray()
        with joblib.parallel_config(backend="ray"):
            cluster = tuned(plan, "ga", evaluations=10, workers=2)
    finally:
        ray.shutdown()
    assert trajectory(cluster) == trajectory(alone)


def test_what_cannot_travel_is_refused(plan: Plan) -> None:
    import threading

    lock = threading.Lock()

    def evaluate(network: ReconstructedNetwork) -> float:
        with lock:
            return 0.0

    with pytest.raises(SettingsError, match="cannot be sent to other processes"):
        tuned(plan, evaluate=evaluate, workers=2)


def test_judges_pickle_with_their_plan(plan: Plan) -> None:
    import pickle

    judge = Judge(plan, Nearness(plan.network, plan.calibration.subset(64)))
    candidate = plan.candidate(total=0.5)
    assert pickle.loads(pickle.dumps(judge))(candidate) == judge(candidate)


def test_the_program_of_the_kill_tests_is_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = searched(tmp_path, "random", 3, 0, 0.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ready" and len(lines) == 4
    assert str(search.evaluations[2].score) in lines[3]
