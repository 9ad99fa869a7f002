from __future__ import annotations

from typing import Any

import pytest
import torch
from amc_training import BaseTrainer, NonFiniteLossError, TrainingError
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau


class Writer:
    """Takes scalars as a tensorboardX writer does."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def of(self, tag: str) -> dict[int, float]:
        return {step: value for name, value, step in self.scalars if name == tag}


class Scripted(BaseTrainer):
    """The validation losses come from a script, one an epoch."""

    script: tuple[float, ...] = ()

    def get_val_losses(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> Any:
        return {"total_loss": torch.tensor(self.script[self._epoch])}


def test_every_loss_is_logged_and_averaged_over_samples(parts: Any, loader: Any) -> None:
    class TwoLosses(BaseTrainer):
        def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            task = self._criterion(batch_preds, batch_train_data[1])
            size = torch.tensor(float(len(batch_train_data[1])))
            return {"total_loss": task + 0.01 * batch_preds.square().mean(), "task": task, "size": size, "constant": 2}

    writer = Writer()
    result = TwoLosses(**parts(tbx_writer=writer, train_loader=loader(count=80, batch_size=32))).run()
    entry = result.history[1]
    assert set(entry) == {f"train/{name}" for name in ("total_loss", "task", "size", "constant")} | {
        "learning_rate",
        "val/total_loss",
    }
    assert entry["train/size"] == pytest.approx((32 * 32 + 32 * 32 + 16 * 16) / 80)  # samples, not batches, are averaged
    assert entry["train/constant"] == 2
    assert entry["train/total_loss"] > entry["train/task"]
    assert set(writer.of("train_step/task")) == {1, 2, 3, 4, 5, 6}
    assert list(writer.of("train_step/size").values()) == [32, 32, 16] * 2
    for name, value in entry.items():
        assert writer.of(name)[2] == value
    assert all(value > 0 for value in writer.of("throughput/samples_per_second").values())


def test_validation_is_in_eval_mode_without_gradients_and_leaves_the_modes(parts: Any) -> None:
    seen = []

    class Watching(BaseTrainer):
        def train_mode(self) -> None:
            super().train_mode()
            self._network[1].eval()  # a frozen batch norm

        def get_val_batch_preds(self, batch_val_data: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(("val", self._network.training, torch.is_grad_enabled()))
            return super().get_val_batch_preds(batch_val_data)

        def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(("train", self._network.training, torch.is_grad_enabled()))
            assert not self._network[1].training
            return super().get_train_batch_preds(batch_train_data)

    given = parts()
    before = given["network"][1].running_mean.clone()
    trainer = Watching(**given)
    assert set(trainer.run().history[0]) == {"train/total_loss", "val/total_loss", "learning_rate"}
    assert set(seen) == {("train", True, True), ("val", False, False)}
    assert torch.equal(given["network"][1].running_mean, before)

    given["network"].train()
    given["network"][2].eval()
    trainer.evaluate(given["val_loader"])
    assert given["network"].training and not given["network"][2].training


def test_the_best_epoch_by_validation_is_kept(parts: Any, tmp_path: Any) -> None:
    class Keeping(Scripted):
        script = (0.9, 0.3, 0.5, 0.3)

        def epoch_ended(self, epoch: int, values: Any) -> None:
            states.append({name: value.clone() for name, value in self._network.state_dict().items()})

    states: list[dict[str, torch.Tensor]] = []
    given = parts(epochs=4, checkpoints_folder=tmp_path)
    finished = Keeping(**given).run()
    assert finished.best_epoch == 2 and finished.epochs == 4
    assert finished.metrics == {"total_loss": pytest.approx(0.3)}
    assert finished.network is given["network"] and not finished.network.training
    stored = torch.load(tmp_path / "best.pt", weights_only=True)
    assert stored["epoch"] == 2
    for name, value in finished.network.state_dict().items():
        assert torch.equal(value, states[1][name]) and torch.equal(value, stored["network"][name])
    assert not torch.equal(states[1]["0.weight"], states[3]["0.weight"])


def test_the_evaluation_set_is_scored_once_with_the_best_network(parts: Any, loader: Any) -> None:
    given = parts(eval_loader=loader("test", 100), epochs=3)
    trainer = BaseTrainer(**given)
    result = trainer.run()
    expected = trainer.evaluate(given["eval_loader"])["total_loss"]
    assert result.metrics["eval/total_loss"] == expected != result.metrics["total_loss"]
    assert not any("eval" in name for entry in result.history for name in entry)


def test_schedulers_move_every_epoch_or_every_step(parts: Any, network: Any) -> None:
    class EachStep(BaseTrainer):
        scheduler_interval = "step"

    for cls, options, factor in (
        (BaseTrainer, {}, 0.5),
        (EachStep, {}, 0.5**7),
        (BaseTrainer, {"scheduler_interval": "step"}, 0.5**7),
        (EachStep, {"scheduler_interval": "epoch"}, 0.5),
    ):
        given = parts(epochs=3)
        given["scheduler"] = ExponentialLR(given["optimizer"], 0.5)
        rates = [entry["learning_rate"] for entry in cls(**given, **options).run().history]
        # Of the last of 7 steps: a per-epoch scheduler has not moved yet in epoch 1, a per-step one has, 6 times.
        first = 0.05 if factor == 0.5 else 0.05 * 0.5**6
        assert rates == pytest.approx([first, first * factor, first * factor**2])


def test_plateau_gets_the_validation_loss(parts: Any) -> None:
    class Plateau(Scripted):
        script = (1.0, 0.5, 0.6, 0.7, 0.4)

    given = parts(epochs=5)
    given["scheduler"] = ReduceLROnPlateau(given["optimizer"], factor=0.1, patience=1)
    rates = [entry["learning_rate"] for entry in Plateau(**given).run().history]
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.05, 0.005])
    assert given["scheduler"].best == pytest.approx(0.4)


def test_parts_that_do_not_fit_are_refused(parts: Any, network: Any) -> None:
    given = parts()
    plateau = ReduceLROnPlateau(given["optimizer"])
    with pytest.raises(TrainingError, match="needs a validation loss"):
        BaseTrainer(**{**given, "scheduler": plateau, "val_loader": None})
    with pytest.raises(TrainingError, match="once an epoch"):
        BaseTrainer(**{**given, "scheduler": plateau}, scheduler_interval="step")
    with pytest.raises(TrainingError, match="'batch', not 'epoch' or 'step'"):
        BaseTrainer(**given, scheduler_interval="batch")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no parameter of the network"):
        BaseTrainer(**parts(network=network(), optimizer=torch.optim.SGD(network().parameters(), lr=0.1)))
    with pytest.raises(TrainingError, match="can be read only once, and there are 2 epochs"):
        BaseTrainer(**parts(train_loader=iter(given["train_loader"])))
    with pytest.raises(TrainingError, match="`epochs` is 0"):
        BaseTrainer(**parts(epochs=0))
    with pytest.raises(TrainingError, match="training loader gave no batch in epoch 1"):
        BaseTrainer(**parts(train_loader=[])).run()
    with pytest.raises(TrainingError, match="validation loader gave no batch"):
        BaseTrainer(**parts(val_loader=[])).run()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_loss_stops_before_the_weights_and_keeps_the_checkpoint(bad: float, parts: Any, tmp_path: Any) -> None:
    class Diverging(BaseTrainer):
        def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().get_train_losses(batch_preds, batch_train_data)["total_loss"]
            return {"total_loss": loss * (bad if self._step == 10 else 1.0)}

    trainer = Diverging(**parts(epochs=3, checkpoints_folder=tmp_path))
    with pytest.raises(
        NonFiniteLossError, match=rf"`total_loss` is {bad} in training step 11 \(batch 4 of the epoch\), epoch 2"
    ) as caught:
        trainer.run()
    assert "lower the learning rate (it is 0.05)" in str(caught.value.hint)
    assert f"the checkpoint of epoch 1 is kept: {tmp_path / 'last.pt'}" in str(caught.value)
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    assert kept["epoch"] == 1 and kept["step"] == 7
    assert all(torch.isfinite(parameter).all() for parameter in trainer._network.parameters())


def test_a_bad_validation_loss_and_bad_weights_stop_too(parts: Any, tmp_path: Any) -> None:
    class BadValidation(Scripted):
        script = (0.5, float("nan"))

    with pytest.raises(NonFiniteLossError, match="is nan in validation batch 1, epoch 2"):
        BadValidation(**parts(checkpoints_folder=tmp_path)).run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1

    class BadLastStep(BaseTrainer):
        def _descend(self) -> None:
            super()._descend()
            if self._step == 14:  # the last of epoch 2
                with torch.no_grad():
                    self._network[0].weight[0] = torch.inf

    with pytest.raises(NonFiniteLossError, match=r"the weights `0.weight` are not finite after training step 14, epoch 2"):
        BadLastStep(**parts(checkpoints_folder=tmp_path, val_loader=None)).run()
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
