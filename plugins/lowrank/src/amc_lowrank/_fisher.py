"""The Fisher information of layers' responses: which errors of a response reach the outputs, from one backward pass.

With J the Jacobian of the logits by a layer's response at one position, `D = E[J^T (diag(p) - p p^T) J]` is the metric in which
a small error e of the response changes the outputs: the expected KL divergence is `e^T D e / 2` (Martens and Grosse, ICML 2015,
section 2; their labels drawn from the softmax p have the same mean and far more variance than the random signs used here, where
a network is sure of most samples). Other outputs take their squared error in place of the divergence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amc_plugins.compression import Calibration
from amc_plugins.document import tree_leaves
from amc_plugins.graph import ReconstructedNetwork, walk

__all__ = ["output_metrics"]


def output_metrics(
    network: ReconstructedNetwork, calibration: Calibration, layers: Sequence[str], axes: Sequence[int], seed: int
) -> dict[str, Tensor]:
    """D (n, n), float64, per layer; layers whose response no output depends on get zeros.

    Args:
        network: in eval mode.
        layers: each runs once.
        axes: per layer, the channel axis of its response.
    """
    generator = torch.Generator().manual_seed(seed)
    axis_of = dict(zip(layers, axes, strict=True))
    found: dict[str, Tensor] = {}
    count = 0
    for inputs in calibration.chunks(network):
        responses: dict[str, Tensor] = {}
        values: dict[str, Any] = {}
        wanted = tree_leaves(network.graph.outputs)
        with torch.enable_grad():
            for step in walk(network, inputs):
                if step.node.layer in axis_of:
                    if not step.outputs[0].requires_grad:
                        step.outputs[0] = step.outputs[0].detach().requires_grad_()
                    responses[step.node.layer] = step.outputs[0]
                values |= {name: one for name, one in zip(step.node.outputs, step.outputs, strict=True) if name in wanted}
            score = sum(_score(one, generator) for one in values.values() if isinstance(one, Tensor) and one.requires_grad)
        if not isinstance(score, Tensor):
            continue
        gradients = torch.autograd.grad(score, list(responses.values()), allow_unused=True)
        for (name, response), gradient in zip(responses.items(), gradients, strict=True):
            rows = torch.zeros_like(response) if gradient is None else gradient
            rows = rows.movedim(axis_of[name], -1).reshape(-1, response.shape[axis_of[name]])
            product = (rows.T @ rows).double() / (len(rows) / len(response))
            found[name] = found[name] + product if name in found else product
        count += len(next(iter(responses.values())))
    return {name: total / max(1, count) for name, total in found.items()}


def _score(output: Tensor, generator: torch.Generator) -> Tensor:
    """A random projection of an output whose gradient g has the metric as `E[g g^T]`: signs times a root of the curvature."""
    signs = (torch.randint(0, 2, output.shape, generator=generator) * 2 - 1).to(output.device, torch.float64)
    if output.dim() == 2 and output.shape[1] > 1:
        p = output.detach().double().softmax(1)
        rooted = p.sqrt() * signs
        direction = rooted - p * rooted.sum(1, keepdim=True)
    else:
        direction = signs / output.detach().double().std().clamp_min(1e-12)
    return (direction * output.double()).sum()
