from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from amc_training import BaseTrainer, NonFiniteLossError


def drawn() -> tuple[float, float, float]:
    return torch.rand(1).item(), random.random(), float(np.random.rand())


def seeded(seed: int = 1) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@pytest.fixture(autouse=True)
def _global_state_of_other_tests() -> Any:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])


class Augmented(BaseTrainer):
    """Draws from every global generator in every step."""

    def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
        return super().get_train_batch_preds((batch_train_data[0] + 0.1 * sum(drawn()), batch_train_data[1]))


@pytest.mark.parametrize("seed", [None, 7])
def test_training_leaves_the_global_random_state_alone(seed: int | None, parts: Any, network: Any, loader: Any) -> None:
    seeded()
    expected = drawn()
    trainer = Augmented(**parts(network=network(dropout=0.5), train_loader=loader(shuffle=True)), seed=seed)
    seeded()
    trainer.run()
    assert drawn() == expected


def test_it_does_so_when_a_training_fails(parts: Any, network: Any) -> None:
    class Failing(Augmented):
        def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            return {"total_loss": batch_preds.sum() * float("nan")}

    seeded()
    expected = drawn()
    seeded()
    with pytest.raises(NonFiniteLossError):
        Failing(**parts(network=network(dropout=0.5))).run()
    assert drawn() == expected


def test_the_seed_decides_and_without_one_the_program_does(parts: Any, network: Any, loader: Any) -> None:
    def history(seed: int | None, program: int) -> list[dict[str, float]]:
        seeded(program)
        given = parts(network=network(dropout=0.5), train_loader=loader(shuffle=True))
        return Augmented(**given, seed=seed).run().history

    assert history(7, 1) == history(7, 2) != history(8, 2)
    assert history(None, 1) == history(None, 1) != history(None, 2)
