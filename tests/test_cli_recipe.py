"""`amc recipe init`: complete by construction, valid as it is, and what it writes runs on the digits. `amc run --dry-run`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from amc_plugins.core.recipe import ExportSection, Recipe, checked, read_recipe, resolved
from amc_plugins.core.registry import registry
from tests.work_files import Command, recipe

ALL = ("--compressor", "pruning", "--tuner", "random", "--trainer", "supervised", "--export", "pkl", "--export", "vnmodel")
YOURS = (
    "--set",
    "network.source=model.py:net",
    "--set",
    "network.weights=net.pt",
    "--set",
    "network.input=[1, 1, 8, 8]",
    "--set",
    "data.calibration=data.py:inputs",
    "--set",
    "compress.total=0.4",
)


def test_every_step_and_every_setting_is_there_with_its_meaning(here: Path, amc_: Command) -> None:
    code, text, _ = amc_("recipe", "init", "-", *ALL)
    assert code == 0
    models: list[tuple[type[BaseModel], set[str]]] = [
        (Recipe, {"network", "data", "compress", "tune", "train", "floor", "export"}),
        (ExportSection, {"settings"}),
    ]
    models += [
        (registry().spec(kind, name).settings, set())  # type: ignore[attr-defined]
        for kind, name in (
            ("compressors", "pruning"),
            ("tuners", "random"),
            ("trainers", "supervised"),
            ("exporters", "vnmodel"),
        )
    ]
    for section in ("network", "data", "compress", "tune", "train", "floor"):
        annotation = Recipe.model_fields[section].annotation
        candidates = (annotation, *get_args(annotation))
        models += [(one, {"settings"}) for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
    assert len(models) == 12
    for model, apart in models:
        for name, one in model.model_fields.items():
            if name in apart:
                continue
            assert re.search(rf"^(#?{name} = |# {name}: not set by default)", text, flags=re.MULTILINE), (model, name)
            words = " ".join((one.description or "").split()[:5])
            assert words in " ".join(text.replace("\n# ", " ").split()), (model, name)


def test_what_is_commented_out_are_the_defaults(here: Path, amc_: Command) -> None:
    """Taking the `#` from every default changes nothing; examples are marked and left alone."""
    assert amc_("recipe", "init", "short.toml", *ALL)[0] == 0
    text = (here / "short.toml").read_text()
    section, lines = "", []
    for line in text.splitlines():
        section = line if line.startswith(("[", "#[")) else section
        default = re.match(r"#\w+ = ", line) and not section.startswith("#") and "# an example" not in line
        lines.append(line[1:] if default else line)
    (here / "full.toml").write_text("\n".join(lines))
    assert sum(a != b for a, b in zip(lines, text.splitlines(), strict=True)) > 40
    assert resolved(read_recipe(here / "full.toml")) == resolved(read_recipe(here / "short.toml"))


@pytest.mark.parametrize("method", sorted(one.name for one in registry().specs("compressors")))
@pytest.mark.parametrize("trainer", [None, *sorted(one.name for one in registry().specs("trainers"))])
def test_it_is_a_recipe_for_every_plugin(amc_: Command, method: str, trainer: str | None) -> None:
    code, text, _ = amc_("recipe", "init", "-", "--compressor", method, *(("--trainer", trainer) if trainer else ()))
    assert code == 0
    read = checked(tomllib.loads(text), "it")
    assert read.compress.method == method and (read.train.method if read.train else None) == trainer
    assert read.tune is None and read.floor is None and set(read.export) == {"json", "pkl", "vnmodel"}


def test_filled_in_it_runs_on_the_digits(here: Path, amc_: Command) -> None:
    more = ("--set", "data.train=data.py:train", "--set", "data.validation=data.py:validation")
    more += ("--set", "train.settings.epochs=1", "--set", "tune.evaluations=3", "--set", "floor.accuracy=0.2")
    code, out, err = amc_("recipe", "init", *ALL, *YOURS, *more)
    assert (code, out) == (0, "recipe.toml\n") and "amc run recipe.toml --dry-run" in err
    code, out, _ = amc_("run", "recipe.toml", "--dry-run")
    assert code == 0 and "3 candidates by random" in out
    code, out, err = amc_("run", "recipe.toml", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [step["name"] for step in found["steps"]] == ["capture", "round1-compress", "round1-train", "export"]
    assert found["steps"][1]["macs"] <= 0.6 * found["steps"][0]["macs"]
    assert (here / "runs" / "compressed" / "network.vnmodel").is_file()


def test_nothing_is_overwritten_and_wrong_names_are_refused(here: Path, amc_: Command) -> None:
    (here / "recipe.toml").write_text("mine")
    code, _, err = amc_("recipe", "init")
    assert code == 2 and "`recipe.toml` is there already; nothing is overwritten" in err
    assert (here / "recipe.toml").read_text() == "mine"
    for arguments, words in (
        (("--compressor", "lowrnk"), "did you mean `lowrank`"),
        (("--export", "vnmodl"), "did you mean `vnmodel`"),
        (("--set", "compress.totl=0.3"), "did you mean `compress.total`"),
        (("--set", "compress.settings.schme=auto"), "did you mean `compress.settings.scheme`"),
        (("--set", "compress.total=3"), "compress.total: input should be less than 1"),
    ):
        code, out, err = amc_("recipe", "init", "other.toml", *arguments)
        assert (code, out) == (2, "") and words in err, err
    assert not (here / "other.toml").exists()


# --- amc run --dry-run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(here: Path, amc_: Command) -> None:
    path = recipe(here, more="[export.pkl]\n[floor]\naccuracy = 0.5\n")
    before = sorted(here.rglob("*"))
    code, out, _ = amc_("run", str(path), "--dry-run", "--json", "--set", "rounds=2")
    assert code == 0
    steps = {one["name"]: one["does"] for one in json.loads(out)["steps"]}
    compresses = ["round1-compress", "round2-compress"]
    assert list(steps) == ["capture", compresses[0], "round1-train", compresses[1], "round2-train", "export", "report", "floor"]
    assert steps["capture"] == "model.py:net: 53 layers, 104,864 MACs, 11,302 parameters"
    assert all(steps[name].endswith("total 0.4 of macs, fitted on data.py:inputs; within reach") for name in compresses)
    assert steps["export"] == "pkl to run/network.pkl"
    assert [one for one in sorted(here.rglob("*")) if "__pycache__" not in one.parts] == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["compress.total=0.99"], "compress: `total` = 0.99 of the MACs cannot be removed: this plan reaches 0 to 0.9"),
        (["data.train=data.py:trian"], "data.train: `data.py` has no `trian`; did you mean `train`"),
        (["network.source=model.py:nett"], "network: `model.py` has no `nett`; did you mean `net`"),
        (["network.weights=none.pt"], "network: there is no checkpoint `"),
        (["data.calibration=model.py:table"], "data.calibration: item 0 of the calibration data (str) starts with a str"),
        (["data.test=data.py:inputs"], "data.test: item 0 of the labelled data is no (input, labels) pair"),
        (["network.input=[1, 3, 8, 8]"], "network: "),
        (["export.pkl.path=net.txt"], "export.pkl: `pkl` writes .pkl, given was `net.txt`"),
        (["folder=model.py"], "folder: `"),
        (["compress.total=0.99", "data.train=none.py:x", "folder=model.py"], "data.train: there is no file `"),
    ],
)
def test_a_dry_run_finds_what_would_fail(here: Path, amc_: Command, changes: list[str], words: str) -> None:
    path = recipe(here, more="[export.pkl]\n")
    code, out, err = amc_("run", str(path), "--dry-run", *(part for one in changes for part in ("--set", one)))
    assert (code, out) == (2, "")
    assert "error: the recipe is valid, but the run would fail:\n" in err and words in err
    assert not (here / "run").exists()


def test_a_dry_run_of_a_run_that_was_begun(here: Path, amc_: Command) -> None:
    path = recipe(here)
    changes = ("--set", "report=false", "--set", "train.settings.epochs=1")
    assert amc_("run", str(path), *changes)[0] == 0
    code, out, _ = amc_("run", str(path), *changes, "--dry-run", "--json")
    assert code == 0
    done = {one["name"]: one["done"] for one in json.loads(out)["steps"]}
    assert done == {"capture": True, "round1-compress": True, "round1-train": True}
    code, _, err = amc_("run", str(path), *changes, "--dry-run", "--set", "compress.total=0.3")
    assert code == 2 and "holds the run of another recipe: compress.total differ" in err
