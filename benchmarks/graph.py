"""What capture, shapes, channel groups and removal cost beside eager forwards of the same network; writes results/graph.md."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from amc_plugins.graph import capture, channel_map, shapes
from amc_plugins.testing import random_removal
from tests.zoo.densenet import DenseNet
from tests.zoo.hrnet import HRNet
from tests.zoo.mobilenet_v3 import MobileNetV3
from tests.zoo.resnet import resnet50
from tests.zoo.shufflenet_v2 import ShuffleNetV2
from tests.zoo.swin import Swin
from tests.zoo.unet import UNet
from tests.zoo.yolo import Yolo

RESULT = Path(__file__).resolve().parent / "results" / "graph.md"
COMMAND = "python -m benchmarks.graph"
LIMIT = 3.0

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-50": (resnet50, 224),
    "DenseNet-121": (lambda: DenseNet(32, (6, 12, 24, 16), 1000), 224),
    "ShuffleNetV2 x1": (lambda: ShuffleNetV2((4, 8, 4), (24, 116, 232, 464, 1024), 1000), 224),
    "MobileNetV3-like": (MobileNetV3, 224),
    "HRNet-W18-like": (lambda: HRNet(18), 224),
    "YOLO-like": (lambda: Yolo(32), 320),
    "U-Net 32": (lambda: UNet(32), 224),
    "Swin-T, two stages": (lambda: Swin(96, 7, 3), 224),
}
"""Constructor and image size; from tests/zoo, in the widths of the papers where it takes them."""

HEAD = """# What the graph costs

CPU time in eager forwards of the original on one image (batch 1, one thread, the least of {rounds} interleaved rounds).
`capture` records, copies and verifies the network: it runs the original and the copy on one image and on two, so that six
forwards are in it. `shapes` and `channel_map` are for two images; channel groups should cost no more than {limit:g}
forwards. `shrink` removes a random half of all channels and derives the new network's shapes once more.

    {command}

| network | nodes | groups | forward ms | capture | shapes | channel_map | shrink |
|---|---:|---:|---:|---:|---:|---:|---:|
"""


def measured(make: Callable[[], nn.Module], size: int, rounds: int) -> tuple[int, int, dict[str, float]]:
    """Nodes, groups, and the least CPU seconds of each action."""
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(1, 3, size, size)
    network = capture(model, x)
    channels = channel_map(network)
    removed = random_removal(channels)
    actions: dict[str, Callable[[], object]] = {
        "forward": lambda: model(x),
        "capture": lambda: capture(model, x),
        "shapes": lambda: shapes(network, *network.example_inputs(batch=2)),
        "channel_map": lambda: channel_map(network),
        "shrink": lambda: channels.shrink(removed),
    }
    least = dict.fromkeys(actions, float("inf"))
    with torch.no_grad():
        for _ in range(rounds):
            for name, action in actions.items():
                start = time.process_time()
                action()
                least[name] = min(least[name], time.process_time() - start)
    return len(network.graph.nodes), len(channels.groups), least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("amc_plugins.capture").setLevel(logging.ERROR)  # ops without a handler are not the point here
    measured(MobileNetV3, 32, 1)  # torch imports what it needs for the meta device on first use
    lines = []
    for name, (make, size) in NETWORKS.items():
        nodes, groups, least = measured(make, size, options.rounds)
        forward = least.pop("forward")
        ratios = " | ".join(f"{seconds / forward:.2f}" for seconds in least.values())
        lines.append(f"| {name} | {nodes} | {groups} | {1000 * forward:.0f} | {ratios} |")
        print(lines[-1], flush=True)
    head = HEAD.format(rounds=options.rounds, limit=LIMIT, command=COMMAND)
    where = f"\ntorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.\n"
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(head + "\n".join(lines) + "\n" + where)


if __name__ == "__main__":
    main()
