"""The code of runtime/README.md: the tool's commands, the Python block and the C block run on a small network."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import amc_plugins as amc
from tests.doc_blocks import Block, blocks

README = Path(__file__).parents[1] / "README.md"
PROGRAM = """#include <stdio.h>
#include "vn.h"
int main(void) {{
    static float pixels[3 * 224 * 224];
{body}
    return 0;
}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page speaks of."""
    where = tmp_path_factory.mktemp("readme")
    model = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    amc.export(amc.capture(model, torch.rand(1, 3, 224, 224)), "vnmodel", where / "MODEL.vnmodel")
    shutil.copy(where / "MODEL.vnmodel", where / "model.vnmodel")
    numpy.save(where / "x.npy", numpy.ones((1, 3, 224, 224), dtype="float32"))
    return where


def code(language: str) -> Block:
    """The page has one block of each language that runs."""
    (block,) = [one for one in blocks(README) if one.language == language and one.why_not_run is None]
    return block


def test_the_commands_of_the_tool(library: Any, folder: Path) -> None:
    lines = [shlex.split(line, comments=True) for line in code("sh").code.splitlines()]
    assert len(lines) == 5
    for words in lines:
        assert words[0] == "vnrun"
        arguments = ["model.vnmodel" if word == "FILE..." else word for word in words[1:]]
        done = subprocess.run([library.tool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert done.stdout or "--output" in words, words
    assert numpy.load(folder / "y.npy").shape == (1, 4)


def test_the_python_block(native: Any, library: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = native.RUNTIME / "python/amc_venus_runtime/__init__.py"
    spec = importlib.util.spec_from_file_location("amc_venus_runtime", where)
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    monkeypatch.setattr(package, "_FOLDER", library.tool.parent)
    monkeypatch.setitem(sys.modules, "amc_venus_runtime", package)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"images": numpy.load("x.npy")}
    exec(compile(code("python").code, str(README), "exec"), names)
    assert names["scores"].shape == (1, 4)


def test_the_c_block(native: Any, library: Any, folder: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    (folder / "main.c").write_text(PROGRAM.format(body=code("c").code))
    build = library.tool.parent
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{native.RUNTIME / 'include'}", f"-L{build}", f"-Wl,-rpath,{build}"]
    done = subprocess.run(
        [compiler, *flags, "main.c", "-lvn", "-o", "main"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([folder / "main"], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
