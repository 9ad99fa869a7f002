"""Run the zoo: every model in processes of its own, resumable, and the table of what came out.

    make zoo                                     # the environment, then everything that has not been measured yet
    python -m benchmarks.zoo --only 'swin' --again all
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.zoo.models import names

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("AMC_BENCHMARKS_CACHE", ROOT / "benchmarks" / ".cache")) / "zoo"
PARTS = ("amc",)
LIMITS = {"amc": 600}
"""CPU seconds per part."""
GIGABYTES = 10.0


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "torchvision", "timm", "torch-pruning")}


def code() -> str:
    """A fingerprint of what is measured."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "amc_plugins").rglob("*.py"), *(ROOT / "plugins").rglob("src/**/*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


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


def measure(name: str, part: str, options: argparse.Namespace, fingerprint: str) -> str:
    """Run one part of one model; its outcome goes into the model's record. Returns a line for the terminal."""
    output = path_of(name).with_suffix(f".{part}.stages")
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.zoo.child", name, part, str(output), str(options.seconds or LIMITS[part])]
    run = subprocess.run(
        [*shlex.split(options.under), *command, str(options.gigabytes)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    stages = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {"start": {"state": "running"}}
    output.unlink(missing_ok=True)
    for stage in stages.values():
        if stage["state"] == "running":
            stage.update(state="failed", why=ended(run.returncode, run.stderr, options.seconds or LIMITS[part]))
    record = record_of(name, versions())
    record["parts"][part] = {"code": fingerprint, "stages": stages}
    path_of(name).write_text(json.dumps(record, indent=1), encoding="utf-8")
    bad = [f"{stage} {found['state']}: {found['why']}" for stage, found in stages.items() if found["state"] != "passed"]
    return f"{name} {part}: {'; '.join(bad) or 'passed'}"


def ended(status: int, errors: str, seconds: int) -> str:
    """Why a process stopped in the middle of a stage."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return f"killed at the limit of {seconds} CPU seconds or for memory"
    lines = errors.strip().splitlines()
    return f"the process ended with status {status}: {lines[-1] if lines else 'no message'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="models whose name the regular expression finds")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", choices=("no", "failed", "stale", "all"), default="no", help="what to measure once more")
    parser.add_argument("--seconds", type=int, default=0, help="CPU seconds per model and part; by default of the part")
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="memory per process")
    parser.add_argument("--under", default="", metavar="COMMAND", help="runs each process: `nice -n 19`, `flock FILE`")
    options = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    fingerprint, libraries = code(), versions()
    work = [
        (name, part)
        for part in options.parts
        for name in names()
        if re.search(options.only, name) and wanted(record_of(name, libraries), part, options.again, fingerprint)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for count, line in enumerate(pool.map(lambda one: measure(*one, options, fingerprint), work), 1):
            print(f"{count}/{len(work)} {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
