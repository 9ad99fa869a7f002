"""What capture, shapes, channel groups and removal cost beside eager forwards of the same network; writes results/graph.md."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from amc_plugins.graph import capture, channel_map, shapes
from amc_plugins.testing import random_removal
from tests.zoo.convnext import ConvNeXt
from tests.zoo.densenet import DenseNet
from tests.zoo.hrnet import HRNet
from tests.zoo.mobilenet_v3 import MobileNetV3
from tests.zoo.resnet import resnet50
from tests.zoo.senet import SENet
from tests.zoo.shufflenet_v2 import ShuffleNetV2
from tests.zoo.swin import Swin
from tests.zoo.test_zoo import NETWORKS as ZOO
from tests.zoo.unet import UNet
from tests.zoo.vit import ViT
from tests.zoo.yolo import Yolo

RESULT = Path(__file__).resolve().parent / "results" / "graph.md"
COMMAND = "python -m benchmarks.graph"
LIMIT = 3.0

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-50": (resnet50, 224),
    "DenseNet-121": (lambda: DenseNet(32, (6, 12, 24, 16), 1000), 224),
    "ShuffleNetV2 x0.5": (lambda: ShuffleNetV2((4, 8, 4), (24, 48, 96, 192, 1024), 1000), 224),
    "ShuffleNetV2 x1": (lambda: ShuffleNetV2((4, 8, 4), (24, 116, 232, 464, 1024), 1000), 224),
    "MobileNetV3-like": (MobileNetV3, 224),
    "HRNet-W18-like": (lambda: HRNet(18), 224),
    "YOLO-like": (lambda: Yolo(32), 320),
    "U-Net 32": (lambda: UNet(32), 224),
    "Swin-T, two stages": (lambda: Swin(96, 7, 3), 224),
    "ConvNeXt-T, three stages": (lambda: ConvNeXt((96, 192, 384), 1000), 224),
    "SE-ResNeXt-like": (lambda: SENet(64, 32, 1000), 224),
    "ViT-Ti/16, two blocks": (lambda: ViT(224, 16, 192, 3, 1000), 224),
}
"""Constructor and image size; from tests/zoo, in the widths of the papers where it takes them."""

PIXELS = 224
"""Image size of the networks that the tests build, where they take any."""

HEAD = """# What the graph costs

CPU time in eager forwards of the original on one image (batch 1, one thread, the least of {rounds} interleaved rounds).
`capture` records, copies and verifies the network: it runs the original and the copy on one image, on two, and on larger
ones. `shapes` and `channel_map` are for two images; channel groups should cost no more than {limit:g} forwards. `shrink`
removes a random half of all channels and derives the new network's shapes once more, by its layers on the meta device.
`ids KiB` is what the channel ids of all values take.

    {command}

{columns}
"""
COLUMNS = """| network | nodes | groups | ids KiB | forward ms | capture | shapes | channel_map | shrink |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""

NARROW = """
## The networks of tests/zoo as the tests build them

Six to a few dozen channels wide, on images of {pixels} x {pixels} pixels where the network takes them. Their forwards are over
in milliseconds, so that whatever looks at a network node by node costs more of them. Channel groups take {least:.0f} to
{most:.0f} microseconds a node, and {within} of {count} networks are within {limit:g} forwards.
{beyond}
{columns}
"""
BEYOND = """
Beyond that, with microseconds a node of the forward and of the groups:
{named}.
Their forwards are one short call of torch per node. Finding the groups makes several per node, for shapes (their column), id
tensors and comparisons of ids; sorting the channels into groups at the end is about a quarter of its time.
"""


class Row(NamedTuple):
    """One network: the least CPU seconds of each action."""

    name: str
    nodes: int
    groups: int
    kibibytes: int
    """Of the ids of all values."""
    seconds: dict[str, float]

    def relative(self, action: str) -> float:
        return self.seconds[action] / self.seconds["forward"]

    def __str__(self) -> str:
        ratios = " | ".join(f"{self.relative(one):.2f}" for one in self.seconds if one != "forward")
        forward = 1000 * self.seconds["forward"]
        return f"| {self.name} | {self.nodes} | {self.groups} | {self.kibibytes} | {forward:.1f} | {ratios} |"


def measured(name: str, model: nn.Module, inputs: tuple[Any, ...], rounds: int) -> Row:
    network = capture(model, *inputs)
    channels = channel_map(network)
    removed = random_removal(channels)
    actions: dict[str, Callable[[], object]] = {
        "forward": lambda: model(*inputs),
        "capture": lambda: capture(model, *inputs),
        "shapes": lambda: shapes(network, *network.example_inputs(batch=2)),
        "channel_map": lambda: channel_map(network),
        "shrink": lambda: channels.shrink(removed),
    }
    least = dict.fromkeys(actions, float("inf"))
    with torch.no_grad():
        for _ in range(rounds):
            for action, run in actions.items():
                start = time.process_time()
                run()
                least[action] = min(least[action], time.process_time() - start)
    stores = (ids.untyped_storage() for ids in channels.values.values())
    held = sum({store.data_ptr(): store.nbytes() for store in stores}.values())
    return Row(name, len(network.graph.nodes), len(channels.groups), -(-held // 1024), least)


def of_papers(rounds: int) -> Iterator[Row]:
    for name, (make, size) in NETWORKS.items():
        torch.manual_seed(0)
        yield measured(name, make().eval(), (torch.randn(1, 3, size, size),), rounds)


def of_tests(rounds: int) -> Iterator[Row]:
    for name in ZOO:
        zoo = importlib.import_module(f"tests.zoo.{name}")
        inputs = zoo.inputs(1) if zoo.OTHER_SIZE is None else zoo.inputs(1, PIXELS)
        yield measured(name, zoo.build(), inputs, rounds)


def beside(row: Row) -> str:
    forward, groups = (1e6 * row.seconds[one] / row.nodes for one in ("forward", "channel_map"))
    return f"{row.name} {forward:.0f} and {groups:.0f}"


def shown(rows: Iterator[Row]) -> list[Row]:
    found = []
    for row in rows:
        found.append(row)
        print(row, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("amc_plugins.capture").setLevel(logging.ERROR)  # ops without a handler are not the point here
    measured(
        "warm", MobileNetV3().eval(), (torch.randn(1, 3, 32, 32),), 1
    )  # torch imports what the meta device needs on first use
    wide, narrow = shown(of_papers(options.rounds)), shown(of_tests(options.rounds))
    each = [1e6 * row.seconds["channel_map"] / row.nodes for row in narrow]
    over = [row for row in narrow if row.relative("channel_map") > LIMIT]
    text = HEAD.format(rounds=options.rounds, limit=LIMIT, command=COMMAND, columns=COLUMNS) + "\n".join(map(str, wide)) + "\n"
    text += NARROW.format(
        pixels=PIXELS,
        least=min(each),
        most=max(each),
        within=len(narrow) - len(over),
        count=len(narrow),
        beyond=BEYOND.format(named=", ".join(map(beside, over))) if over else "",
        limit=LIMIT,
        columns=COLUMNS,
    )
    text += "\n".join(map(str, narrow)) + "\n"
    text += f"\ntorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.\n"
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(text)


if __name__ == "__main__":
    main()
