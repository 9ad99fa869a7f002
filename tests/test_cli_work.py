"""`amc compress|tune|train`: what they leave, how they go on after Ctrl-C, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import amc_plugins as amc
from amc_plugins.cli.search_bar import SearchBar
from tests.fake_times import FakeTimer
from tests.work_files import Command, recipe

CALIBRATION = ("--calibration", "data.py:inputs")


def total(path: str) -> int:
    return amc.profile(amc.load(path)).total_macs


# --- compress ---


@pytest.mark.parametrize("method", ["lowrank", "pruning"])
def test_compress_removes_what_was_asked(here: Path, amc_: Command, method: str) -> None:
    code, out, err = amc_("compress", "net.pkl", method, *CALIBRATION, "--total", "0.4", "-o", "small.pkl", "-o", "small.json")
    assert code == 0, err
    before, after = total("net.pkl"), total("small.pkl")
    assert after <= 0.6 * before
    assert out.splitlines()[-1].split() == ["network", f"{before:,}", f"{after:,}", f"{1 - after / before:.1%}"]
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(amc.load("small.pkl").eval()(x), amc.load("small.json").eval()(x))


def test_compress_prints_one_document(here: Path, amc_: Command) -> None:
    arguments = ("--ratios", "layer3.1.*=0.5", "--ratios", "layer2.0.conv2=0.3", "--set", "solver=svd", "--no-refit", "--json")
    code, out, err = amc_("compress", "net.pkl", "--compressor", "lowrank", *CALIBRATION, *arguments)
    found = json.loads(out)
    assert (code, err, found["schema"], found["method"]) == (0, "", 1, "lowrank")
    changed = {layer["name"]: 1 - layer["macs_after"] / layer["macs_before"] for layer in found["layers"] if layer["change"]}
    assert list(changed) == ["layer2.0.conv2", "layer3.1.conv1", "layer3.1.conv2"]
    assert changed["layer2.0.conv2"] >= 0.3 and min(list(changed.values())[1:]) >= 0.5
    assert found["macs_before"] == total("net.pkl")
    assert found["removed"] == pytest.approx(1 - found["macs_after"] / found["macs_before"])


def test_compress_within_a_budget_of_parameters(here: Path, amc_: Command) -> None:
    command = ("compress", "net.pkl", "pruning", *CALIBRATION, "--total", "0.5", "--budget", "parameters")
    code, out, err = amc_(*command, "-o", "small.pkl")
    assert code == 0, err
    before, after = (amc.profile(amc.load(path)).total_parameters for path in ("net.pkl", "small.pkl"))
    assert out.splitlines()[-1] == f"parameters: {before:,} -> {after:,} parameters, {1 - after / before:.1%} removed"
    assert 0.48 * before < after <= 0.5 * before
    code, out, err = amc_(*command, "--json")
    assert json.loads(out)["budget"]["after"] == after


def test_compress_takes_the_source_systems_setting(here: Path, amc_: Command) -> None:
    setting = 'compress_ratio={"layer3.*" = 0.4}'
    code, _, err = amc_("compress", "net.pkl", "lowrank", *CALIBRATION, "--set", setting, "-o", "small.pkl")
    assert code == 0, err
    assert total("small.pkl") < total("net.pkl")


def test_compress_captures_a_model(here: Path, amc_: Command) -> None:
    source = ("model.py:net", "--network-set", "width=4", "--weights", "net.pt", "--input", "1x1x8x8")
    code, out, _ = amc_("compress", *source, "lowrank", *CALIBRATION, "--ratio", "0.5", "--json")
    _, again, _ = amc_("compress", "net.pkl", "lowrank", *CALIBRATION, "--ratio", "0.5", "--json")
    assert code == 0
    assert json.loads(out)["layers"] == json.loads(again)["layers"]


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (("lowrank", *CALIBRATION), "exactly one of --total, --ratio and --ratios is needed, given: none", "--total 0.5"),
        (("lowrank", *CALIBRATION, "--total", "0.5", "--ratio", "0.5"), "given: --total, --ratio", None),
        (("lowrank", *CALIBRATION, "--ratio", "0.5", "-s", "compress_ratio=0.5"), "given: --ratio, --set compress_ratio", None),
        ((*CALIBRATION, "--total", "0.5"), "no compressor is given", "amc plugins list"),
        (("lowrnk", *CALIBRATION, "--total", "0.5"), "did you mean `lowrank`", None),
        (("lowrank", "--compressor", "pruning", *CALIBRATION, "-t", "0.5"), "two compressors are given", None),
        (("lowrank", "--total", "0.5"), "--calibration", "amc compress --help"),
        (("lowrank", "-c", "data.py:inptus", "--total", "0.5"), "did you mean `inputs`", None),
        (("lowrank", *CALIBRATION, "--total", "1.5"), "`total` is the share to remove", None),
        (("lowrank", *CALIBRATION, "--total", "0.9999"), "this plan reaches 0 to", None),
        (("lowrank", *CALIBRATION, "-t", "0.9999", "--budget", "parameters"), "of the parameters cannot be removed", None),
        (
            ("pruning", *CALIBRATION, "-t", "0.9999", "--budget", "activations"),
            "memory cannot be removed: this plan reaches",
            None,
        ),
        (("lowrank", *CALIBRATION, "-t", "0.5", "--budget", "latncy"), "did you mean `latency`", None),
        (("lowrank", *CALIBRATION, "-r", "0.5", "--budget", "latency"), "a budget of measured latency needs `total`", None),
        (("lowrank", *CALIBRATION, "-t", "0.5", "--budget", "latency", "--batch", "0"), "`batch` must be at least 1", None),
        (("lowrank", *CALIBRATION, "--ratios", "layer9.*=0.5"), "`layer9.*` in `ratios` matches no layer", None),
        (("lowrank", *CALIBRATION, "--ratios", "layer1.*=half"), "the share is a number", None),
        (("lowrank", *CALIBRATION, "-t", "0.5", "-s", "sovler=svd"), "sovler: unknown name; did you mean `solver`", None),
        (("lowrank", *CALIBRATION, "-t", "0.5", "-s", "choices=1", "-s", "ridge=-1"), "ridge: input should be", None),
        (("lowrank", *CALIBRATION, "-t", "0.5", "-o", "a.onnxx"), "no installed exporter writes `.onnxx`", None),
        (("lowrank", *CALIBRATION, "-t", "0.5", "--allocation", "even"), "`allocation` must be `curves` or `uniform`", None),
        (("lowrank", *CALIBRATION, "-t", "half"), "--total", "amc compress --help"),
    ],
)
def test_compress_refuses_with_the_way_out(
    here: Path, amc_: Command, arguments: tuple[str, ...], words: str, hint: str | None
) -> None:
    code, out, err = amc_("compress", "net.pkl", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and words in err, err
    assert "Traceback" not in err
    if hint is not None:
        assert hint in err.partition("\nhint: ")[2]


def test_a_network_that_cannot_be_written_is_refused_before_the_work(here: Path, amc_: Command) -> None:
    source = ("model.py:odd", "--input", "1x1x8x8")
    code, _, err = amc_("compress", *source, "lowrank", "-c", "data.py:no_such_data", "-t", "0.5", "-o", "small.pkl")
    assert code == 2 and "no handler covers" in err and "no_such_data" not in err


def test_what_happens_is_logged_when_asked_for(here: Path, amc_: Command) -> None:
    code, _, err = amc_("-v", "compress", "net.pkl", "lowrank", *CALIBRATION, "--ratio", "0.5", "-o", "small.pkl")
    assert code == 0
    assert "info: layer3.1.conv1: error " in err
    code, out, err = amc_("-q", "compress", "net.pkl", "lowrank", *CALIBRATION, "--ratio", "0.5", "-o", "small.pkl")
    assert (code, err) == (0, "") and out


# --- tune ---

TUNE = ("tune", "net.pkl", "lowrank", "--tuner", "random", *CALIBRATION, "--total", "0.4", "--folder", "search")


def test_a_search_goes_on_after_ctrl_c(here: Path, amc_: Command) -> None:
    arguments = (*TUNE, "--evaluations", "5", "--evaluate", "score.py:stopped")
    code, out, err = amc_(*arguments, "-o", "best.pkl")
    assert (code, out) == (130, "") and not (here / "best.pkl").exists()
    assert "error: interrupted" in err and "hint: the scores so far are in search; the same command goes on" in err
    assert len((here / "calls").read_text()) == 3
    code, out, err = amc_(*arguments, "-o", "best.pkl", "--json")
    assert code == 0, err
    assert len((here / "calls").read_text()) == 3 + 3  # two were scored before; the third was not finished
    found = json.loads(out)
    assert len(found["evaluations"]) == 5 and found["schema"] == 1
    code, out, err = amc_(*TUNE[:-1], "other", "--evaluations", "5", "--evaluate", "score.py:stopped", "--json")
    assert json.loads(out)["evaluations"] == found["evaluations"]
    assert total("best.pkl") == found["macs_after"] <= 0.6 * found["macs_before"]
    assert found["best"]["score"] == max(one["objectives"]["score"] for one in found["evaluations"])


def test_the_live_table_has_the_best_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, list[str], list[list[str]]]] = []

    @contextmanager
    def recorded(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        assert (description, total) == ("search", 7)
        yield lambda *now: shown.append(now)  # type: ignore[arg-type]
        shown.append(("gone", [], []))

    monkeypatch.setattr("amc_plugins.cli.render.live_table", recorded)
    with ExitStack() as stack:
        bar = SearchBar(7, stack)
        for number in range(1, 8):
            bar.amc_candidate_scored({"score": -abs(number - 4.25), "macs": 20_000.0 * number})
        assert len(shown) == 7
        bar.amc_run_ended()
        assert shown.pop() == ("gone", [], [])
    said, columns, rows = shown[-1]
    assert said == "search: 7 scored, best -0.25" and columns == ["candidate", "score", "macs"]
    assert [row[0] for row in rows] == ["4", "5", "3", "6", "2"] and rows[0] == ["4", "-0.25", "80,000"]


@pytest.mark.parametrize("budget", ["parameters", "latency"])
def test_a_front_within_any_budget(here: Path, amc_: Command, budget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the clock, a time for every entry: with a real one a busy machine may find nothing that is faster."""

    def entries(module: object, inputs: Sequence[Any], output: Any) -> float:
        return 1e-6 + 1e-9 * sum(one.numel() for one in (*inputs, output) if isinstance(one, torch.Tensor))

    monkeypatch.setattr("amc_plugins.core.latency.Stopwatch", lambda threads, device: FakeTimer(seconds=entries))
    monkeypatch.setenv("AMC_CACHE", str(here / "cache"))
    objectives = ("--tuner", "ga", "--tuner-set", 'objectives=["score", "latency"]', "--tuner-set", "population=4")
    command = ("tune", "net.pkl", "pruning", *CALIBRATION, *objectives, "--total", "0.001", "--folder", f"front-{budget}")
    code, out, err = amc_(*command, "--budget", budget, "--batch", "2", "--threads", "1", "-n", "5", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["budget"]["counts"] == budget and len(found["evaluations"]) == 5
    assert all(one["objectives"]["latency"] > 0.0 for one in found["evaluations"])
    assert (here / "cache" / "latency.sqlite").is_file()


def test_a_search_by_divergence(here: Path, amc_: Command) -> None:
    code, out, err = amc_(*TUNE, "-n", "3")
    assert code == 0, err
    assert "tuner               random\nobjective           divergence\ncandidates          3 scored" in out
    assert "nothing was written; -o names a file" in err
    code, _, err = amc_(*TUNE, "-n", "3", "--seed", "1")
    assert code == 2 and "holds another search" in err and "seed" in err


def test_a_search_leaves_a_report(here: Path, amc_: Command) -> None:
    code, out, err = amc_(*TUNE, "-n", "3")
    assert code == 0, err
    assert "report              search/report.html" in out
    written = (here / "search" / "report.html").read_text()
    assert "3 candidates by random" in written and "Score, higher is better" in written
    assert "Of the candidates of the plan itself allocation has" in written and "Result, changes marked" in written
    (here / "search" / "report.html").unlink()
    assert amc_("report", "search")[0] == 0 and (here / "search" / "report.html").read_text() == written
    code, out, err = amc_(*TUNE, "-n", "5", "--json")  # it goes on, and the report with it
    assert code == 0 and json.loads(out)["report"] == "search/report.html", err
    assert "5 candidates by random" in (here / "search" / "report.html").read_text()


@pytest.mark.needs("amc-training")
def test_a_search_tells_observers(here: Path, amc_: Command) -> None:
    code, _, err = amc_(*TUNE, "-n", "3", "--observer", "tensorboard")
    assert code == 0, err
    (events,) = (here / "search" / "tensorboard").iterdir()
    assert b"score" in events.read_bytes()
    code, _, err = amc_(*TUNE[:-1], "other", "-n", "3", "--observer", "tensorbord")
    assert code == 2 and "no observer `tensorbord`; did you mean `tensorboard`?" in err and not (here / "other").exists()


def test_a_search_and_a_run_keep_out_of_each_others_folders(here: Path, amc_: Command) -> None:
    path = recipe(here, run="search", more="")
    off = ("--set", "train.settings.epochs=1", "--set", "report=false")
    assert amc_("run", str(path), *off)[0] == 0
    kept = (here / "search" / "results.json").read_bytes()
    code, _, err = amc_(*TUNE, "-n", "3")
    assert code == 2 and "`search` holds the run of a recipe, not a search" in err
    assert (here / "search" / "results.json").read_bytes() == kept
    assert amc_(*TUNE[:-1], "other", "-n", "3")[0] == 0
    code, _, err = amc_("run", str(path), *off, "--set", "folder=other")
    assert code == 2 and "other` holds the run of another recipe" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--evaluate", "score.py:wrong"), "`score.py:wrong` failed: AttributeError"),
        (("--evaluate", "score.py:acuracy"), "did you mean `accuracy`"),
        (("--evaluate", "acuracy"), "`evaluate` is `divergence`, `accuracy` or a function"),
        (("--evaluate", "accuracy"), "needs labelled data"),
        (("--tuner", "randm"), "did you mean `random`"),
        (("--tuner-set", "warmup=3"), "warmup: unknown name"),
        (("--evaluations", "0"), "`evaluations` must be at least 1"),
        (("--total", "0.9999"), "this plan reaches 0 to"),
        (("--total", "0.9999", "--budget", "parameters"), "of the parameters cannot be removed: this plan reaches 0 to"),
    ],
)
def test_tune_refuses(here: Path, amc_: Command, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = amc_(*TUNE, *arguments)
    assert (code, out) == (2, "")
    assert words in err, err


# --- train ---

TRAIN = ("train", "net.pkl", "supervised", "--train", "data.py:train", "--set", "learning_rate=0.02")
HELD_OUT = ("--validation", "data.py:validation")


def test_train_leaves_the_best_epoch(here: Path, amc_: Command) -> None:
    code, out, err = amc_(*TRAIN, *HELD_OUT, "--set", "epochs=2", "--folder", "run", "-o", "better.pkl", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["schema"], found["epochs"], len(found["history"])) == (1, 2, 2)
    best = max(entry["val/accuracy"] for entry in found["history"])
    assert found["metrics"]["accuracy"] == best == found["history"][found["best_epoch"] - 1]["val/accuracy"]
    before, after = amc.load("net.pkl").state_dict(), amc.load("better.pkl").state_dict()
    assert before.keys() == after.keys() and any(not torch.equal(before[key], after[key]) for key in before)


def test_train_goes_on_from_its_folder(here: Path, amc_: Command) -> None:
    code, out, err = amc_(*TRAIN, *HELD_OUT, "--set", "epochs=1", "--set", "schedule=none", "--folder", "run")
    assert code == 0 and len(out.splitlines()) == 2
    assert "written nowhere but in the checkpoints of run; -o names a file" in err
    code, out, err = amc_("-v", *TRAIN, *HELD_OUT, "--set", "epochs=2", "-s", "schedule=none", "--folder", "run", "-o", "a.pkl")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["EPOCH", "1", "2"]
    assert err.count("info: epoch 2: ") == 1 and "epoch 1" not in err.replace("after epoch 1", "")
    code, _, err = amc_(*TRAIN, *HELD_OUT, "-s", "epochs=2", "-s", "schedule=none", "--folder", "other", "-o", "b.pkl")
    a, b = amc.load("a.pkl").state_dict(), amc.load("b.pkl").state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--teacher", "net.pkl"), "was given a teacher"),
        (("--set", "epoch=3"), "epoch: unknown name; did you mean `epochs`"),
        (("--set", "loss=mse", "--set", "label_smoothing=0.1"), "`label_smoothing` does nothing with `loss` 'mse'"),
        (("--validation", "data.py:valid"), "`data.py` has no `valid`"),
    ],
)
def test_train_refuses(here: Path, amc_: Command, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = amc_(*TRAIN, *arguments, "--folder", "run")
    assert (code, out) == (2, "")
    assert words in err, err
