"""What a budget of latency buys beside one of MACs: measured latency and test accuracy right after compression.

    .venv/bin/python -m benchmarks.latency            # writes results/latency.md

One thread, batch 64. Eager PyTorch is what the budget counts; ONNX Runtime's time for the same networks stands beside it. Both
networks are timed in turns. Layer times are kept in the user's cache (`AMC_CACHE`). A network that was measured stays in the
benchmark's cache until the command asks for it `--again`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch

import amc_plugins as amc
from benchmarks import data
from benchmarks.networks import NETWORKS
from benchmarks.train import accuracy, cache, trained

if TYPE_CHECKING:
    from torch import Tensor

CASES: dict[str, tuple[tuple[str, float], ...]] = {
    "pruning": (("macs", 0.5), ("macs", 0.7), ("latency", 0.3), ("latency", 0.42), ("latency", 0.5)),
    "lowrank": (("macs", 0.3), ("macs", 0.5), ("latency", 0.1), ("latency", 0.3)),
}
"""Per method: what is counted, and the share of it to remove. 0.3 and 0.42 of the latency leave 0.70 and 0.58."""
BATCH = 64
BUDGETS = {"macs": amc.Budget(), "latency": amc.Budget("latency", batch=BATCH, threads=1)}
RESULT = Path(__file__).parent / "results" / "latency.md"
HEAD = """# A budget of latency

`python -m benchmarks.latency`; one thread, batch 64, before any retraining. Latency is relative to the original's: eager
PyTorch, which the budget counts, and ONNX Runtime on the same networks. Asked to remove 30 % and 42 % of the latency, 0.70
and 0.58 are to be left; a budget of latency is met within 5 % of the network's or refused. ONNX Runtime is slow on odd numbers
of channels: with `round_to = 16` it gains as well ([deployment.md](deployment.md)).

| network | method | asked to remove | MACs removed | eager, ms | eager | ONNX Runtime | accuracy, points |
|---|---|---|---:|---|---:|---:|---:|
"""


def rows(name: str, method: str) -> list[str]:
    """The lines of one network and method, one a case."""
    from amc_plugins.core.budgets import cost_of

    model, test, images = trained(name).eval(), data.load("test"), data.calibration(2048)
    original = amc.capture(model, images[:2])
    plan, before = amc.prepare(original, method, calibration=images), accuracy(model, test)
    found = []
    for counts, share in CASES[method]:
        start = f"| {name} | {method} | {share:.0%} of {BUDGETS[counts].words} "
        try:
            result = plan.apply(plan.candidate(total=share, budget=BUDGETS[counts]))
        except amc.AmcError as error:
            found.append(f"{start}| refused: {error} | | | | |")
            continue
        spent = cost_of(plan, BUDGETS["latency"]).spent(result.candidate, result.network)
        points = accuracy(result.network, test) - before
        found.append(
            f"{start}| {result.removed:.1%} | {spent.before * 1e3:.2f} -> {spent.after * 1e3:.2f} | {1 - spent.removed:.2f} "
            f"| {onnx_ratio(original, result.network, images[:BATCH]):.2f} | {points:+.2f} |"
        )
        print(found[-1], flush=True)
    return found


def onnx_ratio(original: Any, network: Any, images: Tensor, rounds: int = 30) -> float:
    """CPU time of `network` in ONNX Runtime relative to `original`'s: one thread, the least of interleaved rounds of each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = []
    with tempfile.TemporaryDirectory() as folder:
        for index, one in enumerate((original, network)):
            path = Path(folder) / f"{index}.onnx"
            amc.export(one, "onnx", path)
            sessions.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    best = [math.inf, math.inf]
    for round_ in range(rounds + 3):
        for index, session in enumerate(sessions):
            feed = {session.get_inputs()[0].name: images.numpy()}
            started = time.process_time()
            session.run(None, feed)
            if round_ >= 3:
                best[index] = min(best[index], time.process_time() - started)
    return best[1] / best[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure budgets of latency beside budgets of MACs and write the table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--again", action="store_true", help="measure what is in the cache once more")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = cache() / "latency"
    folder.mkdir(parents=True, exist_ok=True)
    for method in asked.methods:
        for name in asked.networks:
            path = folder / f"{name}-{method}.json"
            if asked.again or not path.is_file():
                path.write_text(json.dumps(rows(name, method)), encoding="utf-8")
    cells = [folder / f"{name}-{method}.json" for method in CASES for name in NETWORKS]
    lines = [line for path in cells if path.is_file() for line in json.loads(path.read_text(encoding="utf-8"))]
    RESULT.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
