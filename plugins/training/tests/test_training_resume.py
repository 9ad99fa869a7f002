from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amc_training import BaseTrainer, CheckpointError
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR


class Noisy:
    """A data set whose augmentation draws from all three global generators."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.images[index] * (0.9 + 0.1 * random.random()) + 0.05 * float(np.random.rand())
        return image + 0.05 * torch.rand(1), self.labels[index]


SCHEDULERS: dict[str, Callable[[Any], LRScheduler | None]] = {
    "none": lambda optimizer: None,
    "epoch": lambda optimizer: StepLR(optimizer, 2, 0.3),
    "step": lambda optimizer: OneCycleLR(optimizer, 0.05, total_steps=40),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5),
}


def trainer_for(
    folder: Path | None, scheduler: str, optimizer: str, own_generator: bool, network: Any, loader: Any, **options: Any
) -> BaseTrainer:
    """A trainer with everything random that there is: dropout, augmentation, shuffling by either generator."""
    net = network(dropout=0.3)
    source = loader(count=120).dataset.tensors
    generator = torch.Generator().manual_seed(5) if own_generator else None
    train = torch.utils.data.DataLoader(Noisy(*source), batch_size=32, shuffle=True, generator=generator)  # type: ignore[arg-type, var-annotated]
    optim = getattr(torch.optim, optimizer)(net.parameters(), lr=0.02, **({"momentum": 0.9} if optimizer == "SGD" else {}))
    cls = options.pop("cls", BaseTrainer)
    trainer: BaseTrainer = cls(
        train, loader("validation", 60), None, net, nn.CrossEntropyLoss(), optim, SCHEDULERS[scheduler](optim), 5,
        "cpu", None, folder, None, seed=3, scheduler_interval="step" if scheduler == "step" else "epoch", **options,
    )  # fmt: skip
    return trainer


class KilledError(Exception):
    pass


def killed_at(step: int) -> type[BaseTrainer]:
    class Dying(BaseTrainer):
        def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            if self._step == step:
                raise KilledError
            return super().get_train_batch_preds(batch_train_data)

    return Dying


@pytest.mark.parametrize("own_generator", [False, True], ids=["global-shuffle", "own-shuffle"])
@pytest.mark.parametrize(
    ("scheduler", "optimizer"), [("none", "SGD"), ("epoch", "AdamW"), ("step", "SGD"), ("plateau", "Adam")]
)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    scheduler: str, optimizer: str, own_generator: bool, network: Any, loader: Any, tmp_path: Path
) -> None:
    def trainer(folder: Path, **options: Any) -> BaseTrainer:
        return trainer_for(folder, scheduler, optimizer, own_generator, network, loader, **options)

    expected = trainer(tmp_path / "whole").run()
    whole = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)
    for step in (4, 14):  # at the first step of epoch 2, in the middle of epoch 4
        folder = tmp_path / f"killed-{step}"
        with pytest.raises(KilledError):
            trainer(folder, cls=killed_at(step)).run()
        torch.manual_seed(step)  # the process that resumes has another random state
        random.seed(step)
        again = trainer(folder)
        assert again.resume() and again._epoch == step // 4
        result = again.run()
        assert result.history == expected.history
        assert (result.epochs, result.best_epoch, result.metrics) == (5, expected.best_epoch, expected.metrics)
        resumed = torch.load(folder / "last.pt", weights_only=True)
        assert_same(resumed, whole)
        assert_same(dict(result.network.state_dict()), dict(expected.network.state_dict()))
    # The randomness counts: another seed ends elsewhere.
    other = trainer(tmp_path / "other")
    other._seed = 4
    assert other.run().history != expected.history


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


def test_a_finished_training_resumes_to_its_result(network: Any, loader: Any, tmp_path: Path) -> None:
    first = trainer_for(tmp_path, "none", "SGD", False, network, loader).run()
    again = trainer_for(tmp_path, "none", "SGD", False, network, loader)
    assert again.resume()
    second = again.run()
    assert second.history == first.history and second.metrics == first.metrics
    assert_same(dict(second.network.state_dict()), dict(first.network.state_dict()))


def test_a_training_that_decided_to_stop_stays_stopped(network: Any, loader: Any, tmp_path: Path) -> None:
    class Stops(BaseTrainer):
        def if_stop_training(self, *args: Any, **kwargs: Any) -> bool:
            return self._epoch == 2

        def extra_state(self) -> dict[str, Any]:
            return {"count": self._step * 10}

        def load_extra_state(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    assert trainer_for(tmp_path, "none", "SGD", False, network, loader, cls=Stops).run().epochs == 2
    again: Any = trainer_for(tmp_path, "none", "SGD", False, network, loader, cls=Stops)
    again.resume()
    assert again.count == 80
    assert again.run().epochs == 2


def test_nothing_to_resume(network: Any, loader: Any, tmp_path: Path) -> None:
    assert trainer_for(tmp_path, "none", "SGD", False, network, loader).resume() is False
    with pytest.raises(CheckpointError, match="no checkpoints_folder"):
        trainer_for(None, "none", "SGD", False, network, loader).resume()
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        trainer_for(None, "none", "SGD", False, network, loader).resume(tmp_path / "x.pt")


def test_foreign_and_damaged_checkpoints_are_refused(network: Any, loader: Any, tmp_path: Path) -> None:
    trainer_for(tmp_path, "epoch", "SGD", True, network, loader).run()
    path = tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match="does not belong to this training: it was written with a scheduler"):
        trainer_for(tmp_path, "none", "SGD", True, network, loader).resume()
    with pytest.raises(CheckpointError, match="it has 1 generators of loaders, the loaders given have 0"):
        trainer_for(tmp_path, "epoch", "SGD", False, network, loader).resume()
    with pytest.raises(CheckpointError, match="does not belong to this training"):
        trainer_for(
            tmp_path, "epoch", "SGD", True, lambda dropout: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), loader
        ).resume()
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not a checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            trainer_for(tmp_path, "epoch", "SGD", True, network, loader).resume()
    torch.save({"some": "thing"}, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint of format 1"):
        trainer_for(tmp_path, "epoch", "SGD", True, network, loader).resume()
    torch.save({"format": 1, "path": tmp_path}, path)  # an arbitrary object is not executed
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        trainer_for(tmp_path, "epoch", "SGD", True, network, loader).resume()


def test_a_failing_write_leaves_the_old_checkpoint(network: Any, loader: Any, tmp_path: Path) -> None:
    class Unwritable(BaseTrainer):
        def extra_state(self) -> dict[str, Any]:
            return {} if self._epoch < 2 else {"handle": lambda: None}  # a lambda cannot be pickled

    with pytest.raises(AttributeError, match="lambda"):
        trainer_for(tmp_path, "none", "SGD", False, network, loader, cls=Unwritable).run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_state_that_could_not_be_loaded_again_is_refused_at_once(network: Any, loader: Any, tmp_path: Path) -> None:
    class Careless(BaseTrainer):
        def extra_state(self) -> dict[str, Any]:
            return {"folder": tmp_path}

    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        trainer_for(tmp_path, "none", "SGD", False, network, loader, cls=Careless).run()
    assert list(tmp_path.iterdir()) == []
