"""Streams without an activation: an exact change of basis, after which their least useful directions are channels.

Between the layers that make such channels and those that read them there are only sums and batch norms, so any invertible T may
be put on the one side and its inverse on the other (Ashkboos et al., SliceGPT, ICLR 2024, section 3.1, with orthogonal T, for
transformers). Linear bottlenecks with residual sums (MobileNetV2) are the case in convolutional networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amc_plugins.compression import Calibration, Moments, following_norm, linear_at, norm_gain, norm_module
from amc_plugins.graph import ChannelGroup, ChannelMap, ReconstructedNetwork, consumers, producer, set_layer, walk
from amc_pruning._problems import norm_scale

__all__ = ["Rotation", "Stream", "rotated", "rotations_of", "streams_of"]

_LINEAR = ("vn.add", "vn.sub", "vn.identity", "vn.avg_pool2d", "vn.adaptive_avg_pool2d")
"""Ops that commute with any mixing of channels."""
_ROWS = 1 << 16
"""Positions that the covariances of one stream value are taken over, about."""
_RIDGE = 1e-4


@dataclass(frozen=True)
class Stream:
    """Channels that nothing but sums, pooling and batch norms touch on their way."""

    name: str
    ids: Tensor
    """(c,) in the order in which every layer has them."""
    makers: tuple[tuple[str, str | None], ...]
    """The layers that make them, each with the batch norm behind it."""
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Rotation:
    """T of one stream: what was s is T s."""

    stream: Stream
    matrix: Tensor
    """T (c, c), float64."""
    inverse: Tensor
    variances: Mapping[str, Tensor]
    """Per batch norm: (c,) the variance of what it lets through, in the new basis."""


def streams_of(channels: ChannelMap, groups: Iterable[ChannelGroup]) -> list[Stream]:
    """The groups that are streams."""
    found = (_stream(channels, group) for group in groups if len(group) > 1 and not group.pinned)
    return [one for one in found if one is not None]


def _stream(channels: ChannelMap, group: ChannelGroup) -> Stream | None:
    network = channels.network
    makers = []
    for layer in group.producers:
        if not _plain(channels, layer, channels.outputs[layer], group.ids):
            return None
        norm = following_norm(network, layer)
        if norm is not None and norm_module(network, norm).weight is None:
            return None
        makers.append((layer, norm if norm in group.followers else None))
    for layer in group.consumers:
        if not _plain(channels, layer, channels.inputs[layer], group.ids):
            return None
    if set(group.followers) != {norm for _, norm in makers if norm is not None}:
        return None
    inside = {*group.producers, *group.followers}
    mine = set(group.ids.tolist())
    for value, ids in channels.values.items():
        if mine.isdisjoint(ids.unique().tolist()):
            continue
        maker = producer(network, value)
        if maker is None or (maker.layer not in inside and maker.op not in _LINEAR):
            return None
        for reader in consumers(network, value):
            if reader.layer not in group.consumers and reader.layer not in group.followers and reader.op not in _LINEAR:
                return None
    return Stream(group.name, group.ids, tuple(makers), group.consumers)


def _plain(channels: ChannelMap, layer: str, ids: Tensor, wanted: Tensor) -> bool:
    """Whether a layer is an ungrouped linear map that has exactly these channels, on axis 1, and runs once."""
    nodes = channels.network.nodes_of(layer)
    linear = linear_at(channels.network, layer)
    rank = len(channels.shapes[nodes[0].inputs[0]])
    return len(nodes) == 1 and linear.groups == 1 and linear.input_axis % rank == 1 and torch.equal(ids, wanted)


def rotations_of(network: ReconstructedNetwork, streams: Sequence[Stream], data: Calibration) -> list[Rotation]:
    """For each stream the basis in which its readers' responses fall off fastest.

    With G the covariance of the stream where it is read and M the metric of its readers (`|W d|^2` relative to the spread of
    their responses, summed), the eigenvectors of `S M S`, S = G^1/2, give features that are uncorrelated on average and carry
    the eigenvalues' shares of the responses. Features are scaled so that errors of theirs are errors of responses: T^T T = M.
    """
    covariances = _covariances(network, streams, data)
    found = []
    for stream in streams:
        size = len(stream.ids)
        metric = torch.zeros(size, size, dtype=torch.float64)
        gram = torch.zeros(size, size, dtype=torch.float64)
        for layer in stream.readers:
            linear = linear_at(network, layer)
            taps = linear.weight.detach().double().cpu().reshape(len(linear.weight), size, -1)
            scale = norm_scale(network, layer, len(taps)).cpu()
            one = torch.einsum("ncq,n,ndq->cd", taps, scale.square(), taps)
            seen = covariances[network.nodes_of(layer)[0].inputs[0]]
            spread = float((one * seen).sum())
            if spread > 0:
                metric += one / spread
                gram += seen / len(stream.readers)
        metric.diagonal().add_(_RIDGE * float(metric.diagonal().mean()) + 1e-300)
        values, vectors = torch.linalg.eigh(gram)
        values = values.clamp_min(1e-8 * float(values.max()) + 1e-300).sqrt()
        root, inverse_root = vectors * values @ vectors.T, vectors / values @ vectors.T
        energies, directions = torch.linalg.eigh(root @ metric @ root)
        energies, directions = energies.flip(0).clamp_min(1e-300).sqrt(), directions.flip(1)
        matrix = energies[:, None] * (directions.T @ inverse_root)
        inverse = root @ directions / energies
        variances = {}
        for _, norm in stream.makers:
            if norm is not None:
                own = covariances[network.nodes_of(norm)[0].outputs[0]]
                variances[norm] = ((matrix @ own) * matrix).sum(1).clamp_min(0.0)
        found.append(Rotation(stream, matrix, inverse, variances))
    return found


def _covariances(network: ReconstructedNetwork, streams: Sequence[Stream], data: Calibration) -> dict[str, Tensor]:
    """Per value that a reader reads or a batch norm of a stream makes: its (c, c) covariance over positions."""
    wanted: dict[str, Moments] = {}
    for stream in streams:
        for layer in stream.readers:
            wanted[network.nodes_of(layer)[0].inputs[0]] = Moments(len(stream.ids))
        for _, norm in stream.makers:
            if norm is not None:
                wanted[network.nodes_of(norm)[0].outputs[0]] = Moments(len(stream.ids))
    if any(module.training for module in network.modules()):
        network = network.clone().eval()
    with torch.no_grad():
        for inputs in data.chunks(network):
            for step in walk(network, inputs):
                for name, value in zip(step.node.outputs, step.outputs, strict=True):
                    if name in wanted:
                        rows = value.movedim(1, -1).reshape(-1, value.shape[1])
                        step_size = max(1, len(rows) * max(1, len(data) // len(value)) // _ROWS)
                        wanted[name].update(rows[::step_size].cpu())
    return {name: one.gram for name, one in wanted.items()}


def rotated(network: ReconstructedNetwork, rotations: Iterable[Rotation]) -> ReconstructedNetwork:
    """An equal network with these streams in their new bases. Batch norms behind their makers become identities up to a
    constant, with the statistics that they see; whatever is trained afterwards has them in its network."""
    network = network.clone()
    with torch.no_grad():
        for rotation in rotations:
            for layer, norm in rotation.stream.makers:
                _turn_maker(network, rotation, layer, norm)
            for layer in rotation.stream.readers:
                linear = linear_at(network, layer)
                inverse = rotation.inverse.to(linear.weight.device)
                taps = linear.weight.double().reshape(len(linear.weight), len(inverse), -1)
                weight = torch.einsum("ncq,cd->ndq", taps, inverse).flatten(1)
                _put(network, layer, weight, linear.bias)
    return network


def _turn_maker(network: ReconstructedNetwork, rotation: Rotation, layer: str, norm: str | None) -> None:
    linear = linear_at(network, layer)
    matrix = rotation.matrix.to(linear.weight.device)
    weight, bias = linear.weight.double(), linear.bias
    if norm is None:
        _put(network, layer, matrix @ weight, None if bias is None else matrix @ bias.double())
        return
    module = norm_module(network, norm)
    assert module.running_mean is not None and module.running_var is not None
    gain, given = norm_gain(network, norm), 0.0 if bias is None else bias.double()
    _put(network, layer, matrix @ (gain[:, None] * weight), None if bias is None else torch.zeros_like(bias))
    centre = matrix @ (gain * (module.running_mean.double() - given))
    variance = rotation.variances[norm].to(centre.device)
    module.running_mean.copy_(centre)
    module.running_var.copy_(variance)
    module.weight.copy_((module.running_var.double() + module.eps).sqrt())
    module.bias.copy_(matrix @ module.bias.double())


def _put(network: ReconstructedNetwork, layer: str, weight: Tensor, bias: Tensor | None) -> None:
    linear, before = linear_at(network, layer), network.layer(layer)
    module = linear.rebuilt(weight.to(linear.weight.dtype), None if bias is None else bias.to(linear.weight.dtype))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(before.get_parameter(name).requires_grad)
    set_layer(network, layer, module)
