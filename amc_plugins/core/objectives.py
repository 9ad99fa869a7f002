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

__all__ = ["Divergence", "accuracy", "hits"]


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
        return self.with_samples(network)[0]

    def with_samples(self, network: ReconstructedNetwork) -> tuple[float, Tensor | None]:
        """The divergence, and that of each sample, (N,), float64, of which it is the mean.

        None instead of the samples for outputs that do not have one row a sample.
        """
        error, norm = 0.0, 0.0
        parts: list[Tensor | None] = []
        for references, outputs in zip(self._references, self._outputs(network), strict=True):
            if len(references) != len(outputs):
                raise GraphError(f"the networks have {len(references)} and {len(outputs)} outputs")
            rows = []
            for reference, given in zip(references, outputs, strict=True):
                if self._classifies:
                    target = F.log_softmax(reference.double(), 1)
                    entries = F.kl_div(F.log_softmax(given.double(), 1), target, log_target=True, reduction="none")
                    norm += len(reference)
                else:
                    entries = (reference.double() - given.double()).square()
                    norm += float((reference.double() - reference.double().mean()).square().sum())
                error += float(entries.sum())
                rows.append(entries.flatten(1).sum(1) if entries.dim() > 1 else entries)
            alike = len({one.shape for one in rows}) == 1 and rows[0].dim() == 1
            parts.append(torch.stack(rows).sum(0) if alike else None)
        known = [one for one in parts if one is not None]
        samples = torch.cat(known) if len(known) == len(parts) else None
        if not norm:
            return error, samples
        return error / norm, None if samples is None else samples * (len(samples) / norm)

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
    right = hits(network, batches)
    return int(right.sum()) / len(right)


def hits(network: nn.Module, batches: Iterable[Any]) -> Tensor:
    """Which samples' largest output is their label, (N,), bool. Arguments and errors as in `accuracy`."""
    device = next((one.device for one in network.state_dict().values()), torch.device("cpu"))
    right: list[Tensor] = []
    with torch.no_grad(), evaluating(network), torch.random.fork_rng(devices=[]):  # a DataLoader draws a seed for each pass
        for inputs, labels in batches:
            scores = network(*(one.to(device) for one in (inputs if isinstance(inputs, tuple | list) else (inputs,))))
            if not isinstance(scores, Tensor) or scores.dim() != 2 or labels.dim() != 1:
                raise SettingsError(
                    "accuracy needs one output of shape (N, classes) and labels of shape (N,)",
                    hint="leave `floor` and the labelled loaders out for other networks",
                )
            right.append(scores.argmax(1) == labels.to(device))
    if not sum(map(len, right)):
        raise SettingsError("accuracy needs at least one sample; the data is empty")
    return torch.cat(right)
