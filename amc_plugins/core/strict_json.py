"""JSON from files that nobody vouches for: bounded before it is parsed, and only what two readers read alike."""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any, NoReturn

from amc_plugins.core.errors import DocumentError

__all__ = ["StrictJsonError", "parse_strict"]

# Possessive: an unterminated string is consumed to the end once instead of being tried again from each of its quotes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BETWEEN_QUOTES = re.compile(rb'"[^"]*+"?')
_NOT_STRUCTURE = bytes(code for code in range(256) if code not in b'[]{}:"')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_STEP = {ord("["): 1, ord("]"): -1}
_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
# Without these no integer leaves 64 bits and no float is infinite, and the parser's own conversions, which are faster, serve.
_LONG_INTEGER = b"0" * 19
_LARGE_FLOATS = (b"e000", b"e+000", b"0" * 300)
_I64 = range(-(2**63), 2**63)


class StrictJsonError(DocumentError):
    """JSON that is refused.

    `code` is one of BAD_UTF8, JSON_START, JSON_DEPTH, JSON_TOO_MANY, JSON_SYNTAX, JSON_DUP_KEY, NUMBER_NONFINITE, INT_RANGE,
    BAD_CHAR; `reason` is the message without it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"not acceptable JSON: {message} [{code}]")
        self.code = code
        self.reason = message


def parse_strict(data: bytes, *, max_depth: int = 16, max_items: int = 4_000_000) -> dict[str, Any]:
    """Parse one JSON object (RFC 8259). Depth and the number of items are bounded before anything is built.

    Refused beyond the grammar: nesting deeper than `max_depth`, repeated keys, NaN and infinities (also `1e999`), integers
    outside 64 bits, lone surrogates.

    Raises:
        StrictJsonError: a `DocumentError`; its `code` says which rule was broken.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJsonError("BAD_UTF8", f"byte {error.start} is not UTF-8") from error
    if text.lstrip(" \t\r\n")[:1] != "{":
        raise StrictJsonError("JSON_START", "it does not start with an object")
    structure = _structure(data)
    _check_depth(structure, max_depth)
    # Each value but the first follows a comma or an opening bracket, so these bound what json.loads can build.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > max_items:
        raise StrictJsonError("JSON_TOO_MANY", f"more than {max_items} items")
    parsed = _plain(text, data, structure)
    if parsed is None:
        parsed = _checked(text)
    if "\\u" in text:  # the only way to a lone surrogate once the bytes are UTF-8
        _check_text(parsed)
    if not isinstance(parsed, dict):
        raise StrictJsonError("JSON_START", "it is not an object")
    return parsed


def _structure(data: bytes) -> bytes:
    """The brackets and colons outside of strings, in order."""
    if b"\\" in data:
        return _STRING.sub(b"", data).translate(None, _NOT_STRUCTURE)
    # Every quote starts or ends a string. Two that have nothing of interest between them change neither side of any other.
    found = data.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    return _BETWEEN_QUOTES.sub(b"", found) if b'"' in found else found


def _check_depth(structure: bytes, max_depth: int) -> None:
    """json.loads recurses; the nesting is counted before it may."""
    brackets = left = structure.translate(_ALIKE, b":")
    for _ in range(max_depth):  # what is sound loses its innermost level each time
        left = left.replace(b"[]", b"")
    if left and max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > max_depth:
        raise StrictJsonError("JSON_DEPTH", f"it is nested deeper than {max_depth}")


def _plain(text: str, data: bytes, structure: bytes) -> Any:
    """What the parser makes of JSON that is within all bounds; None when something may not be, for `_checked` to say what."""
    digits = data.translate(_ZEROS)
    if _LONG_INTEGER in digits or any(one in digits for one in _LARGE_FLOATS):
        return None
    sizes: list[int] = []

    def count(made: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(made))
        return made

    try:
        parsed = json.loads(text, object_hook=count, parse_constant=_constant)
    except ValueError:
        return None
    return parsed if sum(sizes) == structure.count(b":") else None  # a key that occurs twice has one place in its object


def _checked(text: str) -> Any:
    """The same with a look at every object and number: slower, and it names the first that is refused."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError("JSON_SYNTAX", str(error)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise StrictJsonError("JSON_DUP_KEY", f"the key {twice[:80]!r} occurs twice in one object")
    return made


def _integer(text: str) -> int:
    if len(text) > 20 or (value := int(text)) not in _I64:
        raise StrictJsonError("INT_RANGE", f"the integer {text[:24]}{'...' if len(text) > 24 else ''} does not fit 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError("NUMBER_NONFINITE", f"the number {text[:24]} is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise StrictJsonError("NUMBER_NONFINITE", f"{text} is no JSON")


def _check_text(parsed: object) -> None:
    waiting = [parsed]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if any("\ud800" <= char <= "\udfff" for char in one):
                raise StrictJsonError("BAD_CHAR", f"{one[:80]!r} has a lone surrogate")
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
