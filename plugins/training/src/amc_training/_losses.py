"""Losses beyond those of torch, each with the paper it is from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc_plugins.compression import solve_gram
from amc_plugins.plugin import SettingsError
from amc_training._errors import TrainingError

if TYPE_CHECKING:
    from amc_training._features import Moments

__all__ = ["AttentionTransfer", "DiceLoss", "FocalLoss", "Hint", "LogitDistillation", "bin_distance", "kurtosis_distance"]


class FocalLoss(nn.Module):
    """`(1 - p)^gamma (-log p)`, p the probability of the right class: spares what is easy.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, over classes. Predictions (N, C, ...), labels (N, ...)
    with -100 for what does not count; the mean over what counts. gamma = 0 is cross-entropy.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, predictions: Tensor, labels: Tensor) -> Tensor:
        surprise = functional.cross_entropy(predictions, labels, reduction="none")
        weight = (1.0 - torch.exp(-surprise)) ** self.gamma
        return (weight * surprise).sum() / (labels != -100).sum().clamp(min=1)


class DiceLoss(nn.Module):
    """`1 - 2 |A and B| / (|A| + |B|)` with the class probabilities as a soft set, a mean over images and the classes in them.

    Milletari et al., V-Net, 3DV 2016, section 3, with |A| in place of |A|^2. Predictions (N, C, ...), labels (N, ...) with
    -100 for what does not count.
    """

    def forward(self, predictions: Tensor, labels: Tensor) -> Tensor:
        counts = (labels != -100).unsqueeze(1)
        classes = predictions.shape[1]
        truth = functional.one_hot(labels.clamp(min=0), classes).movedim(-1, 1) * counts
        soft = predictions.softmax(dim=1) * counts
        both = (truth * soft).flatten(2).sum(2)
        sizes = truth.flatten(2).sum(2), soft.flatten(2).sum(2)
        present = sizes[0] > 0
        overlap = (2.0 * both + 1e-6) / (sizes[0] + sizes[1] + 1e-6)
        return ((1.0 - overlap) * present).sum() / present.sum().clamp(min=1)


class LogitDistillation(nn.Module):
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, a mean over samples (and pixels).

    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, section 2: the factor T^2 keeps the gradients'
    size when T changes. Both (N, C, ...).
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape != teacher.shape:
            raise TrainingError(
                f"class probabilities cannot be compared: the student gives {tuple(student.shape)}, the teacher "
                f"{tuple(teacher.shape)}",
                hint="logits_weight=0 learns from hints or attention maps alone",
            )
        ours = (student / self.temperature).log_softmax(dim=1)
        theirs = (teacher / self.temperature).log_softmax(dim=1)
        divergence = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)
        return self.temperature**2 * divergence.mean()


class Hint(nn.Module):
    """Half the squared distance of a teacher's feature map from a learnt 1 x 1 map of the student's, a mean over entries,
    relative to the variance of the teacher's.

    Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, eq. 3, with the mean in place of the sum. Student (N, C, ...),
    teacher (N, D, ...) of the same size. Until `start` is called the map is the identity where C = D, and the variance 1.
    """

    scale: Tensor

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        weight = torch.empty(teacher_channels, student_channels)
        if student_channels == teacher_channels:
            nn.init.eye_(weight)
        else:
            generator = torch.Generator().manual_seed(0)
            nn.init.kaiming_uniform_(weight, nonlinearity="linear", generator=generator)
        self.weight = nn.Parameter(weight)
        self.register_buffer("scale", torch.ones(()))

    def start(self, moments: Moments) -> None:
        """Start from the map of least squares and the teacher's variance, a mean over channels, of these moments.

        Raises:
            SettingsError: the teacher's features do not vary.
        """
        means = moments.sums / moments.count
        variance = float((moments.squares / moments.count - means.square()).clamp(min=0).mean())
        if not variance > 0:
            raise SettingsError("the teacher's features are the same for all inputs: there is nothing to learn from them")
        solution = solve_gram(moments.gram, moments.cross, per_unknown=moments.count / len(moments.gram))
        with torch.no_grad():
            self.weight.copy_(solution.T)
            self.scale.fill_(variance)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        mapped = torch.einsum("dc,nc...->nd...", self.weight, student)
        return 0.5 * functional.mse_loss(mapped, teacher) / self.scale


class AttentionTransfer(nn.Module):
    """Squared distance of two attention maps: the mean over channels of squares, flattened, at length 1; a mean over samples.

    Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017, eq. 2 with F^2_sum and squared l2 distances, as
    their code does it. Both (N, channels, ...) with any numbers of channels; a student's map of another size is resampled.
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        if min(student.dim(), teacher.dim()) < 3:
            raise TrainingError(
                f"attention maps are over positions, and a layer gives {tuple(teacher.shape)}",
                hint="name layers in `attention_layers` whose outputs are (N, C, H, W), or use `hint_layers`",
            )
        ours, theirs = student.square().mean(dim=1), teacher.square().mean(dim=1)
        if ours.shape[1:] != theirs.shape[1:]:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[ours.dim() - 1]
            ours = functional.interpolate(ours.unsqueeze(1), theirs.shape[1:], mode=mode, align_corners=False).squeeze(1)
        distance = functional.normalize(ours.flatten(1)) - functional.normalize(theirs.flatten(1))
        return distance.square().mean(dim=1).mean()


def kurtosis_distance(weights: Iterable[Tensor], target: float = 1.8) -> Tensor:
    """The mean over tensors of `(kurtosis - target)^2`; 1.8 is the uniform distribution's, which rounding harms least.

    Shkolnik et al., Robust Quantization: One Model to Rule Them All (KURE), NeurIPS 2020, section 4.
    """
    found = []
    for weight in weights:
        centred = weight.flatten() - weight.mean()
        kurtosis = centred.pow(4).mean() / centred.square().mean().square().clamp(min=1e-24)
        found.append((kurtosis - target).square())
    return torch.stack(found).mean()


def bin_distance(weights: Tensor, levels: Tensor) -> Tensor:
    """How far weights lie from the level they are rounded to and how they scatter in its bin, a mean over the bins in use.

    Han et al., Improving Low-Precision Network Quantization via Bin Regularization, ICCV 2021: per bin the squared distance of
    its mean from its level, plus its variance (for two weights and more).

    Args:
        weights: any shape, in units of the step between levels.
        levels: the integer that each is rounded to, same shape.
    """
    flat, bins = weights.flatten(), levels.detach().flatten()
    _, place, counts = torch.unique(bins, return_inverse=True, return_counts=True)
    zeros = torch.zeros(len(counts), dtype=flat.dtype, device=flat.device)
    off = flat - bins
    means = zeros.index_add(0, place, off) / counts
    variances = zeros.index_add(0, place, (off - means[place]).square()) / counts
    scatter: Tensor = (means.square() + variances).mean()
    return scatter
