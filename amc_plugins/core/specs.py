"""The declarations that plugins return from their hooks: frozen, validated, free of torch.

A declaration says what a plugin offers and where its code is (`target`, imported on first use); it never holds the code itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "AMC_API",
    "CompressorSettings",
    "CompressorSpec",
    "ExporterSpec",
    "LayerHandlerSpec",
    "ObserverSpec",
    "PluginSpec",
    "Settings",
    "TrainerSpec",
    "TunerSpec",
]

AMC_API = (1, 1)
"""Version of the contract. A plugin loads when its major equals this one and its minor is not above it (docs/versions.md)."""

_NAME = r"^[a-z][a-z0-9]*([_-][a-z0-9]+)*$"
_TARGET = r"^[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*:[A-Za-z_]\w*$"
_DOTTED = r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)+$"
_OP = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$"

Name = Annotated[str, Field(pattern=_NAME)]
Target = Annotated[str, Field(pattern=_TARGET)]
Dotted = Annotated[str, Field(pattern=_DOTTED)]


class Settings(BaseModel):
    """Base of every settings model: unknown names are refused, values are frozen.

    One model validates the Python call, the recipe and the command line, and prints in `amc plugins show`. Give every field a
    default, bounds and a `description`. A field that is declared but not implemented yet is listed in `not_implemented`; it
    refuses every value but its default, so that nothing is silently ignored. A setting that got another name is in `renamed`
    (old name -> new name, since 1.1): the old one is taken, with a FutureWarning that names the new one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    not_implemented: ClassVar[frozenset[str]] = frozenset()
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        for old, new in cls.renamed.items():
            if old in values:
                if new in values:
                    raise ValueError(f"`{old}` is the old name of `{new}`, and both are given: leave `{old}` out")
                warnings.warn(f"the setting `{old}` is called `{new}` now; the old name will go", FutureWarning, stacklevel=2)
                values[new] = values.pop(old)
        return values

    @model_validator(mode="after")
    def _refuse_what_is_not_implemented(self) -> Self:
        for name in sorted(self.not_implemented & self.model_fields_set):
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default:
                raise ValueError(f"`{name}` is not implemented yet: leave it at its default, {default!r}")
        return self


class CompressorSettings(Settings):
    """What the engine does for every compressor. Names of the source system."""

    checkpointfolder: Path | None = Field(None, description="folder for what the compressor and the drawing leave")
    accuracy_first: bool = Field(
        False, description="remove as much as leaves the validation accuracy at or above `accuracy_threshold`"
    )
    accuracy_threshold: float = Field(
        0.0,
        ge=0.0,
        description="the accuracy to stay at or above; it turns `accuracy_first` on, and a total or ratios are then the most",
    )
    fold_norms: bool = Field(
        False,
        description="make batch norms part of the layers in front of them, in float64; by default they stay, trainable",
    )
    drawgraph: bool = Field(False, description="draw the compressed network into `checkpointfolder` as `compressed.html`")

    @model_validator(mode="after")
    def _accuracy_is_asked_for_in_full(self) -> Self:
        if self.accuracy_first and not self.accuracy_threshold:
            raise ValueError("`accuracy_first` needs `accuracy_threshold`, the accuracy to stay above")
        if self.accuracy_threshold and "accuracy_first" in self.model_fields_set and not self.accuracy_first:
            raise ValueError("`accuracy_threshold` is given and `accuracy_first` is off: leave one of them out")
        if self.accuracy_threshold:
            self.__dict__["accuracy_first"] = True  # so that settings written out in full mean the same when they are read
        if self.drawgraph and self.checkpointfolder is None:
            raise ValueError("`drawgraph` needs `checkpointfolder`, the folder to draw into")
        return self


class PluginSpec(BaseModel):
    """What every declaration has."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    kind: ClassVar[str]

    name: Name
    """The entry point's name: what a user types."""
    summary: Annotated[str, Field(min_length=1, max_length=120)]
    """One line for the listing."""
    target: Target
    """`package.module:attribute` of the class, imported on first use."""
    api: tuple[int, int]
    """The contract version that the plugin was written for, for example `(1, 0)`."""
    replaces: tuple[str, ...] = ()
    """Distributions whose plugin of the same name this one takes the place of."""
    known_exceptions: dict[str, str] = Field(default_factory=dict)
    """Conformance checks that the plugin fails, each with the reason (since 1.1); see `amc_plugins.testing`."""

    @field_validator("summary")
    @classmethod
    def _one_line(cls, summary: str) -> str:
        if "\n" in summary:
            raise ValueError("the summary must be one line")
        return summary


class LayerHandlerSpec(PluginSpec):
    """One operation: its id in documents and what is captured as it. `target` is a `LayerHandler` class."""

    kind = "layer_handlers"

    op: Annotated[str, Field(pattern=_OP)]
    """Namespaced id, for example `vn.conv2d` (built in) or `com.acme.swish`."""
    op_version: Annotated[int, Field(ge=1)] = 1
    """Version of the handler's parameter schema."""
    captures: tuple[Dotted, ...] = ()
    """Dotted names of module classes (`torch.nn.Conv2d`), functions and tensor methods (`torch.Tensor.view`)."""
    emitters: dict[str, Target] = Field(default_factory=dict)
    """Code per exporter, for example `{"onnx": "amc_op_conv._onnx:conv2d"}`; imported only by that exporter."""
    examples: Target | None = None
    """Code that gives example calls, imported only by conformance checks (since 1.1): a function that is called with `name` and
    returns tuples of a module or function and its inputs, for example `(F.relu, image)`."""
    options: dict[str, str] = Field(default_factory=dict)
    """Passed to the handler's constructor; what `transparent` and `barrier` use."""


class _WithSettings(PluginSpec):
    settings: type[Settings] = Settings
    """The settings model; lives in the light module beside the hook."""


class CompressorSpec(_WithSettings):
    """`target` is a `Compressor` class."""

    kind = "compressors"


class TunerSpec(_WithSettings):
    """`target` is a `Tuner` class."""

    kind = "tuners"


class TrainerSpec(_WithSettings):
    """`target` is a `Trainer` class."""

    kind = "trainers"


class ExporterSpec(_WithSettings):
    """`target` is an `Exporter` class. `suffixes` are the file names it writes, dot included, the first being the default."""

    kind = "exporters"

    suffixes: tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9]+$")], ...]
    loads: bool = False
    """Whether `amc.load` can read the file back with this exporter."""
    engines: dict[Name, Target] = Field(default_factory=dict)
    """What runs its files, by name (since 1.1): classes `amc_plugins.exporting.Engine`, which `amc bench` times."""


class ObserverSpec(_WithSettings):
    """`target` is a class whose methods are observer hooks (`amc_run_started`, ...); one instance is made per run."""

    kind = "observers"
