"""Losses, against their formulas written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from amc_training import TrainingError
from amc_training._features import _moments
from amc_training._settings import LabelledSettings
from amc_training._tasks import metric_of, training_loss, validation_loss
from amc_training.losses import (
    AttentionTransfer,
    DiceLoss,
    FocalLoss,
    Hint,
    LogitDistillation,
    bin_distance,
    kurtosis_distance,
)
from torch import nn
from torch.nn import functional

from amc_plugins.plugin import SettingsError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_focal_is_weighted_cross_entropy() -> None:
    scores, labels = random(6, 4), torch.tensor([0, 1, 2, 3, -100, 1])
    p = scores.softmax(1)[torch.arange(6), labels.clamp(min=0)]
    expected = ((1 - p) ** 2 * -p.log())[labels != -100].mean()
    assert torch.allclose(FocalLoss(2.0)(scores, labels), expected)
    assert torch.allclose(FocalLoss(0.0)(scores, labels), functional.cross_entropy(scores, labels))
    assert FocalLoss()(random(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)).ndim == 0


def test_dice_counts_the_classes_of_an_image() -> None:
    labels = torch.tensor([[[0, 0, 1, -100]]])  # classes 0 and 1 of 3; the last pixel does not count
    certain = torch.full((1, 3, 1, 4), -50.0, dtype=torch.float64)
    for place, label in enumerate([0, 1, 1, 2]):
        certain[0, label, 0, place] = 50.0
    # class 0: truth 2, found 1, both 1; class 1: truth 1, found 2, both 1
    assert DiceLoss()(certain, labels).item() == pytest.approx(1 - 2 * 1 / 3, abs=1e-6)


def test_logits_at_a_temperature() -> None:
    ours, theirs, t = random(5, 7), random(5, 7, seed=1), 3.0
    p, q = (theirs / t).softmax(1), (ours / t).softmax(1)
    expected = t * t * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(LogitDistillation(t)(ours, theirs), expected)
    assert LogitDistillation(t)(theirs, theirs).item() == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(TrainingError, match=r"the student gives \(5, 7\), the teacher \(5, 6\)"):
        LogitDistillation()(ours, random(5, 6))


def test_hint_maps_the_students_channels() -> None:
    same = Hint(4, 4).double()
    x = random(2, 4, 3, 3)
    assert same(x, x).item() == 0.0
    hint = Hint(3, 5).double()
    mapped = functional.conv2d(random(2, 3, 4, 4), hint.weight[:, :, None, None])
    target = random(2, 5, 4, 4, seed=2)
    assert torch.allclose(hint(random(2, 3, 4, 4), target), 0.5 * functional.mse_loss(mapped, target))
    assert hint(random(2, 3), random(2, 5)).requires_grad


def test_a_hint_starts_from_the_least_squares_relative_to_the_variance() -> None:
    x, noise = random(64, 3, 4, 4), random(64, 5, 4, 4, seed=1)
    y = torch.einsum("dc,nchw->ndhw", random(5, 3, seed=2), x) + 0.1 * noise + 3.0
    pairs = [_moments("a", x[k : k + 16], y[k : k + 16]) for k in range(0, 64, 16)]
    total = pairs[0]
    for one in pairs[1:]:
        total = total.add(one)
    hint = Hint(3, 5).double()
    hint.start(total)
    rows, targets = (one.movedim(1, -1).flatten(0, -2) for one in (x, y))
    expected = torch.linalg.lstsq(rows, targets).solution.T
    assert torch.allclose(hint.weight, expected, atol=1e-4)
    error = (rows @ expected.T - targets).square().mean() / targets.var(dim=0, correction=0).mean()
    assert hint(x, y).item() == pytest.approx(0.5 * error.item(), rel=1e-5)
    with pytest.raises(SettingsError, match="the same for all inputs"):
        hint.start(_moments("a", x, torch.ones(64, 5, 4, 4, dtype=torch.float64)))


def test_attention_does_not_depend_on_the_number_of_channels() -> None:
    transfer, x = AttentionTransfer(), random(3, 4, 6, 6)
    assert transfer(torch.cat([x, x], 1), x).item() == pytest.approx(0.0, abs=1e-12)
    assert transfer(5.0 * x, x).item() == pytest.approx(0.0, abs=1e-12)  # maps have length 1
    a, b = (one.square().mean(1).flatten(1) for one in (x, random(3, 2, 6, 6, seed=1)))
    expected = (a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)).square().mean()
    assert torch.allclose(transfer(x, random(3, 2, 6, 6, seed=1)), expected)
    assert transfer(random(3, 4, 3, 3), x).item() > 0
    with pytest.raises(TrainingError, match=r"over positions, and a layer gives \(3, 4\)"):
        transfer(random(3, 4), random(3, 4))


def test_kurtosis_of_known_distributions() -> None:
    even = torch.linspace(-1, 1, 10001, dtype=torch.float64)
    assert kurtosis_distance([even]).item() == pytest.approx(0.0, abs=1e-6)  # uniform: 1.8
    two_points = even.sign()[even != 0]  # kurtosis 1
    assert kurtosis_distance([two_points, even]).item() == pytest.approx(0.5 * (1.0 - 1.8) ** 2, abs=1e-6)


def test_bins_written_out() -> None:
    weights = torch.tensor([0.1, -0.3, 1.2, 2.0, 1.6], dtype=torch.float64)
    levels = torch.tensor([0.0, 0.0, 1.0, 2.0, 2.0], dtype=torch.float64)
    # means off by -0.1, 0.2 and -0.2; variances 0.04, 0 and 0.04
    expected = ((0.1**2 + 0.2**2) + 0.2**2 + (0.2**2 + 0.2**2)) / 3
    assert bin_distance(weights, levels).item() == pytest.approx(expected)
    assert bin_distance(levels, levels).item() == 0.0


@pytest.mark.parametrize(
    ("metric", "predictions", "labels", "expected"),
    [
        ("accuracy", [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 2, -100], 0.5),
        ("top5", [[6, 5, 4, 3, 2, 1, 0], [6, 5, 4, 3, 2, 1, 0]], [4, 5], 0.5),
        ("label_accuracy", [[1, -1], [1, 1]], [[1, 0], [1, 0]], 0.75),
        ("absolute_error", [[1.0], [3.0]], [[0.0], [0.0]], 2.0),
        ("squared_error", [[1.0], [3.0]], [[0.0], [0.0]], 5.0),
    ],
)
def test_metrics(metric: Any, predictions: list[Any], labels: list[Any], expected: float) -> None:
    measure = metric_of(LabelledSettings(metric=metric)).measure
    measured = measure(torch.tensor(predictions, dtype=torch.float64), torch.tensor(labels))
    assert float(measured) == pytest.approx(expected)


def test_mean_iou_over_classes_then_images() -> None:
    truth = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 2, -100]]])
    guess = torch.tensor([[[0, 1, 1, 1]], [[2, 2, 2, 0]]])
    predictions = functional.one_hot(guess, 4).movedim(-1, 1).double()
    first = (1 / 2 + 2 / 3) / 2
    assert float(metric_of(LabelledSettings(loss="dice")).measure(predictions, truth)) == pytest.approx((first + 1.0) / 2)


def test_validation_knows_no_smoothing() -> None:
    settings = LabelledSettings(label_smoothing=0.2)
    scores, labels = random(4, 3), torch.tensor([0, 1, 2, 0])
    assert torch.allclose(validation_loss(settings)(scores, labels), functional.cross_entropy(scores, labels))
    assert not math.isclose(float(training_loss(settings)(scores, labels)), float(validation_loss(settings)(scores, labels)))
    for name in ("focal", "dice", "bce", "mse", "l1", "smooth_l1"):
        assert isinstance(training_loss(LabelledSettings(loss=name)), nn.Module)
