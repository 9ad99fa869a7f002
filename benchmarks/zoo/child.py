"""One part of the checks of one model, in a process of its own with a time and a memory limit.

    python -m benchmarks.zoo.child MODEL PART RECORD

The record is written after each stage, so that a killed process leaves what it did and where it was.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from benchmarks.zoo import checks
from benchmarks.zoo.models import entry

__all__ = ["PARTS", "run"]

PARTS: dict[str, dict[str, Callable[[checks.Subject], checks.Record]]] = {"amc": checks.STAGES}


def main() -> int:
    name, part, record = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    seconds, gigabytes = int(sys.argv[4]), float(sys.argv[5])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30),) * 2)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused attention that rounds differently; capture leaves it aside too
    logging.disable(logging.WARNING)
    run(checks.Subject(entry(name)), PARTS[part], record)
    return 0


def run(subject: checks.Subject, stages: dict[str, Callable[[checks.Subject], checks.Record]], record: Path) -> None:
    """The stages in their order. A stage that needs what an earlier one failed to give is left out."""
    found: dict[str, Any] = {}
    for stage, action in stages.items():
        found[stage] = {"state": "running"}
        write(record, found)
        wall, start = time.monotonic(), time.process_time()
        found[stage] = outcome(subject, action)
        found[stage]["seconds"] = round(time.process_time() - start, 3)
        found[stage]["wall_seconds"] = round(time.monotonic() - wall, 3)
        write(record, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["process"] = {"state": "passed", "peak_mebibytes": peak // 1024}
    write(record, found)


def outcome(subject: checks.Subject, action: Callable[[checks.Subject], checks.Record]) -> dict[str, Any]:
    try:
        return {"state": "passed", **action(subject)}
    except LookupError as error:
        if type(error) is not LookupError:
            return failed(error)
        return {"state": "left out", "why": str(error)}
    except checks.Refused as error:
        return {"state": "refused", "why": str(error)}
    except Exception as error:  # noqa: BLE001 - any failure is the result
        return failed(error)


def failed(error: BaseException) -> dict[str, Any]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "/".join(Path(frame.filename).parts[-3:])
    return {"state": "failed", "why": checks.last_line(error), "where": f"{where}:{frame.lineno}"}


def write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
