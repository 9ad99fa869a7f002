"""The C++ runtime beside ONNX Runtime and eager PyTorch at 224 x 224, one thread, in one run.

    .venv/bin/python -m benchmarks.kernels            # writes results/kernels.md

MobileNetV2 and ResNet-18 with random weights, EfficientNet-Lite0 with its ImageNet weights. CPU milliseconds of one inference,
the least of interleaved rounds. The runtime is built twice by CMake, with its reference kernels and with `VN_XNNPACK`
(Debian: `cmake g++ libxnnpack-dev libpthreadpool-dev`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

import amc_plugins as amc
from benchmarks import deployment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "runtime" / "tests"))
import native  # noqa: E402

RESULT = Path(__file__).parent / "results" / "kernels.md"
ROUNDS = 15
BARS = {"MobileNetV2": 1.3, "EfficientNet-Lite0": 1.3, "ResNet-18": 2.0}
"""XNNPACK's time may be so many times ONNX Runtime's."""


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """`act(body(x) + shortcut(x))`."""

    def __init__(self, body: list[nn.Module], shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = nn.Sequential(*body), shortcut, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def mobilenet_v2() -> nn.Module:
    """Sandler et al., CVPR 2018, table 2."""
    layers = [*conv(3, 32, 3, 2), nn.ReLU6()]
    width = 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, outputs, blocks, stride in table:
        for block in range(blocks):
            step, hidden = (stride if block == 0 else 1), width * expand
            body = [*conv(width, hidden, 1), nn.ReLU6()] if expand > 1 else []
            body += [*conv(hidden, hidden, 3, step, hidden), nn.ReLU6(), *conv(hidden, outputs, 1)]
            same = step == 1 and width == outputs
            layers += [Residual(body, nn.Identity(), nn.Identity())] if same else body
            width = outputs
    layers += [*conv(width, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


def resnet18() -> nn.Module:
    """He et al., CVPR 2016, table 1."""
    layers = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for outputs in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and outputs > 64 else 1
            body = [*conv(width, outputs, 3, stride), nn.ReLU(), *conv(outputs, outputs, 3)]
            changes = stride > 1 or width != outputs
            shortcut = nn.Sequential(*conv(width, outputs, 1, stride)) if changes else nn.Identity()
            layers.append(Residual(body, shortcut, nn.ReLU()))
            width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def lite0() -> nn.Module:
    deployment.install()
    return deployment.lite0()[0]


def runtime(kernels: str, file: Path, x: Tensor) -> Callable[[], list[Tensor]]:
    """One inference by the runtime with these kernels."""
    options = {"VN_XNNPACK": "ON"} if kernels == "xnnpack" else {}
    model = native.Library(native.built(f"bench-{kernels}", ("vn",), VN_BUILD_TOOL="OFF", **options)).open(file)
    return lambda: model.run(x)


def timed(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU milliseconds by name."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], (time.process_time() - start) * 1e3)
    return best


def row(name: str, model: nn.Module) -> str:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 224, 224)
    network = amc.capture(model.eval(), x)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = amc.export(network, "vnmodel", Path(folder) / "net.vnmodel")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = amc.export(network, "onnx", Path(folder) / "net.onnx")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: x.numpy()}
        ours = {kernels: runtime(kernels, file, x) for kernels in ("xnnpack", "reference")}
        expected = network(x)
        worst = max(float((call()[0] - expected).abs().max() / expected.abs().max()) for call in ours.values())
        found = timed({"onnx": lambda: session.run(None, given), **ours, "eager": lambda: network(x)})
    ratio = found["xnnpack"] / found["onnx"]
    times = " | ".join(f"{found[one]:.1f}" for one in ("onnx", "xnnpack", "reference", "eager"))
    return f"| {name} | {times} | {ratio:.2f} ({BARS[name]:g}) | {worst:.0e} |"


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    lines = ["# The runtime's kernels", "", *(__doc__ or "").strip().split("\n")[:1], ""]
    lines += ["    .venv/bin/python -m benchmarks.kernels", ""]
    lines += ["CPU milliseconds of one inference, the least of interleaved rounds; in brackets what the ratio may be.", ""]
    lines += ["| network | ONNX Runtime | XNNPACK | reference | eager | XNNPACK / ONNX Runtime | largest error |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, made in (("MobileNetV2", mobilenet_v2), ("ResNet-18", resnet18), ("EfficientNet-Lite0", lite0)):
        torch.manual_seed(0)
        lines.append(row(name, made()))
        print(lines[-1])
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
