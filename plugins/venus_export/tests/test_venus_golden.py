"""Files of released versions of the format: they open for good, compute the same and are saved again byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from amc_venus_export import VnModelError, open_vnmodel

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.vnmodel"))


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_there_are_golden_files() -> None:
    assert [named(path) for path in FILES] == [
        f"1.0/{name}" for name in ("float16", "float32", "folded", "int8", "sample", "stored", "unknown")
    ]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_saved_again_byte_by_byte(path: Path, tmp_path: Path) -> None:
    open_vnmodel(path, generic=True).save(tmp_path / "again.vnmodel")
    assert (tmp_path / "again.vnmodel").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", [path for path in FILES if path.with_suffix(".npy").exists()], ids=named)
def test_computes_what_it_did(path: Path) -> None:
    example = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    with torch.no_grad():
        scores = open_vnmodel(path).network()(example)["scores"].numpy()
    numpy.testing.assert_allclose(scores, numpy.load(path.with_suffix(".npy")), rtol=1e-5)


def test_what_the_golden_files_say() -> None:
    models = {path.stem: open_vnmodel(path, generic=True) for path in GOLDEN.glob("1.0/*.vnmodel")}
    assert models["float16"].document.metadata["x-made-for"] == "a test"
    assert (models["int8"].model_id, models["int8"].model_base_size_hw) == (4_000_000_000, (640, 480))
    assert models["folded"].align == 4096 and not [node for node in models["folded"].document.nodes if "norm" in node.op]
    assert {one.storage.scheme for one in models["int8"].stored.values()} == {"int8"}
    assert models["unknown"].document.nodes[0].op == "com.acme.thing"
    with pytest.raises(VnModelError, match=r"com\.acme\.thing"):
        models["unknown"].network()
