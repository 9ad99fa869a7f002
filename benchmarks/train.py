"""The checkpoints of the benchmark: each network trained once, cached.

    python -m benchmarks.train [vgg resnet20 mobilenetv2] [--seed 0]

One thread: the same seed gives the same checkpoint. It lies in `benchmarks/.cache`, or in `$AMC_BENCHMARKS_CACHE`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import data
from benchmarks.networks import NETWORKS

__all__ = ["accuracy", "cache", "checkpoint", "trained"]

EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 6, 128, 0.1, 0.9, 5e-4


def cache() -> Path:
    return Path(os.environ.get("AMC_BENCHMARKS_CACHE", Path(__file__).with_name(".cache")))


def checkpoint(name: str, seed: int = 0) -> Path:
    return cache() / f"{name}-{seed}.pt"


def trained(name: str, seed: int = 0) -> nn.Module:
    """A trained network in eval mode; trained first if that has not been done."""
    path = checkpoint(name, seed)
    if not path.is_file():
        train(name, seed)
    network = NETWORKS[name]()
    network.load_state_dict(torch.load(path, weights_only=True)["weights"])
    return network.eval()


def train(name: str, seed: int) -> None:
    """SGD with Nesterov momentum, one cycle of the learning rate, horizontal flips."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    split = data.load("train")
    network = NETWORKS[name]().to(memory_format=torch.channels_last)  # a third faster
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    steps = EPOCHS * (len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, steps))
    started = time.process_time()
    for epoch in range(EPOCHS):
        network.train()
        order = torch.randperm(len(split))
        losses = []
        for chosen in order.split(BATCH):
            if len(chosen) < BATCH:
                break
            loss = F.cross_entropy(network(flipped(split.inputs(chosen))), split.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        held_out = accuracy(network, data.load("validation"))
        print(
            f"{name}: epoch {epoch + 1} of {EPOCHS}, loss {torch.stack(losses).mean():.3f}, validation {held_out:.2f} %",
            flush=True,
        )
    report = {
        "network": name,
        "seed": seed,
        "parameters": sum(one.numel() for one in network.parameters()),
        "test": accuracy(network, data.load("test")),
        "cpu_seconds": round(time.process_time() - started, 1),
        "torch": str(torch.__version__),
    }
    path = checkpoint(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"weights": network.state_dict(), "report": report}, partial)
    partial.replace(path)
    print(json.dumps(report), flush=True)


def one_cycle(step: int, steps: int) -> float:
    """Up in a straight line over the first tenth, then half a cosine down to zero."""
    rise = steps / 10
    return step / rise if step < rise else 0.5 * (1.0 + math.cos(math.pi * (step - rise) / (steps - rise)))


def flipped(images: Tensor) -> Tensor:
    mirrored = torch.rand(len(images)) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


@torch.no_grad()
def accuracy(network: nn.Module, split: data.Split, batch: int = 500) -> float:
    """Per cent of the images that the network gives the right label."""
    modes = network.training
    network.eval()
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in split.batches(batch))
    network.train(modes)
    return 100.0 * right / len(split)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the networks of the benchmark, once.")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="network", help=", ".join(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.nice(19)
    for name in asked.networks:
        if name not in NETWORKS:
            parser.error(f"there is no network `{name}`; there are {', '.join(NETWORKS)}")
        if checkpoint(name, asked.seed).is_file():
            print(f"{name}: {checkpoint(name, asked.seed)} is there")
        else:
            train(name, asked.seed)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except data.MissingDataError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
