"""Recipes: what is wrong with one is said at once; a run goes on where it stopped; another recipe is kept out."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import amc_plugins as amc
from amc_plugins.core import pipeline
from amc_plugins.core.errors import CheckFailed, RecipeError
from amc_plugins.core.recipe import Recipe, read_recipe, resolved
from amc_plugins.core.report import write_report
from amc_plugins.core.results import read_results
from amc_plugins.core.toml_text import toml_text
from amc_plugins.plugin import hookimpl
from tests.work_files import recipe

WRONG = """
folder = "run"
rouns = 2
seed = -1
observers = ["tensorbord"]

[network]
source = "model.py:net"

[data]
train = "data.py"
validaton = "data.py:validation"

[compress]
method = "lowrnk"
total = 0.5
ratio = 0.5

[train]
method = "supervised"
[train.settings]
epoch = 3
momentum = 2

[export.vnmodel]
settings = { model_di = 3 }
[export.onnix]
"""


def test_every_problem_is_reported_at_once_with_its_path_and_the_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(WRONG)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    text = str(caught.value)
    for words in (
        "rouns: unknown name; did you mean `rounds`?",
        "seed: input should be greater than or equal to 0 (given -1)",
        "observers: there is no observer `tensorbord`; did you mean `tensorboard`?",
        "network: `input` is needed to capture the network",
        "data.train: expected `package.module:factory` or `file.py:factory` (given 'data.py')",
        "data.validaton: unknown name; did you mean `validation` or `calibration`?",
        "compress: exactly one of `total`, `ratio` and `ratios` is needed, given: total, ratio",
        "compress: there is no compressor `lowrnk`; did you mean `lowrank`?",
        "train.settings.epoch: unknown name; did you mean `epochs`?",
        "train.settings.momentum: input should be less than 1 (given 2)",
        "export.vnmodel.settings.model_di: unknown name; did you mean `model_id` or `model_base_size_hw`?",
        "export.onnix: there is no exporter `onnix`",
    ):
        assert words in text, text
    assert len(text.splitlines()) == 13, text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"validation": "data.py:validation"}, "train": None}, "`data.calibration` or `data.train` is needed"),
        ({"data": {"calibration": "data.py:inputs"}}, "`data.train` is needed to retrain"),
        (
            {"floor": {"accuracy": 0.5}, "data": {"train": "data.py:train"}},
            "`data.validation` is needed to check `floor.accuracy`",
        ),
        ({"tune": {"method": "random"}, "compress": {"method": "lowrank", "ratio": 0.5}}, "`compress.total` is needed to tune"),
        ({"compress": {"method": "lowrank", "total": 1.0}}, "compress.total: input should be less than 1"),
        (
            {"compress": {"method": "lowrank", "total": 0.5, "settings": {"compress_ratio": 0.5}}},
            "`settings.compress_ratio` says what `ratio` and `ratios` of this section say",
        ),
        (
            {"compress": {"method": "lowrank", "ratio": 0.5, "budget": "latency"}},
            '`budget = "latency"` needs `total`; `ratio` is a share of MACs',
        ),
        ({"compress": {"method": "lowrank", "total": 0.5, "budget": "watts"}}, "compress.budget"),
        ({"floor": {"accuracy": 97}}, "floor.accuracy: input should be less than or equal to 1 (given 97)"),
    ],
)
def test_what_does_not_fit_together(here: Path, changes: dict[str, Any], words: str) -> None:
    plain = {**tomllib.loads(recipe(here).read_text()), **changes}
    path = here / "changed.toml"
    path.write_text(toml_text(plain))
    with pytest.raises(RecipeError, match=r"is not a valid recipe") as caught:
        read_recipe(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("a = [1", "is not TOML"), (None, "cannot be read"), ("folder = 3\n[compress", "is not TOML")]
)
def test_what_is_no_recipe(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_recipe(path)


def test_overrides_take_the_files_place(here: Path) -> None:
    path = recipe(here)
    given = read_recipe(path, {"compress.total": 0.3, "train.settings.epochs": 7, "floor.accuracy": 0.5, "title": "x"})
    assert given.compress.total == 0.3 and given.train is not None and given.floor is not None
    assert given.train.settings == {"epochs": 7, "learning_rate": 0.02}
    assert (given.floor.accuracy, given.title) == (0.5, "x")
    with pytest.raises(RecipeError, match=r"train.settings.epoch: unknown name"):
        read_recipe(path, {"train.settings.epoch": 7})
    with pytest.raises(RecipeError, match=r"`title.more` cannot be set: `title` is not a table"):
        read_recipe(path, {"title.more": 7})


def test_a_recipe_with_its_defaults_is_the_same_recipe(here: Path) -> None:
    given = read_recipe(recipe(here, more="[export.vnmodel]\nsettings = { model_id = 3 }\n[tune]\nmethod = 'random'\n"))
    filled = resolved(given)
    assert filled["train"]["settings"]["momentum"] == 0.9 and filled["tune"]["settings"]["from_allocations"] is True
    path = here / "filled.toml"
    path.write_text(toml_text(filled))
    again = read_recipe(path)
    assert resolved(again) == filled
    assert again.export["vnmodel"].settings["model_id"] == 3


# --- running ---


class Told:
    """An observer that may stop the run."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[int] = []
        self.ended: list[BaseException | None] = []
        self.written: list[str] = []
        self.stop_after = stop_after

    @hookimpl
    def amc_epoch_ended(self, epoch: int) -> None:
        self.epochs.append(epoch)
        if epoch == self.stop_after:
            raise KeyboardInterrupt

    @hookimpl
    def amc_artifact_written(self, path: Path) -> None:
        self.written.append(path.name)

    @hookimpl
    def amc_run_ended(self, error: BaseException | None) -> None:
        self.ended.append(error)


