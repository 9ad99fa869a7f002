"""One model decomposed: every layer as two factors of full rank, which must change nothing; and by the compressor `lowrank`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import MEMORY, linear_map, moments_bytes
from amc_plugins.graph import ReconstructedNetwork, profile, replace_all
from benchmarks.zoo.subject import LARGE, Record, Refused, Stage, Subject, assert_close, outputs

__all__ = ["STAGES"]

SAMPLES = 4
POSITIONS = 64
RANKS = 4
REMOVED = 0.5
MOST = 20e9
"""Multiply-adds of the fits above which `lowrank` is left out: more than some ten seconds."""


def factors(subject: Subject) -> Record:
    """Every convolution without groups and every linear layer becomes W = H (H W), H orthogonal: a chain of two layers each,
    put in by `replace_all`. Equal to the network within 1e-9 in float64 (1e-3 in float32 above 100 million parameters).
    """
    network = subject.network
    large = subject.parameters > LARGE
    if large:
        subject.drop("model")
    inputs = subject.entry.batch(1 if large else 2, seed=2)
    whole = network.clone().eval()
    if not large:
        whole, inputs = whole.double(), tuple(one.double() for one in inputs)
    expected = outputs(whole, inputs)
    layers = separable(whole)
    if not layers:
        raise Refused("no layer is a convolution without groups or a linear layer, called once")
    replace_all(whole, {name: [(whole.nodes_of(name)[0].op, one) for one in pair(whole.layer(name))] for name in layers})
    difference = assert_close(expected, outputs(whole, inputs), 1e-3 if large else 1e-9, "factors of full rank")
    return {"layers": len(layers), "difference": difference, "dtype": "float32" if large else "float64"}


def separable(network: ReconstructedNetwork) -> list[str]:
    """Convolutions without groups and linear layers, called once."""
    found = []
    for name in network.layer_names:
        linear = linear_map(network, name) if type(network.layer(name)) in (nn.Conv2d, nn.Linear) else None
        if linear is not None and linear.groups == 1 and len(network.nodes_of(name)) == 1:
            found.append(name)
    return found


def pair(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The layer's filters mirrored, and a layer that mirrors the responses back."""
    assert isinstance(module, nn.Conv2d | nn.Linear)
    first = copy.deepcopy(module)
    weight, bias = first.weight.detach(), first.bias
    normal = torch.ones(len(weight), 1, dtype=weight.dtype) / len(weight) ** 0.5
    mirrored = weight.flatten(1) - 2 * normal @ (normal.T @ weight.flatten(1))
    first.weight, first.bias = nn.Parameter(mirrored.reshape(weight.shape)), None
    back = torch.eye(len(weight), dtype=weight.dtype) - 2 * normal @ normal.T
    second: nn.Conv2d | nn.Linear
    if isinstance(module, nn.Conv2d):
        back = back[:, :, None, None]
        second = nn.Conv2d(len(weight), len(weight), 1, bias=bias is not None, device="meta")
    else:
        second = nn.Linear(len(weight), len(weight), bias=bias is not None, device="meta")
    second.weight, second.bias = nn.Parameter(back), bias
    return first, second


def lowrank(subject: Subject) -> Record:
    """`amc.prepare(network, "lowrank")` on four random images; half of the MACs removed from every layer that it takes. The
    network runs on another batch, with finite outputs of the same shapes, and has the MACs that the plan promised.
    """
    network = subject.network
    if (work := work_of(network)) > MOST:
        raise Refused(f"not tried: its fits take {work:.1e} multiply-adds, this table spends {MOST:.0e} on a model")
    expected = outputs(subject.model, subject.entry.batch(2, seed=2))
    plan = amc.prepare(
        network,
        "lowrank",
        calibration=[subject.entry.batch(SAMPLES, seed=4)],
        scheme="channel",
        metric="plain",
        sampled_pixels_per_img=POSITIONS,
        choices=RANKS,
    )
    taken = [view.name for view in plan.layers if view.variables]
    if not taken:
        raise Refused(f"no layer can be decomposed: {reasons(plan.layers)}")
    result = plan.apply(plan.candidate(ratio=REMOVED), refit=False)
    given = outputs(result.network, subject.entry.batch(2, seed=2))
    check_shapes(expected, given)
    found = profile(result.network).total_macs
    assert found == result.macs_after, f"{found} MACs where {result.macs_after} were promised"
    assert found < result.macs_before, "the MACs did not fall"
    return {"layers": len(taken), "of": len(plan.layers), "removed": result.removed}


def work_of(network: ReconstructedNetwork) -> float:
    """Of every layer that can be decomposed: products of moments and weights, and eigenvectors of the responses' moments."""
    maps = [one for name in separable(network) if (one := linear_map(network, name)) is not None]
    sizes = [one.weight.shape for one in maps if moments_bytes(one) <= MEMORY]
    return float(sum(n * m * m + 10 * n**3 for n, m in sizes))


def reasons(views: list[Any]) -> str:
    return "; ".join(sorted({view.why_not for view in views if view.why_not})[:3])


def check_shapes(expected: list[Tensor], given: list[Tensor]) -> None:
    assert [one.shape for one in expected] == [one.shape for one in given], "the outputs have other shapes"
    assert all(bool(one.isfinite().all()) for one in given), "the outputs are not finite"


STAGES: dict[str, Stage] = {"factors": factors, "lowrank": lowrank}
