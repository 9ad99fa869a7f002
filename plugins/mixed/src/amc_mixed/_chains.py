"""The decompositions that the other plan offers: their layers, what they cost at any width, and how they are carried over to a
pruned layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from amc_mixed._factors import composed, head_for
from amc_plugins.compression import Plan, Variable, linear_at
from amc_plugins.graph import ReconstructedNetwork, profile
from amc_plugins.plugin import GraphError

if TYPE_CHECKING:
    from amc_mixed._widths import Width
    from amc_plugins.handlers import LinearMap

__all__ = ["Chain", "ChainCost", "carried", "chain_names", "chains_of", "costs_of", "thinned"]


@dataclass(frozen=True)
class ChainCost:
    """MACs of a chain: `inputs * k_in + inner + outputs * k_out`, whatever the layer's widths have become."""

    inputs: int
    inner: int
    outputs: int

    def __call__(self, width: Width) -> int:
        return self.inputs * width[0] + self.inner + self.outputs * width[1]


@dataclass(frozen=True)
class Chain:
    """The layers that stand for one layer of the whole network."""

    ops: tuple[str, ...]
    maps: tuple[LinearMap, ...]
    kernels: tuple[Tensor, ...]
    """(out, in, h, w) float64 each; linear layers have 1 x 1."""


def thinned(variable: Variable, most: int) -> Variable:
    """The variable with at most `most` choices beside the full one, at even steps and its smallest among them."""
    others = [choice for choice in variable.choices if choice != variable.full]
    if len(others) <= most:
        return variable
    places = sorted({round(step * (len(others) - 1) / max(1, most - 1)) for step in range(most)})
    kept = [variable.choices.index(others[place]) for place in places] + [variable.choices.index(variable.full)]

    def of(curve: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if curve is None else tuple(curve[place] for place in kept)

    choices = tuple(variable.choices[place] for place in kept)
    return replace(variable, choices=choices, errors=of(variable.errors), losses=of(variable.losses))


def chain_names(network: ReconstructedNetwork, layer: str) -> list[str]:
    """The layers that `layer` was replaced with, in running order; itself if it was not."""
    names = set(network.layer_names)
    if layer in names:
        return [layer]
    found: list[str] = []
    while f"{layer}.{len(found)}" in names:
        found.append(f"{layer}.{len(found)}")
    return found


def costs_of(plan: Plan, variables: Sequence[Variable]) -> dict[str, dict[int, ChainCost]]:
    """Per variable (one layer each) and choice but the full one: what the chain costs. Reads profiles of a few networks, each
    with all layers decomposed."""
    found: dict[str, dict[int, ChainCost]] = {variable.name: {} for variable in variables}
    others = {variable.name: [choice for choice in variable.choices if choice != variable.full] for variable in variables}
    for number in range(max((len(one) for one in others.values()), default=0)):
        chosen = {name: choices[number] for name, choices in others.items() if number < len(choices)}
        network = plan.assemble({**plan.full, **chosen})
        macs = {row.layer: row.macs or 0 for row in profile(network).rows}
        for variable in variables:
            if variable.name in chosen:
                names = chain_names(network, variable.layers[0])
                first, last = linear_at(network, names[0]), linear_at(network, names[-1])
                if len(names) < 2:
                    raise GraphError(f"`{variable.layers[0]}` was replaced by one layer; a decomposition makes several")
                found[variable.name][chosen[variable.name]] = ChainCost(
                    macs[names[0]] // first.in_channels,
                    sum(macs[name] for name in names[1:-1]),
                    macs[names[-1]] // last.out_channels,
                )
    return found


def chains_of(network: ReconstructedNetwork, layers: Sequence[str]) -> dict[str, Chain]:
    """The chains of a network in which these layers are decomposed."""
    found = {}
    for layer in layers:
        names = chain_names(network, layer)
        maps = tuple(linear_at(network, name) for name in names)
        kernels = tuple(kernel_of(network.layer(name), linear) for name, linear in zip(names, maps, strict=True))
        found[layer] = Chain(tuple(network.nodes_of(name)[0].op for name in names), maps, kernels)
    return found


def kernel_of(module: nn.Module, linear: LinearMap) -> Tensor:
    shape = module.kernel_size if isinstance(module, nn.Conv2d) else (1, 1)
    weight = linear.weight.detach().double()
    return weight.reshape(len(weight), -1, shape[0], shape[1])


def carried(
    chain: Chain, whole: LinearMap, pruned: LinearMap, rows: Tensor, columns: Tensor, mean_x: Tensor, *, trainable: bool
) -> list[tuple[str, nn.Module]]:
    """The chain for a layer that has lost channels.

    The tail keeps the rows that stay. The head keeps its columns, and takes up what the pruned layer's weights were
    changed by to make up for the channels that are gone, as far as the tail can pass it on.

    Args:
        whole: the layer that the chain stands for, (n, c, ...).
        pruned: the layer without channels, with adjusted weights (n', m') and constant.
        rows: (n',) the output channels that stay.
        columns: (c',) the input channels that stay.
        mean_x: (m',) the mean of the pruned layer's patches.
    """
    kernels = [chain.kernels[0][:, columns], *chain.kernels[1:-1], chain.kernels[-1][rows]]
    shape = composed([one[:1, :1] for one in kernels]).shape[2:]
    weight = pruned.weight.detach().double()
    before = whole.weight.detach().double()[rows].reshape(len(rows), whole.in_channels, -1)[:, columns]
    change = (weight - before.flatten(1)).reshape(len(rows), -1, *shape)
    if bool(change.any()):
        taps = kernels[0].shape[2], kernels[0].shape[3]
        kernels[0] = kernels[0] + head_for(composed(kernels[1:]), change, taps)
    bias = (weight - composed(kernels).flatten(1)) @ mean_x
    if pruned.bias is not None:
        bias = bias + pruned.bias.detach().double()
    made: list[tuple[str, nn.Module]] = []
    for place, (op, linear, kernel) in enumerate(zip(chain.ops, chain.maps, kernels, strict=True)):
        flat = kernel.flatten(1).to(linear.weight.dtype)
        last = place == len(kernels) - 1
        module = linear.rebuilt(flat, bias.to(flat.dtype) if last else None)
        made.append((op, module.requires_grad_(trainable)))
    return made
