"""`Labelled`: a bounded, repeatable set of inputs with class labels, and the share of them that a network gets right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_plugins.core.calibration import MOST_BYTES, Calibration, own_randomness
from amc_plugins.core.errors import SettingsError
from amc_plugins.core.objectives import accuracy, hits

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Accuracy", "Labelled", "data_digest"]

_BATCH = 256


class Labelled:
    """`(input, label)` batches, read once and stored on the CPU: the same samples in the same order however often it is used.

    Args:
        inputs: per input of the network one tensor (N, ...).
        labels: (N,) class indices.
    """

    def __init__(self, inputs: tuple[Tensor, ...], labels: Tensor) -> None:
        self.inputs = inputs
        self.labels = labels

    @classmethod
    def of(cls, data: Any, *, seed: int = 0) -> Labelled:
        """Read `data`, an iterable of `(input, labels)` batches; at most 2 GiB of it.

        Raises:
            SettingsError: it is empty or an item is something else.
        """
        if isinstance(data, Labelled):
            return data
        if not isinstance(data, Iterable):
            raise SettingsError(
                f"labelled data must be an iterable of (input, labels) batches, given was a {type(data).__name__}"
            )
        taken: list[tuple[tuple[Tensor, ...], Tensor]] = []
        filled = 0
        with own_randomness(seed, getattr(data, "generator", None)):
            for number, item in enumerate(data):
                inputs, labels = _parts(item, number)
                taken.append((tuple(map(_kept, inputs)), _kept(labels)))
                filled += sum(one.nbytes for one in inputs)
                if filled >= MOST_BYTES:
                    break
        if not taken:
            raise SettingsError("the labelled data is empty: it gave no batch")
        joined = tuple(torch.cat(parts) for parts in zip(*(inputs for inputs, _ in taken), strict=True))
        return cls(joined, torch.cat([labels for _, labels in taken]))

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, samples: int) -> tuple[Labelled, Labelled | None]:
        """At most `samples` of the samples, spread evenly, and the others."""
        if samples >= len(self):
            return self, None
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[torch.div(torch.arange(samples) * len(self), samples, rounding_mode="floor")] = True
        return self._where(chosen), self._where(~chosen)

    def _where(self, chosen: Tensor) -> Labelled:
        return Labelled(tuple(one[chosen] for one in self.inputs), self.labels[chosen])

    def batches(self) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        for start in range(0, len(self), _BATCH):
            part = slice(start, start + _BATCH)
            yield tuple(one[part] for one in self.inputs), self.labels[part]


class Accuracy:
    """Scores a network by its accuracy on labelled data, 0 to 1."""

    def __init__(self, data: Labelled) -> None:
        self.data = data

    def __call__(self, network: nn.Module) -> float:
        return accuracy(network, self.data.batches())

    def with_samples(self, network: nn.Module) -> tuple[float, Tensor]:
        """The accuracy, and 1 for each sample that is right, 0 for the others, (N,), float64."""
        right = hits(network, self.data.batches())
        return int(right.sum()) / len(right), right.double()


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _parts(item: Any, number: int) -> tuple[tuple[Tensor, ...], Tensor]:
    if not isinstance(item, tuple | list) or len(item) < 2 or not isinstance(item[1], Tensor):
        raise SettingsError(
            f"item {number} of the labelled data is no (input, labels) pair",
            hint="accuracy needs batches of inputs with class labels",
        )
    inputs = tuple(item[0]) if isinstance(item[0], tuple | list) else (item[0],)
    if not all(isinstance(one, Tensor) and len(one) == len(item[1]) for one in inputs) or item[1].dim() != 1:
        raise SettingsError(f"item {number} of the labelled data needs inputs (N, ...) and labels (N,)")
    return inputs, item[1]


def data_digest(parts: Calibration | Labelled | None) -> str:
    """What a score depends on in its data: SHA-256 of the samples, `` for no data."""
    if parts is None:
        return ""
    tensors = [*parts.inputs, parts.labels] if isinstance(parts, Labelled) else [one for chunk in parts for one in chunk]
    digest = sha256()
    for tensor in tensors:
        digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else b"")
    return digest.hexdigest()
