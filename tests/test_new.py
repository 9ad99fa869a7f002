"""`amc new`: what it writes installs, is listed, and passes its own tests, ruff and the conformance checks untouched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amc_plugins.cli.new import WHAT
from amc_plugins.core.scaffold import TEMPLATES, names_of, write_distribution
from amc_plugins.plugin import AmcError
from tests import environments
from tests.doc_blocks import Page
from tests.doc_pages import check_fences, given, run_page
from tests.environments import environment, install
from tests.work_files import Command

NEW = {
    "compressor": "big-filters",
    "tuner": "hill-climb",
    "trainer": "plain_sgd",
    "exporter": "np-archive",
    "layer-handler": "channel-gain",
    "observer": "csv-log",
}
Python = Callable[..., subprocess.CompletedProcess[str]]


def test_what_can_be_made_is_what_there_are_templates_for() -> None:
    assert tuple(TEMPLATES) == WHAT == tuple(NEW)


@pytest.mark.parametrize(
    ("what", "name", "problem"),
    [
        ("compresor", "x", r"no template `compresor`; did you mean `compressor`"),
        ("compressor", "Keep First", r"`Keep First` is no name for a plugin; did you mean `keep-first`"),
        ("compressor", "KeepFirst", r"did you mean `keep-first`"),
        ("compressor", "9lives", r"did you mean `lives`"),
        ("compressor", "a--b", r"did you mean `a-b`"),
        ("compressor", "../x", r"is no name for a plugin"),
        ("compressor", "lambda", r"cannot be the name of a module"),
        ("layer-handler", "layers", r"cannot be the name of a module"),
        ("compressor", "pruning", r"there is a compressor `pruning` already, of amc-pruning"),
        pytest.param(
            *("observer", "pruning", r"there is an installed package `amc_pruning` already"),
            marks=pytest.mark.needs("amc-pruning"),
        ),
        ("observer", "plugins", r"there is an installed package `amc_plugins` already"),
    ],
)
def test_names_that_would_not_work_are_refused(what: str, name: str, problem: str) -> None:
    with pytest.raises(AmcError, match=problem) as caught:
        names_of(what, name)
    assert caught.value.hint


def test_names_follow_from_the_one_that_users_type() -> None:
    assert names_of("exporter", "amc-np_archive") == {
        "name": "amc-np_archive",
        "distribution": "amc-np-archive",
        "package": "amc_np_archive",
        "ident": "amc_np_archive",
        "title": "AmcNpArchive",
        "suffix": ".amcnparchive",
    }


def test_nothing_is_overwritten(tmp_path: Path, amc_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "amc-csv-log" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    code, _, error = amc_("new", "observer", "csv-log")
    assert code == 2 and "is there already; nothing is overwritten" in error
    assert [one.name for one in mine.parent.iterdir()] == ["mine.txt"] == [one.name for one in tmp_path.rglob("*.txt")]
    code, out, _ = amc_("new", "observer", "csv-log", "--folder", "deep/er", "--json")
    assert code == 0
    content = json.loads(out)
    assert content["folder"] == "deep/er"
    assert all((tmp_path / "deep" / "er" / one).is_file() for one in content["files"])
    assert not list(tmp_path.rglob(".*")), "temporary files stay"


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEMPLATES, "observer", {**TEMPLATES["observer"], "use": "{no_such_name}"})
    with pytest.raises(KeyError):
        write_distribution("observer", "csv-log", tmp_path / "x")
    assert not list(tmp_path.iterdir())


# --- the six, installed into one environment --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all six distributions, and a virtual environment `venv` that has them beside this one's packages."""
    where = tmp_path_factory.mktemp("new")
    for what, name in NEW.items():
        write_distribution(what, name, where / f"amc-{name}")
    install(environment(where / "venv"), *(where / f"amc-{name}" for name in NEW.values()), editable=True)
    return where


@pytest.fixture
def run(folder: Path) -> Python:
    """The environment's interpreter."""
    return lambda *arguments, cwd=folder: environments.run(folder / "venv" / "bin" / "python", *arguments, folder=cwd)


