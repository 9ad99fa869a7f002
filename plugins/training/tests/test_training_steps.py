from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from amc_training import BaseTrainer, TrainingError
from amc_training._steps import STEPS

DUNDERS = (
    "__get_train_batch_preds__",
    "__get_train_losses__",
    "__get_val_batch_preds__",
    "__get_val_losses__",
    "__if_stop_trainning__",
)
PLAIN = ("get_train_batch_preds", "get_train_losses", "get_val_batch_preds", "get_val_losses", "if_stop_training")


def recording(spellings: tuple[str, ...]) -> type[BaseTrainer]:
    """A trainer that overrides every step in the given spelling, and records the keywords that reach it."""

    def preds(name: str) -> Any:
        def step(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
            self.seen.append((name, kwargs))
            return self._network(batch[0].to(self._device))

        return step

    def losses(name: str) -> Any:
        def step(self: Any, batch_preds: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
            self.seen.append((name, kwargs))
            return {"total_loss": self._criterion(batch_preds, batch[1].to(self._device))}

        return step

    def stop(self: Any, *args: Any, **kwargs: Any) -> bool:
        self.seen.append(("stop", kwargs))
        return bool(self._epoch == kwargs["stop_after"])

    methods = (preds("train_preds"), losses("train_losses"), preds("val_preds"), losses("val_losses"), stop)
    return type("Recording", (BaseTrainer,), {"seen": [], **dict(zip(spellings, methods, strict=True))})


@pytest.mark.parametrize("spellings", [PLAIN, DUNDERS], ids=["plain", "dunder"])
@pytest.mark.parametrize("run", ["run", "__run__"])
def test_overridden_steps_are_called_with_the_keywords_of_run(spellings: tuple[str, ...], run: str, parts: Any) -> None:
    trainer: Any = recording(spellings)(**parts(epochs=5))
    result = getattr(trainer, run)(stop_after=2, note="x")
    assert result.epochs == 2 == len(result.history)
    names = [name for name, _ in trainer.seen]
    assert {name: names.count(name) for name in names} == {
        "train_preds": 14, "train_losses": 14, "val_preds": 8, "val_losses": 8, "stop": 2,
    }  # fmt: skip
    assert all(kwargs == {"stop_after": 2, "note": "x"} for _, kwargs in trainer.seen)


def test_both_spellings_train_to_the_bits_of_a_bare_loop(parts: Any, network: Any) -> None:
    def bare() -> dict[str, torch.Tensor]:
        given = parts()
        net, optimizer = given["network"].train(), given["optimizer"]
        for _ in range(2):
            for images, labels in given["train_loader"]:
                optimizer.zero_grad()
                given["criterion"](net(images), labels).backward()
                optimizer.step()
        return dict(net.state_dict())

    expected = bare()
    for cls in (BaseTrainer, recording(PLAIN), recording(DUNDERS)):
        # Without a validation loader, because the best epoch on it need not be the last.
        result = cls(**parts(val_loader=None)).run(stop_after=9)
        assert all(torch.equal(value, expected[name]) for name, value in result.network.state_dict().items())
    assert not torch.equal(expected["0.weight"], network().state_dict()["0.weight"])


def test_super_works_in_either_spelling() -> None:
    class Plain(BaseTrainer):
        def if_stop_training(self, *args: Any, **kwargs: Any) -> bool:
            return kwargs["plain"]

    class Dunder(Plain):
        def __if_stop_trainning__(self, *args: Any, **kwargs: Any) -> bool:
            return not super().__if_stop_trainning__(*args, **kwargs)

    class Mixin:
        def if_stop_trainning(self, *args: Any, **kwargs: Any) -> str:
            return "mixin"

    class Mixed(Mixin, Dunder):
        pass

    dunder, mixed = object.__new__(Dunder), object.__new__(Mixed)
    assert [dunder.if_stop_training(plain=value) for value in (True, False)] == [False, True]
    spellings = ("if_stop_training", *STEPS["if_stop_training"])
    assert [getattr(mixed, spelling)() for spelling in spellings] == ["mixin"] * 4


def test_two_spellings_in_one_class_are_refused() -> None:
    with pytest.raises(TrainingError, match="get_val_losses and __get_val_losses__"):

        class Both(BaseTrainer):
            def get_val_losses(self, *args: Any, **kwargs: Any) -> Any:
                return {}

            def __get_val_losses__(self, *args: Any, **kwargs: Any) -> Any:
                return {}


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda loss: {"loss": loss, "penalty": loss}, "without `total_loss`; it has `loss`, `penalty`"),
        (lambda loss: {}, "it has nothing"),
        (lambda loss: loss, "not a dict of losses"),
        (lambda loss: {"total_loss": 1.0}, "`total_loss` of `get_train_losses` is a float"),
        (lambda loss: {"total_loss": loss.detach()}, "does not depend on a parameter"),
        (lambda loss: {"total_loss": loss.repeat(3)}, r"a tensor of shape \(3,\)"),
        (lambda loss: {"total_loss": loss, "map": loss.repeat(2)}, r"`map` of `get_train_losses` is a tensor of shape \(2,\)"),
        (lambda loss: {"total_loss": loss, "name": "x"}, "`name` of `get_train_losses` is a str"),
    ],
)
def test_losses_that_are_none_are_refused(losses: Any, message: str, parts: Any) -> None:
    class Wrong(BaseTrainer):
        def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            return losses(self._criterion(batch_preds, batch_train_data[1]))

    with pytest.raises(TrainingError, match=message):
        Wrong(**parts()).run()


def test_batches_that_are_no_pairs_are_refused_with_a_hint(parts: Any) -> None:
    with pytest.raises(TrainingError, match=r"a batch is a tensor of shape \(4, 1, 8, 8\)") as caught:
        BaseTrainer(**parts(train_loader=[torch.zeros(4, 1, 8, 8)])).run()
    assert "override" in str(caught.value.hint)


def test_several_inputs_are_spread(parts: Any) -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 2)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.linear(a - b)

    a, labels = torch.arange(24.0).reshape(6, 4) / 24, torch.tensor([0, 1, 0, 1, 0, 1])
    result = BaseTrainer(**parts(network=Two(), train_loader=[((a, a.flip(0)), labels)], val_loader=None)).run()
    assert result.history[1]["train/total_loss"] < result.history[0]["train/total_loss"]


def test_attributes_have_the_names_of_the_original_system(parts: Any) -> None:
    extra = SimpleNamespace(patience=3)
    given = parts(additional_args=extra)
    trainer = BaseTrainer(**given)
    for name, value in given.items():
        held = getattr(trainer, f"_{name}")
        assert held == torch.device("cpu") if name == "device" else held is value
