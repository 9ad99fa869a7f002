"""Every code block of the READMEs of distributions runs, or says why not; tests/doc_blocks.py says what running means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.doc_blocks import RUN, Block, blocks
from tests.doc_pages import check_fences, given, run_page

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    path
    for pattern in ("plugins/*/", "plugins/ops/*/", "examples/plugins/*/", "runtime/", "benchmarks/")
    for path in sorted(ROOT.glob(f"{pattern}README.md"))
]
ELSEWHERE = {"runtime": "runtime/tests/test_runtime_readme.py", "benchmarks": "its one block says why it cannot run"}
"""Folder of a README -> where its blocks run."""
RUNNING = [page for page in PAGES if page.parent.name not in ELSEWHERE and any(one.language in RUN for one in blocks(page))]


def name_of(page: Path) -> str:
    return page.parent.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_the_blocks_of_a_readme_run(page: Path, tmp_path: Path) -> None:
    """An example is a folder to install from: its page runs in a copy of it."""
    if "examples" in page.parts:
        shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
    run_page(page, tmp_path, given(tmp_path))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_fenced_and_says_its_language(page: Path) -> None:
    check_fences(page)


def test_what_does_not_run_says_why() -> None:
    left_out: list[Block] = [one for page in PAGES for one in blocks(page) if one.why_not_run is not None]
    assert all(len((one.why_not_run or "").split()) >= 3 for one in left_out), left_out
    assert {one.path.parent.name for one in left_out} <= {"runtime", "benchmarks"}, left_out
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values() if place.endswith(".py"))
