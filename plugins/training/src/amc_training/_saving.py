"""The state of a training, and how it goes to a checkpoint and comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from amc_training import _checkpoint, _rng
from amc_training._errors import CheckpointError
from amc_training._steps import Steps
from amc_training._values import device_of

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
    from torch.optim.swa_utils import AveragedModel

    from amc_training._acceleration import Acceleration

__all__ = ["Saving", "copied"]


class Saving(Steps):
    """What a training consists of while it runs."""

    scheduler_interval: Literal["epoch", "step"]
    _train_loader: Iterable[Any]
    _val_loader: Iterable[Any] | None
    _optimizer: Optimizer
    _scheduler: LRScheduler | ReduceLROnPlateau | None
    _epochs: int
    _checkpoints_folder: Path | None
    _module: nn.Module
    """The network as given; `_network` is what the steps call, which may be a wrapper of it."""
    _averaged: AveragedModel | None
    _seed: int | None
    _acceleration: Acceleration | None
    _epoch: int
    _step: int
    _stopped: bool
    _history: list[dict[str, float]]
    _best: dict[str, Any] | None
    _begun: dict[str, Any] | None
    """What the running epoch started from: the random state and those of loaders' generators."""
    _random_state: list[dict[str, Any]] | None
    """Of each process, from a checkpoint: to be taken when the training goes on."""
    _position: dict[str, Any] | None
    """From a checkpoint that was written within an epoch: the batches done, their means, and the random state after them."""
    _checked: bool

    def _save(self, improved: bool, position: dict[str, Any] | None = None) -> None:
        """Write `last.pt`, and `best.pt` if the epoch is the best so far. Every process takes part, the main one writes."""
        if self._checkpoints_folder is None:
            return
        acceleration = self._acceleration
        now = _rng.state(device_of(self._module))
        if position is None:
            random, loaders = now, [generator.get_state() for generator in self._loader_generators()]
        else:
            assert self._begun is not None
            random, loaders = self._begun["random"], self._begun["loaders"]
        states = {"random": random, "now": None if position is None else now}
        all_states = [states] if acceleration is None else acceleration.gathered(states)
        if acceleration is not None and not acceleration.is_main:
            return
        best = self._best
        if best is not None and best["epoch"] == self._epoch and position is None:
            best = {**best, "network": None}  # the same tensors as those below
        content = {
            "format": _checkpoint.FORMAT,
            "epoch": self._epoch,
            "step": self._step,
            "stopped": self._stopped,
            "network": self._module.state_dict(),
            "averaged": None if self._averaged is None else self._averaged.state_dict(),
            "criterion": self._criterion.state_dict() if isinstance(self._criterion, nn.Module) else {},
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "best": best,
            "history": self._history,
            "random": [one["random"] for one in all_states],
            "loaders": loaders,
            "position": position and {**position, "random": [one["now"] for one in all_states]},
            "extra": self.extra_state(),
        }
        _checkpoint.write(self._checkpoints_folder / _checkpoint.LAST, content, check=not self._checked)
        self._checked = True  # what cannot be read back shows in the first one
        if improved:
            best_only = {"format": _checkpoint.FORMAT, "epoch": self._epoch, "network": self._judged().state_dict()}
            _checkpoint.write(self._checkpoints_folder / _checkpoint.BEST, best_only)

    def _judged(self) -> nn.Module:
        """The network that is validated and kept: the running average of the weights if there is one."""
        if self._averaged is None:
            return self._module
        averaged: nn.Module = self._averaged.module
        return averaged

    def _load(self, path: Path) -> None:
        content = _checkpoint.read(path)
        generators = self._loader_generators()
        self.load_extra_state(content["extra"])  # first, because a subclass may refuse it
        try:
            if len(generators) != len(content["loaders"]):
                raise ValueError(
                    f"it has {len(content['loaders'])} generators of loaders, the loaders given have {len(generators)}"
                )
            for name, ours in (("scheduler", self._scheduler), ("averaged", self._averaged)):
                if (content[name] is None) != (ours is None):
                    what = {"scheduler": "a scheduler", "averaged": "averaging of the weights"}[name]
                    raise ValueError(f"it was written {'with' if ours is None else 'without'} {what}")
            self._module.load_state_dict(content["network"])
            if self._averaged is not None:
                self._averaged.load_state_dict(content["averaged"])
            if isinstance(self._criterion, nn.Module):
                self._criterion.load_state_dict(content["criterion"])
            self._optimizer.load_state_dict(content["optimizer"])
            if self._scheduler is not None:
                self._scheduler.load_state_dict(content["scheduler"])
            for generator, state in zip(generators, content["loaders"], strict=True):
                generator.set_state(state)
            self._epoch, self._step, self._stopped = content["epoch"], content["step"], content["stopped"]
            self._history, self._random_state = content["history"], content["random"]
            self._position = content["position"]
            self._best = content["best"]
            if self._best is not None and self._best["network"] is None:
                self._best["network"] = copied(self._judged().state_dict())
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint `{path}` does not belong to this training: {error}",
                hint="resume with the network, optimizer and scheduler that it was written with, or start afresh",
            ) from error

    def _begin_epoch(self) -> None:
        """Remember what the epoch starts from, for a checkpoint within it."""
        loaders = [generator.get_state() for generator in self._loader_generators()]
        self._begun = {"random": _rng.state(device_of(self._module)), "loaders": loaders}

    def _loader_generators(self) -> list[torch.Generator]:
        return _rng.loader_generators(loader for loader in (self._train_loader, self._val_loader) if loader is not None)


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state whose tensors nobody else changes."""
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()}
