"""Validation errors in the words of whoever wrote the values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from amc_plugins.core.errors import SettingsError
from amc_plugins.core.validation import problem_lines, validated


class Step(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["step"] = "step"
    method: str
    total: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Rest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["rest"]
    epochs: int = 1


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rounds: Annotated[int, Field(ge=1)] = 1
    first: Step | None = None
    steps: list[Annotated[Step | Rest, Field(discriminator="kind")]] = []
    named: dict[str, Step] = {}
    seed_: int = Field(0, alias="seed")

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.rounds > 5 and not self.steps:
            raise ValueError("more than 5 rounds need steps")
        return self


def lines(given: dict[str, Any], model: type[BaseModel] | None = Recipe, prefix: str = "") -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(given)
    return problem_lines(caught.value, model, prefix)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rounds": 0}, ["rounds: input should be greater than or equal to 1 (given 0)"]),
        ({"round": 1}, ["round: unknown name; did you mean `rounds`?"]),
        ({"sed": 1}, ["sed: unknown name; did you mean `seed` or `steps` or `named`?"]),
        ({"zzz": 1}, ["zzz: unknown name; known are rounds, first, steps, named, seed"]),
        ({"first": {}}, ["first.method: missing, and it has no default"]),
        ({"first": {"method": "x", "totl": 1}}, ["first.totl: unknown name; did you mean `total`?"]),
        ({"steps": [{"kind": "rest", "epoch": 2}]}, ["steps.0.rest.epoch: unknown name; did you mean `epochs`?"]),
        ({"named": {"a": {"method": "x", "metod": 1}}}, ["named.a.metod: unknown name; did you mean `method`?"]),
        ({"rounds": 6}, ["more than 5 rounds need steps"]),
        (
            {"rounds": "many", "first": {"method": 3, "total": 1}},
            [
                "rounds: input should be a valid integer, unable to parse string as an integer (given 'many')",
                "first.method: input should be a valid string (given 3)",
                "first.total: input should be less than 1 (given 1)",
            ],
        ),
    ],
)
def test_each_problem_is_a_line_with_its_path(given: dict[str, Any], expected: list[str]) -> None:
    assert lines(given) == expected


def test_a_long_value_is_cut() -> None:
    (line,) = lines({"first": {"method": list(range(1000))}})
    assert line.startswith("first.method: input should be a valid string (given [0, 1, 2,")
    assert len(line) < 120


def test_a_prefix_goes_before_every_path() -> None:
    assert lines({"rounds": 0}, prefix="compress.0") == [
        "compress.0.rounds: input should be greater than or equal to 1 (given 0)"
    ]
    assert lines({"rounds": 6}, prefix="compress.0") == ["compress.0: more than 5 rounds need steps"]


def test_without_the_model_an_unknown_name_is_still_named() -> None:
    assert lines({"round": 1}, model=None) == ["round: unknown name"]


def test_validated_takes_a_mapping_or_an_instance() -> None:
    recipe = validated(Recipe, {"rounds": 2}, what="recipe")
    assert recipe.rounds == 2
    assert validated(Recipe, recipe, what="recipe") is recipe
    with pytest.raises(SettingsError) as caught:
        validated(Recipe, {"rounds": 0, "round": 1}, what="recipe `r.toml`", hint="see the manual")
    assert str(caught.value).splitlines() == [
        "recipe `r.toml`:",
        "  rounds: input should be greater than or equal to 1 (given 0)",
        "  round: unknown name; did you mean `rounds`?",
    ]
    assert caught.value.hint == "see the manual"
    assert isinstance(caught.value, ValueError)
