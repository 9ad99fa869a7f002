"""Torch-Pruning 1.6.1: L2 group magnitudes, the same share of every group or global. Its ratio is bisected to the budget."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import torch
import torch_pruning as tp
from torch import Tensor, nn

from benchmarks.measure import macs, record


def pruned(model: nn.Module, images: Tensor, total: float, everywhere: bool) -> nn.Module:
    """The network of the smallest ratio that removes the share `total` of the MACs."""
    whole = macs(model, images[:1])
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    names = {module: name for name, module in model.named_modules()}

    def at(ratio: float) -> nn.Module:
        network = copy.deepcopy(model)
        pruner = tp.pruner.MagnitudePruner(
            network,
            images[:1],
            importance=tp.importance.MagnitudeImportance(p=2),
            global_pruning=everywhere,
            pruning_ratio=ratio,
            ignored_layers=[network.get_submodule(names[last])],
        )
        pruner.step()
        return network

    low, high = 0.0, 0.95
    while high - low > 1e-3:
        middle = (low + high) / 2
        with torch.enable_grad():
            network = at(middle)
        low, high = (low, middle) if macs(network, images[:1]) <= (1.0 - total) * whole else (middle, high)
    with torch.enable_grad():
        return at(high).eval()


def main() -> int:
    network, method, total, seed, exchange = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])

    def compress(model: nn.Module, images: Tensor) -> nn.Module:
        return pruned(model, images, total, method == "torch-pruning-l2-global")

    json.dump(record(network, method, total, seed, compress, exchange) | {"layers": []}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
