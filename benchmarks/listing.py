"""What `amc plugins list` costs with many plugin distributions: modules imported, and processor time of the process.

python -m benchmarks.listing        # writes benchmarks/results/listing.md; about a minute
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "listing.md"
COUNTS = (0, 10, 50, 100, 200, 400)
REPEATS = 7

PROGRAM = """
import json, resource, sys
from amc_plugins.cli.app import run
code = run(["plugins", "list", "--json"])
usage = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(json.dumps([code, len(sys.modules), usage.ru_utime + usage.ru_stime]))
"""


def write_distributions(folder: Path, count: int) -> None:
    """Metadata of so many distributions, with one compressor each; there is no code, and listing needs none."""
    for number in range(count):
        info = folder / f"many{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: many{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[amc_plugins.compressors]\nmany-{number} = many{number}.plugin\n")


def measured(folder: Path) -> tuple[int, int, float]:
    """Plugins listed, modules imported, and the least processor seconds of several processes."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    seconds = []
    for _ in range(REPEATS):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
        code, modules, used = json.loads(done.stderr)
        assert code == 0
        seconds.append(used)
    return len(json.loads(done.stdout)["plugins"]), modules, min(seconds)


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    rows = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            write_distributions(Path(folder), count)
            rows.append((count, *measured(Path(folder))))
            print(rows[-1], flush=True)
    counts, seconds = np.array([row[0] for row in rows]), np.array([row[3] for row in rows])
    slope, start = np.polyfit(counts, seconds, 1)
    explained = 1 - np.square(seconds - (slope * counts + start)).sum() / np.square(seconds - seconds.mean()).sum()
    lines = [
        "# `amc plugins list` with many distributions\n\n",
        "`python -m benchmarks.listing`: processor time (user and system) of the whole process, the least of "
        f"{REPEATS}, beside the distributions of this repository.\n\n",
        "| more distributions | plugins listed | modules imported | ms |\n|--:|--:|--:|--:|\n",
        *(f"| {count} | {listed} | {modules} | {1e3 * used:.0f} |\n" for count, listed, modules, used in rows),
        f"\nA line through these: {1e3 * start:.0f} ms and {1e6 * slope:.0f} µs for each distribution (R² {explained:.3f}).\n",
    ]
    RESULT.write_text("".join(lines), encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
