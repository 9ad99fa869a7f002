"""Retraining after a compression: plain fine-tuning beside distillation, 8-bit training, and what the loop itself costs.

    python -m benchmarks.training [--epochs 1 4]

The networks of `benchmarks/networks.py`, 70 % of the MACs removed by `pruning`; so many epochs on the 55,000 training images
with the same schedule, batches and seeds for every trainer. The rate and the weights of the terms were chosen on the validation
images; the test images give figures and choose nothing. A finished cell stays (`--again` measures anew, needed after the
trainers changed), so a run that was stopped goes on. Everything lies in `benchmarks/.cache/training`. Writes
`benchmarks/results/training.json` and `training.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import amc_plugins as amc
from amc_plugins.graph import fold_norms
from amc_plugins.training import TrainingResult
from benchmarks import data
from benchmarks.networks import NETWORKS
from benchmarks.tables import TITLES
from benchmarks.train import accuracy, trained
from benchmarks.train import cache as cache_folder

TOTAL, BATCH, RATE = 0.7, 128, 0.03
SEEDS, EPOCHS = (0, 1, 2), (1, 4)
PLAIN = {"learning_rate": RATE, "weight_decay": 1e-4}
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "fine-tuned": ("supervised", PLAIN),
    "distilled": ("distillation", PLAIN),
    "8-bit": ("quantization", {"learning_rate": 1e-3}),
    "probabilities": ("distillation", {**PLAIN, "hint_layers": []}),
    "both": ("distillation", {**PLAIN, "logits_weight": 0.5, "label_weight": 0.5}),
}
"""Kinds of cells: the trainer and its settings; those of `distilled` are the defaults."""
TERMS_OF = "resnet20"
"""The network on which the terms of distillation are measured one by one too."""
ROUNDS, STEPS = 5, 60
"""Rounds of the overhead, each of so many steps of either loop in turn."""
HERE = Path(__file__).parent
FOLDER = cache_folder() / "training"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the trainers on three compressed networks and write the table.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--epochs", nargs="+", type=int, default=list(EPOCHS))
    parser.add_argument("--cells", type=int, help="measure at most so many cells that are missing")
    parser.add_argument("--again", action="store_true", help="measure the cells asked for again")
    asked = parser.parse_args()
    os.nice(19)
    torch.set_num_threads(1)
    left = asked.cells
    for cell in cells_of(asked.networks, asked.epochs, asked.seeds):
        path = cell.path
        if path.is_file() and not asked.again:
            continue
        if left is not None and left <= 0:
            break
        left = None if left is None else left - 1
        write(path, measured(cell))
        report()
    path = FOLDER / "overhead.json"
    if (asked.again or not path.is_file()) and (left is None or left > 0):
        write(path, overhead())
    report()
    return 0


@dataclass(frozen=True)
class Cell:
    kind: str
    network: str
    epochs: int
    seed: int

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.network}-{self.kind}-{self.epochs}-{self.seed}.json"


def cells_of(networks: list[str], epochs: list[int], seeds: list[int]) -> Iterator[Cell]:
    """Every cell, what is compared next to each other."""
    for count in epochs:
        for seed in seeds:
            yield from (Cell(kind, name, count, seed) for name in networks for kind in ("fine-tuned", "distilled"))
        yield from (Cell("8-bit", name, count, seed) for name in networks for seed in seeds[:1])
        for seed in seeds if TERMS_OF in networks else []:
            yield from (Cell(kind, TERMS_OF, count, seed) for kind in ("probabilities", "both"))


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
    return _channels_last(amc.load(path))


def _channels_last(network: amc.ReconstructedNetwork) -> amc.ReconstructedNetwork:
    for parameter in network.parameters():
        if parameter.dim() == 4:  # a third faster, for whatever trains it
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


@cache
def before(name: str) -> dict[str, float]:
    """Per cent of the test images that the original network gets right, and the compressed one before any training."""
    test = data.load("test")
    return {"original": accuracy(trained(name), test), "pruned": accuracy(compressed(name), test)}


def measured(cell: Cell) -> dict[str, Any]:
    start = fine_tuned(cell) if cell.kind == "8-bit" else compressed(cell.network)
    test = data.load("test")
    found = {**asdict(cell), **before(cell.network)}
    if cell.kind == "8-bit":
        found["float"] = accuracy(start, test)
    cpu = time.process_time()
    result = retrained(cell, start)
    cpu = time.process_time() - cpu
    assert isinstance(result.network, amc.ReconstructedNetwork)
    if cell.kind == "fine-tuned":
        result.network.save(pkl=cell.path.with_suffix(".pkl"))
    return found | {
        "after": accuracy(result.network, test),
        "validation": 100 * result.metrics["accuracy"],
        "validation_loss": result.metrics["total_loss"],
        "cpu_seconds": round(cpu, 1),
    }


def fine_tuned(cell: Cell) -> amc.ReconstructedNetwork:
    """The network that the cell's training for integers starts from."""
    plain = replace(cell, kind="fine-tuned")
    path = plain.path.with_suffix(".pkl")
    if not path.is_file():
        write(plain.path, measured(plain))
    return _channels_last(amc.load(path))


