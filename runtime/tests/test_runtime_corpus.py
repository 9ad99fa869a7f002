"""Both readers on the corpus of malformed files, and on what is sound: the same answer with the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import CODES, VnModelError, open_vnmodel
from amc_venus_export.drafts import sample, stored_sample
from amc_venus_export.hostile import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.title}")
def test_refused_with_the_code_of_the_reference_reader(library: Any, case: Case, tmp_path: Path) -> None:
    raw = case.make()
    assert library.code(raw) == case.code
    (tmp_path / "a.vnmodel").write_bytes(raw)
    assert library.code(tmp_path / "a.vnmodel") == case.code


def test_the_samples_are_sound_and_run(library: Any) -> None:
    for draft in (sample(), stored_sample()):
        raw = draft.pack()
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        up, mask = library.open(raw).run(x)
        with torch.no_grad():
            expected = open_vnmodel(raw).network()(x)
        assert (up - expected[0]).abs().max() <= 1e-6 * expected[0].abs().max() and torch.equal(mask, expected[1])


def test_a_higher_minor_version_may_have_keys_that_are_not_known(library: Any) -> None:
    draft = sample()
    draft.header["minor"] = 7
    draft.document["nodes"][0]["hint"] = "fast"
    assert library.code(draft.pack()) == "OK"
    draft.header["minor"] = 0
    assert library.code(draft.pack()) == "SCHEMA_UNKNOWN"


def test_files_that_cannot_be_opened(native: Any, library: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(native.RefusedError) as caught:
            library.open(path)
        assert caught.value.code == "FILE"
    (tmp_path / "empty").write_bytes(b"")
    assert library.code(tmp_path / "empty") == "TRUNCATED_HEADER"


def test_messages_name_the_place_and_codes_are_those_of_the_specification(native: Any, library: Any) -> None:
    for case in CASES:
        raw = case.make()
        with pytest.raises(native.RefusedError) as caught:
            library.open(raw)
        with pytest.raises(VnModelError) as reference:
            open_vnmodel(raw)
        assert caught.value.code in CODES
        # The two readers name the same place, or one of them none.
        theirs, mine = (str(error.value).rpartition(" at ")[2].rstrip("]") for error in (reference, caught))
        assert len(str(caught.value)) < 1000, str(caught.value)
        if theirs.startswith("document.nodes[") and mine.startswith("document.nodes["):
            assert theirs.partition("]")[0] == mine.partition("]")[0]
