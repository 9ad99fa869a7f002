"""Where and in what precision a training computes: accelerate, borrowed for the time of one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from amc_training._errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["Acceleration", "borrowed"]


class Acceleration:
    """One `accelerate.Accelerator` and what the loop asks of it.

    The loop says itself when gradients of several batches are complete, so that any iterable serves as a loader; loaders are
    prepared only where several processes share one.
    """

    def __init__(self, accelerator: Accelerator, clip_norm: float | None) -> None:
        self._accelerator = accelerator
        self._clip_norm = clip_norm
        self._optimizer: Any = None

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return int(self._accelerator.num_processes)

    @property
    def index(self) -> int:
        """Which of them this is."""
        return int(self._accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and tells observers."""
        return bool(self._accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        device: torch.device = self._accelerator.device
        return device

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> nn.Module:
        """What to call in place of `network`: itself, or itself in `DistributedDataParallel`."""
        self._optimizer = self._accelerator.prepare_optimizer(optimizer, device_placement=False)
        if self.processes == 1:
            return network
        wrapped: nn.Module = self._accelerator.prepare_model(network, device_placement=False)
        return wrapped

    def release(self, network: nn.Module) -> None:
        """Take the wrappers off the network again."""
        self._accelerator.unwrap_model(network, keep_fp32_wrapper=False)

    def shared(self, loader: Iterable[Any], name: str, *, even: bool) -> Iterable[Any]:
        """This process's part of the batches of a loader.

        Args:
            even: repeat samples so that all processes get equally many batches, as training needs and validation must not.

        Raises:
            TrainingError: several processes cannot share an iterable that is no `DataLoader`.
        """
        if self.processes == 1:
            return loader
        if not isinstance(loader, DataLoader):
            raise TrainingError(
                f"`{name}` is a {type(loader).__name__}, which {self.processes} processes cannot share",
                hint="give a torch.utils.data.DataLoader, or train in one process",
            )
        self._accelerator.even_batches = even
        prepared: Iterable[Any] = self._accelerator.prepare_data_loader(loader, device_placement=False)
        return prepared

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return self._accelerator.autocast()

    def backward(self, loss: Tensor, network: nn.Module, *, complete: bool) -> None:
        """Add the gradients of `loss`; `complete`: they are the last before a step, so processes exchange them now."""
        with nullcontext() if complete else self._accelerator.no_sync(network):
            self._accelerator.backward(loss)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradients of parameters that are not the network's their means over the processes."""
        if self.processes == 1:
            return
        for parameter in parameters:
            if parameter.requires_grad:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self._accelerator.reduce(own, reduction="mean")

    def step(self, parameters: Iterable[nn.Parameter]) -> bool:
        """One step of the optimizer, gradients clipped to `clip_norm`, then none. False: skipped, float16 overflowed."""
        if self._clip_norm is not None:
            self._accelerator.clip_grad_norm_(parameters, self._clip_norm)
        self._optimizer.step()
        skipped = bool(self._optimizer.step_was_skipped)
        self._optimizer.zero_grad(set_to_none=True)
        return not skipped

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes of a tensor on any device."""
        if self.processes == 1:
            return values
        total: Tensor = self._accelerator.reduce(values.to(self.device), reduction="sum")
        return total

    def gathered(self, item: Any) -> list[Any]:
        """The items of all processes, in their order, on each of them."""
        return [item] if self.processes == 1 else list(gather_object([item]))

    def any_says(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self.processes == 1:
            return flag
        if flag:
            self._accelerator.set_trigger()
        return bool(self._accelerator.check_trigger())

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()


@contextmanager
def borrowed(device: torch.device, mixed_precision: str, clip_norm: float | None) -> Iterator[Acceleration]:
    """An `Acceleration` for one run.

    accelerate keeps its state in process-wide tables, where a second run with another precision is an error; they are put back
    as they were. In a program that was started in several processes they stay: the connection between those is in them.

    Raises:
        TrainingError: the device cannot compute in this precision.
    """
    tables = [AcceleratorState._shared_state, PartialState._shared_state, GradientState._shared_state]
    alone = int(os.environ.get("WORLD_SIZE", "1")) <= 1
    before = [dict(table) for table in tables]
    if alone:
        for table in tables:
            table.clear()
    try:
        try:
            if mixed_precision == "fp16" and device.type == "cpu":
                raise ValueError("fp16 needs an accelerator, and the network is on the CPU")
            accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)
        except ValueError as error:
            raise TrainingError(f"`mixed_precision` = {mixed_precision!r} does not work here: {error}") from error
        yield Acceleration(accelerator, clip_norm)
    finally:
        if alone:
            for table, content in zip(tables, before, strict=True):
                table.clear()
                table.update(content)