def retrained(cell: Cell, start: amc.ReconstructedNetwork) -> TrainingResult:
    trainer, settings = CELLS[cell.kind]
    return amc.train(
        start,
        trainer,
        train=batches(data.load("train"), train=True, seed=cell.seed),
        validation=batches(data.load("validation"), train=False),
        teacher=_channels_last(fold_norms(original(cell.network))) if trainer == "distillation" else None,
        seed=cell.seed,
        epochs=1 if cell.kind == "8-bit" else cell.epochs,
        **settings,
    )


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
    cells = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*-*-*-*.json"))]
    spent = FOLDER / "overhead.json"
    found = {"cells": cells, "overhead": json.loads(spent.read_text()) if spent.is_file() else None}
    (HERE / "results" / "training.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "results" / "training.md").write_text(markdown(found))


def markdown(found: dict[str, Any]) -> str:
    cells = Cells(found["cells"])
    paragraphs = [
        ["# Retraining after a compression"],
        [
            f"Fashion-MNIST, the networks of `benchmarks/networks.py` without {TOTAL:.0%} of their MACs (`pruning`). Per cent",
            "of the 10,000 test images that are right: medians over seeds, with least and most in brackets. Both trainers",
            f"see the same batches for equally many epochs with one schedule (peak rate {RATE:g}, cosine; no augmentation)",
            "and keep their best epoch on the 5,000 validation images, which also chose the rate and the weights of the terms.",
            "Distilled: the defaults of `distillation`, the original network as the teacher. 8 bit: the fine-tuned network of",
            "seed 0, trained by `quantization` for one more epoch with 8-bit weights and activations.",
        ],
        ["    python -m benchmarks.training"],
        *_missing(found["cells"]),
        _table(cells),
        ["Seed by seed:"],
        _by_seed(cells),
        *_terms(cells),
    ]
    if spent := found["overhead"]:
        paragraphs.append(
            [
                f"The trainer `supervised` takes {spent['ratio']:.3f} times the CPU time of a bare PyTorch loop with the same",
                f"{spent['steps']} steps (ResNet-20-like, compressed, batches of {BATCH}, one thread, least of {ROUNDS}",
                "interleaved rounds).",
            ]
        )
    return "\n\n".join("\n".join(lines) for lines in paragraphs) + "\n"


def _missing(records: list[dict[str, Any]]) -> list[list[str]]:
    wanted = {astuple(cell) for cell in cells_of(list(NETWORKS), list(EPOCHS), list(SEEDS))}
    there = {(one["kind"], one["network"], one["epochs"], one["seed"]) for one in records}
    left = len(wanted - there)
    return [[f"Not finished: {left} of {len(wanted)} cells are not measured yet."]] if left else []


class Cells:
    """The records by network, kind and epochs, in the order of seeds."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self._records = sorted(records, key=lambda one: int(one["seed"]))
        self.seeds = sorted({one["seed"] for one in records})
        self.rows = [(name, count) for name in NETWORKS for count in sorted({one["epochs"] for one in records})]

    def __call__(self, network: str, kind: str, epochs: int) -> list[dict[str, Any]]:
        asked = (network, kind, epochs)
        return [one for one in self._records if (one["network"], one["kind"], one["epochs"]) == asked]


def _table(cells: Cells) -> list[str]:
    lines = [
        "| network | original | pruned | epochs | fine-tuned | distilled | distilled less fine-tuned | 8 bit less float |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, epochs in cells.rows:
        plain, taught, eight = (cells(name, kind, epochs) for kind in ("fine-tuned", "distilled", "8-bit"))
        by_seed = {one["seed"]: one["after"] for one in plain}
        gains = [one["after"] - by_seed[one["seed"]] for one in taught if one["seed"] in by_seed]
        if gains:
            less = f"{eight[0]['after'] - eight[0]['float']:+.2f}" if eight else ""
            lines.append(
                f"| {TITLES[name]} | {plain[0]['original']:.2f} | {plain[0]['pruned']:.2f} | {epochs} | {_spread(plain)} "
                f"| {_spread(taught)} | {statistics.median(gains):+.2f} | {less} |"
            )
    return lines


def _by_seed(cells: Cells) -> list[str]:
    seeds = cells.seeds
    lines = [f"| network | epochs | trainer | {' | '.join(f'seed {seed}' for seed in seeds)} | validation loss | CPU seconds |"]
    lines.append("|---|---:|---|" + "---:|" * (len(seeds) + 2))
    for name, epochs in cells.rows:
        for kind in ("fine-tuned", "distilled"):
            if ours := cells(name, kind, epochs):
                after = {one["seed"]: f"{one['after']:.2f}" for one in ours}
                lines.append(
                    f"| {TITLES[name]} | {epochs} | {kind} | {' | '.join(after.get(seed, '') for seed in seeds)} "
                    f"| {_middle(ours, 'validation_loss'):.4f} | {_middle(ours, 'cpu_seconds'):.0f} |"
                )
    return lines


def _terms(cells: Cells) -> list[list[str]]:
    titles = {
        "fine-tuned": "labels alone",
        "probabilities": "labels and class probabilities (`hint_layers=[]`)",
        "distilled": "labels and last features (the defaults)",
        "both": "labels, class probabilities and last features (`label_weight=0.5`, `logits_weight=0.5`)",
    }
    lines = ["| epochs | learnt from | test | validation | validation loss |", "|---:|---|---:|---:|---:|"]
    for name, epochs in cells.rows:
        rows = {kind: cells(TERMS_OF, kind, epochs) for kind in titles}
        if name == TERMS_OF and all(rows.values()):
            lines += [
                f"| {epochs} | {titles[kind]} | {_spread(ours)} | {_middle(ours, 'validation'):.2f} "
                f"| {_middle(ours, 'validation_loss'):.4f} |"
                for kind, ours in rows.items()
            ]
    return [[f"What each term of distillation gives ({TITLES[TERMS_OF]}):"], lines] if len(lines) > 2 else []


def _middle(cells: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(one[name] for one in cells))


def _spread(cells: list[dict[str, Any]]) -> str:
    values = sorted(one["after"] for one in cells)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
