"""Batch norms behind the layers that compressors change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from amc_plugins.core.edit import consumers
from amc_plugins.core.errors import GraphError

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["BatchNorm", "following_norm", "norm_gain", "norm_module", "reestimated_norms"]

BatchNorm = nn.modules.batchnorm._BatchNorm


def following_norm(network: ReconstructedNetwork, layer: str) -> str | None:
    """The batch norm with running statistics that alone reads what a layer makes, if there is one."""
    nodes = network.nodes_of(layer)
    if len(nodes) != 1:
        return None
    readers = consumers(network, nodes[0].outputs[0])
    if len(readers) != 1 or len(network.nodes_of(readers[0].layer)) != 1:
        return None
    module = network.layer(readers[0].layer)
    known = isinstance(module, BatchNorm) and module.running_mean is not None
    return readers[0].layer if known else None


def norm_module(network: ReconstructedNetwork, layer: str) -> BatchNorm:
    """The batch norm of that name, as `following_norm` gives it. Raises `GraphError` when it is none."""
    module = network.layer(layer)
    if not isinstance(module, BatchNorm):
        raise GraphError(f"layer `{layer}` is no batch norm")
    return module


def norm_gain(network: ReconstructedNetwork, layer: str) -> Tensor:
    """gamma / sigma of a batch norm in eval mode, (n,) float64."""
    module = norm_module(network, layer)
    assert module.running_var is not None
    gain = (module.running_var.double() + module.eps).rsqrt()
    return gain if module.weight is None else gain * module.weight.detach().double()


def reestimated_norms(network: ReconstructedNetwork, calibration: Calibration) -> ReconstructedNetwork | None:
    """A copy whose batch norms have the statistics of the calibration data; None when it has no batch norm."""
    copy = network.clone()
    norms = [module for module in copy.modules() if isinstance(module, BatchNorm) and module.running_mean is not None]
    if not norms:
        return None
    modes = {module: module.training for module in copy.modules()}
    momenta = [module.momentum for module in norms]
    copy.eval()
    for module in norms:
        module.train()
        module.reset_running_stats()
        module.momentum = None  # the plain average over batches
    with torch.no_grad():
        for inputs in calibration.chunks(copy):
            copy(*inputs)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    for one, mode in modes.items():
        one.training = mode
    return copy
