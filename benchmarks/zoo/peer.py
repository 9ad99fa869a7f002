"""Torch-Pruning on the same model: magnitudes, one share for all groups, in steps of a tenth until half of the MACs are gone.

It is set up as in its own scripts (`benchmarks/prunability`, `examples/timm_models`): layers of logits are ignored, heads of
fused projections are named, widths are multiples of the heads of `nn.MultiheadAttention`, sizes that modules keep as plain
numbers are set again. It passes when the pruned model runs and has at most half of the MACs, by Torch-Pruning's own count;
whether it computes the right thing is not asked.
"""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn

from benchmarks.zoo.subject import Record, Stage, Subject, outputs

__all__ = ["STAGES"]

LOGITS = (1000, 400, 21)
STEPS = 10
BUDGET = 0.5


def torch_pruning(subject: Subject) -> Record:
    """Half of the MACs removed, and the pruned model runs."""
    if "timm" in sys.modules:
        import_module("timm.layers").set_fused_attn(False)
    model, inputs = subject.model, subject.entry.batch(1)
    subject.drop("model", "network", "parameters")  # it is changed in place
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    heads = heads_of(model)
    with contextlib.redirect_stdout(sys.stderr):
        whole = macs(model, inputs)
        pruner = tp.pruner.MagnitudePruner(
            model,
            inputs if len(inputs) > 1 else inputs[0],
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=1.0,
            iterative_steps=STEPS,
            ignored_layers=logits_of(model),
            num_heads=heads,
            round_to=next((one.num_heads for one in model.modules() if isinstance(one, nn.MultiheadAttention)), None),
        )
        left = whole
        for _ in range(STEPS - 1):
            pruner.step()
            set_sizes(model, heads)
            before, left = left, macs(model, inputs)
            if left <= BUDGET * whole:
                break
            assert left < before, f"a step removed nothing; {left / whole:.0%} of the MACs are left"
        given = outputs(model, inputs)
    assert left <= BUDGET * whole, f"{left / whole:.0%} of the MACs are left after {STEPS - 1} steps"
    assert all(bool(one.isfinite().all()) for one in given), "the outputs are not finite"
    return {"left": left / whole}


def macs(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    count, _ = tp.utils.count_ops_and_params(model, inputs)
    return float(count)


def logits_of(model: nn.Module) -> list[nn.Module]:
    """Layers that make logits, and the projections inside `nn.MultiheadAttention`, which it prunes with the module."""
    return [
        module
        for module in model.modules()
        if (isinstance(module, nn.Linear) and module.out_features in LOGITS)
        or (isinstance(module, nn.Conv2d) and module.out_channels in LOGITS)
        or type(module).__name__ == "NonDynamicallyQuantizableLinear"
    ]


def heads_of(model: nn.Module) -> dict[nn.Module, int]:
    """Heads of the projections that make queries, keys and values at once."""
    found: dict[nn.Module, int] = {}
    for module in model.modules():
        projection = getattr(module, "qkv", None) or getattr(module, "qkv_proj", None)
        if isinstance(projection, nn.Module) and isinstance(getattr(module, "num_heads", None), int):
            found[projection] = int(module.num_heads)  # type: ignore[arg-type]
    return found


def set_sizes(model: Any, heads: dict[nn.Module, int]) -> None:
    """Sizes that modules keep as numbers."""
    for module in model.modules():
        projection = getattr(module, "qkv", None) or getattr(module, "qkv_proj", None)
        if projection in heads and isinstance(projection, nn.Linear):
            module.num_heads = heads[projection]
            module.head_dim = projection.out_features // (3 * module.num_heads)
            if hasattr(module, "attn_dim"):
                module.attn_dim = module.num_heads * module.head_dim
    if hasattr(model, "hidden_dim") and hasattr(model, "conv_proj"):
        model.hidden_dim = model.conv_proj.out_channels


STAGES: dict[str, Stage] = {"torch_pruning": torch_pruning}
