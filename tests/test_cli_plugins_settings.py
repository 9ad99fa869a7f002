"""The table of settings says of every field its type, default, bounds and meaning."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model

from amc_plugins.cli.settings_table import rows
from amc_plugins.core.specs import Settings


class Colour(Enum):
    red = "red"
    blue = "blue"


class Inner(Settings):
    depth: Annotated[int, Field(ge=0, description="How deep.")] = 1
    again: Inner | None = None


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (int, 3, ("int", "3", "")),
        (float, ..., ("float", "required", "")),
        (str | None, None, ("str | none", "null", "")),
        (bool, False, ("bool", "false", "")),
        (Any, "x", ("any", '"x"', "")),
        (Path, None, ("path", "null", "")),
        (Literal["a", "b"], "a", ('"a" | "b"', '"a"', "")),
        (Literal["a"], "a", ('"a"', '"a"', "")),
        (Colour, Colour.red, ('"red" | "blue"', '"red"', "")),
        (dict[str, float], {}, ("dict[str, float]", "{}", "")),
        (tuple[int, int], (1, 2), ("[int, int]", "[1, 2]", "")),
        (list[Annotated[int, Field(gt=0)]], [1], ("list[int]", "[1]", "each > 0")),
        (
            list[Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]],
            [[1]],
            ("list[list[int]]", "[[1]]", "each not empty, each > 0"),
        ),
        (Annotated[float, Field(gt=0, le=0.5)], 0.1, ("float", "0.1", "> 0, <= 0.5")),
        (Annotated[int, Field(ge=1, lt=9, multiple_of=2)], 2, ("int", "2", ">= 1, < 9, multiple of 2")),
        (Annotated[int, Field(ge=1)] | None, None, ("int | none", "null", ">= 1")),
        (
            Annotated[str, Field(min_length=1, max_length=4, pattern="^a")],
            "a",
            ("str", '"a"', "not empty, at most 4 characters, matches ^a"),
        ),
    ],
)
def test_a_field_is_one_row(annotation: Any, default: Any, expected: tuple[str, str, str]) -> None:
    model = create_model("Model", __base__=Settings, field=(annotation, Field(default, description="What\n it does.")))
    assert rows(model.model_json_schema()) == [("field", *expected, "What it does.")]


def test_nested_models_follow_their_field_once() -> None:
    class Outer(Settings):
        inner: Annotated[Inner, Field(description="Inside.")] = Inner()
        rate: float = 0.1

    found = rows(Outer.model_json_schema(), frozenset({"inner.depth", "rate"}))
    assert [row[0] for row in found] == ["inner", "inner.depth", "inner.again", "rate"]
    assert found[0][1] == "Inner" and found[2][1] == "Inner | none"
    assert found[1][3:] == (">= 0", "How deep. (not implemented yet: only the default)")
    assert found[3][4] == "(not implemented yet: only the default)"


def test_no_settings_are_no_rows() -> None:
    assert rows(Settings.model_json_schema()) == []