def figures(folder: Path) -> list[dict[str, Any]]:
    """What a run's results say, without times."""
    steps = json.loads((folder / "results.json").read_text())["steps"]
    return [{key: value for key, value in step.items() if key != "seconds"} for step in steps]


def test_a_run_leaves_its_results(here: Path) -> None:
    told = Told()
    path = recipe(here, more="[floor]\naccuracy = 0.2\n[export.pkl]\n[export.json]\npath = 'deep/net'\n")
    result = amc.run(path, observers=[told])
    assert [step["name"] for step in result.steps] == ["capture", "round1-compress", "round1-train", "export"]
    assert [path.name for path in result.files] == ["network.pkl", "net.json", "report.html"]
    assert result.steps[-1]["files"][1]["path"] == "deep/net.json"
    assert told.epochs == [1, 2] and told.ended == [None]
    assert {"network.pkl", "net.json", "report.html"} <= set(told.written)
    results = read_results(here / "run")
    before, smaller, retrained = results.networks
    assert before.macs is not None and smaller.macs == retrained.macs and smaller.macs is not None
    assert smaller.macs <= 0.6 * before.macs and smaller.detail["removed"] >= 0.4
    assert set(retrained.accuracy) == {"validation", "test"} and retrained.detail["epochs"] == 2
    assert amc.profile(amc.load(here / "run" / "network.pkl")).total_macs == retrained.macs
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(amc.load(here / "run" / "deep" / "net.json").eval()(x), result.network.eval()(x))


def test_a_run_within_a_budget_of_parameters_by_a_search(here: Path) -> None:
    path = recipe(here, method="pruning", more="[tune]\nmethod = 'random'\nevaluations = 4\n")
    path.write_text(path.read_text().replace("total = 0.4", 'total = 0.4\nbudget = "parameters"'))
    amc.run(path)
    results = read_results(here / "run")
    before, smaller, _ = results.networks
    detail = smaller.detail
    assert before.parameters is not None and smaller.parameters is not None
    assert smaller.parameters <= 0.6 * before.parameters
    assert (detail["budget"]["counts"], detail["budget"]["before"]) == ("parameters", before.parameters)
    assert detail["budget"]["after"] == smaller.parameters
    search = detail["search"]
    assert (search["budget"], search["total"], len(search["evaluations"])) == ("parameters", 0.4, 4)
    assert set(search["baselines"]) == set(search["gains"]) == {"allocation", "uniform"} and search["confirmed"]
    page = (here / "run" / "report.html").read_text()
    assert "gained over it" in page and "Score against parameters" in page
    (here / "run" / "report.html").unlink()
    assert write_report(here / "run").read_text() == page, "the report is made again from the folder"


