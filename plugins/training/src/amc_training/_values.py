"""Small arithmetic of the loop: losses to numbers, means over samples, batches onto a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from amc_training._errors import TrainingError
from amc_training._shapes import explained

__all__ = ["Means", "batch_size", "device_of", "floats", "inputs_of", "labels", "length", "predict", "to_device", "total_loss"]


class Means:
    """Running means over samples, in float64. A batch counts by its size, so a small last batch does not weigh too much."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._samples: dict[str, int] = {}
        self.batches = 0
        self.samples = 0

    def add(self, values: Mapping[str, float], samples: int) -> None:
        """Add the means of one batch of `samples`."""
        self.batches += 1
        self.samples += samples
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * samples
            self._samples[name] = self._samples.get(name, 0) + samples

    def result(self) -> dict[str, float]:
        """The means so far, in the order in which the names came."""
        return {name: total / max(self._samples[name], 1) for name, total in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {"sums": dict(self._sums), "counts": dict(self._samples), "batches": self.batches, "samples": self.samples}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._sums, self._samples = dict(state["sums"]), dict(state["counts"])
        self.batches, self.samples = state["batches"], state["samples"]

    def sum_over_processes(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Make these the means over the samples of all processes; each of them has the same names."""
        names = list(self._sums)
        mine = [self.batches, self.samples, *(self._sums[name] for name in names), *(self._samples[name] for name in names)]
        batches, samples, *rest = summed(torch.tensor(mine, dtype=torch.float64)).tolist()
        self.batches, self.samples = int(batches), int(samples)
        self._sums = dict(zip(names, rest[: len(names)], strict=True))
        self._samples = dict(zip(names, (int(count) for count in rest[len(names) :]), strict=True))


def total_loss(losses: Any, step: str, *, needs_grad: bool) -> Tensor:
    """The entry `total_loss` of what a step returned.

    Raises:
        TrainingError: the step returned no dict, has no `total_loss`, or it is not a scalar tensor that `backward` can
            start from.
    """
    if not isinstance(losses, Mapping):
        raise TrainingError(
            f"`{step}` returned {_kind(losses)}, not a dict of losses",
            hint="return {'total_loss': loss}",
        )
    if "total_loss" not in losses:
        given = ", ".join(f"`{name}`" for name in losses) or "nothing"
        raise TrainingError(
            f"`{step}` returned a dict without `total_loss`; it has {given}",
            hint="name the loss that is to be minimised `total_loss`; the other entries are logged",
        )
    total = losses["total_loss"]
    if not isinstance(total, Tensor) or total.numel() != 1:
        raise TrainingError(f"`total_loss` of `{step}` is {_kind(total)}, not a tensor with one element")
    if needs_grad and not total.requires_grad:
        raise TrainingError(
            f"`total_loss` of `{step}` does not depend on a parameter that needs a gradient",
            hint="do not detach it; check that the network's parameters have requires_grad",
        )
    return total


def floats(values: Mapping[str, Any], step: str) -> dict[str, float]:
    """Scalar tensors and numbers as floats, with one transfer from the device for all of them.

    Raises:
        TrainingError: an entry is neither a number nor a tensor with one element.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise TrainingError(f"`{name}` of `{step}` is {_kind(value)}, not one number")
            tensors[name] = value.detach().reshape(()).to(torch.float32 if value.device.type == "mps" else torch.float64)
        elif not isinstance(value, int | float):
            raise TrainingError(f"`{name}` of `{step}` is {_kind(value)}, not one number")
    numbers: list[float] = torch.stack(list(tensors.values())).tolist() if tensors else []
    read = dict(zip(tensors, numbers, strict=True))
    return {name: read[name] if name in read else float(value) for name, value in values.items()}


def batch_size(batch: Any) -> int:
    """The length of the first tensor in a batch; 1 if it holds none."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return int(leaf.shape[0])
    return 1


def length(loader: Iterable[Any]) -> int | None:
    """The number of batches that a loader gives, if it knows."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:  # no length, or a DataLoader over a data set that has none
        return None


def to_device(batch: Any, device: torch.device | None) -> Any:
    """A batch (tensors in any nesting) with its tensors on `device`; as it is if that is None."""
    if device is None:
        return batch
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, batch)


def inputs_of(batch: Any, device: torch.device | None) -> tuple[Any, ...]:
    """The network's inputs from the first item of a batch: a tensor, or a tuple of them."""
    inputs = to_device(_item(batch, 0), device)
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def predict(network: nn.Module, batch: Any, device: torch.device | None) -> Any:
    """The network on the first item of a batch.

    Raises:
        TrainingError: a captured network fails on inputs of other shapes or types than it was captured with.
    """
    inputs = inputs_of(batch, device)
    with explained(network, inputs):
        return network(*inputs)


def labels(batch: Any, device: torch.device | None) -> Any:
    """The second item of a batch."""
    return to_device(_item(batch, 1), device)


def device_of(network: nn.Module) -> torch.device:
    """Where a network is: the device of its first parameter or buffer, else the CPU."""
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")


def _item(batch: Any, index: int) -> Any:
    if not isinstance(batch, tuple | list) or len(batch) <= index:
        kind = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else _kind(batch)
        raise TrainingError(
            f"a batch is {kind}, not a pair of input and label",
            hint="let the loader give (input, label), or override the steps that read a batch",
        )
    return batch[index]


def _kind(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
