"""Retraining after a compression: plain fine-tuning beside distillation, 8-bit training, and what the loop itself costs.

    python -m benchmarks.training

The networks of `benchmarks/networks.py`, 70 % of the MACs removed by `pruning`; two epochs on the 55,000 training images with
the same schedule, batches and seeds for both trainers. The test images give figures and choose nothing. A finished cell stays
(`--again` measures anew, needed after the trainers changed). Everything lies in `benchmarks/.cache/training`. Writes
`benchmarks/results/training.json` and `training.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import amc_plugins as amc
from benchmarks import data
from benchmarks.networks import NETWORKS
from benchmarks.tables import TITLES
from benchmarks.train import accuracy, cache, trained

TOTAL, EPOCHS, BATCH, RATE = 0.7, 2, 128, 0.02
SEEDS = (0, 1, 2)
PLAIN = {"epochs": EPOCHS, "learning_rate": RATE, "weight_decay": 1e-4}
TRAINERS: dict[str, dict[str, Any]] = {
    "supervised": PLAIN,
    "distillation": PLAIN,
    "quantization": {"epochs": 1, "learning_rate": 1e-3},
}
ROUNDS, STEPS = 5, 60
"""Rounds of the overhead, each of so many steps of either loop in turn."""
HERE = Path(__file__).parent
FOLDER = cache() / "training"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the trainers on three compressed networks and write the table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--cells", type=int, help="measure at most so many cells that are missing")
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again")
    asked = parser.parse_args()
    os.nice(19)
    torch.set_num_threads(1)
    left = asked.cells
    for name in asked.networks:
        for trainer in TRAINERS:
            for seed in asked.seeds if trainer != "quantization" else asked.seeds[:1]:
                path = FOLDER / f"{name}-{trainer}-{seed}.json"
                if path.is_file() and not asked.again:
                    continue
                if left is not None and left <= 0:
                    break
                left = None if left is None else left - 1
                write(path, trained_cell(name, trainer, seed))
    path = FOLDER / "overhead.json"
    if (asked.again or not path.is_file()) and (left is None or left > 0):
        write(path, overhead())
    report()
    return 0


def write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1))
    partial.replace(path)
    print(json.dumps(record), flush=True)


def batches(split: data.Split, *, train: bool, seed: int = 0) -> DataLoader[Any]:
    pixels = TensorDataset(split.inputs(), split.labels)
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(pixels, batch_size=BATCH if train else 500, shuffle=train, drop_last=train, generator=generator)


def original(name: str) -> amc.ReconstructedNetwork:
    return amc.capture(trained(name), data.calibration()[:2])


def compressed(name: str) -> amc.ReconstructedNetwork:
    """The network without 70 % of its MACs, not retrained; the same for every trainer."""
    path = FOLDER / f"{name}.pkl"
    if not path.is_file():
        result = amc.compress(original(name), "pruning", calibration=data.calibration(), total=TOTAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        result.network.save(pkl=path)
    return amc.load(path)


def trained_cell(name: str, trainer: str, seed: int) -> dict[str, Any]:
    start = compressed(name)
    if trainer == "quantization":  # of the network that was fine-tuned
        start = _retrained(name, start, "supervised", seed)
    cpu = time.process_time()
    network = _retrained(name, start, trainer, seed)
    test = data.load("test")
    return {
        "network": name,
        "trainer": trainer,
        "seed": seed,
        "original": accuracy(trained(name), test),
        "before": accuracy(start, test),
        "after": accuracy(network, test),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def _retrained(name: str, start: amc.ReconstructedNetwork, trainer: str, seed: int) -> amc.ReconstructedNetwork:
    result = amc.train(
        start,
        trainer,
        train=batches(data.load("train"), train=True, seed=seed),
        validation=batches(data.load("validation"), train=False),
        teacher=original(name) if trainer == "distillation" else None,
        seed=seed,
        **TRAINERS[trainer],
    )
    assert isinstance(result.network, amc.ReconstructedNetwork)
    return result.network


def overhead() -> dict[str, Any]:
    """CPU time of `supervised` relative to a bare loop with the same steps, least of the rounds; ResNet-20-like, compressed."""
    start = compressed("resnet20")
    split = data.load("train")
    some = [(split.inputs(slice(k * BATCH, (k + 1) * BATCH)), split.labels[k * BATCH : (k + 1) * BATCH]) for k in range(STEPS)]
    ours, bare = [], []
    for _ in range(ROUNDS):
        bare.append(_timed(lambda: _bare(start.clone(), some)))
        ours.append(_timed(lambda: amc.train(start, "supervised", train=some, epochs=1, learning_rate=RATE, schedule="none")))
    return {"steps": STEPS, "bare_seconds": min(bare), "ours_seconds": min(ours), "ratio": min(ours) / min(bare)}


def _timed(run: Any) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _bare(network: nn.Module, some: list[Any]) -> None:
    network.train()
    decayed = [one for one in network.parameters() if one.ndim > 1]
    others = [one for one in network.parameters() if one.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
    for images, labels in some:
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def report() -> None:
    cells = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*-*-*.json"))]
    spent = FOLDER / "overhead.json"
    found = {"cells": cells, "overhead": json.loads(spent.read_text()) if spent.is_file() else None}
    (HERE / "results" / "training.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "results" / "training.md").write_text(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# Retraining after a compression",
        "",
        f"Fashion-MNIST, the networks of `benchmarks/networks.py` without {TOTAL:.0%} of their MACs (`pruning`). Per cent of",
        "the 10,000 test images that are right: medians over seeds, with the least and the most in brackets. Both trainers see",
        f"the same batches for {EPOCHS} epochs with the same schedule (peak rate {RATE:g}, cosine). `quantization` trains the",
        "fine-tuned network of seed 0 for one more epoch with 8-bit weights and activations.",
        "",
        "    python -m benchmarks.training",
        "",
        "| network | original | pruned | fine-tuned | distilled | distilled less fine-tuned | 8 bit less float |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in NETWORKS:
        ours = [one for one in found["cells"] if one["network"] == name]
        of = {trainer: [one for one in ours if one["trainer"] == trainer] for trainer in TRAINERS}
        plain, taught = of["supervised"], of["distillation"]
        if not plain or not taught:
            continue
        by_seed = {one["seed"]: one["after"] for one in plain}
        gains = [one["after"] - by_seed[one["seed"]] for one in taught if one["seed"] in by_seed]
        eight = f"{of['quantization'][0]['after'] - of['quantization'][0]['before']:+.2f}" if of["quantization"] else ""
        lines.append(
            f"| {TITLES[name]} | {plain[0]['original']:.2f} | {plain[0]['before']:.2f} | {_spread(plain)} | {_spread(taught)} "
            f"| {statistics.median(gains):+.2f} | {eight} |"
        )
    if found["overhead"]:
        lines += [
            "",
            f"The trainer `supervised` takes {found['overhead']['ratio']:.3f} times the CPU time of a bare PyTorch loop with",
            f"the same {found['overhead']['steps']} steps (ResNet-20-like, compressed, batches of 128, one thread, least of",
            "five interleaved rounds).",
        ]
    return "\n".join(lines) + "\n"


def _spread(cells: list[dict[str, Any]]) -> str:
    values = sorted(one["after"] for one in cells)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
