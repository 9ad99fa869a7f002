"""Seconds of modules on this machine: the least of interleaved rounds, with a fixed number of threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from amc_plugins.core.stepping import evaluating

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Stopwatch", "Timer", "Work"]

_SAMPLE = 0.5e-3
"""Seconds that one reading lasts at least, by repeating what is shorter."""
_SPENT = 0.1
"""Seconds of readings after which no more rounds are made."""
_FEWEST, _MOST = 5, 9
"""Rounds."""


@dataclass(frozen=True)
class Work:
    """One call to be timed: a module on given inputs."""

    module: nn.Module
    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        return self.module(*self.inputs, **self.keywords)


Timer = Callable[[Sequence[Work]], list[float]]
"""Seconds of each of several pieces of work; `Stopwatch` is one."""


class Stopwatch:
    """Times work in eval mode without gradients.

    Every round runs each piece of work once (short ones several times in a row), so that what disturbs the machine disturbs
    all of them; the least of the rounds is what the work takes undisturbed. With one thread on a CPU it is the thread's CPU
    time, which other processes do not add to; else the wall clock.

    Args:
        threads: of torch while it runs; as before afterwards.
        device: of the inputs.
    """

    def __init__(self, threads: int, device: torch.device) -> None:
        self.threads = threads
        self.device = device
        self._clock = time.thread_time if threads == 1 and device.type == "cpu" else time.perf_counter

    def __call__(self, works: Sequence[Work]) -> list[float]:
        with self._quiet(works):
            repeats = [self._repeats(work) for work in works]
            least = [float("inf")] * len(works)
            spent, rounds = [0.0] * len(works), 0
            while rounds < _FEWEST or (rounds < _MOST and min(spent) < _SPENT):
                for index, (work, count) in enumerate(zip(works, repeats, strict=True)):
                    taken = self._read(work, count)
                    least[index] = min(least[index], taken / count)
                    spent[index] += taken
                rounds += 1
        return least

    @contextmanager
    def _quiet(self, works: Sequence[Work]) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with ExitStack() as stack:
                for work in works:
                    stack.enter_context(evaluating(work.module))
                stack.enter_context(torch.no_grad())
                yield
        finally:
            torch.set_num_threads(before)

    def _repeats(self, work: Work) -> int:
        self._read(work, 1)  # the first call allocates and chooses kernels
        return max(1, min(100, round(_SAMPLE / max(1e-9, self._read(work, 1)))))

    def _read(self, work: Work, count: int) -> float:
        self._settle()
        start = self._clock()
        for _ in range(count):
            work()
        self._settle()
        return self._clock() - start

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
