"""A quick look at the matrix: the core alone, with each single plugin, and without each single one.

`make matrix` runs tests there. Here each cell is a smoke test, in forks of one process (tests/matrix/smoke.py); an absent
distribution is truly absent.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from amc_plugins.core.catalog import DISTRIBUTIONS
from scripts.check_imports import ROOT
from tests.matrix import places
from tests.matrix.places import BUILT_IN, environment_with, link_metadata, link_site, package_of
from tests.matrix.select import imported_by

CELLS = ["the core alone", *(f"{how} {one}" for one in BUILT_IN for how in ("only", "without"))]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Cell -> the traceback of what went wrong there, None for nothing."""
    folder = tmp_path_factory.mktemp("matrix")
    python = environment_with(folder / "core", [])
    done = subprocess.run(
        [str(python), "-m", "tests.matrix.smoke", str(link_metadata(folder / "metadata"))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return {one["cell"]: one["problem"] for one in map(json.loads, done.stdout.splitlines())}


def test_every_distribution_of_the_catalog_is_in_the_matrix(problems: dict[str, str | None]) -> None:
    assert set(DISTRIBUTIONS) == set(BUILT_IN) and list(problems) == CELLS


@pytest.mark.parametrize("cell", CELLS)
def test_cell(problems: dict[str, str | None], cell: str) -> None:
    assert problems[cell] is None, problems[cell]


def test_what_is_absent_is_absent_for_subprocesses_too(tmp_path: Path) -> None:
    """And nothing else is: names that begin alike are told apart."""
    python = environment_with(tmp_path / "there", [one for one in BUILT_IN if one != "amc-ga"])
    program = (
        "import importlib.util as u, json\nfrom importlib.metadata import entry_points\n"
        "names = sorted({e.dist.name for g in ('compressors', 'tuners', 'layer_handlers', 'exporters', 'trainers')"
        " for e in entry_points(group='amc_plugins.' + g)})\n"
        f"found = [p for p in {sorted(map(package_of, BUILT_IN))!r} if u.find_spec(p)]\nprint(json.dumps([names, found]))"
    )
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    names, found = json.loads(done.stdout)
    assert names == sorted(set(BUILT_IN) - {"amc-ga"})
    assert found == sorted(package_of(one) for one in BUILT_IN if one != "amc-ga")


def test_an_environment_that_is_made_inside_another_leaves_that_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = link_site(tmp_path / "outer", list(BUILT_IN))
    before = {one.name: one.read_text() for one in outer.glob("*.pth") if not one.is_symlink()}
    assert any("plugins/ga/src" in text for text in before.values())
    monkeypatch.setattr(places, "SITE", outer)
    inner = link_site(tmp_path / "inner", [one for one in BUILT_IN if one != "amc-ga"])
    assert {name: (outer / name).read_text() for name in before} == before
    assert not any("plugins/ga/src" in (inner / name).read_text() for name in before)


def test_the_needs_of_a_test_module_are_its_imports() -> None:
    assert imported_by(ROOT / "tests" / "test_document.py") == set()
    assert imported_by(ROOT / "plugins" / "ga" / "tests" / "test_ga_search.py") == {"amc-ga"}
    assert "amc-training" in imported_by(ROOT / "plugins" / "training" / "tests" / "test_training_loop.py")
