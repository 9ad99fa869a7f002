"""The exporter: what is in a file, what is reported, what is refused."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from amc_onnx_export import NotInOnnx, _model, _run
from amc_onnx_export._exporter import OnnxExporter
from amc_onnx_export.plugin import OnnxSettings
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.exporting import CheckFailed, UnsupportedOpError
from amc_plugins.handlers import ElementwiseHandler, Int, Params
from amc_plugins.plugin import LayerHandlerSpec
from amc_plugins.testing.scenes import branching, residual, two_inputs


def exporter(**settings: Any) -> OnnxExporter:
    return OnnxExporter(OnnxSettings(**settings))


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def written(network: Any, path: Path, **settings: Any) -> onnx.ModelProto:
    exporter(**settings).export(network, path)
    return onnx.load(str(path))


def shapes(values: Any) -> dict[str, list[Any]]:
    return {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in values
    }  # fmt: skip


def test_versions_names_and_open_sizes(tmp_path: Path) -> None:
    model = written(two_inputs(), tmp_path / "a.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)] and model.ir_version == 8
    assert list(shapes(model.graph.input).values()) == [["batch", 1, 8, 8]] * 2
    assert shapes(model.graph.output) == {"sum": ["sum_0", 4, 8, 8], "more.0": ["more.0_0", 4, 4, 4]}
    structure = json.loads(next(one.value for one in model.metadata_props if one.key == "amc.outputs"))
    assert structure["dict"]["more"]["list"]


def test_a_fixed_batch_and_another_size(tmp_path: Path) -> None:
    network = residual()
    model = written(network, tmp_path / "a.onnx", batch=4, image_size=(16, 12))
    assert list(shapes(model.graph.input).values()) == [[4, 1, 16, 12]]
    assert list(shapes(model.graph.output).values()) == [[4, 10]]
    exporter(batch=4).verify(tmp_path / "a.onnx", network, [images()])  # cuts and repeats what it is given


def test_a_size_that_the_network_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(amc.AmcError, match="does not run on inputs of the asked sizes") as caught:
        exporter(image_size="dynamic").export(branching(), tmp_path / "a.onnx")
    assert "recorded" in str(caught.value.hint) and not list(tmp_path.iterdir())


class Windows(nn.Module):
    """Takes another way for heights that are no multiple of 4."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.shape[2] % 4 else x.neg()


def test_conditions_on_open_sizes_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = amc.capture(Windows(), images())
    with pytest.raises(amc.AmcError, match=r"% 4|mod"):
        network(torch.rand(1, 1, 9, 8))
    for settings in ({}, {"image_size": (12, 8)}):  # the height is literal, and it has been run with it
        assert [one.key for one in written(network, tmp_path / "a.onnx", **settings).metadata_props] == ["amc.outputs"]
    assert not caplog.records
    with pytest.raises(amc.AmcError, match="does not run on inputs of the asked sizes"):
        exporter(image_size=(9, 8)).export(network, tmp_path / "b.onnx")
    model = written(network, tmp_path / "c.onnx", image_size="dynamic")
    (condition,) = json.loads(next(one.value for one in model.metadata_props if one.key == "amc.requires"))
    assert re.fullmatch(r"mod\(x\.shape\[2\], 4\) == 0 \(.*test_onnx_exporter\.py:\d+\)", condition)
    (record,) = caplog.records
    assert condition in record.message and "image_size" in record.message
    exporter(image_size="dynamic").verify(tmp_path / "c.onnx", network, [images()])


def test_norms_are_folded_unless_they_are_to_stay(tmp_path: Path) -> None:
    kinds = [
        {node.op_type for node in written(residual(), tmp_path / "a.onnx", fold_norms=fold).graph.node}
        for fold in (True, False)
    ]
    assert "BatchNormalization" not in kinds[0] and "BatchNormalization" in kinds[1]
    exporter().verify(tmp_path / "a.onnx", residual(), [images()])


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.table = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.table(self.two(self.one(self.table(x))))
            return out

    network = amc.capture(Tied(), torch.randn(2, 3, 6))
    stored = [list(one.dims) for one in written(network, tmp_path / "a.onnx").graph.initializer]
    assert sorted(stored) == [[6]] * 3 + [[6, 6]] * 2
    exporter().verify(tmp_path / "a.onnx", network, [torch.randn(4, 3, 6)])


