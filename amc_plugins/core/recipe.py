"""Recipes: one TOML file that says what to compress, with what, and where the results go. Free of torch.

Everything wrong with a recipe is reported at once, each problem with its path in the file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from amc_plugins.core.errors import AmcError, RecipeError
from amc_plugins.core.example_inputs import ExampleInput, parse_input
from amc_plugins.core.near_files import nearest_file
from amc_plugins.core.rounds import planned_rounds
from amc_plugins.core.validation import problem_lines

if TYPE_CHECKING:
    from amc_plugins.core.pipeline import RunResult

__all__ = ["Recipe", "checked", "read_recipe", "resolved", "run"]


def _checked_reference(text: str) -> str:
    if re.fullmatch(r"([\w./~ -]+\.py|[A-Za-z_]\w*(\.\w+)*):[A-Za-z_]\w*", text) is None:
        raise ValueError("expected `package.module:factory` or `file.py:factory`")
    return text


Reference = Annotated[str, AfterValidator(_checked_reference)]
"""`package.module:factory` or `file.py:factory`, the file relative to the recipe."""
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Shape = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


def _checked_input(text: str) -> str:
    parse_input(text)
    return text


InputText = Annotated[str, AfterValidator(_checked_input)]
"""`1x3x224x224`, `1x16:i64:1000`, or the factory of an input."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSection(_Section):
    """What to compress."""

    source: str = Field(
        description="`package.module:factory` or `file.py:factory` of a torch module, or a .json, .pkl or .vnmodel file",
        examples=["model.py:network"],
    )
    weights: str | None = Field(
        None, description="a state_dict saved by torch.save, loaded into the factory's module", examples=["trained.pt"]
    )
    input: Shape | InputText | list[Shape | InputText] | None = Field(
        None,
        description="the example input: its shape, batch included, as a list or as text, `1x16:i64:1000` for whole numbers "
        "below 1000, or the factory of a tensor; a list of these for several inputs",
        examples=[[1, 3, 224, 224]],
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="keywords for the factory")

    @model_validator(mode="after")
    def _input_of_a_factory(self) -> NetworkSection:
        if ":" in self.source and self.input is None:
            raise ValueError("`input` is needed to capture the network: the example's shape, for example [1, 3, 224, 224]")
        return self

    @property
    def inputs(self) -> list[ExampleInput | str]:
        """The example inputs, one after the other: what is to be drawn, or the reference of a factory."""
        given: Any = self.input
        several = isinstance(given, list) and not all(isinstance(one, int) for one in given)
        listed = given if several else [given]
        return [parse_input(one) if isinstance(one, str) else ExampleInput(tuple(one)) for one in listed]


class DataSection(_Section):
    """Loaders, each made by a factory. Labels are needed to train and to measure accuracy only."""

    train: Reference | None = Field(None, description="batches of (input, label), to retrain on", examples=["data.py:train"])
    validation: Reference | None = Field(
        None, description="chooses epochs and candidates; never the test set", examples=["data.py:validation"]
    )
    test: Reference | None = Field(None, description="reported, never used for a choice", examples=["data.py:test"])
    calibration: Reference | None = Field(None, description="default: the training data", examples=["data.py:calibration"])
    settings: dict[str, Any] = Field(default_factory=dict, description="keywords for every factory")


class CompressSection(_Section):
    """One compression: exactly one of `total`, `ratio` and `ratios`; or none, with the setting `accuracy_threshold`."""

    method: str = Field(description="a compressor plugin")
    total: Share | None = Field(None, description="share of the network to remove, of what `budget` counts", examples=[0.5])
    budget: Literal["macs", "parameters", "activations", "latency"] = Field(
        "macs", description="what `total` counts; `activations`: peak memory of one sample, `latency`: measured here"
    )
    batch: Annotated[int, Field(ge=1)] = Field(1, description="samples of the forward pass that is timed")
    threads: Annotated[int, Field(ge=1)] | None = Field(None, description="while it is timed; default: torch's", examples=[1])
    ratio: Share | None = Field(None, description="share of each layer's MACs to remove", examples=[0.5])
    ratios: dict[str, Share] | None = Field(
        None, description="shares by layer name or glob", examples=[{"layer1.*": 0.3, "layer2.*": 0.5}]
    )
    allocation: Literal["curves", "uniform"] = Field(
        "curves", description="how a total is spent: by the layers' error curves, or the same ratio everywhere"
    )
    refit: bool = Field(True, description="fit the layers once more, on the compressed network's own activations")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the compressor, see `amc plugins show`")

    @model_validator(mode="after")
    def _one_target(self) -> CompressSection:
        given = [name for name in ("total", "ratio", "ratios") if getattr(self, name) is not None]
        if self.settings.get("compress_ratio") is not None:
            raise ValueError("`settings.compress_ratio` says what `ratio` and `ratios` of this section say: use one of these")
        if len(given) != 1 and (given or not self.accuracy_first):
            raise ValueError(f"exactly one of `total`, `ratio` and `ratios` is needed, given: {', '.join(given) or 'none'}")
        if self.budget != "macs" and given not in (["total"], []):
            raise ValueError(f'`budget = "{self.budget}"` needs `total`; `{given[0]}` is a share of MACs')
        return self

    @property
    def accuracy_first(self) -> bool:
        return bool(self.settings.get("accuracy_threshold"))


