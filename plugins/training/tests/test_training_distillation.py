"""The trainer `distillation`, and `BaseDistiller` in the hands of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training import BaseDistiller, DistillationTrainer, Terms, TrainingError
from amc_training._features import last_features, matched
from amc_training.plugin import DistillationSettings
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

import amc_plugins as amc
from amc_plugins.plugin import SettingsError


def captured(width: int, seed: int = 0) -> amc.ReconstructedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(16 * width, 10),
        )  # fmt: skip
    return amc.capture(net, torch.zeros(2, 1, 8, 8))


@pytest.fixture(scope="module")
def teacher() -> amc.ReconstructedNetwork:
    from amc_training.data import digits

    result = amc.train(captured(16), "supervised", train=digits("train"), epochs=4, learning_rate=0.05)
    assert isinstance(result.network, amc.ReconstructedNetwork)
    return result.network


def trainer(**settings: Any) -> DistillationTrainer:
    return DistillationTrainer(DistillationSettings(**{"epochs": 2, "learning_rate": 0.05, **settings}))


def test_every_term_is_logged_and_the_total_is_their_weighted_sum(teacher: Any, loader: Any) -> None:
    settings = {"hint_layers": ["2"], "attention_layers": ["[23]"], "hint_weight": 0.5, "attention_weight": 10.0, "epochs": 6}
    result = trainer(logits_weight=0.3, label_weight=0.7, **settings).fit(
        captured(4), loader(), loader("validation", 100), teacher=teacher
    )
    for entry in result.history:
        terms = {name: entry[f"train/{name}"] for name in ("logits", "task", "hint", "attention")}
        expected = 0.3 * terms["logits"] + 0.7 * terms["task"] + 0.5 * terms["hint"] + 10.0 * terms["attention"]
        assert entry["train/total_loss"] == pytest.approx(expected, rel=1e-5)
        assert min(terms.values()) > 0
    assert result.metrics["accuracy"] > 0.8
    alone = {"hint": {"hint_layers": ["2"]}, "attention": {"attention_layers": ["[23]"], "hint_layers": []}}
    for term, only in alone.items():
        made = trainer(logits_weight=0.0, label_weight=0.0, epochs=4, **only)
        history = made.fit(captured(4), loader(), teacher=teacher).history
        assert set(history[0]) == {"train/total_loss", f"train/{term}", "learning_rate"}
        assert history[-1][f"train/{term}"] < 0.8 * history[0][f"train/{term}"]
        assert history[0][f"train/{term}"] < 0.5  # of a hint: what the map of least squares leaves of the variance is half of 1


def test_what_is_learnt_from_the_teacher_alone_needs_no_labels(teacher: Any, loader: Any) -> None:
    images = loader(count=400).dataset.tensors[0]
    unlabelled = [(batch,) for batch in images.split(50)]
    student = captured(4)

    def distance(network: nn.Module) -> float:
        network.eval()
        with torch.no_grad():
            return float(functional.kl_div(network(images).log_softmax(1), teacher(images).softmax(1), reduction="batchmean"))

    before = distance(student)
    result = trainer(label_weight=0.0, hint_layers=[], epochs=6).fit(student, unlabelled, teacher=teacher)
    assert distance(result.network) < 0.3 * before
    with pytest.raises(amc.AmcError, match="a batch is tuple of 1"):
        trainer().fit(student, unlabelled, teacher=teacher)


def test_teacher_and_student_are_left_as_they_were(teacher: Any, loader: Any) -> None:
    state = {name: one.clone() for name, one in teacher.state_dict().items()}
    teacher.train()
    result = trainer(hint_layers=["2"], epochs=1).fit(captured(4), loader(), teacher=teacher)
    assert all(torch.equal(one, state[name]) for name, one in teacher.state_dict().items())
    assert teacher.training and not any(module._forward_hooks for module in (*teacher.modules(), *result.network.modules()))
    teacher.eval()


def test_an_interrupted_distillation_resumes_to_the_same_bits(teacher: Any, loader: Any, tmp_path: Path) -> None:
    class Run:
        def __init__(self, folder: Path, stop_after: int | None = None) -> None:
            self.folder, self.stop_after = folder, stop_after

        def epoch_ended(self, epoch: int, metrics: Any) -> None:
            if epoch == self.stop_after:
                raise KeyboardInterrupt

        def artifact_written(self, path: Path) -> None: ...

    def fit(run: Run, resume: bool = False) -> Any:
        made = trainer(hint_layers=["2"], epochs=3)
        batches = loader(shuffle=True), loader("validation", 60)
        return made.fit(captured(4), *batches, seed=2, teacher=teacher, run=run, resume=resume)

    whole = fit(Run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        fit(Run(tmp_path / "stopped", stop_after=2))
    resumed = fit(Run(tmp_path / "stopped"), resume=True)
    assert resumed.history == whole.history  # the learnt map of the hint too
    for name, one in resumed.network.state_dict().items():
        assert torch.equal(one, whole.network.state_dict()[name])


def test_layers_are_matched_by_name_also_where_one_was_decomposed(teacher: Any, loader: Any) -> None:
    wide = amc.capture(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()), torch.zeros(2, 1, 8, 8))
    split = amc.compress(wide, "lowrank", calibration=[torch.randn(64, 1, 8, 8)], total=0.37, scheme="spatial").network
    assert "2.0" in split.layer_names and "2" not in split.layer_names
    assert matched(split, wide, ["2", "*"], "hint_layers") == [("2.1", "2"), ("0", "0"), ("1", "1"), ("3", "3")]
    with pytest.raises(SettingsError, match=r"`convs\.\*` in `hint_layers` matches no layer of the teacher"):
        matched(split, wide, ["convs.*"], "hint_layers")
    amc_removed = amc.capture(nn.Sequential(nn.Conv2d(1, 8, 3)), torch.zeros(2, 1, 8, 8))
    with pytest.raises(SettingsError, match="`1` in `hint_layers` is a layer of the teacher and none of the student"):
        matched(amc_removed, wide, ["1"], "hint_layers")


def test_by_default_the_student_imitates_what_the_last_layer_reads(teacher: Any, loader: Any) -> None:
    assert last_features(teacher, captured(4)) == ["4"]
    assert last_features(teacher, teacher.clone()) == ["4"]
    start = teacher.clone()  # a student that is its teacher already: the map of least squares is the identity
    history = trainer(epochs=1, learning_rate=1e-9).fit(start, loader(), teacher=teacher).history
    assert set(history[0]) == {"train/total_loss", "train/hint", "train/task", "learning_rate"}
    assert history[0]["train/hint"] < 0.02
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    assert last_features(teacher, plain) == last_features(plain, teacher) == []
    history = trainer(epochs=1).fit(plain, loader(), teacher=teacher).history  # then class probabilities
    assert set(history[0]) == {"train/total_loss", "train/logits", "train/task", "learning_rate"}
    assert history[0]["train/total_loss"] == pytest.approx(history[0]["train/logits"] + history[0]["train/task"], rel=1e-5)
    by_name = trainer(epochs=1, hint_layers=["1"]).fit(plain, loader(), teacher=nn.Sequential(*plain)).history
    assert 0 <= by_name[0]["train/hint"] < 0.1  # networks that were not captured, by the paths of their modules
    other = amc.capture(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)), torch.zeros(2, 1, 8, 8))
    assert last_features(teacher, other) == []  # no layer `4`
    tokens = amc.capture(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), torch.zeros(2, 5, 8))
    assert last_features(tokens, tokens) == []  # channels are last


def test_looking_at_the_first_batches_moves_no_generator(teacher: Any, loader: Any) -> None:
    def order_of(trainer_name: str, **options: Any) -> list[Any]:
        seen = []

        class Noting(torch.utils.data.TensorDataset):
            def __getitem__(self, index: Any) -> Any:
                seen.append(index)
                return super().__getitem__(index)

        data = Noting(*loader().dataset.tensors)
        generator = torch.Generator().manual_seed(4)
        batches = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, generator=generator)
        amc.train(captured(4), trainer_name, train=batches, epochs=2, **options)
        return seen[-400:]

    assert order_of("distillation", teacher=teacher) == order_of("quantization") == order_of("supervised")


def test_bad_calls(teacher: Any, loader: Any) -> None:
    with pytest.raises(SettingsError, match="was given none") as caught:
        trainer().fit(captured(4), loader())
    assert "teacher=" in (caught.value.hint or "")
    with pytest.raises(SettingsError, match="learns from labels alone and was given a teacher"):
        amc.train(captured(4), "supervised", train=loader(), teacher=teacher)
    with pytest.raises(ValidationError, match="nothing would be learnt from the teacher"):
        trainer(logits_weight=0.0, hint_layers=[])
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(SettingsError, match="nothing would be learnt from the teacher"):  # no layer is the last
        trainer(logits_weight=0.0).fit(captured(4), loader(), teacher=plain)
    with pytest.raises(SettingsError, match=r"`0` gives \(32, 4, 8, 8\) in the student and \(32, 4, 6, 6\) in the teacher"):
        trainer(hint_layers=["0"]).fit(captured(4), loader(), teacher=plain)
    with pytest.raises(TrainingError, match="can be read only once, and its first batches are needed"):
        trainer(epochs=1).fit(captured(4), iter(loader()), teacher=teacher)
    with pytest.raises(SettingsError, match="there is no batch of them"):
        trainer().fit(captured(4), [], teacher=teacher)


def test_base_distiller_with_steps_of_its_own(teacher: Any, loader: Any) -> None:
    class Mine(BaseDistiller):
        asked = 0

        def get_teacher_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
            type(self).asked += 1
            assert kwargs == {"sharper": 2.0}
            return kwargs["sharper"] * super().get_teacher_batch_preds(batch_train_data)

    student = captured(4)
    terms = Terms(student, teacher, logits=1.0, temperature=2.0)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    mine = Mine(
        loader(), loader("validation", 60), None, student, nn.CrossEntropyLoss(), optimizer, None, 1, "cpu",
        teacher=teacher, terms=terms, label_weight=0.5, accumulation=1,
    )  # fmt: skip
    result = mine.run(sharper=2.0)
    assert Mine.asked == 7
    entry = result.history[0]
    assert entry["train/total_loss"] == pytest.approx(entry["train/logits"] + 0.5 * entry["train/task"], rel=1e-5)
