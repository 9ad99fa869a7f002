"""Parts of the checks of one model, in a process of its own with limits of time and memory.

The record is written before and after each stage, so that a killed process leaves what it did and where it was.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.models import entry
from benchmarks.zoo.parts import PARTS
from benchmarks.zoo.subject import Missing, Refused, Stage, Subject, last_line

__all__ = ["ERRORS", "RECORD", "main"]

RECORD, ERRORS = "stages.json", "errors.txt"


def main(name: str, folder: str, seconds: dict[str, int]) -> None:
    """Parts with their CPU seconds, in order. `folder` gets the record, what is said on standard error, and temporary files."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(Path(folder) / ERRORS, os.O_WRONLY | os.O_CREAT), 2)
    tempfile.tempdir = folder
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused attention that rounds differently; capture leaves it aside too
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    subject = Subject(entry(name))
    found: dict[str, Any] = {}
    for part, limit in seconds.items():
        allow(limit, PARTS[part].gigabytes)
        found[part] = {}
        run(subject, PARTS[part].stages(), found[part], lambda: write(Path(folder) / RECORD, found))


def allow(seconds: int, gigabytes: float) -> None:
    """So many more CPU seconds, after which the process is killed, and so much memory, above which allocations fail."""
    used = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 2**30), resource.RLIM_INFINITY))


def run(subject: Subject, stages: dict[str, Stage], found: dict[str, Any], keep: Callable[[], None]) -> None:
    """The stages in their order. A stage that needs what an earlier one failed to give is left out."""
    for stage, action in stages.items():
        found[stage] = {"state": "running"}
        keep()
        wall, start = time.monotonic(), time.process_time()
        found[stage] = outcome(subject, action)
        found[stage]["seconds"] = round(time.process_time() - start, 3)
        found[stage]["wall_seconds"] = round(time.monotonic() - wall, 3)
        found[stage]["peak_mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        keep()


def outcome(subject: Subject, action: Stage) -> dict[str, Any]:
    try:
        return {"state": "passed", **action(subject)}
    except Missing as error:
        return {"state": "left out", "why": str(error)}
    except Refused as error:
        return {"state": "refused", "why": str(error)}
    except Exception as error:  # noqa: BLE001 - any failure is the result
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "/".join(Path(frame.filename).parts[-3:])
        return {"state": "failed", "why": last_line(error), "where": f"{where}:{frame.lineno}"}


def write(path: Path, found: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(path)
