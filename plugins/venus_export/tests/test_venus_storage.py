"""Weights stored as float16 and as int8, and batch norms folded on the way out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import VnModelError, open_vnmodel, write_vnmodel
from amc_venus_export._encoding import chosen, decode, encode
from amc_venus_export._exporter import VnModelExporter
from amc_venus_export._storage import Storage, Stored
from amc_venus_export.drafts import stored_sample
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.exporting import CheckFailed
from amc_plugins.graph import describe, tensors_of


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_int8_is_off_by_half_a_step_of_its_channel(shape: list[int], data: Any) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    weight = numbers(*shape, seed=data.draw(st.integers(0, 999))) * 10.0 ** data.draw(st.integers(-6, 6))
    storage = Storage("int8", axis)
    stored = encode(weight, storage)
    assert len(stored.data) == storage.nbytes(shape)
    if weight.numel():
        others = [dim for dim in range(weight.dim()) if dim != axis]
        largest = weight.abs().amax(others, keepdim=True) if others else weight.abs()
        assert ((decode(stored) - weight).abs() <= largest / 127 * 0.5001).all()
        assert torch.equal(decode(encode(decode(stored), storage)).sign(), decode(stored).sign())


def test_known_values() -> None:
    weight = torch.tensor([[1.27, -0.635, 0.005], [0.0, 0.0, 0.0]])
    stored = encode(weight, Storage("int8", 0))
    assert bytes(stored.data[:6]) == bytes([127, 256 - 64, 0, 0, 0, 0])  # halves to even: -63.5 becomes -64, 0.5 becomes 0
    assert decode(stored)[1].tolist() == [0, 0, 0]
    assert torch.allclose(decode(stored)[0], torch.tensor([1.27, -0.64, 0.0]))
    half = encode(torch.tensor([[0.1, 65504.0]]), Storage("float16"))
    assert torch.equal(decode(half), torch.tensor([[0.1, 65504.0]]).half().float())


def test_what_is_stored_smaller() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(4 * 49, 5))
    network = amc.capture(net.eval(), numbers(1, 3, 8, 8))
    document, tensors = describe(network), tensors_of(network)
    as_int8 = chosen(document, tensors, "int8")
    assert as_int8 == {"0/weight": Storage("int8", 0), "2/weight": Storage("int8", 1), "4/weight": Storage("int8", 0)}
    assert chosen(document, tensors, "float16").keys() == as_int8.keys()
    tensors["4/weight"][0, 0] = 1e5
    assert "4/weight" not in chosen(document, tensors, "float16") and "4/weight" in chosen(document, tensors, "int8")
    tensors["4/weight"][0, 0] = torch.inf
    assert "4/weight" in chosen(document, tensors, "float16") and "4/weight" not in chosen(document, tensors, "int8")


@pytest.mark.parametrize("storage, share", [("float16", 0.6), ("int8", 0.35)])
def test_a_file_is_smaller_and_verifies(storage: str, share: float, tmp_path: Path, caplog: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
    network = amc.capture(net.eval(), numbers(1, 3, 8, 8))
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    with caplog.at_level(logging.WARNING):
        amc.export(network, "vnmodel", tmp_path / "b.vnmodel", storage=storage)
    assert f"rounding to {storage} changes the outputs by " in caplog.text
    assert (tmp_path / "b.vnmodel").stat().st_size < share * (tmp_path / "a.vnmodel").stat().st_size
    loaded = amc.load(tmp_path / "b.vnmodel")
    weight = loaded.layer("3").weight
    assert weight.dtype == torch.float32 and not torch.equal(weight, network.layer("3").weight)
    assert torch.allclose(weight, network.layer("3").weight, atol=weight.abs().max().item() / 200)
    assert torch.equal(loaded.layer("3").bias, network.layer("3").bias)  # vectors keep their precision


def test_verify_of_rounded_weights_notices_another_network(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    from amc_venus_export.plugin import VnModelSettings

    exporter = VnModelExporter(VnModelSettings(storage="int8"))
    exporter.export(network, tmp_path / "a.vnmodel")
    exporter.verify(tmp_path / "a.vnmodel", network, inputs)
    with torch.no_grad():
        network.layer("head").weight[0] *= -1
    with pytest.raises(CheckFailed, match="differs, by at most"):
        exporter.verify(tmp_path / "a.vnmodel", network, inputs)


def test_norms_are_folded_on_request(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel", fold_norms=True)
    loaded = amc.load(tmp_path / "a.vnmodel")
    assert "bn" in network.layer_names and "bn" not in loaded.layer_names
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs)["scores"], network(*inputs)["scores"], rtol=1e-4, atol=1e-5)


def test_folding_that_changes_the_outputs_is_refused(network: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from amc_venus_export import _exporter

    def wrong(given: Any) -> Any:
        folded = given.clone()
        with torch.no_grad():
            folded.layer("head").weight[0] += 1
        return folded

    monkeypatch.setattr(_exporter, "fold_norms", wrong)
    with pytest.raises(CheckFailed, match="folding"):
        amc.export(network, "vnmodel", tmp_path / "a.vnmodel", fold_norms=True)


def test_saved_again_with_the_same_bytes_unless_changed(tmp_path: Path) -> None:
    raw = stored_sample().pack()
    (tmp_path / "a.vnmodel").write_bytes(raw)
    for options in ({}, {"copy": True}):
        model = open_vnmodel(tmp_path / "a.vnmodel", **options)
        model.save(tmp_path / "b.vnmodel")
        assert (tmp_path / "b.vnmodel").read_bytes() == raw
    model = open_vnmodel(tmp_path / "a.vnmodel")
    weight = model.tensors["stem/weight"]
    weight.mul_(2)
    model.save(tmp_path / "c.vnmodel")
    again = open_vnmodel(tmp_path / "c.vnmodel")
    assert again.stored["stem/weight"].storage == Storage("int8", 0)
    assert torch.allclose(again.tensors["stem/weight"], weight, atol=weight.abs().max().item() / 127)
    assert again.tensors["stem/bias"].equal(model.tensors["stem/bias"])


def test_the_writer_refuses_other_dtypes_and_names(make: Any, tmp_path: Path) -> None:
    document, tensors = make(w=torch.ones(3, 2), n=torch.ones(3, dtype=torch.int64))
    for stored, code in (({"n": Storage("float16")}, "QUANT_DTYPE"), ({"v": Storage("float16")}, "NOT_IN_TABLE")):
        with pytest.raises(VnModelError) as caught:
            write_vnmodel(tmp_path / "a.vnmodel", document, tensors, stored=stored)
        assert caught.value.code == code
    short = Stored(Storage("float16"), (3, 2), bytes(10))
    with pytest.raises(VnModelError) as caught:
        write_vnmodel(tmp_path / "a.vnmodel", document, tensors, stored={"w": short})
    assert caught.value.code == "TENSOR_NBYTES"
    assert not list(tmp_path.iterdir())
