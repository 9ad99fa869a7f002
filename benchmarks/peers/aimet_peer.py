"""AIMET (aimet-torch 2.42.0): channel pruning and spatial SVD, ratios chosen by its greedy search with 3 candidates a layer.

Candidates are scored by accuracy on 1,000 of the validation images. It runs in a temporary folder, since it writes `./data`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from aimet_torch.common.defs import CompressionScheme, CostMetric, GreedySelectionParameters
from aimet_torch.compress import ModelCompressor
from aimet_torch.defs import ChannelPruningParameters, SpatialSvdParameters
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import data
from benchmarks.measure import record
from benchmarks.train import accuracy

_CANDIDATES = 3
_SCORED = 1000
_RECONSTRUCTION_SAMPLES = 20_000


def compressed(model: nn.Module, images: Tensor, total: float, method: str) -> nn.Module:
    validation = data.load("validation")
    scored = data.Split(validation.images[:_SCORED], validation.labels[:_SCORED])

    def score(network: nn.Module, _iterations: int | None, use_cuda: bool = False) -> float:
        return accuracy(network, scored)

    greedy = GreedySelectionParameters(target_comp_ratio=Decimal(f"{1.0 - total:.4f}"), num_comp_ratio_candidates=_CANDIDATES)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    parameters: Any
    if method == "aimet-spatial-svd":
        scheme = CompressionScheme.spatial_svd
        parameters = SpatialSvdParameters(
            SpatialSvdParameters.Mode.auto, SpatialSvdParameters.AutoModeParams(greedy, modules_to_ignore=[first])
        )
    else:
        scheme = CompressionScheme.channel_pruning
        loader = DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=64)
        parameters = ChannelPruningParameters(
            data_loader=loader,
            num_reconstruction_samples=_RECONSTRUCTION_SAMPLES,
            allow_custom_downsample_ops=True,
            mode=ChannelPruningParameters.Mode.auto,
            params=ChannelPruningParameters.AutoModeParams(greedy, modules_to_ignore=[first]),
        )
    network, _ = ModelCompressor.compress_model(
        model,
        eval_callback=score,
        eval_iterations=None,
        input_shape=(1, 1, 28, 28),
        compress_scheme=scheme,
        cost_metric=CostMetric.mac,
        parameters=parameters,
    )
    return network.eval()


def main() -> int:
    network, method, total, seed, exchange = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    torch.manual_seed(seed)

    def compress(model: nn.Module, images: Tensor) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(sys.stderr):
            return compressed(model, images, total, method)

    found = record(network, method, total, seed, compress, exchange)
    json.dump(found | {"layers": []}, sys.stdout)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.exit(main())
