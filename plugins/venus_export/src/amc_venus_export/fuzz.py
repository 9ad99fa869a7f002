"""A reader against mutants of sound files: only `VnModelError` may come out, in little time and memory.

    python -m amc_venus_export.fuzz --mutants 1000000 --seed 0

Mutant `i` of a seed is the same file every time; what leaks is written to the folder of `--leaks`.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from amc_venus_export.drafts import mutate, sample, stored_sample

__all__ = ["Outcome", "fuzz", "main", "mutant"]

_SAMPLES = (sample(), stored_sample())
_SECONDS, _MEBIBYTES = 5.0, 256.0
"""What one mutant may take of a CPU, and all of them of memory."""


@dataclass
class Outcome:
    """What came of the mutants: refusals by code (`sound` for those that opened), and what should not have been."""

    codes: Counter[str] = field(default_factory=Counter)
    leaks: list[tuple[int, str]] = field(default_factory=list)
    """Numbers of mutants and what they raised instead."""
    slowest: float = 0.0
    """CPU seconds of the slowest mutant."""
    growth: float = 0.0
    """MiB by which the process's peak of memory grew."""


def mutant(seed: int, index: int) -> bytes:
    """One mutant."""
    numbers = random.Random(f"{seed}/{index}")
    return mutate(numbers.choice(_SAMPLES), numbers)


def fuzz(mutants: range, seed: int = 0) -> Outcome:
    """Open every mutant strictly and build its network."""
    from amc_venus_export import VnModelError, open_vnmodel

    open_vnmodel(sample().pack()).network()  # the handlers' imports are not the first mutant's time
    outcome, before = Outcome(), _peak()
    for index in mutants:
        raw = mutant(seed, index)
        start = time.process_time()
        try:
            open_vnmodel(raw).network()
            outcome.codes["sound"] += 1
        except VnModelError as error:
            outcome.codes[error.code] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a leak
            outcome.leaks.append((index, f"{type(error).__name__}: {error}"))
        outcome.slowest = max(outcome.slowest, time.process_time() - start)
    outcome.growth = _peak() - before
    return outcome


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str]) -> int:
    """Run it and print a summary; 1 when something leaked, took seconds or took memory."""
    parser = argparse.ArgumentParser(prog="python -m amc_venus_export.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutant")
    parser.add_argument("--leaks", type=Path, default=Path("leaks"), help="folder for the files that leaked")
    given = parser.parse_args(arguments)
    outcome = fuzz(range(given.first, given.first + given.mutants), given.seed)
    lines: list[str] = []
    for index, what in outcome.leaks:
        given.leaks.mkdir(parents=True, exist_ok=True)
        (given.leaks / f"{given.seed}-{index}.vnmodel").write_bytes(mutant(given.seed, index))
        lines.append(f"mutant {index}: {what}")
    lines += [
        f"{given.mutants} mutants of seed {given.seed}: {len(outcome.leaks)} leaks, {outcome.codes['sound']} sound",
        f"slowest {outcome.slowest * 1000:.0f} ms, {outcome.growth:.0f} MiB more at the peak, {len(outcome.codes) - 1} codes",
        *(f"{count:9} {code}" for code, count in outcome.codes.most_common()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(outcome.leaks) or outcome.slowest > _SECONDS or outcome.growth > _MEBIBYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
