"""A file that is not there: what was probably meant is named. What cannot be written is refused before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from amc_plugins.core.near_files import nearest_file
from tests.work_files import Command, recipe


def test_only_files_of_the_folder_are_suggested(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "model.json").write_text("")
    (tmp_path / "modle.py.d").mkdir()
    assert nearest_file(tmp_path / "modle.py") == "; did you mean `model.py`?"
    assert nearest_file(tmp_path / "nothing_like_it.py") == ""
    assert nearest_file(tmp_path / "no" / "folder" / "model.py") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("profile", "modle.py:net", "--input", "1x1x8x8"), "modle.py`; did you mean `model.py`"),
        (("profile", "nett.pkl"), "nett.pkl`; did you mean `net.pkl`"),
        (("profile", "net.pk"), "`net.pk` is no file and names no factory; did you mean `net.p"),
        (("run", "recipes.toml"), "No such file or directory; did you mean `recipe.toml`"),
        (("profile", "model.py:net", "--input", "1x1x8x8", "--weights", "nett.pt"), "nett.pt`; did you mean `net.pt`"),
    ],
)
def test_the_nearest_file_is_named(here: Path, amc_: Command, arguments: tuple[str, ...], words: str) -> None:
    recipe(here)
    code, out, err = amc_(*arguments)
    assert (code, out) == (2, "") and words in err


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_the_work(here: Path, amc_: Command) -> None:
    (here / "closed").mkdir(mode=0o500)
    code, _, err = amc_("capture", "model.py:net", "--input", "1x1x8x8", "-o", "closed/deep/net.pkl")
    assert code == 2 and f"no permission for `{here / 'closed'}`" in err


def test_a_file_is_no_folder(here: Path, amc_: Command) -> None:
    code, _, err = amc_("compress", "no.such:thing", "lowrank", "-c", "no:data", "-t", "0.1", "-o", "net.pt/small.pkl")
    assert code == 2 and f"`{here / 'net.pt'}` is a file" in err
