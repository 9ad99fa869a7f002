"""The peers' cells: measured once per checkpoint, each in a process of its peer's environment, and their table."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS
from benchmarks.peers.environments import ENVIRONMENTS, methods, python_of
from benchmarks.tables import TITLES
from benchmarks.train import cache, checkpoint

__all__ = ["PEERS", "cells_of", "measure", "report"]

PEERS = ("torch-pruning-l2", "aimet-channel-pruning", "aimet-spatial-svd")
"""Those that are measured unless others are asked for."""
ROOT = Path(__file__).resolve().parents[2]


def measure(network: str, method: str, budget: float, seed: int, again: bool = False) -> bool:
    """Measure a cell, unless it was measured on this checkpoint before: it depends on the peer alone, not on this project.

    True if there is something new. A peer that fails is a record too, with the last line of what it said.
    """
    path = cache() / "peers" / f"{network}-{method}-{budget:g}-{seed}.json"
    known = path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("checkpoint") == _digest(network, seed)
    if known and not again:
        return False
    environment = methods()[method]
    try:
        command = [str(python_of(environment)), "-m", f"benchmarks.peers.{ENVIRONMENTS[environment].module}"]
    except subprocess.CalledProcessError as error:
        print(f"{network} {method} {budget:g}: not measured, the environment of `{environment}` cannot be made ({error})")
        return False
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
    record |= {"seed": seed, "checkpoint": _digest(network, seed)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(path)
    print(f"{network} {method} {budget:g}: {record.get('failed') or record['compressed']}", flush=True)
    return True


def cells_of(seed: int) -> list[dict[str, Any]]:
    """What was measured on the checkpoints that there are."""
    path = ROOT / "benchmarks" / "results" / "peers.json"
    if not path.is_file():
        return []
    cells = json.loads(path.read_text(encoding="utf-8"))
    here = {network: _digest(network, seed) for network in NETWORKS if checkpoint(network, seed).is_file()}
    return [one for one in cells if "failed" not in one and one.get("checkpoint") == here.get(one["network"], "none")]


def report() -> None:
    """Write `results/peers.json` and `peers.md` from all finished cells."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((cache() / "peers").glob("*.json"))]
    results = ROOT / "benchmarks" / "results"
    (results / "peers.json").write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    (results / "peers.md").write_text(markdown(cells), encoding="utf-8")


def markdown(cells: list[dict[str, Any]]) -> str:
    lines = [
        "# The peers on the networks of the benchmark",
        "",
        "The same checkpoints, calibration images, measure and fine-tune as in [compression.md](compression.md), where this",
        "project's methods are. `removed` is what the peer removed when it was asked for the budget; in brackets are the",
        "accuracies of the originals. Latency is at batch 1 and 64.",
        "",
        "    python -m benchmarks.peers",
        "",
        "| network | seed | asked | method | removed | compressed | BN re-estimated | fine-tuned | CPU s | latency 1, 64 |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]

    def place(one: dict[str, Any]) -> tuple[int, int, float, str]:
        return list(NETWORKS).index(one["network"]), one.get("seed", 0), one["budget"], one["method"]

    for one in sorted(cells, key=place):
        original = f" ({one['original']:.2f} %)" if "original" in one else ""
        start = f"| {TITLES[one['network']]}{original} | {one.get('seed', 0)} | {one['budget']:.0%} | {one['method']} "
        if "failed" in one:
            lines.append(f"{start}| failed: {one['failed'][:120]} | | | | | |")
        else:
            accuracies = " | ".join(f"{one[name]:.2f}" for name in ("compressed", "norms", "tuned"))
            latency = f"{one['latency_1']:.2f}, {one['latency_64']:.2f}"
            lines.append(f"{start}| {one['removed']:.1%} | {accuracies} | {one['cpu_seconds']:.1f} | {latency} |")
    return "\n".join(lines) + "\n"


def _digest(network: str, seed: int) -> str:
    return hashlib.sha256(checkpoint(network, seed).read_bytes()).hexdigest()[:16]
