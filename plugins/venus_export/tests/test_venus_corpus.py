"""The corpus of malformed files: each is refused with its code, quickly, and every code has a file."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from amc_venus_export import CODES, VnModelError, _schema, open_vnmodel
from amc_venus_export._exporter import VnModelExporter
from amc_venus_export.drafts import sample
from amc_venus_export.hostile import CASES, Case, main
from amc_venus_export.plugin import VnModelSettings

NOT_IN_A_FILE = {"FILE", "NOT_IN_TABLE", "BYTE_ORDER"}


def test_the_sample_itself_is_sound(tmp_path: Path) -> None:
    raw = sample().pack()
    model = open_vnmodel(raw)
    assert model.checked
    (tmp_path / "a.vnmodel").write_bytes(raw)
    open_vnmodel(tmp_path / "a.vnmodel").save(tmp_path / "b.vnmodel")
    assert (tmp_path / "b.vnmodel").read_bytes() == raw


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.title}")
def test_refused_with_its_code(case: Case, tmp_path: Path) -> None:
    raw = case.make()
    start = time.process_time()
    with pytest.raises(VnModelError) as caught:
        open_vnmodel(raw)
    assert caught.value.code == case.code, caught.value
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < 3  # seen: 0.3 s for 8 MB of commas, milliseconds otherwise
    (tmp_path / "a.vnmodel").write_bytes(raw)
    with pytest.raises(VnModelError, match=rf"\[{case.code}( at .*)?\]$"):
        open_vnmodel(tmp_path / "a.vnmodel")


@pytest.mark.parametrize("case", [case for case in CASES if case.strict], ids=lambda case: str(case.number))
def test_generic_opening_keeps_what_only_handlers_refuse(case: Case, tmp_path: Path) -> None:
    raw = case.make()
    model = open_vnmodel(raw, generic=True)
    (tmp_path / "a.vnmodel").write_bytes(raw)
    assert VnModelExporter(VnModelSettings()).document(tmp_path / "a.vnmodel").to_json() == model.document.to_json()
    model.save(tmp_path / "again.vnmodel")
    assert (tmp_path / "again.vnmodel").read_bytes() == raw
    with pytest.raises(VnModelError) as caught:
        model.network()
    assert caught.value.code == case.code


def test_a_long_op_id_is_refused_before_it_is_remembered() -> None:
    """Op ids that were looked at are kept; texts of a hostile file must not pile up there."""
    draft = sample()
    draft.document["nodes"] = [{**node, "op": f"vn.{'a' * 100_000}"} for node in draft.document["nodes"][:1]]
    _schema._is_op.cache_clear()
    with pytest.raises(VnModelError) as caught:
        open_vnmodel(draft.pack())
    assert caught.value.code == "OP_ID" and _schema._is_op.cache_info().currsize == 0


def test_the_corpus_is_complete() -> None:
    numbers = [case.number for case in CASES]
    assert len(set(numbers)) == len(numbers)
    assert set(range(1, 82)) <= set(numbers)
    assert len({case.title for case in CASES}) == len(CASES)
    assert {case.code for case in CASES} == set(CODES) - NOT_IN_A_FILE


def test_the_specification_lists_every_code_once() -> None:
    page = Path(__file__).parents[3] / "docs" / "vnmodel.md"
    table = re.findall(r"`([A-Z][A-Z0-9_]+)`", page.read_text(encoding="utf-8").partition("| step | codes |")[2])
    assert sorted(table) == sorted(CODES)


def test_the_corpus_can_be_written(tmp_path: Path) -> None:
    main([str(tmp_path / "corpus")])
    index = json.loads((tmp_path / "corpus" / "cases.json").read_text())
    assert [(one["number"], one["code"]) for one in index] == [(case.number, case.code) for case in CASES]
    assert len(list((tmp_path / "corpus").glob("*.vnmodel"))) == len(CASES) + 1
    assert (tmp_path / "corpus" / "000.vnmodel").read_bytes() == sample().pack()
