"""Batches that do not go with the network or the loss are refused with shapes, types and what is needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from amc_training import BaseTrainer, TrainingError
from torch import Tensor, nn

import amc_plugins as amc

IMAGES, LABELS = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)


@pytest.fixture(scope="module")
def captured() -> amc.ReconstructedNetwork:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    return amc.capture(net, torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("cross_entropy", LABELS.unsqueeze(1), r"labels have shape \(8, 1\) and predictions \(8, 10\): the loss needs \(8,\)"),
        ("cross_entropy", LABELS[:7], r"labels have shape \(7,\) and predictions \(8, 10\)"),
        ("cross_entropy", LABELS + 3, "labels go from 3 to 10, and the network predicts 10 classes"),
        ("cross_entropy", LABELS - 1, "labels go from -1 to 6"),
        ("cross_entropy", LABELS.float(), r"labels are torch.float32 of shape \(8,\), so they would be probabilities"),
        ("focal", torch.zeros(8, 10), "this loss needs the numbers of classes, as integers"),
        ("focal", LABELS + 3, "labels go from 3 to 10"),
        ("dice", LABELS[:7], r"labels have shape \(7,\)"),
        ("bce", LABELS.float(), r"predictions have shape \(8, 10\), labels \(8,\); they must be equal"),
        ("mse", torch.zeros(8, 1), r"predictions have shape \(8, 10\), labels \(8, 1\); they must be equal"),
    ],
)
@pytest.mark.parametrize("trainer", ["supervised", "distillation", "quantization"])
def test_labels_that_do_not_go_with_the_loss(trainer: str, loss: str, labels: Tensor, message: str, captured: Any) -> None:
    teacher = {"teacher": captured} if trainer == "distillation" else {}
    with pytest.raises(TrainingError, match=message):
        amc.train(captured, trainer, train=[(IMAGES, labels)], epochs=1, loss=loss, **teacher)


def test_one_hot_integers_get_a_hint_and_probabilities_are_taken(captured: Any) -> None:
    one_hot = nn.functional.one_hot(LABELS, 10)
    with pytest.raises(TrainingError) as caught:
        amc.train(captured, "supervised", train=[(IMAGES, one_hot)], epochs=1)
    assert "not one-hot" in (caught.value.hint or "")
    by_number = amc.train(captured, "supervised", train=[(IMAGES, LABELS)], epochs=1)
    by_probability = amc.train(captured, "supervised", train=[(IMAGES, one_hot.float())], epochs=1)
    losses = [result.history[0]["train/total_loss"] for result in (by_number, by_probability)]
    assert losses[0] == pytest.approx(losses[1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(8, 3, 8, 8), r"float32 \(N, 3, 8, 8\), and the network was captured with float32 \(N, 1, 8, 8\): Given"),
        (torch.zeros(8, 1, 9, 9), r"float32 \(N, 1, 9, 9\), and the network was captured with"),
        (torch.zeros(8, 1, 8, 8, dtype=torch.uint8), r"uint8 \(N, 1, 8, 8\), and the network was captured with float32"),
        ((IMAGES, IMAGES), r"float32 \(N, 1, 8, 8\); float32 \(N, 1, 8, 8\), and the network was captured with"),
        ("a path", "inputs a str, and the network was captured with"),
    ],
)
@pytest.mark.parametrize("trainer", ["supervised", "distillation", "quantization"])
def test_inputs_that_the_network_was_not_captured_with(trainer: str, images: Any, message: str, captured: Any) -> None:
    teacher = {"teacher": captured} if trainer == "distillation" else {}
    with pytest.raises(TrainingError, match=message):
        amc.train(captured, trainer, train=[(images, LABELS)], epochs=1, **teacher)


def test_errors_for_other_reasons_are_left_as_they_are(parts: Any, captured: Any) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("of the network's own")

    with pytest.raises(RuntimeError, match="of the network's own"):
        broken = Broken()
        BaseTrainer(**parts(network=broken, optimizer=torch.optim.SGD(broken.parameters(), lr=0.1))).run()

    def fails(*_: Any) -> None:
        raise RuntimeError("in a hook")

    network = captured.clone()
    network.layer("1").register_forward_hook(fails)
    with pytest.raises(RuntimeError, match=r"^in a hook$"):
        amc.train(network, "supervised", train=[(IMAGES, LABELS)], epochs=1)
