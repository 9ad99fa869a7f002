"""Precision, accumulation, clipping, averaging, early stopping, and stopping on request."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training import BaseTrainer, TrainingError, TrainingInterrupted
from amc_training._acceleration import Acceleration
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([one.detach().double().flatten() for one in network.parameters()])


def plain(network: Any) -> nn.Module:
    """Without batch norm, so that a batch's gradient is the mean of those of its halves."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize(("count", "last"), [(192, 32), (176, 16)], ids=["whole groups", "a smaller last group"])
def test_accumulated_batches_step_like_one_large_batch(count: int, last: int, parts: Any, network: Any, loader: Any) -> None:
    def trained(batch: int, accumulation: int) -> tuple[torch.Tensor, int]:
        net = plain(network)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        given = parts(network=net, optimizer=optimizer, train_loader=loader(count=count, batch_size=batch), val_loader=None)
        trainer = BaseTrainer(**given, accumulation=accumulation)
        trainer.run()
        return weights(net), trainer._step

    large, small = trained(64, 1), trained(32, 2)
    assert small[1] == large[1] == 6
    exact = count % 64 == 0  # else the last group is of batches of 32 and 16, whose mean weighs the smaller one more
    assert torch.allclose(small[0], large[0], atol=1e-6) == exact
    assert trained(last, 1)[1] > large[1]


def test_a_loader_without_a_length_accumulates_too(parts: Any, network: Any, loader: Any) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(loader(count=160).dataset)

    net = plain(network)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    given = parts(network=net, optimizer=optimizer, train_loader=DataLoader(Stream(), batch_size=32), val_loader=None, epochs=1)
    trainer = BaseTrainer(**given, accumulation=2)
    trainer.run()
    assert trainer._step == 3  # two whole groups, and the gradients of the fifth batch


def test_several_processes_need_a_length_to_accumulate(parts: Any, loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(loader().dataset)

    monkeypatch.setattr(Acceleration, "processes", 2)
    trainer = BaseTrainer(**parts(train_loader=DataLoader(Stream(), batch_size=32)), accumulation=2)
    with pytest.raises(TrainingError, match="`accumulation` = 2 in several processes needs to know"):
        trainer.run()


def test_gradients_are_clipped_together(parts: Any, network: Any) -> None:
    def moved(clip: float | None) -> float:
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        before = weights(net)
        one_batch = [next(iter(parts()["train_loader"]))]
        given = parts(network=net, optimizer=optimizer, train_loader=one_batch, val_loader=None, epochs=1)
        BaseTrainer(**given, clip_norm=clip).run()
        return float((weights(net) - before).norm())

    free = moved(None)
    assert free > 0.1 and moved(0.1) == pytest.approx(0.1, rel=1e-3) and moved(100.0) == pytest.approx(free)


def test_bf16_computes_the_forward_pass_in_bfloat16(parts: Any, network: Any) -> None:
    seen = []

    class Watching(BaseTrainer):
        def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(batch_preds.dtype)
            return super().get_train_losses(batch_preds, batch_train_data)

    result = Watching(**parts(), mixed_precision="bf16").run()
    assert set(seen) == {torch.bfloat16}
    assert {one.dtype for one in result.network.parameters()} == {torch.float32}
    assert result.metrics["total_loss"] < result.history[0]["train/total_loss"]
    Watching(**parts()).run()  # accelerate's process-wide state is as before: another precision is no conflict
    assert seen[-1] == torch.float32
    with pytest.raises(TrainingError, match="'fp16' does not work here: fp16 needs an accelerator"):
        BaseTrainer(**parts(), mixed_precision="fp16").run()


def test_the_average_of_the_weights_is_validated_and_kept(parts: Any, network: Any) -> None:
    decay = 0.5

    class Recording(BaseTrainer):
        def _descend(self) -> None:
            super()._descend()
            now = weights(self._module)
            averages.append(now if not averages else decay * averages[-1] + (1 - decay) * now)

        def get_val_batch_preds(self, batch_val_data: Any, *args: Any, **kwargs: Any) -> Any:
            judged.append(weights(self._network))
            return super().get_val_batch_preds(batch_val_data)

    averages: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    result = Recording(**parts(network=net, optimizer=optimizer, epochs=1), ema_decay=decay).run()
    assert torch.allclose(judged[0], averages[-1], atol=1e-6)
    assert torch.allclose(weights(result.network), averages[-1], atol=1e-6)


def test_patience_stops_after_epochs_that_were_no_better(parts: Any) -> None:
    class Scripted(BaseTrainer):
        def get_val_losses(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> Any:
            return {"total_loss": torch.tensor([3.0, 1.0, 2.0, 2.0, 0.5][self._epoch])}

    result = Scripted(**parts(epochs=5), patience=2).run()
    assert (result.epochs, result.best_epoch) == (4, 2)
    assert Scripted(**parts(epochs=5), patience=3).run().best_epoch == 5
    with pytest.raises(TrainingError, match="`patience` waits for a better epoch on the validation set"):
        BaseTrainer(**parts(val_loader=None), patience=2)


@pytest.mark.parametrize("options", [{"accumulation": 0}, {"clip_norm": 0.0}, {"ema_decay": 1.0}, {"mixed_precision": "int8"}])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], parts: Any) -> None:
    with pytest.raises(TrainingError, match=f"`{next(iter(options))}`"):
        BaseTrainer(**parts(), **options)


class Terminated(BaseTrainer):
    """Is asked to stop, as by `kill`, while it computes a step."""

    at = 0

    def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
        if self._step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().get_train_batch_preds(batch_train_data)


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_saves_within_the_epoch_and_resumes_to_the_same_bits(
    workers: int, network: Any, loader: Any, tmp_path: Path
) -> None:
    def trainer(folder: Path, cls: type[BaseTrainer] = BaseTrainer) -> BaseTrainer:
        net = network(dropout=0.3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        train = loader(count=256, shuffle=True, num_workers=workers)
        return cls(
            train, loader("validation", 60), None, net, nn.CrossEntropyLoss(), optimizer, None, 3, "cpu", None, folder,
            seed=1, ema_decay=0.9, accumulation=2,
        )  # fmt: skip

    expected = trainer(tmp_path / "whole").run()
    Terminated.at = 6  # the third of the four steps of epoch 2
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="after training step 7, epoch 2") as caught:
        trainer(tmp_path / "stopped", Terminated).run()
    assert caught.value.exit_code == 130 and "last.pt" in (caught.value.hint or "")
    assert signal.getsignal(signal.SIGTERM) is before
    assert torch.load(tmp_path / "stopped" / "last.pt", weights_only=True)["position"]["batches"] == 6
    again = trainer(tmp_path / "stopped")
    assert again.resume() and (again._epoch, again._step) == (1, 7)
    result = again.run()
    assert result.history == expected.history
    for name, one in result.network.state_dict().items():
        assert torch.equal(one, expected.network.state_dict()[name]), name


def test_checkpoints_within_epochs_are_written_when_asked_for(parts: Any, tmp_path: Path) -> None:
    positions = []

    class Watching(BaseTrainer):
        def _save(self, improved: bool, position: dict[str, Any] | None = None) -> None:
            super()._save(improved, position)
            positions.append(position and position["batches"])

    Watching(**parts(checkpoints_folder=tmp_path), checkpoint_steps=3).run()  # 7 batches an epoch
    assert positions == [3, 6, None, 2, 5, None]
