"""Numbers that remember how they were computed: what sizes are while a network is being recorded."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

__all__ = ["COMPARISONS", "OPPOSITE", "SizeRecorder", "TracedFloat", "TracedInt", "TracedQuotient", "TracedSize"]

_LARGEST_POWER = 8
_LARGEST_DENOMINATOR = 64

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
_NO_CHANGE = frozenset({("add", 0), ("sub", 0), ("mul", 1), ("floordiv", 1)})
OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


class SizeRecorder(Protocol):
    """What traced numbers report to."""

    def record_int(self, fn: str, operands: list[Any], result: int) -> TracedInt | int: ...

    def require(self, fn: str, left: Any, right: Any, *, value: bool = False) -> None:
        """Python saw that a comparison of ints holds: the record is good for sizes for which it does.

        `value`: it was not asked for the comparison, but took the number, of which it may have made anything.
        """


def _arithmetic(fn: str) -> Any:
    return lambda self, other: self._apply(fn, self, other)


def _reflected(fn: str) -> Any:
    return lambda self, other: self._apply(fn, other, self)


def _comparison(fn: str) -> Any:
    return lambda self, other: self._compare(fn, other)


def _bitwise(fn: str) -> Any:
    return lambda self, other: getattr(operator, fn)(self.fixed(), _fixed(other))


class TracedInt(int):
    """An int whose origin is `source`: a callable that gives the name of its value in the graph (recorded on first use).

    Arithmetic with ints gives traced ints, and so do `round`, `math.ceil`, `math.floor` and `math.trunc` of quotients of ints.
    Where Python gets a plain answer (comparisons, `bool`, `int`, `float`, bitwise operations), the recorder is told to require
    the same answer of other sizes. What nothing can tell it are `range`, indices of lists, `0.5 * size`, `math.log`, hashes and
    texts; capture notices them where they matter, by running another batch and another image size.
    """

    recorder: SizeRecorder
    source: Callable[[], str]

    def __new__(cls, value: int, recorder: SizeRecorder, source: Callable[[], str]) -> TracedInt:
        self = super().__new__(cls, _plain(value))
        self.recorder = recorder
        self.source = source
        return self

    def plain(self) -> int:
        """The number alone; the recorder is told nothing."""
        return int.__int__(self)

    def fixed(self) -> int:
        """The number alone, which the record needs from here on."""
        self.recorder.require("eq", self, self.plain(), value=True)
        return self.plain()

    def _apply(self, fn: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int) and isinstance(right, int)):
            return self._with_float(fn, left, right)
        if left is self and type(right) is int and (fn, right) in _NO_CHANGE:
            return self
        return self.recorder.record_int(fn, [left, right], getattr(operator, fn)(_plain(left), _plain(right)))

    def _with_float(self, fn: str, left: Any, right: Any) -> Any:
        """Python asks the other operand where that is no float; quotients of traced ints know better."""
        other = right if left is self else left
        if not isinstance(other, float) or isinstance(other, TracedFloat):
            return NotImplemented
        ratio = _ratio(other)
        if fn == "mul" and ratio is not None:
            return TracedQuotient(self.plain() * other, self * ratio.numerator, ratio.denominator)
        return TracedFloat(getattr(operator, fn)(_plain(left), _plain(right)), (self,))

    __add__, __radd__ = _arithmetic("add"), _reflected("add")
    __sub__, __rsub__ = _arithmetic("sub"), _reflected("sub")
    __mul__, __rmul__ = _arithmetic("mul"), _reflected("mul")
    __floordiv__, __rfloordiv__ = _arithmetic("floordiv"), _reflected("floordiv")
    __mod__, __rmod__ = _arithmetic("mod"), _reflected("mod")

    def __neg__(self) -> Any:
        return self.recorder.record_int("neg", [self], -self.plain())

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, float) and not isinstance(other, TracedFloat) and other.is_integer() and other:
            other = int(other)
        if not isinstance(other, int):
            return self._with_float("truediv", self, other)
        return TracedQuotient(self.plain() / _plain(other), self, other)

    def __rtruediv__(self, other: Any) -> Any:
        if isinstance(other, int):
            return TracedQuotient(_plain(other) / self.plain(), other, self)
        return self._with_float("truediv", other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << _plain(other)) if isinstance(other, int) else NotImplemented

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << _plain(other)) if isinstance(other, int) else NotImplemented

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is None and isinstance(other, int) and 1 <= _plain(other) <= _LARGEST_POWER:
            power: Any = self
            for _ in range(_plain(other) - 1):
                power = power * self
            return power
        if modulo is None and isinstance(other, int | float):
            result = self.plain() ** _plain(other)
            if isinstance(result, float):
                return TracedFloat(result, (self, *_sources(other)))
        return int.__pow__(self.fixed(), _fixed(other), modulo)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return other ** self.fixed()

    def __pos__(self) -> Any:
        return self

    def __ceil__(self) -> Any:
        return self

    def __floor__(self) -> Any:
        return self

    def __trunc__(self) -> Any:
        return self

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None or digits >= 0 else round(self.fixed(), digits)

    # --- plain answers ---

    def _compare(self, fn: str, other: Any) -> Any:
        if isinstance(other, int):
            answer = COMPARISONS[fn](self.plain(), _plain(other))
            self.recorder.require(fn if answer else OPPOSITE[fn], self, other)
            return answer
        return COMPARISONS[fn](self.fixed(), _fixed(other)) if isinstance(other, float) else NotImplemented

    __eq__, __ne__, __lt__, __le__, __gt__, __ge__ = (_comparison(fn) for fn in COMPARISONS)

    def __bool__(self) -> bool:
        return bool(self._compare("ne", 0))

    def __int__(self) -> int:
        return self.fixed()

    def __float__(self) -> float:
        return float(self.fixed())

    __and__, __rand__ = _bitwise("and_"), _bitwise("and_")
    __or__, __ror__ = _bitwise("or_"), _bitwise("or_")
    __xor__, __rxor__ = _bitwise("xor"), _bitwise("xor")

    def __rlshift__(self, other: Any) -> Any:
        return other << self.fixed()

    def __rrshift__(self, other: Any) -> Any:
        return other >> self.fixed()

    def __invert__(self) -> Any:
        return ~self.fixed()

    def bit_length(self) -> int:
        return self.fixed().bit_length()

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (self.plain(),)

    __hash__ = int.__hash__


class TracedFloat(float):
    """A float that was computed from traced ints. Used as a plain number, it stays what it is: its ints must, then."""

    sources: tuple[TracedInt, ...]

    def __new__(cls, value: float, sources: tuple[TracedInt, ...]) -> TracedFloat:
        self = super().__new__(cls, value)
        self.sources = sources
        return self

    def plain(self) -> float:
        """The number alone; the recorder is told nothing."""
        return float.__float__(self)

    def fixed(self) -> float:
        """The number alone, which the record needs from here on."""
        for one in self.sources:
            one.fixed()
        return self.plain()

    def _apply(self, fn: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int | float) and isinstance(right, int | float)):
            return NotImplemented
        result = getattr(operator, fn)(_plain(left), _plain(right))
        return TracedFloat(result, (*_sources(left), *_sources(right))) if isinstance(result, float) else result

    __add__, __radd__ = _arithmetic("add"), _reflected("add")
    __sub__, __rsub__ = _arithmetic("sub"), _reflected("sub")
    __mul__, __rmul__ = _arithmetic("mul"), _reflected("mul")
    __truediv__, __rtruediv__ = _arithmetic("truediv"), _reflected("truediv")
    __floordiv__, __rfloordiv__ = _arithmetic("floordiv"), _reflected("floordiv")
    __mod__, __rmod__ = _arithmetic("mod"), _reflected("mod")
    __pow__, __rpow__ = _arithmetic("pow"), _reflected("pow")

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self.plain() >= 0 else -self

    # --- plain answers ---

    def _compare(self, fn: str, other: Any) -> Any:
        return COMPARISONS[fn](self.fixed(), _fixed(other))

    __eq__, __ne__, __lt__, __le__, __gt__, __ge__ = (_comparison(fn) for fn in COMPARISONS)

    def __bool__(self) -> bool:
        return bool(self.fixed())

    def __int__(self) -> int:
        return int(self.fixed())

    def __float__(self) -> float:
        return self.fixed()

    def __floor__(self) -> Any:
        return math.floor(self.fixed())

    def __ceil__(self) -> Any:
        return math.ceil(self.fixed())

    def __trunc__(self) -> Any:
        return math.trunc(self.fixed())

    def __round__(self, digits: Any = None) -> Any:
        return round(self.fixed(), digits)

    def is_integer(self) -> bool:
        return self.fixed().is_integer()

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (self.plain(),)

    __hash__ = float.__hash__


class TracedQuotient(TracedFloat):
    """A quotient of ints of which at least one is traced. Rounding it to an int gives a traced int again:
    `math.ceil(height / stride)` stays symbolic, exactly where the float quotient rounds to the same integer.
    """

    upper: int
    lower: int

    def __new__(cls, value: float, upper: int, lower: int) -> TracedQuotient:
        self = super().__new__(cls, value, (*_sources(upper), *_sources(lower)))
        assert isinstance(self, TracedQuotient)
        self.upper, self.lower = upper, lower
        return self

    def fixed(self) -> float:
        """The number alone: other sizes must have the same quotient."""
        ratio = Fraction(_plain(self.upper), _plain(self.lower))
        left, right = self.upper * ratio.denominator, self.lower * ratio.numerator
        if isinstance(left, TracedInt):
            left.recorder.require("eq", left, right, value=True)
        elif isinstance(right, TracedInt):
            right.recorder.require("eq", right, left, value=True)
        return self.plain()

    def _apply(self, fn: str, left: Any, right: Any) -> Any:
        result = super()._apply(fn, left, right)
        other = right if left is self else left
        ratio = _ratio(other) if isinstance(other, int | float) and not isinstance(other, TracedInt | TracedFloat) else None
        if ratio is None or not isinstance(result, float):
            return result
        up, low = ratio.numerator, ratio.denominator
        value, upper, lower = _plain(result), self.upper * low, self.lower * low
        if fn == "mul":
            return TracedQuotient(value, self.upper * up, lower)
        if fn == "truediv" and left is self:
            return TracedQuotient(value, upper, self.lower * up) if up > 0 else result
        if fn == "add":
            return TracedQuotient(value, upper + self.lower * up, lower)
        if fn == "sub":
            upper -= self.lower * up
            return TracedQuotient(value, upper if left is self else -upper, lower)
        return result

    def __floor__(self) -> Any:
        return self._exact(self.upper // self.lower, math.floor(self.plain()))

    def __ceil__(self) -> Any:
        return self._exact(-(-self.upper // self.lower), math.ceil(self.plain()))

    def __trunc__(self) -> Any:
        return self.__floor__() if self.plain() >= 0 else self.__ceil__()

    def __int__(self) -> int:
        return int(self.__trunc__())

    def __round__(self, digits: Any = None) -> Any:
        """To the nearest integer, halves to the even one: one more than `down` if 2 * rest > lower, or equal and `down` odd."""
        if digits is not None or _plain(self.lower) < 1:
            return super().__round__(digits)
        down, rest = self.upper // self.lower, self.upper % self.lower
        return self._exact(down + (rest * 2 + down % 2) // (self.lower + 1), round(self.plain()))

    def _exact(self, traced: Any, rounded: int) -> Any:
        """The traced int where the float, which is rounded itself, leads to the same; else the number, for this quotient."""
        if _plain(traced) == rounded:
            return traced
        self.fixed()
        return rounded


class TracedSize(tuple[int, ...]):
    """Stands for `torch.Size` while recording: a tuple of traced ints that keeps `numel` traced as well."""

    def numel(self) -> int:
        return math.prod(self[1:], start=self[0]) if self else 1

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return TracedSize(item) if isinstance(index, slice) else item


def _plain(number: Any) -> Any:
    return number.plain() if isinstance(number, TracedInt | TracedFloat) else number


def _fixed(number: Any) -> Any:
    return number.fixed() if isinstance(number, TracedInt | TracedFloat) else number


def _sources(number: Any) -> tuple[TracedInt, ...]:
    return (number,) if isinstance(number, TracedInt) else number.sources if isinstance(number, TracedFloat) else ()


def _ratio(number: float) -> Fraction | None:
    """The number as a fraction, if it is a simple one."""
    ratio = Fraction(number) if math.isfinite(number) else None
    return ratio if ratio is not None and ratio.denominator <= _LARGEST_DENOMINATOR else None
