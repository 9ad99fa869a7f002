"""A distribution from outside the repository has exactly the powers of a built-in one; and a built-in one can be absent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import environments
from tests.matrix.places import BUILT_IN, environment_with

OUTSIDE = Path(__file__).parent / "fixtures" / "outside" / "acme"

MODEL = """
import torch
from torch import nn
from acme_amc.layers import Mish2, Scale

def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Scale(8), Mish2(1.5), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )

def data():
    return [torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
"""


def run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return environments.run(python, "-m", "amc_plugins", *arguments, folder=folder)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees this one's packages, with the outside distribution installed by pip."""
    folder = tmp_path_factory.mktemp("outside")
    python = environments.environment(folder / "venv")
    environments.install(python, OUTSIDE)
    (folder / "model.py").write_text(MODEL)
    return python


def test_it_is_listed_with_its_distribution(environment: Path) -> None:
    listed = run(environment, "plugins", "list", "--json", folder=environment.parents[2])
    assert listed.returncode == 0, listed.stderr
    ours = {one["name"]: one for one in json.loads(listed.stdout)["plugins"] if one["distribution"] == "acme-amc"}
    assert set(ours) == {"keep-first", "acme_scale", "mish2"}
    assert all(one["version"] == "2.5.0" and one["status"] == "available" for one in ours.values())


def test_its_compressor_and_its_ops_work_on_the_command_line(environment: Path) -> None:
    folder = environment.parents[2]
    target = ["model.py:network", "keep-first", "--input", "1x3x8x8", "--calibration", "model.py:data"]
    made = run(environment, "compress", *target, "--total", "0.5", "-o", "small.json", folder=folder)
    assert made.returncode == 0, made.stderr
    assert "opaque" not in made.stderr
    profile = run(environment, "profile", "small.json", "--json", folder=folder)
    assert profile.returncode == 0, profile.stderr
    rows = {row["op"] for row in json.loads(profile.stdout)["rows"]}
    assert {"com.acme.scale", "acme_amc.mish2"} <= rows


@pytest.mark.needs("amc-archive-export")  # `.json` is looked up, not loaded
def test_its_settings_are_shown_and_checked(environment: Path) -> None:
    folder = environment.parents[2]
    shown = run(environment, "plugins", "show", "keep-first", folder=folder)
    assert shown.returncode == 0 and "least" in shown.stdout and "channels that every group keeps" in shown.stdout
    target = ["model.py:network", "keep-first", "--input", "1x3x8x8", "--calibration", "model.py:data", "--total", "0.5"]
    refused = run(environment, "compress", *target, "--set", "leastt=2", "-o", "x.json", folder=folder)
    assert refused.returncode == 2 and "did you mean `least`" in refused.stderr


def test_a_built_in_distribution_can_be_absent(tmp_path: Path) -> None:
    python = environment_with(tmp_path / "venv", [one for one in BUILT_IN if one != "amc-lowrank"])
    _is_absent(python, tmp_path)


@pytest.mark.slow
def test_a_built_in_distribution_can_be_uninstalled(tmp_path: Path) -> None:
    """`pip install`, `pip uninstall`, in an environment that has all the others."""
    python = environment_with(tmp_path / "venv", [one for one in BUILT_IN if one != "amc-lowrank"])
    copy = shutil.copytree(BUILT_IN["amc-lowrank"], tmp_path / "lowrank", ignore=shutil.ignore_patterns("__pycache__"))
    environments.install(python, copy)
    (tmp_path / "model.py").write_text(PLAIN_MODEL)
    worked = run(python, "compress", "model.py:network", "lowrank", *COMMON, "-o", "small.json", folder=tmp_path)
    assert worked.returncode == 0, worked.stderr
    pip = [sys.executable, "-m", "pip", "--python", str(python), "uninstall", "-qq", "--yes", "amc-lowrank"]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    _is_absent(python, tmp_path)


PLAIN_MODEL = MODEL.replace("from acme_amc.layers import Mish2, Scale", "").replace("Scale(8), Mish2(1.5), ", "")
COMMON = ("--input", "1x3x8x8", "--calibration", "model.py:data", "--total", "0.31")


def _is_absent(python: Path, folder: Path) -> None:
    """`amc-lowrank` is not there, who asks for it is told so, and the rest works."""
    listed = run(python, "plugins", "list", "--json", folder=folder)
    assert listed.returncode == 0, listed.stderr
    names = {one["name"] for one in json.loads(listed.stdout)["plugins"]}
    assert "pruning" in names and "lowrank" not in names
    assert run(python, "plugins", "doctor", folder=folder).returncode == 0
    (folder / "model.py").write_text(PLAIN_MODEL)
    asked = run(python, "compress", "model.py:network", "lowrank", *COMMON, "-o", "other.json", folder=folder)
    assert asked.returncode == 2
    assert "pip install amc-lowrank" in asked.stderr
    worked = run(python, "compress", "model.py:network", "pruning", *COMMON, "-o", "other.json", folder=folder)
    assert worked.returncode == 0, worked.stderr
    assert (folder / "other.json").is_file()