def listed(run: Python) -> dict[str, dict[str, Any]]:
    done = run("-m", "amc_plugins", "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["plugins"]}


def test_they_are_listed(run: Python) -> None:
    found = listed(run)
    for what, name in NEW.items():
        assert found[name]["kind"] == TEMPLATES[what]["kind"]
        assert found[name]["distribution"] == "amc-" + name.replace("_", "-")
        assert found[name]["status"] == "available"


def test_they_pass_their_own_tests_and_conformance_checks(run: Python, folder: Path) -> None:
    """Nothing is skipped, nothing is a known exception, and warnings are errors."""
    tests = [str(one) for one in sorted(folder.glob("amc-*/tests"))]
    assert len(tests) == len(NEW)
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert not any(word in done.stdout for word in ("skipped", "xfailed", "warning")), done.stdout


@pytest.mark.parametrize("what", NEW)
def test_every_block_of_its_readme_runs(what: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process. `pytest`, one of the commands, has run in the test above, once for all six."""
    commands = []
    monkeypatch.setattr(Page, "_new_python", lambda page, *arguments: commands.append(arguments[:2]) or "")
    shutil.copytree(folder / f"amc-{NEW[what]}", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    check_fences(tmp_path / "README.md")
    run_page(tmp_path / "README.md", tmp_path, given(tmp_path))
    assert commands == [("-m", "pytest")]


def test_ruff_has_nothing_to_say(folder: Path) -> None:
    for arguments in (["check"], ["format", "--check"]):
        for one in sorted(folder.glob("amc-*")):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *arguments, "."], cwd=one, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr


# --- the walk: from an idea to a compressed network -------------------------------------------------------------------------

MODEL = """
import torch
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

def images():
    return [torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
"""
IDEA = [
    (
        "src/amc_keep_first/plugin.py",
        'summary="keeps the channels with the largest filters, with bias compensation"',
        'summary="keeps the first channels of every group, with bias compensation"',
    ),
    (
        "src/amc_keep_first/_keep_first.py",
        '"""A number for every channel id, higher is more important: the squared norms of the filters that make it."""',
        '"""A number for every channel id, higher is more important: the first of each group is the most important."""',
    ),
    (
        "src/amc_keep_first/_keep_first.py",
        """        for layer, made in self.channels.outputs.items():
            linear = linear_map(self.network, layer)
            if linear is not None:
                scores.index_add_(0, made, linear.weight.detach().double().square().sum(1).cpu())
""",
        """        for group in self.channels.groups:
            scores[group.ids] = torch.arange(len(group), 0, -1, dtype=torch.float64)
""",
    ),
    (
        "tests/test_keep_first.py",
        "def test_the_largest_filters_stay",
        "def test_the_first_filters_stay",
    ),
    (
        "tests/test_keep_first.py",
        'original.layer("0").weight[::2]',
        'original.layer("0").weight[:4]',
    ),
]
"""Ten lines of what `amc new compressor keep-first` writes: file, before, after."""


def _files(folder: Path) -> set[str]:
    """Those of an author: not what Python, pytest and pip leave."""
    left = ("__pycache__", ".pytest_cache")
    found = [one.relative_to(folder) for one in folder.rglob("*") if one.is_file()]
    return {one.as_posix() for one in found if not any(part in left for part in one.parts)}


def test_the_walk_of_an_author(folder: Path, run: Python, record_property: Callable[[str, object], None]) -> None:
    """`amc new`, edit ten lines, `pip install -e`, `amc plugins check`, the plugin's tests, `amc compress`: nothing else.

    How long it took is a property of the test (`pytest --junit-xml`), and asserted nowhere.
    """
    started = time.perf_counter()
    made = run("-m", "amc_plugins", "new", "compressor", "keep-first", "--json")
    assert made.returncode == 0, made.stderr
    own = folder / "amc-keep-first"
    generated = set(json.loads(made.stdout)["files"])
    edited = 0
    assert {path for path, _, _ in IDEA} <= generated
    for path, before, after in IDEA:
        text = (own / path).read_text()
        assert text.count(before) == 1, f"{path} has changed: {before}"
        (own / path).write_text(text.replace(before, after))
        edited += max(len(before.splitlines()), len(after.splitlines()))
    assert edited <= 10
    install(folder / "venv" / "bin" / "python", own, editable=True)
    checked = run("-m", "amc_plugins", "plugins", "check", "keep-first", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {one["result"] for one in json.loads(checked.stdout)["checks"]} == {"passed"}
    tested = run("-m", "pytest", "-q", "-k", "not conformance", cwd=own)
    assert tested.returncode == 0, tested.stdout
    (folder / "model.py").write_text(MODEL)
    common = ["model.py:network", "--compressor", "keep-first", "--input", "1x3x8x8", "--calibration", "model.py:images"]
    compressed = run("-m", "amc_plugins", "compress", *common, "--total", "0.5", "-o", "small.json")
    assert compressed.returncode == 0, compressed.stderr
    record_property("seconds of the walk", round(time.perf_counter() - started, 1))
    assert _files(own) == generated
    profiled = run("-m", "amc_plugins", "profile", "small.json", "--json")
    assert json.loads(profiled.stdout)["total_macs"] <= 0.5 * (27 * 8 + 72 * 8 + 8 * 4) * 64
