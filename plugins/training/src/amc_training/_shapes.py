"""What a batch must look like: inputs as the network was captured with them, labels that go with its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from amc_plugins.graph import ReconstructedNetwork
from amc_training._errors import TrainingError

__all__ = ["check_classes", "check_same_shape", "explained"]

_IGNORED = -100
"""The label that does not count, as in torch."""


def check_classes(predictions: Any, labels: Any, *, probabilities: bool = False) -> None:
    """Refuse labels that are no classes of these predictions: (N, C, ...), with integers (N, ...) from 0 to C - 1 or -100.

    Args:
        probabilities: labels may be floats in the shape of the predictions too.

    Raises:
        TrainingError: says which shapes, types or numbers there are and which are needed.
    """
    _check_tensors(predictions, labels)
    given, wanted = tuple(labels.shape), (*predictions.shape[:1], *predictions.shape[2:])
    if labels.is_floating_point():
        if not probabilities:
            raise TrainingError(f"labels are {labels.dtype}, and this loss needs the numbers of classes, as integers")
        if labels.shape != predictions.shape:
            raise TrainingError(
                f"labels are {labels.dtype} of shape {given}, so they would be probabilities, and those need the shape of the "
                f"predictions, {tuple(predictions.shape)}",
                hint="give the numbers of classes as integers; for regression choose a loss such as `mse`",
            )
        return
    if predictions.dim() < 2 or given != wanted:
        needed = f"{wanted}, one class each" if predictions.dim() > 1 else "predictions of shape (N, classes, ...)"
        raise TrainingError(
            f"labels have shape {given} and predictions {tuple(predictions.shape)}: the loss needs {needed}",
            hint="labels are the numbers of classes, not one-hot" if labels.shape == predictions.shape else None,
        )
    counted = labels[labels != _IGNORED]
    if counted.numel():
        least, most = torch.stack(counted.aminmax()).tolist()
        if least < 0 or most >= predictions.shape[1]:
            raise TrainingError(
                f"labels go from {least} to {most}, and the network predicts {predictions.shape[1]} classes",
                hint=f"classes count from 0; {_IGNORED} marks what does not count",
            )


def check_same_shape(predictions: Any, labels: Any) -> None:
    """Refuse shapes that would broadcast; torch only warns, and the result is wrong.

    Raises:
        TrainingError: with both shapes.
    """
    _check_tensors(predictions, labels)
    if predictions.shape != labels.shape:
        raise TrainingError(
            f"predictions have shape {tuple(predictions.shape)}, labels {tuple(labels.shape)}; they must be equal"
        )


@contextmanager
def explained(network: nn.Module, inputs: tuple[Any, ...]) -> Iterator[None]:
    """Inside, `network` runs on `inputs`; where it fails and they are not what it was captured with, the error says so.

    Raises:
        TrainingError: with the types and shapes of both.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        if difference := _unlike_captured(getattr(network, "module", network), inputs):
            raise TrainingError(f"{difference}: {error}", hint="let the loader give what the network reads") from error
        raise


def _unlike_captured(network: nn.Module, inputs: tuple[Any, ...]) -> str:
    """How inputs differ from those that a network was captured with, apart from the batch; empty if they do not, or if it
    was not captured."""
    if not isinstance(network, ReconstructedNetwork):
        return ""
    expected = network.example_inputs()
    ours, theirs = (_outline(one) for one in (inputs, expected))
    return "" if ours == theirs else f"a batch has inputs {ours}, and the network was captured with {theirs}"


def _outline(inputs: tuple[Any, ...]) -> str:
    """Types and shapes, without the first dimension: `float32 (N, 3, 32, 32)`."""
    said = []
    for one in pytree.tree_leaves(inputs):
        if isinstance(one, Tensor):
            shape = ", ".join(map(str, ("N", *one.shape[1:])))
            said.append(f"{str(one.dtype).removeprefix('torch.')} ({shape})")
        else:
            said.append(f"a {type(one).__name__}")
    return "; ".join(said)


def _check_tensors(predictions: Any, labels: Any) -> None:
    for name, one in (("predictions", predictions), ("labels", labels)):
        if not isinstance(one, Tensor):
            raise TrainingError(
                f"{name} are a {type(one).__name__}, not a tensor", hint="override `get_train_losses` and `get_val_losses`"
            )