def test_verify_measures_against_the_largest_output(tmp_path: Path) -> None:
    network, path = residual(), tmp_path / "a.onnx"
    exporter().export(network, path)
    head: Any = network.layer("head")
    largest = float(network(images()).detach().abs().max())
    with torch.no_grad():
        head.bias[3] += 5e-6 * largest
    assert 0 < _run.compare(path, network, [images()]) < 1e-5
    with torch.no_grad():
        head.bias[3] += 2e-5 * largest
    with pytest.raises(CheckFailed, match=r"output `output` of .* differs by 2\.\de-05 of its largest entry"):
        exporter().verify(path, network, [images()])


def test_a_file_of_no_such_kind(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x00\x01 nothing")
    for name in ("a.onnx", "missing.onnx"):
        with pytest.raises(amc.AmcError):
            exporter().verify(tmp_path / name, residual(), [images()])


def test_what_protobuf_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_model, "MAX_BYTES", 1000)
    with pytest.raises(amc.AmcError, match=r"have 0\.00 GiB, an \.onnx file holds less than 2") as caught:
        exporter().export(residual(), tmp_path / "a.onnx")
    assert ".vnmodel" in str(caught.value.hint) and not list(tmp_path.iterdir())


# --- ops of other distributions ---


class Scaled(nn.Module):
    def __init__(self, by: float = 2.0, rows: Any = 1) -> None:
        super().__init__()
        self.by, self.rows = by, rows

    def forward(self, x: Tensor, *, rows: int | None = None) -> Tensor:
        return x * self.by + (self.rows if rows is None else rows)


class ScaledHandler(ElementwiseHandler):
    class Params(Params):
        by: float
        rows: Int

    module_class = Scaled

    def module(self, call: Any) -> nn.Module:
        return Scaled(call.original.by, call.bind("x", rows=1)["rows"])


def scaled(op: Any) -> str:
    product: str = op.add("Mul", op.x, op.constant(op.params.by))
    return op.add("Add", product, op.scalar(op.dim(op.params.rows), op.x.dtype))


def never(op: Any) -> str:
    op.add("Relu", op.x)
    raise NotInOnnx("it is not said in ONNX")


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x, rows=x.shape[0]).relu()


def registered(**emitters: str) -> Any:
    spec = LayerHandlerSpec(
        name="acme-scaled",
        op="com.acme.scaled",
        summary="x * by + rows",
        api=(1, 1),
        target=f"{__name__}:ScaledHandler",
        captures=(f"{__name__}:Scaled",),
        emitters=emitters,
    )
    amc.register(spec)
    return amc.capture(Around(), torch.randn(2, 4))


def test_an_emitter_of_the_handlers_declaration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = registered(onnx=f"{__name__}:scaled")
    exporter().export(network, tmp_path / "a.onnx")
    exporter().verify(tmp_path / "a.onnx", network, [torch.randn(5, 4)])
    assert not caplog.records


@pytest.mark.parametrize("emitters, why", [({}, "there is no emitter"), ({"onnx": f"{__name__}:never"}, "not said in ONNX")])
def test_an_op_without_a_form_goes_out_in_its_own_domain(
    emitters: Any, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, path = registered(**emitters), tmp_path / "a.onnx"
    with caplog.at_level(logging.WARNING):
        model = written(network, path)
    (record,) = caplog.records
    assert "`com.acme.scaled`" in record.message and why in record.message and "test_onnx_exporter.py:" in record.message
    own = next(node for node in model.graph.node if node.domain)
    assert (own.domain, own.op_type, len(own.input)) == ("com.acme", "scaled", 2)
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in own.attribute}
    assert attributes["by"] == 0.5 and b'{"$value"' in attributes["rows"] and attributes["op_version"] == 1
    assert [node.op_type for node in model.graph.node].count("Relu") == 1, "what a refused emitter added is gone"
    assert {one.domain: one.version for one in model.opset_import} == {"": 18, "com.acme": 1}
    with pytest.raises(UnsupportedOpError, match=r"no ONNX engine runs it: it has `com\.acme\.scaled`") as caught:
        exporter().verify(path, network, [torch.randn(2, 4)])
    assert "emitters" in str(caught.value.hint)
