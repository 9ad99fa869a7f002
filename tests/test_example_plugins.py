"""The plugins under examples/plugins: installed by pip, written with the author's API alone, and passing their tests."""

from __future__ import annotations

import ast
import json
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.environments import environment, install, run
from tests.test_architecture import AUTHORS_API

EXAMPLES = Path(__file__).parent.parent / "examples" / "plugins"
FOLDERS = sorted(one.parent for one in EXAMPLES.glob("*/pyproject.toml"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with all of them; they are built from copies, so that nothing is left in the repository."""
    where = tmp_path_factory.mktemp("examples")
    copies = [Path(shutil.copytree(one, where / one.name, ignore=shutil.ignore_patterns("__pycache__"))) for one in FOLDERS]
    made = environment(where / "venv")
    install(made, *copies)
    return made


def test_there_is_a_compressor_a_family_of_handlers_and_an_exporter() -> None:
    groups = [tomllib.loads((one / "pyproject.toml").read_text())["project"]["entry-points"] for one in FOLDERS]
    kinds = {group.removeprefix("amc_plugins.") for one in groups for group in one}
    assert kinds == {"compressors", "layer_handlers", "exporters"}


def test_they_are_listed(python: Path) -> None:
    done = run(python, "-m", "amc_plugins", "plugins", "list", "--json", folder=python.parents[2])
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one["distribution"] for one in json.loads(done.stdout)["plugins"]}
    assert found["chip"] == "amc-chip" and found["pt2"] == "amc-pt2"
    assert {name for name, one in found.items() if one == "amc-op-convnext"} == {
        "layer_scale",
        "response_norm",
        "star_relu",
        "droppath",
    }


def test_they_pass_their_own_tests_and_conformance_checks(python: Path) -> None:
    where = python.parents[2]
    tests = [str(where / one.name / "tests") for one in FOLDERS]
    done = run(python, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *tests, folder=where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "xfailed" not in done.stdout


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: one.name)
def test_they_use_only_the_authors_api(folder: Path) -> None:
    wrong = []
    for path in folder.glob("src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [name for name in names if name.partition(".")[0] == "amc_plugins" and name[12:] not in AUTHORS_API]
    assert not wrong, wrong
