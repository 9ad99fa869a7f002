"""Copied layers as plain tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from torch import nn

__all__ = ["contiguous", "without_hooks"]


def without_hooks(module: nn.Module) -> nn.Module:
    """A copied layer as plain tensors: parametrizations folded, hooks dropped (what they did was recorded outside the
    layer).
    """
    for one in module.modules():
        if parametrize.is_parametrized(one):
            for name in list(one.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(one, name, leave_parametrized=True)
        for hook in list(one._forward_pre_hooks.values()):
            if hasattr(hook, "remove") and hasattr(hook, "name"):  # weight_norm, spectral_norm: fold the weight
                hook.remove(one)
        for hooks in (one._forward_hooks, one._forward_pre_hooks, one._backward_hooks, one._backward_pre_hooks):
            hooks.clear()
    return module


def contiguous(module: nn.Module) -> nn.Module:
    """The module with its tensors laid out row by row, as files hold them: other layouts compute other last bits."""
    for tensor in (*module.parameters(), *module.buffers()):
        if not tensor.is_contiguous():
            tensor.data = tensor.data.contiguous()
    return module
