"""Every code block of the documentation and of README.md runs; tests/doc_blocks.py says what that means."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doc_blocks import RUN, Block, blocks, unfenced
from tests.doc_pages import check_fences, run_page, yours

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TUTORIAL = DOCS / "tutorial.md"
RUNNING = [page for page in PAGES if page != TUTORIAL and any(one.language in RUN for one in blocks(page))]
FENCED = [one for page in PAGES for one in blocks(page)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix()


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the tutorial leaves."""
    folder = tmp_path_factory.mktemp("tutorial")
    yours(folder)
    run_page(TUTORIAL, folder, {})
    return folder


@pytest.fixture
def folder(tutorial: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with what `amc demo` left, as every page after the tutorial starts from."""
    shutil.copytree(tutorial / "demo", tmp_path / "demo")
    yield tmp_path


def test_the_tutorial_runs(tutorial: Path) -> None:
    assert {one.name for one in tutorial.iterdir()} >= {"demo", "less", "pruned.vnmodel"} or (
        tutorial / "demo" / "less"
    ).is_dir()


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, folder: Path) -> None:
    given = yours(folder)
    run_page(page, folder, given if page.name == "README.md" else {})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_fenced_and_says_its_language(page: Path) -> None:
    check_fences(page)


def test_what_does_not_run_says_why() -> None:
    left_out = [one for one in FENCED if one.why_not_run is not None]
    for one in left_out:
        assert len((one.why_not_run or "").split()) >= 3, f"{one}: the reason is missing"
    assert len(left_out) <= len([one for one in FENCED if one.language in RUN]) / 5, "most blocks run"


# --- the runner itself ----------------------------------------------------------------------------------------------------


def page_of(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def run_text(folder: Path, text: str) -> None:
    yours(folder)
    run_page(page_of(folder, text), folder, {})


@pytest.mark.parametrize(
    "text",
    [
        "```python\nassert 1 == 2\n```\n",
        "```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n",
        "```sh\namc profile no.pkl\n```\n",
        "```sh\namc compres x\n```\n",
        "```sh\nrm -rf something\n```\n",
        "```toml\na = \n```\n",
        '```toml title="recipe.toml"\nfolder = "x"\n[compress]\nmethod = "prunning"\n```\n',
        '```python\nprint("one")\n```\n\n```text title="output (figures may differ)"\ntwo\n```\n',
        '```python\nprint("one 1")\n```\n\n```text title="output"\none 2\n```\n',
        '```python\nprint("a\\nb\\nc")\n```\n\n```text title="output (figures may differ)"\na\n...\nd\n```\n',
    ],
)
def test_a_wrong_block_fails(tmp_path: Path, text: str) -> None:
    with pytest.raises((AssertionError, Exception)):
        run_text(tmp_path, text)


def test_a_right_page_passes(tmp_path: Path) -> None:
    run_text(
        tmp_path,
        '```python title="mine.py"\nvalue = 3\n```\n\n```python\nimport mine\nprint("found", mine.value, "of 9.5")\n```\n\n'
        '```text title="output (figures may differ)"\nfound 4 of 1e-3\n```\n\n'
        '```python title="not run in the tests: it needs a printer"\nassert 0\n```\n',
    )


def test_blocks_know_where_they_are(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        "# Page\n\n1. item\n\n    ```python\n    x = 1\n    if x:\n        y = 2\n    ```\n\n    code\n\ntext\n\n    more\n",
    )
    assert blocks(page) == [Block(page, 6, "python", "", "x = 1\nif x:\n    y = 2\n")]
    assert unfenced(page) == ["page.md:15: more"]
