"""The main job in processes of their own, as a deployer runs it: a recipe in, files and a report out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from amc_plugins.core.drawing.words import count
from tests.work_files import recipe

EXPORTS = "[floor]\naccuracy = 0.5\n[export.pkl]\n[export.json]\n[export.vnmodel]\nsettings = { model_id = 5 }\n"

READ = """
import sys, torch, amc_plugins as amc
from amc_plugins.demo.data import images
from amc_plugins.core.objectives import accuracy
pixels, labels = images("test")
networks = [amc.load(f"run/network{suffix}").eval() for suffix in (".pkl", ".json", ".vnmodel")]
assert "model" not in sys.modules and not any(name.startswith("_amc_file") for name in sys.modules)
with torch.no_grad():
    outputs = [network(pixels[:200]) for network in networks]
assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
print(accuracy(networks[0], [(pixels[:200], labels[:200])]), amc.profile(networks[2]).total_macs)
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("method", ["lowrank", "pruning"])
def test_a_recipe_from_the_command_line_to_files_that_need_no_code(here: Path, method: str) -> None:
    recipe(here, method=method, more=EXPORTS)
    done = python(here, "-m", "amc_plugins", "run", "recipe.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    before, smaller, retrained, exported = found["steps"]
    assert smaller["macs"] <= 0.6 * before["macs"] and found["passed"] is True
    assert retrained["accuracy"]["test"] > before["accuracy"]["test"] - 0.1
    assert [one["path"] for one in exported["files"]] == ["network.pkl", "network.json", "network.vnmodel"]
    (here / "model.py").unlink()
    read = python(here, "-c", READ)
    assert read.returncode == 0, read.stderr
    accuracy, macs = read.stdout.split()
    assert float(accuracy) == pytest.approx(retrained["accuracy"]["test"]) and int(macs) == retrained["macs"]
    page = (here / "run" / "report.html").read_text()
    assert all(count(step["macs"]) in page for step in (before, retrained))
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?https?:""", page)  # it works offline
