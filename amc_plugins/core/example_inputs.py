"""Example inputs as text: `1x3x224x224`, `1x16:i64:1000`, or the factory of a tensor. Free of torch until they are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_plugins.core.errors import SettingsError

__all__ = ["TYPES", "ExampleInput", "make_inputs", "parse_input"]

_FLOATS = ("f32", "f16", "bf16", "f64")
_LARGEST = {"bool": 1, "u8": 2**8 - 1, "i8": 2**7 - 1, "i16": 2**15 - 1, "i32": 2**31 - 1, "i64": 2**63 - 1}
TYPES = (*_FLOATS, *_LARGEST)
"""The types of a document's tensors."""


@dataclass(frozen=True)
class ExampleInput:
    """A tensor to be drawn: floats from [0, 1), whole numbers from 0 up to and without `below`."""

    shape: tuple[int, ...]
    dtype: str | None = None
    """A name of `TYPES`; None when the text gave none: f32, or what a recorded network takes."""
    below: int = 2
    """Two, so that every embedding has the entry."""


def parse_input(text: str, option: str = "") -> ExampleInput | str:
    """`SHAPE`, `SHAPE:TYPE` or `SHAPE:TYPE:BELOW`; what names a factory is given back as it is.

    `option` is put before the text in messages.

    Raises:
        SettingsError: it is neither.
    """
    where, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and (where.endswith(".py") or re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", where)):
        return text
    sizes, *kind = text.split(":")
    shown = f"{option} {text}".strip()
    try:
        shape = tuple(int(part) for part in re.split("[x,×]", sizes.lower()))
    except ValueError as error:
        raise SettingsError(
            f"`{shown}` is no shape",
            hint="write the sizes as 1x3x224x224, the batch first; 1x16:i64:1000 for whole numbers below 1000; "
            "or the factory of a tensor, `file.py:NAME`",
        ) from error
    if min(shape) < 1:
        raise SettingsError(f"`{shown}`: every size must be at least 1")
    if not kind:
        return ExampleInput(shape)
    dtype = kind[0]
    if dtype not in TYPES:
        raise SettingsError(f"`{shown}`: `{dtype}` is no type of a tensor; there are {', '.join(TYPES)}")
    if len(kind) == 1:
        return ExampleInput(shape, dtype)
    below = int(kind[1]) if len(kind) == 2 and kind[1].isdecimal() else 0
    if dtype not in _LARGEST or not 1 <= below <= _LARGEST[dtype] + 1:
        raise SettingsError(
            f"`{shown}`: after the type stands the number that whole numbers stay below, "
            + (f"1 to {_LARGEST[dtype] + 1:,} for {dtype}" if dtype in _LARGEST else f"and {dtype} holds none")
        )
    return ExampleInput(shape, dtype, below)


def make_inputs(given: Sequence[ExampleInput | str], *, base: Path | None = None, seed: int = 0) -> tuple[Any, ...]:
    """The inputs by position. A factory makes one of any form that a network takes; with a tuple it makes several."""
    import torch

    from amc_plugins.core.factories import call_factory
    from amc_plugins.core.network import TORCH_DTYPES

    generator = torch.Generator().manual_seed(seed)
    made: list[Any] = []
    for one in given:
        if isinstance(one, str):
            inputs = call_factory(one, base=base, seed=seed)
            made.extend(inputs if isinstance(inputs, tuple) else [inputs])
        elif one.dtype in _LARGEST:
            numbers = torch.randint(0, one.below, one.shape, generator=generator)
            made.append(numbers.to(TORCH_DTYPES[one.dtype]))
        else:
            made.append(torch.rand(one.shape, generator=generator).to(TORCH_DTYPES[one.dtype or "f32"]))
    return tuple(made)
