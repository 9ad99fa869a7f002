"""Ints that remember how they were computed: what sizes are while a network is being recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["IntRecorder", "TracedInt", "TracedQuotient", "TracedSize"]


_LARGEST_POWER = 8


class IntRecorder(Protocol):
    """What a traced int reports to."""

    def record_int(self, fn: str, operands: list[Any], result: int) -> TracedInt | int: ...


class TracedInt(int):
    """An int whose origin is `source`: a callable that gives the name of its value in the graph (recorded on first use).

    Arithmetic with ints gives traced ints, and so do `math.ceil`, `math.floor` and `math.trunc` of a quotient of ints.
    Comparisons and conversions give plain values, as control flow needs them. `int(x)`, other float arithmetic and
    `len()` lose the origin; capture notices when that matters for the batch, by running a second batch size.
    """

    recorder: IntRecorder
    source: Callable[[], str]

    def __new__(cls, value: int, recorder: IntRecorder, source: Callable[[], str]) -> TracedInt:
        self = super().__new__(cls, value)
        self.recorder = recorder
        self.source = source
        return self

    def _apply(self, fn: str, operands: list[Any], result: Any) -> Any:
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in operands):
            return result
        return self.recorder.record_int(fn, operands, result)

    def __add__(self, other: Any) -> Any:
        return self._apply("add", [self, other], int.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return self._apply("add", [other, self], int.__radd__(self, other))

    def __sub__(self, other: Any) -> Any:
        return self._apply("sub", [self, other], int.__sub__(self, other))

    def __rsub__(self, other: Any) -> Any:
        return self._apply("sub", [other, self], int.__rsub__(self, other))

    def __mul__(self, other: Any) -> Any:
        return self._apply("mul", [self, other], int.__mul__(self, other))

    def __rmul__(self, other: Any) -> Any:
        return self._apply("mul", [other, self], int.__rmul__(self, other))

    def __floordiv__(self, other: Any) -> Any:
        return self._apply("floordiv", [self, other], int.__floordiv__(self, other))

    def __rfloordiv__(self, other: Any) -> Any:
        return self._apply("floordiv", [other, self], int.__rfloordiv__(self, other))

    def __mod__(self, other: Any) -> Any:
        return self._apply("mod", [self, other], int.__mod__(self, other))

    def __rmod__(self, other: Any) -> Any:
        return self._apply("mod", [other, self], int.__rmod__(self, other))

    def __neg__(self) -> Any:
        return self._apply("neg", [self], int.__neg__(self))

    def __truediv__(self, other: Any) -> Any:
        result = int.__truediv__(self, other)
        return TracedQuotient(result, self, other) if isinstance(other, int) else result

    def __rtruediv__(self, other: Any) -> Any:
        result = int.__rtruediv__(self, other)
        return TracedQuotient(result, other, self) if isinstance(other, int) else result

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << int(other)) if isinstance(other, int) else NotImplemented

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << int(other)) if isinstance(other, int) else NotImplemented

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is not None or not isinstance(other, int) or not 1 <= other <= _LARGEST_POWER:
            return int.__pow__(self, other, modulo)
        power: Any = self
        for _ in range(int(other) - 1):
            power = power * self
        return power

    def __pos__(self) -> Any:
        return self

    def __ceil__(self) -> Any:
        return self

    def __floor__(self) -> Any:
        return self

    def __trunc__(self) -> Any:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)

    __hash__ = int.__hash__


class TracedQuotient(float):
    """A quotient of ints of which at least one is traced. Rounding it down, up or towards zero gives a traced int again:
    `math.ceil(height / stride)` stays symbolic, exactly where the float quotient rounds to the same integer.
    """

    upper: int
    lower: int

    def __new__(cls, value: float, upper: int, lower: int) -> TracedQuotient:
        self = super().__new__(cls, value)
        self.upper, self.lower = upper, lower
        return self

    def __floor__(self) -> Any:
        return self._exact(self.upper // self.lower, float.__floor__(self))

    def __ceil__(self) -> Any:
        return self._exact(-(-self.upper // self.lower), float.__ceil__(self))

    def __trunc__(self) -> Any:
        return self.__floor__() if self >= 0 else self.__ceil__()

    def _exact(self, traced: Any, rounded: int) -> Any:
        return traced if traced == rounded else rounded

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (float(self),)


class TracedSize(tuple[int, ...]):
    """Stands for `torch.Size` while recording: a tuple of traced ints that keeps `numel` traced as well."""

    def numel(self) -> int:
        total: int = 1
        for size in self:
            total = size if total == 1 else size * total
        return total

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return TracedSize(item) if isinstance(index, slice) else item
