"""The losses that a setting can name, and the metric that goes with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LOSSES", "Loss", "Metric"]


@dataclass(frozen=True)
class Metric:
    """A number of a batch, a mean over its samples: `measure(predictions, labels)` is a scalar tensor."""

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool


@dataclass(frozen=True)
class Loss:
    """How a kind of task is trained and judged."""

    build: Callable[[float], nn.Module]
    """The loss module for a label smoothing (which only cross-entropy knows)."""
    metric: Metric


def _accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of right classes: predictions (N, C, ...), labels (N, ...) with -100 for what does not count."""
    right = predictions.argmax(dim=1) == labels
    return right.sum().double() / (labels != -100).sum().clamp(min=1)


def _binary_accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of right labels: logits and labels in [0, 1], both (N, ...)."""
    return ((predictions > 0) == (labels > 0.5)).double().mean()


def _absolute_error(predictions: Tensor, labels: Tensor) -> Tensor:
    return (predictions - labels).abs().double().mean()


class _SameShape(nn.Module):
    """An element-wise loss that refuses shapes which would broadcast; torch only warns, and the result is wrong."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, predictions: Tensor, labels: Tensor) -> Tensor:
        if predictions.shape != labels.shape:
            raise ValueError(
                f"predictions have shape {tuple(predictions.shape)}, labels {tuple(labels.shape)}; they must be equal"
            )
        return self.loss(predictions, labels.to(predictions.dtype))


_ERROR = Metric("absolute_error", _absolute_error, higher_is_better=False)

LOSSES = {
    # Label smoothing: Szegedy et al., CVPR 2016, section 7.
    "cross_entropy": Loss(
        lambda smoothing: nn.CrossEntropyLoss(label_smoothing=smoothing), Metric("accuracy", _accuracy, True)
    ),
    "bce": Loss(lambda _: _SameShape(functional.binary_cross_entropy_with_logits), Metric("accuracy", _binary_accuracy, True)),
    "mse": Loss(lambda _: _SameShape(functional.mse_loss), _ERROR),
    "l1": Loss(lambda _: _SameShape(functional.l1_loss), _ERROR),
    "smooth_l1": Loss(lambda _: _SameShape(functional.smooth_l1_loss), _ERROR),
}
