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
MOST = 5e11
"""Multiply-adds of the fits above which `lowrank` is left out: more than some twenty seconds."""
EQUAL = 1e-9
ROUNDING = 1e-12
"""What a layer and its two factors may differ by on the same inputs in float64, relative to the largest response."""
AMPLIFIED = 10.0
"""Times that the outputs may differ more than they do when noise of the size of that rounding is added in the same places."""
CHUNK = 8
"""Layers of a large network that are replaced at a time, so that the old ones are freed."""


def factors(subject: Subject) -> Record:
    """Every convolution without groups and every linear layer becomes W = H (H W), H orthogonal: a chain of two layers each,
    put in by `replace_all`. Equal to the network within 1e-9 in float64 (1e-3 in float32 above 100 million parameters).

    A network that amplifies rounding by more than that (gates that saturate do) is compared layer by layer, on the same inputs,
    and its outputs with what noise of the size of those differences does to the outputs of the original.
    """
    network = subject.network
    large = subject.parameters > LARGE
    if large:
        subject.drop("model")
    inputs = subject.entry.batch(1 if large else 2, seed=2)
    if large:
        subject.drop("network", "channels")  # it is edited in place: there is no memory for another
        whole = network.eval()
    else:
        whole, inputs = network.clone().eval().double(), tuple(one.double() for one in inputs)
    expected = outputs(whole, inputs)
    layers = separable(whole)
    if not layers:
        raise Refused("no layer is a convolution without groups or a linear layer, called once")
    for start in range(0, len(layers), CHUNK if large else len(layers)):
        some = layers[start : start + CHUNK] if large else layers
        replace_all(whole, {name: [(whole.nodes_of(name)[0].op, one) for one in pair(whole.layer(name))] for name in some})
    given = outputs(whole, inputs)
    found: Record = {"layers": len(layers), "dtype": "float32" if large else "float64"}
    if large:
        return found | {"difference": assert_close(expected, given, 1e-3, "factors of full rank")}
    difference = assert_close(expected, given, float("inf"), "factors of full rank")
    if difference > EQUAL:
        noise, local = amplified(network.clone().eval().double(), inputs, layers)
        assert difference <= AMPLIFIED * noise, f"factors of full rank: {difference:.1e}, where rounding gives {noise:.1e}"
        found |= {"amplified": noise, "largest_layer_difference": local}
    return found | {"difference": difference}


def amplified(whole: ReconstructedNetwork, inputs: tuple[Tensor, ...], layers: list[str]) -> tuple[float, float]:
    """How much outputs change when every layer's responses get noise of the size of what its factors differ by, and the
    largest of those differences, relative to the largest response.

    Raises:
        AssertionError: a layer differs from its factors by more than rounding.
    """
    expected = outputs(whole, inputs)
    generator = torch.Generator().manual_seed(5)
    differences: dict[str, float] = {}
    pairs = {name: pair(whole.layer(name)) for name in layers}

    def add_noise(name: str, given: Tensor, response: Tensor) -> Tensor:
        first, second = pairs[name]
        size = float((second(first(given)) - response).abs().max())
        differences[name] = size / float(response.abs().max().clamp_min(torch.finfo(response.dtype).tiny))
        return response + size * (2 * torch.rand(response.shape, dtype=response.dtype, generator=generator) - 1)

    hooks = [
        whole.layer(name).register_forward_hook(lambda _, given, response, name=name: add_noise(name, given[0], response))
        for name in layers
    ]
    with_noise = outputs(whole, inputs)
    for hook in hooks:
        hook.remove()
    worst = max(differences, key=differences.__getitem__)
    assert differences[worst] <= ROUNDING, f"`{worst}` differs from its factors by {differences[worst]:.1e}"
    return assert_close(expected, with_noise, float("inf"), "noise"), differences[worst]


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
        calibration=[(subject.entry.batch(SAMPLES, seed=4),)],
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
