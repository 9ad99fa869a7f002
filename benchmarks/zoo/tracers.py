"""How long capture takes, beside `torch.fx.symbolic_trace` and `torch.export` of the same model in the same process.

Each first takes a small network, so that no model pays for imports. CPU seconds of one thread. Capture includes its own checks,
on the example and on other data in another batch size; the other two are compared with the model here, outside of the time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import amc_plugins as amc
from benchmarks.zoo.subject import Record, Stage, Subject, assert_close, outputs, timed

__all__ = ["STAGES", "TRACERS", "warm"]

Tracer = Callable[[nn.Module, tuple[Tensor, ...]], nn.Module]

TOLERANCE = 1e-4
"""Of a traced program, which may choose other kernels than the model did."""


def recorded(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    return amc.capture(model, *inputs)


def symbolic(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    return torch.fx.symbolic_trace(model)


def exported(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    return torch.export.export(model, inputs).module()


def warm(tracer: Tracer) -> None:
    """What is imported and set up on first use, on a small network."""
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    tracer(small, (torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),))


def traced_by(tracer: Tracer) -> Stage:
    def stage(subject: Subject) -> Record:
        model, inputs = subject.model, subject.entry.batch(1)
        warm(tracer)
        made, seconds = timed(lambda: tracer(model, inputs))
        assert_close(outputs(model, inputs), outputs(made, inputs), TOLERANCE, "the traced program")
        return {"trace_seconds": seconds}

    return stage


TRACERS: dict[str, Tracer] = {"amc_trace": recorded, "fx": symbolic, "export": exported}
STAGES: dict[str, Stage] = {name: traced_by(tracer) for name, tracer in TRACERS.items()}
