"""How near a network's outputs are to the original's, on unlabelled data: what a search maximises unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.core.errors import GraphError, SettingsError
from amc_plugins.core.stepping import evaluating
from amc_plugins.core.structure import tensors_in

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Divergence", "accuracy"]


class Divergence:
    """The divergence of a network's outputs from an original's on calibration data; 0 when they are equal.

    For one output of shape (N, classes) the mean Kullback-Leibler divergence of the softmax, in nats; else the
    squared error of all outputs relative to the variance of the original's. The original runs once, when this is
    made; both run in eval mode.

    Raises:
        GraphError: a network has another number of outputs than the original.
    """

    def __init__(self, original: ReconstructedNetwork, calibration: Calibration) -> None:
        self._calibration = calibration
        self._references = list(self._outputs(original))
        first = self._references[0]
        self._classifies = len(first) == 1 and first[0].dim() == 2 and first[0].shape[1] > 1

    def __call__(self, network: ReconstructedNetwork) -> float:
        error, norm = 0.0, 0.0
        for references, outputs in zip(self._references, self._outputs(network), strict=True):
            if len(references) != len(outputs):
                raise GraphError(f"the networks have {len(references)} and {len(outputs)} outputs")
            for reference, given in zip(references, outputs, strict=True):
                if self._classifies:
                    target = F.log_softmax(reference.double(), 1)
                    error += float(F.kl_div(F.log_softmax(given.double(), 1), target, log_target=True, reduction="sum"))
                    norm += len(reference)
                else:
                    error += float((reference.double() - given.double()).square().sum())
                    norm += float((reference.double() - reference.double().mean()).square().sum())
        return error / norm if norm else error

    def _outputs(self, network: ReconstructedNetwork) -> Any:
        with torch.no_grad(), evaluating(network):
            for inputs in self._calibration.chunks(network):
                yield [one for one in tensors_in(network(*inputs)) if isinstance(one, Tensor) and one.is_floating_point()]


def accuracy(network: nn.Module, batches: Iterable[Any]) -> float:
    """The share of samples whose largest output is their label, in eval mode.

    Args:
        network: gives (N, classes) scores.
        batches: `(input, label)` pairs; labels (N,) of class indices.

    Raises:
        SettingsError: there are no samples, or outputs and labels have other shapes.
    """
    device = next((one.device for one in network.state_dict().values()), torch.device("cpu"))
    right, count = 0, 0
    with torch.no_grad(), evaluating(network), torch.random.fork_rng(devices=[]):  # a DataLoader draws a seed for each pass
        for inputs, labels in batches:
            scores = network(*(one.to(device) for one in (inputs if isinstance(inputs, tuple | list) else (inputs,))))
            if not isinstance(scores, Tensor) or scores.dim() != 2 or labels.dim() != 1:
                raise SettingsError(
                    "accuracy needs one output of shape (N, classes) and labels of shape (N,)",
                    hint="leave `floor` and the labelled loaders out for other networks",
                )
            right += int((scores.argmax(1) == labels.to(device)).sum())
            count += len(labels)
    if count == 0:
        raise SettingsError("accuracy needs at least one sample; the data is empty")
    return right / count
