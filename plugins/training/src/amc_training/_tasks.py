"""The losses on labels that a setting can name, and the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc_training._losses import DiceLoss, FocalLoss
from amc_training._shapes import check_classes, check_same_shape

if TYPE_CHECKING:
    from amc_training._settings import LabelledSettings

__all__ = ["Metric", "metric_of", "training_loss", "validation_loss"]


@dataclass(frozen=True)
class Metric:
    """A number of a batch, a mean over its samples: `measure(predictions, labels)` is a scalar tensor."""

    name: str
    measure: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool


def _accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of right classes: predictions (N, C, ...), labels (N, ...) with -100 for what does not count."""
    right = predictions.argmax(dim=1) == labels
    return right.sum().double() / (labels != -100).sum().clamp(min=1)


def _top5(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of labels among the five likeliest classes."""
    likeliest = predictions.topk(min(5, predictions.shape[1]), dim=1).indices
    right = (likeliest == labels.unsqueeze(1)).any(dim=1)
    return right.sum().double() / (labels != -100).sum().clamp(min=1)


def _mean_iou(predictions: Tensor, labels: Tensor) -> Tensor:
    """Intersection over union, a mean over the classes that an image or its prediction has, then over images."""
    counts = labels != -100
    classes = predictions.shape[1]
    found = functional.one_hot(predictions.argmax(dim=1), classes) * counts.unsqueeze(-1)
    truth = functional.one_hot(labels.clamp(min=0), classes) * counts.unsqueeze(-1)
    both = (found & truth).flatten(1, -2).sum(1).double()
    either = (found | truth).flatten(1, -2).sum(1).double()
    present = either > 0
    return ((both / either.clamp(min=1)).sum(1) / present.sum(1).clamp(min=1)).mean()


def _label_accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Share of right labels: logits and labels in [0, 1], both (N, ...)."""
    return ((predictions > 0) == (labels > 0.5)).double().mean()


def _absolute_error(predictions: Tensor, labels: Tensor) -> Tensor:
    return (predictions - labels).abs().double().mean()


def _squared_error(predictions: Tensor, labels: Tensor) -> Tensor:
    return (predictions - labels).square().double().mean()


_METRICS = {
    "accuracy": Metric("accuracy", _accuracy, True),
    "top5": Metric("top5", _top5, True),
    "mean_iou": Metric("mean_iou", _mean_iou, True),
    "label_accuracy": Metric("accuracy", _label_accuracy, True),
    "absolute_error": Metric("absolute_error", _absolute_error, False),
    "squared_error": Metric("squared_error", _squared_error, False),
}
_USUAL = {"cross_entropy": "accuracy", "focal": "accuracy", "dice": "mean_iou", "bce": "label_accuracy"}


class _Checked(nn.Module):
    """A loss that says what is wrong with labels which do not go with the predictions."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], check: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self.loss, self.check = loss, check

    def forward(self, predictions: Any, labels: Any) -> Tensor:
        self.check(predictions, labels)
        return self.loss(predictions, labels)


def _by_element(loss: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, labels: Tensor) -> Tensor:
    return loss(predictions, labels.to(predictions.dtype))


_BY_ELEMENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": functional.binary_cross_entropy_with_logits,
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "smooth_l1": functional.smooth_l1_loss,
}


def metric_of(settings: LabelledSettings) -> Metric:
    """What the settings measure."""
    return _METRICS[settings.metric or _USUAL.get(settings.loss, "absolute_error")]


def training_loss(settings: LabelledSettings) -> nn.Module:
    """The loss of the settings, smoothing of labels included (Szegedy et al., CVPR 2016, section 7)."""
    if settings.loss == "cross_entropy":
        return _cross_entropy(settings.label_smoothing)
    if settings.loss == "focal":
        return _Checked(FocalLoss(settings.focal_gamma), check_classes)
    if settings.loss == "dice":
        return _Checked(DiceLoss(), check_classes)
    return _Checked(partial(_by_element, _BY_ELEMENT[settings.loss]), check_same_shape)


def validation_loss(settings: LabelledSettings) -> nn.Module:
    """The same without smoothing: what a network is judged by does not depend on how it was trained."""
    return _cross_entropy() if settings.loss == "cross_entropy" else training_loss(settings)


def _cross_entropy(smoothing: float = 0.0) -> nn.Module:
    return _Checked(nn.CrossEntropyLoss(label_smoothing=smoothing), partial(check_classes, probabilities=True))


def decayed(network: nn.Module) -> list[Tensor]:
    """The weights of convolutions and linear layers: trained parameters of two dimensions and more."""
    return [one for one in network.parameters() if one.requires_grad and one.ndim > 1 and torch.is_floating_point(one)]