def test_rounds_go_on_from_one_another(here: Path) -> None:
    path = recipe(here, more="[export.pkl]\n")
    amc.run(path, overrides={"rounds": 2, "compress.total": 0.25, "report": False, "train.settings.epochs": 1})
    sizes = [step.macs for step in read_results(here / "run").networks]
    assert len(sizes) == 5 and all(size is not None for size in sizes)
    full, first, _, second, _ = (size or 0 for size in sizes)
    assert first <= 0.75 * full and 0.6 * first < second <= 0.75 * first


def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_results(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(here, more="[tune]\nmethod = 'random'\nevaluations = 4\n[export.pkl]\n")
    straight = amc.run(path, overrides={"folder": "straight", "report": False})
    changes: dict[str, Any] = {"folder": "pieces", "report": False}

    compressed = pipeline._Runner.compressed

    def killed(self: Any, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline._Runner, "compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        amc.run(path, overrides=changes)
    assert pipeline.done_before(read_recipe(path, changes), here) == ["capture"]
    monkeypatch.setattr(pipeline._Runner, "compressed", compressed)
    stopped = Told(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        amc.run(path, overrides=changes, observers=[stopped])
    assert isinstance(stopped.ended[0], KeyboardInterrupt)
    assert pipeline.done_before(read_recipe(path, changes), here) == ["capture", "round1-compress"]
    monkeypatch.setattr(pipeline._Runner, "compressed", killed)  # it is not needed any more
    told = Told()
    pieces = amc.run(path, overrides=changes, observers=[told])
    assert told.epochs == [2]
    assert figures(here / "pieces") == figures(here / "straight")
    for key, value in straight.network.state_dict().items():
        assert torch.equal(value, pieces.network.state_dict()[key])

    monkeypatch.setattr(pipeline._Runner, "trained", killed)
    again = amc.run(path, overrides=changes)
    assert figures(here / "pieces") == figures(here / "straight")
    assert [step["name"] for step in again.steps] == [step["name"] for step in pieces.steps]


def test_the_run_of_another_recipe_is_refused(here: Path) -> None:
    path = recipe(here, more="")
    amc.run(path, overrides={"train": None, "report": False})
    before = figures(here / "run")
    with pytest.raises(RecipeError, match=r"holds the run of another recipe: compress.total, seed differ") as caught:
        amc.run(path, overrides={"train": None, "report": False, "compress.total": 0.3, "seed": 1})
    assert "another `folder`" in (caught.value.hint or "")
    torch.save({key: value + 1 for key, value in torch.load(here / "net.pt", weights_only=True).items()}, here / "net.pt")
    with pytest.raises(RecipeError, match=r"holds a run from before net.pt changed"):
        amc.run(path, overrides={"train": None, "report": False})
    assert figures(here / "run") == before


def test_exports_and_the_floor_may_change_in_a_finished_run(here: Path) -> None:
    path = recipe(here)
    off = {"train": None, "report": False}
    amc.run(path, overrides=off)
    amc.run(path, overrides={**off, "export.vnmodel": {}, "title": "Another", "floor.accuracy": 0.1})
    assert (here / "run" / "network.vnmodel").is_file()
    with pytest.raises(CheckFailed, match=r"validation accuracy is 0\.\d+, below the floor of 1") as caught:
        amc.run(path, overrides={**off, "floor.accuracy": 1.0})
    assert caught.value.exit_code == 1


def test_what_a_run_left_is_checked(here: Path) -> None:
    path = recipe(here)
    off = {"train": None, "report": False}
    amc.run(path, overrides=off)
    whole = (here / "run" / "round1-compress.pt").read_bytes()
    (here / "run" / "round1-compress.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(amc.AmcError, match=r"round1-compress.pt` is damaged") as caught:
        amc.run(path, overrides=off)
    assert "the step will be done again" in (caught.value.hint or "")
    (here / "run" / "round1-compress.pt").unlink()
    before = figures(here / "run")
    amc.run(path, overrides=off)
    assert figures(here / "run") == before
    (here / "run" / "results.json").write_text("{")
    with pytest.raises(RecipeError, match=r"results.json` is damaged"):
        amc.run(path, overrides=off)


def test_a_validated_recipe_runs_too(here: Path) -> None:
    plain = tomllib.loads(recipe(here).read_text())
    plain["train"], plain["report"] = None, False
    result = amc.run(Recipe.model_validate(plain), base=here)
    assert result.folder == here / "run" and len(result.steps) == 3
