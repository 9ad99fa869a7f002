"""What is measured of a compressed network: plain torch, so that every method, ours or a peer's, goes through the same code."""

from __future__ import annotations

import copy
import math
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import data
from benchmarks.train import accuracy, trained

__all__ = ["Figures", "exported", "figures", "fine_tuned", "latency_ratio", "macs", "peak_mib", "record", "reestimated"]

STEPS, BATCH, MOMENTUM, DECAY = 80, 128, 0.9, 1e-4
RATES = (0.005, 0.02, 0.08)
"""Starting rates of the fine-tune; each network gets the one that is best on the validation images."""


@dataclass(frozen=True)
class Figures:
    """Accuracies in per cent of the test images; latencies relative to the original's."""

    compressed: float
    norms: float
    """After batch norms saw the calibration images."""
    tuned: float
    rate: float
    parameters: int
    latency_1: float
    latency_64: float

    def record(self) -> dict[str, float]:
        return asdict(self)


def record(
    name: str,
    method: str,
    total: float,
    seed: int,
    compress: Callable[[nn.Module, Tensor], nn.Module],
    exchange: Path | None = None,
) -> dict[str, Any]:
    """Compress a network and measure it. CPU seconds and peak memory are those of `compress(model, images)`, one thread.

    Args:
        name: a network of `benchmarks.networks`.
        method: a name for the table.
        total: the share of the MACs that `compress` was asked to remove, for the table.
        seed: of the checkpoint and of the fine-tune.
        compress: gets the trained model and the calibration images.
        exchange: a folder for `original.pt2` and `compressed.pt2` (`torch.export`), for other runtimes.
    """
    torch.set_num_threads(1)
    model = trained(name, seed)
    calibration = data.calibration()
    memory = peak_mib()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    compressed = compress(model, calibration)
    cpu, wall, peak = _cpu_seconds() - cpu, time.perf_counter() - wall, peak_mib()
    if exchange is not None:
        exported(model, calibration[:2], exchange / "original.pt2")
        exported(compressed, calibration[:2], exchange / "compressed.pt2")
    return {
        "network": name,
        "method": method,
        "budget": total,
        "removed": 1.0 - macs(compressed, calibration[:1]) / macs(model, calibration[:1]),
        "original": accuracy(model, data.load("test")),
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "peak_mib": round(peak),
        "start_mib": round(memory),
        **figures(model, compressed, calibration, seed=seed).record(),
    }


def figures(original: nn.Module, network: nn.Module, calibration: Tensor, *, seed: int = 0) -> Figures:
    """Everything that is measured of a network; neither argument is changed.

    Args:
        original: the network before compression, with its batch norms.
        network: what compression made of it.
        calibration: normalised images.
        seed: of the order of the fine-tune's batches.
    """
    torch.set_num_threads(1)
    test = data.load("test")
    renewed = reestimated(network, calibration)
    tuned, rate = fine_tuned(renewed, seed=seed)
    return Figures(
        compressed=accuracy(network, test),
        norms=accuracy(renewed, test),
        tuned=accuracy(tuned, test),
        rate=rate,
        parameters=sum(one.numel() for one in network.parameters()),
        latency_1=latency_ratio(original, network, calibration[:1], rounds=60, repeats=10),
        latency_64=latency_ratio(original, network, calibration[:64], rounds=30, repeats=1),
    )


@torch.no_grad()
def reestimated(network: nn.Module, images: Tensor, batch: int = 256) -> nn.Module:
    """A copy whose batch norms have the plain average of their statistics over `images`."""
    network = copy.deepcopy(network).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None
        module.train()
    for part in images.split(batch):
        network(part)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    return network.eval()


def fine_tuned(network: nn.Module, *, seed: int = 0) -> tuple[nn.Module, float]:
    """The best by validation of 80 SGD steps from each of three rates, falling to 0 by a cosine; the same for every method."""
    train, validation = data.load("train"), data.load("validation")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)[: STEPS * BATCH].split(BATCH)
    found: list[tuple[float, float, nn.Module]] = []
    for rate in RATES:
        student = copy.deepcopy(network).train()
        weights = [one for one in student.parameters() if one.requires_grad]
        optimizer = torch.optim.SGD(weights, lr=rate, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
        for step, chosen in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * step / STEPS))
            loss = F.cross_entropy(student(train.inputs(chosen)), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found.append((accuracy(student.eval(), validation), rate, student))
    _, rate, best = max(found, key=lambda one: one[0])
    return best, rate


@torch.no_grad()
def latency_ratio(original: nn.Module, network: nn.Module, images: Tensor, *, rounds: int, repeats: int) -> float:
    """CPU time of `network` relative to `original`: eager, one thread, the least of interleaved rounds of each."""
    best = [math.inf, math.inf]
    for round_ in range(rounds + 3):
        for index, module in enumerate((original, network)):
            started = time.process_time()
            for _ in range(repeats):
                module(images)
            spent = time.process_time() - started
            if round_ >= 3:
                best[index] = min(best[index], spent)
    return best[1] / best[0]


def exported(network: nn.Module, images: Tensor, path: Path) -> None:
    """Write `network` as a `torch.export` program of any batch size: readable without the packages that it was made with."""
    program = torch.export.export(_OneInput(network).eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)


class _OneInput(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)
        return found


@torch.no_grad()
def macs(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of the convolutions and linear layers for a batch of images."""
    found: list[int] = []

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        found.append(output.numel() * module.weight[0].numel())

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network(images)
    for hook in hooks:
        hook.remove()
    return sum(found)


def _cpu_seconds() -> float:
    """Of this process, all threads, and of the children that it waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
