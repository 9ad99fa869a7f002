"""Run the zoo: every model in processes of its own, resumable, and the table of what came out.

    make zoo                                     # the environment, then everything that has not been measured yet
    python -m benchmarks.zoo --only 'swin' --parts amc files --again all
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.zoo import child
from benchmarks.zoo.loader import loader
from benchmarks.zoo.models import names
from benchmarks.zoo.parts import PARTS, ROOT

CACHE = Path(os.environ.get("AMC_BENCHMARKS_CACHE", ROOT / "benchmarks" / ".cache")) / "zoo"

_PROCESSES = get_context("forkserver")
"""Forks of a process that has imported the libraries and done nothing with them: seconds less per model."""


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "torchvision", "timm", "torch-pruning")}


def path_of(name: str) -> Path:
    return CACHE / (name.replace("/", "__") + ".json")


def record_of(name: str, libraries: dict[str, str]) -> dict[str, Any]:
    """What is known of a model, with these versions of the libraries."""
    path = path_of(name)
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["versions"] == libraries:
            return record
    return {"name": name, "versions": libraries, "parts": {}}


def wanted(record: dict[str, Any], part: str, again: str, fingerprint: str) -> bool:
    """Whether a part is to be measured (again)."""
    known = record["parts"].get(part)
    if known is None or again == "all":
        return True
    if again == "stale":
        return bool(known["code"] != fingerprint)
    return again == "failed" and any(stage["state"] not in ("passed", "refused") for stage in known["stages"].values())


def measure(name: str, parts: Sequence[str], options: argparse.Namespace, fingerprints: dict[str, str]) -> str:
    """Run parts of one model; what came out goes into the model's record. Returns a line for the terminal.

    They share a process, where the model is built and captured once. If a part ends the process, the rest get another.
    """
    record = record_of(name, versions())
    left = list(parts)
    while left:
        for part, stages in attempt(name, left, options).items():
            record["parts"][part] = {"code": fingerprints[part], "stages": stages}
            left.remove(part)
        partial = path_of(name).with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(path_of(name))
    found = {stage: one for part in parts for stage, one in record["parts"][part]["stages"].items()}
    bad = [f"{stage} {one['state']}: {one['why']}" for stage, one in found.items() if one["state"] != "passed"]
    return f"{name} {' '.join(parts)}: {'; '.join(bad) or 'passed'}"


def attempt(name: str, parts: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """One process for all of the parts: the stages of those that it came to, at least of the first."""
    seconds = {part: options.seconds or PARTS[part].seconds for part in parts}
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        process = _PROCESSES.Process(target=child.main, args=(name, folder, seconds))
        process.start()
        process.join(4 * sum(seconds.values()))
        process.kill()
        process.join()
        output, errors = Path(folder) / child.RECORD, Path(folder) / child.ERRORS
        found: dict[str, dict[str, Any]] = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
        said = errors.read_text(encoding="utf-8", errors="replace") if errors.is_file() else ""
    found = found or {parts[0]: {"start": {"state": "running"}}}
    for part, stages in found.items():
        for stage in stages.values():
            if stage["state"] == "running":
                stage.update(state="failed", why=ended(process.exitcode or 0, said, seconds[part]))
    return found


def ended(status: int, errors: str, seconds: int) -> str:
    """Why a process stopped in the middle of a stage."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"killed at the limit of {seconds} CPU seconds or for memory"
    lines = errors.strip().splitlines()
    return f"the process ended with status {status}: {lines[-1][:300] if lines else 'no message'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="models whose name the regular expression finds")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", choices=("no", "failed", "stale", "all"), default="no", help="what to measure once more")
    parser.add_argument("--seconds", type=int, default=0, help="CPU seconds per model and part; by default of the part")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    _PROCESSES.set_forkserver_preload(["timm", "torchvision", "benchmarks.zoo.child", "benchmarks.zoo.warm"])
    fingerprints, libraries = {part: one.fingerprint() for part, one in PARTS.items()}, versions()
    work: list[tuple[str, list[str]]] = []
    for name in names():
        if re.search(options.only, name):
            record = record_of(name, libraries)
            parts = [one for one in PARTS if one in options.parts and wanted(record, one, options.again, fingerprints[one])]
            work += [(name, parts)] if parts else []
    with loader(), ThreadPoolExecutor(options.jobs) as pool:
        for count, line in enumerate(pool.map(lambda one: measure(*one, options, fingerprints), work), 1):
            print(f"{count}/{len(work)} {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
