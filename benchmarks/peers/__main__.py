"""The peers on the networks of the benchmark, each in an environment of its own: the same checkpoints, images and fine-tune.

    python -m benchmarks.peers

A finished cell stays (`benchmarks/.cache/peers`): it depends on the peer alone, not on this project's code. Writes
`benchmarks/results/peers.json` and `peers.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS
from benchmarks.peers.environments import ENVIRONMENTS, methods, python_of
from benchmarks.tables import TITLES
from benchmarks.train import cache

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = (0.5, 0.7)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the peers and write their table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=list(methods()), default=list(methods()))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="shares of the MACs to remove")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again: the checkpoints are new")
    asked = parser.parse_args()
    os.nice(19)
    for budget in asked.budgets:
        for network in asked.networks:
            for method in asked.methods:
                path = cache() / "peers" / f"{network}-{method}-{budget:g}-{asked.seed}.json"
                if asked.again or not path.is_file():
                    measure(path, network, method, budget, asked.seed)
                    report()
    report()
    return 0


def measure(path: Path, network: str, method: str, budget: float, seed: int) -> None:
    environment = methods()[method]
    command = [str(python_of(environment)), "-m", f"benchmarks.peers.{ENVIRONMENTS[environment].module}"]
    with tempfile.TemporaryDirectory() as exchange:
        done = subprocess.run(
            [*command, network, method, str(budget), str(seed), exchange],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        record: dict[str, Any] = {"network": network, "method": method, "budget": budget}
        record["failed"] = (done.stderr.strip().splitlines() or ["no message"])[-1]
    else:
        record = json.loads(done.stdout[done.stdout.index('{"network"') :])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)
    print(f"{network} {method} {budget:g}: {record.get('failed') or record['compressed']}", flush=True)


def report() -> None:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((cache() / "peers").glob("*.json"))]
    results = ROOT / "benchmarks" / "results"
    (results / "peers.json").write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    (results / "peers.md").write_text(markdown(cells), encoding="utf-8")


def markdown(cells: list[dict[str, Any]]) -> str:
    lines = [
        "# The peers on the networks of the benchmark",
        "",
        "The same calibration images, measure and fine-tune as in [compression.md](compression.md), where this project's",
        "methods are; the same checkpoints where the originals' accuracies (in brackets) are the same. `removed` is what the",
        "peer removed when it was asked for the budget.",
        "",
        "    python -m benchmarks.peers",
        "",
        "| network | asked | method | removed | compressed | BN re-estimated | fine-tuned | CPU s | latency 1 | latency 64 |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in sorted(cells, key=lambda one: (list(NETWORKS).index(one["network"]), one["budget"], one["method"])):
        original = f" ({one['original']:.2f} %)" if "original" in one else ""
        start = f"| {TITLES[one['network']]}{original} | {one['budget']:.0%} | {one['method']} "
        if "failed" in one:
            lines.append(f"{start}| failed: {one['failed'][:120]} | | | | | | |")
        else:
            accuracies = " | ".join(f"{one[name]:.2f}" for name in ("compressed", "norms", "tuned"))
            lines.append(
                f"{start}| {one['removed']:.1%} | {accuracies} | {one['cpu_seconds']:.1f} | {one['latency_1']:.2f} "
                f"| {one['latency_64']:.2f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
