"""What compression costs on networks of ImageNet's size: VGG-16 and ResNet-50 at 224 x 224, half of the MACs removed.

    python -m benchmarks.scale                              # all, one after the other; writes results/scale.md
    python -m benchmarks.scale --networks vgg16 --methods pruning

Weights and images are random: time and memory are what is measured. Batch norms have the statistics of these images. Each
compression runs in a process of its own, and its record stays in the cache until the command asks for it `--again`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import amc_plugins as amc
from benchmarks.measure import macs, peak_mib, reestimated
from benchmarks.train import cache

__all__ = ["NETWORKS", "VGG16", "ResNet50"]

METHODS = ("pruning", "lowrank")
IMAGES, TOTAL, THREADS = 512, 0.5, 2
HERE = Path(__file__).parent
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class VGG16(nn.Module):
    """Simonyan and Zisserman 2015, configuration D: 15.5 G MACs, 138 M parameters, no batch norms."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for outputs in _VGG16:
            if isinstance(outputs, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                width = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(width * 49, 4096), nn.ReLU(inplace=True), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """He et al. 2016, the stride in the 3 x 3 convolutions: 4.1 G MACs, 26 M parameters."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        width = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            made = []
            for block in range(blocks):
                made.append(Bottleneck(width, 64 << stage, 2 if stage and not block else 1))
                width = 256 << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


NETWORKS: dict[str, type[nn.Module]] = {"vgg16": VGG16, "resnet50": ResNet50}


def drawn(name: str, images: Tensor) -> nn.Module:
    """A network with weights that keep the scale of what goes through them."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return reestimated(network, images[:32], batch=16)


def measured(name: str, method: str, count: int, total: float, threads: int) -> dict[str, Any]:
    """Compress once, in this process."""
    torch.set_num_threads(threads)
    images = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    network = drawn(name, images)
    start = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    result = amc.compress(amc.capture(network, images[:2]), method, calibration=images, total=total, seed=0)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "network": name,
        "method": method,
        "images": count,
        "threads": threads,
        "macs": macs(network, images[:1]),
        "removed": 1.0 - macs(result.network, images[:1]) / macs(network, images[:1]),
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "start_mib": round(start),
        "peak_mib": round(peak_mib()),
    }


def markdown(records: list[dict[str, Any]]) -> str:
    lines = [
        "# Compression of networks of ImageNet's size",
        "",
        "VGG-16 and ResNet-50 at 224 x 224, half of the MACs removed, everything included that `amc.compress` does:",
        "statistics, choice, refit. Weights and images are random; what is measured is time and memory. Memory is that of the",
        "whole process, with torch, the network and the images. CPU seconds are the sum over the threads; wall time is that",
        "of a shared machine.",
        "",
        "    python -m benchmarks.scale",
        "",
        "| network | G MACs | method | images | threads | removed | CPU s | wall s | MiB before | peak MiB |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in records:
        lines.append(
            f"| {one['network']} | {one['macs'] / 1e9:.2f} | {one['method']} | {one['images']} | {one['threads']} "
            f"| {100 * one['removed']:.1f} % | {one['cpu_seconds']:.0f} | {one['wall_seconds']:.0f} | {one['start_mib']} "
            f"| {one['peak_mib']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure time and memory of compression at 224 x 224.")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--again", action="store_true", help="measure what is in the cache once more")
    parser.add_argument("--one", action="store_true", help="measure the first pair in this process and print its record")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.networks[0], asked.methods[0], asked.images, TOTAL, asked.threads)))
        return 0
    folder = cache() / "scale"
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in asked.networks:
        for method in asked.methods:
            path = folder / f"{name}-{method}-{asked.images}-{asked.threads}.json"
            if path.is_file() and not asked.again:
                continue
            command = [sys.executable, "-m", "benchmarks.scale", "--one", "--networks", name, "--methods", method]
            command += ["--images", str(asked.images), "--threads", str(asked.threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(asked.threads)}
            done = subprocess.run(command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                failed += 1
                print(f"error: {name} {method} ended with {done.returncode}", file=sys.stderr)
                continue
            path.write_text(done.stdout, encoding="utf-8")
            print(done.stdout, end="", flush=True)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*-{IMAGES}-*.json"))]
    if records:
        (HERE / "results" / "scale.md").write_text(markdown(records), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
