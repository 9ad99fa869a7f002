"""What is measured of a compressed network: plain torch, so that every method, ours or a peer's, goes through the same code."""

from __future__ import annotations

import copy
import math
import resource
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import data
from benchmarks.train import accuracy

__all__ = ["Figures", "figures", "fine_tuned", "latency_ratio", "peak_mib", "reestimated"]

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


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
