"""The table: every method at every budget on every network.

    python -m benchmarks.compression

Trains the networks first if they are not cached. Each cell runs in a process of its own and is kept as soon as it is done: a
run that was interrupted goes on where it stopped, and a cell is measured again when the code that it depends on has changed.
Writes `benchmarks/results/compression.json` and `compression.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import amc_plugins as amc
from benchmarks import data
from benchmarks.baselines import BASELINES
from benchmarks.networks import NETWORKS
from benchmarks.peers import cells as peers
from benchmarks.peers.environments import methods as peers_methods
from benchmarks.tables import markdown
from benchmarks.train import cache, checkpoint, trained

__all__ = ["main"]

HERE = Path(__file__).parent
METHODS = ("lowrank", "pruning", "mixed")
BUDGETS = (0.3, 0.5, 0.7)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure compression methods on three networks and write the table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument(
        "--methods", nargs="+", help="default: all compressors of this project that are installed, baselines, and peers"
    )
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="shares of the MACs to remove")
    parser.add_argument("--seed", type=int, default=0, help="of training, calibration, compression and fine-tuning")
    parser.add_argument("--any-code", action="store_true", help="keep cells that were measured with other code")
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again")
    parser.add_argument("--only-report", action="store_true", help="measure nothing, write the table of what there is")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of the table")
    asked = parser.parse_args()
    os.nice(19)
    installed = {record.name for record in amc.plugins("compressors")}
    methods = asked.methods or [*(name for name in METHODS if name in installed), *BASELINES, *peers.PEERS]
    failed = []
    for network in asked.networks:
        trained(network, asked.seed)
        for method in methods:
            for budget in asked.budgets:
                if method in peers_methods():
                    if not asked.only_report and peers.measure(network, method, budget, asked.seed, asked.again):
                        peers.report()
                        report(asked.output, asked.seed)
                    continue
                path = cache() / "cells" / f"{network}-{method}-{budget:g}-{asked.seed}.json"
                code = fingerprint(method, network, asked.seed)
                if asked.only_report or (_done(path, code, asked.any_code) and not asked.again):
                    continue
                if not measure(path, code, network, method, budget, asked.seed):
                    failed.append(path.stem)
                report(asked.output, asked.seed)
    report(asked.output, asked.seed)
    if failed:
        print(
            f"error: no figures for {', '.join(failed)}; what they printed is beside them in {cache() / 'cells'}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def measure(path: Path, code: str, network: str, method: str, budget: float, seed: int) -> bool:
    """Run one cell and keep its record. False, and the reason in a log file, if it failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.cell", network, method, f"{budget:g}", "--seed", str(seed)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, env=_one_thread(), check=False)
    log = path.with_suffix(".log")
    log.write_text(done.stderr, encoding="utf-8")
    if done.returncode:
        path.unlink(missing_ok=True)
        print(f"{path.stem}: failed\n{done.stderr[-800:]}", file=sys.stderr, flush=True)
        return False
    record = json.loads(done.stdout) | {"seed": seed, "code": code}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(path)
    if not done.stderr:
        log.unlink()
    print(
        f"{path.stem}: {record['original']:.2f} -> {record['compressed']:.2f} / {record['norms']:.2f} / {record['tuned']:.2f}, "
        f"{100 * record['removed']:.1f} % removed, {record['cpu_seconds']:.1f} CPU s, latency {record['latency_1']:.2f} "
        f"{record['latency_64']:.2f} ({time.perf_counter() - started:.0f} s)",
        flush=True,
    )
    return True


def report(folder: Path, seed: int) -> None:
    """Write the table of all cells of one seed that there are."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((cache() / "cells").glob(f"*-{seed}.json"))]
    if not cells:
        return
    folder.mkdir(parents=True, exist_ok=True)
    order = {name: index for index, name in enumerate([*METHODS, *BASELINES])}

    def place(one: dict[str, Any]) -> tuple[int, float, int, str]:
        return list(NETWORKS).index(one["network"]), one["budget"], order.get(one["method"], 99), one["method"]

    cells.sort(key=place)
    shown = sorted([*cells, *peers.cells_of(seed)], key=place)
    suffix = "" if seed == 0 else f"-seed{seed}"
    command = "python -m benchmarks.compression" + (f" --seed {seed}" if seed else "")
    text = json.dumps({"command": command, "cells": [_short(one) for one in cells]}, indent=1)
    (folder / f"compression{suffix}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"compression{suffix}.md").write_text(markdown(shown, command, _missing(cells)), encoding="utf-8")


def _missing(cells: list[dict[str, Any]]) -> list[str]:
    """What the command measures and `cells` lack: whole networks, else whole budgets of one, else single methods."""
    there = {(one["network"], one["budget"], one["method"]) for one in cells}
    found = []
    for network in NETWORKS:
        if not any(one["network"] == network for one in cells):
            found.append(f"`{network}`")
            continue
        for budget in BUDGETS:
            lacks = [method for method in (*METHODS, *BASELINES) if (network, budget, method) not in there]
            what = "" if len(lacks) == len(METHODS) + len(BASELINES) else ", ".join(f"`{method}`" for method in lacks) + " of "
            if lacks:
                found.append(f"{what}`{network}` at {100 * budget:g} %")
    return found


def _short(cell: dict[str, object]) -> dict[str, object]:
    """A record without its layers, figures rounded."""
    kept = {key: value for key, value in cell.items() if key not in {"layers", "code"}}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in kept.items()}


def fingerprint(method: str, network: str, seed: int) -> str:
    """Of the checkpoint and of the source that a cell's figures depend on."""
    folders = [Path(amc.__file__).parent / "core"] if method in METHODS else []
    if method in METHODS:
        folders.append(Path(str(import_module(f"amc_{method}").__file__)).parent)
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    names = ("cell", "measure", "data", "networks", *(("baselines",) if method in BASELINES else ()))
    files += [HERE / f"{name}.py" for name in names] + [checkpoint(network, seed)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _done(path: Path, code: str, any_code: bool) -> bool:
    return path.is_file() and (any_code or json.loads(path.read_text(encoding="utf-8"))["code"] == code)


def _one_thread() -> dict[str, str]:
    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
