"""Mutants: the two readers say the same of them, and none brings the C++ one to a memory error.

The few default ones take seconds; `make fuzz` (or `pytest -m slow`) runs more, and a million with sanitizers.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from amc_venus_export import VnModelError, open_vnmodel
from amc_venus_export.drafts import Draft, mutate, sample, stored_sample

import amc_plugins as amc
from amc_plugins.graph import handler_for
from amc_plugins.testing.layer_handlers import Under


def reference(raw: bytes) -> str:
    try:
        open_vnmodel(raw)
    except VnModelError as error:
        return error.code
    return "OK"


def compared(library: Any, seeds: list[Draft], seed: int, count: int) -> tuple[list[str], int]:
    """What the readers disagree about, and how many of the mutants are sound."""
    differing, sound = [], 0
    for index in range(count):
        numbers = random.Random(f"{seed}/{index}")
        raw = mutate(numbers.choice(seeds), numbers)
        theirs, mine = reference(raw), library.code(raw)
        sound += theirs == "OK"
        if theirs != mine:
            differing.append(f"{seed}/{index}: {theirs}, but here {mine}")
    return differing, sound


def draft_of(raw: bytes) -> Draft:
    """The pieces of a sound file."""
    graph, start = int.from_bytes(raw[16:24], "little"), int.from_bytes(raw[24:32], "little")
    root, data = json.loads(raw[64 : 64 + graph]), raw[start:]
    return Draft(root, {one["name"]: data[one["offset"] : one["offset"] + one["nbytes"]] for one in root["tensors"]})


@pytest.fixture(scope="module")
def op_files(native: Any, library: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file for each example call of every op that the runtime has."""
    folder, files = tmp_path_factory.mktemp("ops"), []
    for record in amc.plugins("layer_handlers"):
        subject = Under.__new__(Under)
        subject.spec, subject.name = handler_for(f"vn.{record.name}").spec, record.name
        if f"vn.{record.name}" in library.ops():
            for number, example in enumerate(subject.captured):
                files.append(folder / f"{record.name}_{number}.vnmodel")
                amc.export(example.network, "vnmodel", files[-1])
    return files


def test_readers_agree_on_mutants_of_the_samples(library: Any) -> None:
    differing, sound = compared(library, [sample(), stored_sample()], 0, 600)
    assert not differing
    assert sound > 20


@pytest.mark.slow
def test_readers_agree_on_many_mutants_of_the_samples(library: Any) -> None:
    differing, _ = compared(library, [sample(), stored_sample()], 1, 20_000)
    assert not differing


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_readers_agree_on_mutants_of_every_op(library: Any, op_files: list[Path]) -> None:
    """torch's checks of shapes without data differ from op to op; what is left of disagreement is one mutant in thousands."""
    differing, sound = compared(library, [draft_of(path.read_bytes()) for path in op_files], 1, 15_000)
    assert len(differing) <= 5, differing
    assert sound > 1000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_million_mutants_under_sanitizers(native: Any, op_files: list[Path], tmp_path: Path) -> None:
    build = native.built("sanitized", ("vnfuzz",), VN_SANITIZE="ON", VN_BUILD_FUZZ="ON", VN_BUILD_TOOL="OFF")
    for name, draft in (("sample", sample()), ("stored", stored_sample())):
        (tmp_path / f"{name}.vnmodel").write_bytes(draft.pack())
    seeds = [*map(str, op_files), *map(str, sorted(tmp_path.glob("*.vnmodel")))]
    command = [str(build / "vnfuzz"), *seeds, "--runs", "1000000", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr[-5000:]
    assert "1000000 mutants" in done.stdout