class TuneSection(_Section):
    """A search for the ratios; the compression's `total` is its budget."""

    method: str = Field(description="a tuner plugin")
    evaluations: Annotated[int, Field(ge=1)] = Field(100, description="how many different candidates to score")
    objective: Literal["divergence", "accuracy"] = Field(
        "divergence", description="of the outputs from the original's on calibration data, or accuracy on the validation data"
    )
    confirm: Annotated[int, Field(ge=0)] = Field(
        3, description="so many of the best are scored again on data that is new to the search"
    )
    workers: Annotated[int, Field(ge=1)] = Field(1, description="processes that score candidates")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the tuner, see `amc plugins show`")


class TrainSection(_Section):
    """Retraining after a compression."""

    method: str = Field(description="a trainer plugin")
    teacher: bool = Field(False, description="hand the original network to the trainer as its teacher")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the trainer, see `amc plugins show`")


class FloorSection(_Section):
    """The accuracy that the result must have on the validation data. A later round that falls below it is left out, and the
    round before gives the result; when the first one does, the run ends with exit code 1."""

    accuracy: Annotated[float, Field(ge=0.0, le=1.0)] = Field(description="the least accuracy, as a share", examples=[0.9])


class ExportSection(_Section):
    """One file. The path is relative to the run folder; the default is `network` with the exporter's suffix."""

    path: str = Field("network", description="relative to the run folder; without a suffix, the exporter's is added")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the exporter, see `amc plugins show`")


class Recipe(_Section):
    """(compress -> retrain) x rounds, each round's result the next one's origin, then exports and a report."""

    title: str = Field("AMC run", description="the heading of the report")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of all randomness")
    folder: str = Field(description="the run folder, relative to the recipe", examples=["runs/compressed"])
    rounds: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="how often to compress and retrain; every round removes its own share of what the one before left; "
        "default: once, or as often as `until` needs",
    )
    until: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None,
        description="instead of `rounds`: go on until this share of the original is removed; every round removes "
        "`compress.total` of what is left, the last one only what is missing",
        examples=[0.7],
    )
    device: str = Field("cpu", description="`cpu`, `cuda`, `cuda:1`, ...")
    observers: list[str] = Field(default_factory=list, description="observer plugins to tell")
    report: bool = Field(True, description="write report.html")
    speed: bool = Field(True, description="time the original and the result, in PyTorch and on engines, for the report")
    network: NetworkSection
    data: DataSection
    compress: CompressSection
    tune: TuneSection | None = None
    train: TrainSection | None = None
    floor: FloorSection | None = None
    export: dict[str, ExportSection] = Field(default_factory=dict, description="by exporter plugin")

    @model_validator(mode="after")
    def _what_steps_need(self) -> Recipe:
        problems = []
        if self.data.train is None and self.data.calibration is None:
            problems.append("`data.calibration` or `data.train` is needed to compress")
        if self.train is not None and self.data.train is None:
            problems.append("`data.train` is needed to retrain")
        if self.tune is not None and self.compress.total is None:
            problems.append("`compress.total` is needed to tune: it is the search's budget")
        if self.tune is not None and self.tune.objective == "accuracy" and self.data.validation is None:
            problems.append('`data.validation` is needed for `tune.objective = "accuracy"`')
        problems += self._rounds_problems()
        if self.compress.accuracy_first and self.data.validation is None:
            problems.append("`data.validation` is needed for `compress.settings.accuracy_threshold`")
        if self.compress.accuracy_first and self.tune is not None:
            problems.append("`compress.settings.accuracy_threshold` chooses the ratios, and so does `tune`: leave one out")
        if self.floor is not None and self.data.validation is None:
            problems.append("`data.validation` is needed to check `floor.accuracy`")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _rounds_problems(self) -> list[str]:
        if self.until is None:
            return []
        problems = []
        if self.rounds is not None:
            problems.append("`rounds` says how often to compress, and `until` how far: leave one out")
        if self.compress.accuracy_first:
            problems.append(
                "`compress.settings.accuracy_threshold` says how far to compress, and so does `until`: leave one out"
            )
        elif not self.compress.total:
            problems.append("`compress.total` is needed with `until`: it is the share that one round removes")
        return problems

    @property
    def planned_rounds(self) -> int:
        """The most rounds there will be."""
        if self.until is None:
            return self.rounds or 1
        assert self.compress.total is not None
        return planned_rounds(self.compress.total, self.until)


