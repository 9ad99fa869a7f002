"""The graph document: equal documents are equal bytes, and what is inconsistent is refused with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_plugins.core.errors import DocumentError
from amc_plugins.document import Document, InputSpec, Node, Ref, from_plain, map_tree, refs_in, to_plain, tree_leaves


def small(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "format": "amc-graph",
        "version": [1, 0],
        "producer": "test",
        "inputs": [{"name": "x", "dtype": "f32", "shape": [None, 3]}],
        "signature": ["x"],
        "nodes": [
            {"name": "size", "layer": "size", "op": "vn.size", "inputs": ["x"], "outputs": ["n"], "params": {"dim": 0}},
            {
                "name": "view",
                "layer": "view",
                "op": "vn.reshape",
                "inputs": ["x"],
                "outputs": ["y"],
                "params": {"shape": [{"$value": "n"}, -1]},
            },
        ],
        "outputs": {"tuple": ["y", None, {"const": 2}]},
    }
    return {**plain, **changes}


def test_references_become_objects_and_come_back() -> None:
    document = Document.from_plain(small())
    assert document.nodes[1].params["shape"] == [Ref("n"), -1]
    assert document.nodes[1].symbols == ["n"]
    assert json.loads(document.to_json())["nodes"][1]["params"] == {"shape": [{"$value": "n"}, -1]}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.builds(Ref, st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(categories=("L",)), min_size=1, max_size=6), values, max_size=4))
def test_parameters_survive_json_exactly(params: dict[str, Any]) -> None:
    text = json.dumps(to_plain(params), allow_nan=False)
    back = from_plain(json.loads(text))
    assert back == params
    assert [type(one) for one in back.values()] == [type(one) for one in params.values()]


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_canonical_json_is_stable(count: int, random: Any) -> None:
    names = ["x"]
    nodes = []
    for index in range(count):
        chosen = random.sample(names, k=min(len(names), random.randint(1, 3)))
        nodes.append(Node(name=f"n{index}", layer=f"n{index}", op="vn.add", inputs=chosen, outputs=[f"n{index}"]))
        names.append(f"n{index}")
    document = Document(
        inputs=[InputSpec(name="x", dtype="f32", shape=[None])], signature=["x"], nodes=nodes, outputs=names[-1]
    )
    text = document.to_json()
    assert Document.from_json(text).to_json() == text
    assert Document.from_json(document.to_json(indent=2)).to_json() == text


def _without(index: int) -> dict[str, Any]:
    plain = small()
    del plain["nodes"][index]
    return plain


def _changed(index: int, **changes: Any) -> dict[str, Any]:
    plain = small()
    plain["nodes"][index].update(changes)
    return plain


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (_without(0), "`view` uses `n` before anything makes it"),
        (_changed(1, outputs=["x"]), "makes `x`, which exists already"),
        (_changed(1, name="size"), "two nodes are named `size`"),
        (_changed(1, inputs=["nothing"]), "uses `nothing` before"),
        (_changed(1, layer="size"), "is both `vn.size` and `vn.reshape`"),
        (_changed(1, op="../evil"), "nodes.1.op"),
        (_changed(1, extra=1), "nodes.1.extra"),
        (_changed(1, outputs=[]), "nodes.1.outputs"),
        (small(outputs="nothing"), "nothing makes the output `nothing`"),
        (small(outputs=None), "no outputs"),
        (small(outputs={"set": []}), "not a structure"),
        (small(signature=[]), "signature names"),
        (small(inputs=[{"name": "x", "dtype": "f31", "shape": [-1]}]), "inputs.0.dtype"),
        (small(inputs=[]), "inputs"),
        (small(version=[1]), "version"),
        ([], "not a valid graph document"),
    ],
)
def test_what_is_inconsistent_is_refused(plain: Any, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Document.from_plain(plain)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "nul", '{"a": 1} x'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="not JSON"):
        Document.from_json(text)


def test_trees() -> None:
    tree = {"dict": {"a": {"list": ["x", {"tuple": ["y"]}]}, "b": {"const": 1.5}, "c": None}}
    assert tree_leaves(tree) == ["x", "y"]
    assert map_tree(tree, str.upper) == {"a": ["X", ("Y",)], "b": 1.5, "c": None}


def test_references_are_found_at_any_depth() -> None:
    assert list(refs_in({"a": [Ref("p"), [{"$value": "q"}]], "b": 1})) == ["p", "q"]


def test_unholdable_parameters_are_refused() -> None:
    with pytest.raises(DocumentError, match="object"):
        to_plain(object())