def read_recipe(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe, the settings of the plugins it names included.

    Args:
        path: the TOML file.
        overrides: values by dotted path (`compress.total`) that take the file's place.

    Raises:
        RecipeError: the file is missing, is no TOML, or does not validate: every problem with its path and the
            nearest valid name.
    """
    path = Path(path)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"the recipe `{path}` cannot be read: {error.strerror}{nearest_file(path)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"`{path}` is not TOML: {error}") from error
    for dotted, value in (overrides or {}).items():
        _put(plain, dotted, value)
    return checked(plain, f"`{path}`")


def checked(plain: Mapping[str, Any], what: str) -> Recipe:
    """A recipe from plain data, validated with the settings of the plugins that it names; `what` begins the message.

    Raises:
        RecipeError: every problem with its path and the nearest valid name.
    """
    problems: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(plain)
    except ValidationError as error:
        problems.extend(problem_lines(error, Recipe))
    problems.extend(_plugin_problems(plain))
    if problems or recipe is None:
        listed = "\n".join(f"  {line}" for line in dict.fromkeys(problems))
        raise RecipeError(f"{what} is not a valid recipe:\n{listed}", hint="`amc plugins show NAME` lists a plugin's settings")
    return recipe


def _put(plain: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        plain = plain.setdefault(part, {})
        if not isinstance(plain, dict):
            raise RecipeError(f"`{dotted}` cannot be set: `{part}` is not a table of the recipe")
    plain[last] = value


def resolved(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data with every default filled in, those of the plugins' settings too. None stands for no value."""
    from amc_plugins.core.registry import registry

    plain: dict[str, Any] = recipe.model_dump(mode="json")
    for _, kind, name, body in _plugins_of(plain):
        if "settings" in body:
            settings = registry().spec(kind, name).settings.model_validate(body["settings"])  # type: ignore[attr-defined]
            body["settings"] = settings.model_dump(mode="json")
    return plain


def _plugins_of(plain: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The plugins that a recipe names, as far as it has the right form: (path, kind, name, section)."""
    for section, kind in (("compress", "compressors"), ("tune", "tuners"), ("train", "trainers")):
        body = plain.get(section)
        if isinstance(body, dict) and isinstance(body.get("method"), str):
            yield section, kind, body["method"], body
    exports = plain.get("export")
    for name, body in exports.items() if isinstance(exports, dict) else ():
        yield f"export.{name}", "exporters", name, body if isinstance(body, dict) else {}
    observers = plain.get("observers")
    for name in observers if isinstance(observers, list) else ():
        if isinstance(name, str):
            yield "observers", "observers", name, {}


def _plugin_problems(plain: Mapping[str, Any]) -> list[str]:
    """What is wrong with the plugins that a recipe names, whether or not the rest validates."""
    from amc_plugins.core.registry import registry

    problems = []
    for where, kind, name, body in _plugins_of(plain):
        try:
            spec = registry().spec(kind, name)
            spec.settings.model_validate(body.get("settings", {}))  # type: ignore[attr-defined]
        except ValidationError as error:
            problems.extend(problem_lines(error, spec.settings, f"{where}.settings"))  # type: ignore[attr-defined]
        except AmcError as error:
            problems.append(f"{where}: {error}" + (f" ({error.hint})" if error.hint else ""))
    return problems


def run(
    recipe: str | os.PathLike[str] | Recipe,
    *,
    base: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    observers: Iterable[object] = (),
) -> RunResult:
    """Run a recipe from start to end; a run that was interrupted goes on at the step where it stopped.

    Args:
        recipe: a TOML file, or a validated `Recipe`.
        base: where relative paths start; default: the recipe file's folder, or the working directory.
        overrides: values by dotted path that take the file's place.
        observers: objects with observer hooks, told besides the plugins that the recipe names.

    Raises:
        RecipeError: see `read_recipe`.
        CheckFailed: the accuracy floor was missed.
    """
    from amc_plugins.core.pipeline import run_recipe

    if isinstance(recipe, Recipe):
        return run_recipe(recipe, Path(base or "."), observers)
    folder = Path(base) if base is not None else Path(recipe).resolve().parent
    return run_recipe(read_recipe(recipe, overrides), folder, observers)
