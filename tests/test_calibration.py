"""Calibration data: bounded, repeatable, the same whatever the loader's workers, clear about what it cannot use."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from amc_plugins.compression import Calibration
from amc_plugins.core.engine import compress
from amc_plugins.core.errors import SettingsError
from amc_plugins.graph import capture
from tests.networks import SmallResNet, randomized

IMAGES = torch.arange(100.0)[:, None, None, None].expand(100, 3, 4, 4).contiguous()
LABELS = torch.arange(100)


def firsts(calibration: Calibration) -> list[float]:
    """The number that each sample of IMAGES holds."""
    return [float(value) for (x,) in calibration for value in x[:, 0, 0, 0]]


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        list(IMAGES.split(10)),
        [(x, y) for x, y in zip(IMAGES.split(7), LABELS.split(7), strict=True)],
        [[x, {"label": 0}] for x in IMAGES.split(30)],
        [{"image": x, "label": 0} for x in IMAGES.split(30)],
        [((x,), 0) for x in IMAGES.split(50)],
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16),
    ],
    ids=["tensor", "tensors", "tuples", "lists", "dicts", "nested", "loader"],
)
def test_every_form_gives_the_same_samples(data: Any) -> None:
    calibration = Calibration(data)
    assert len(calibration) == 100
    assert firsts(calibration) == list(range(100))
    assert firsts(calibration) == list(range(100))  # and again


def test_a_generator_is_read_once_and_only_as_far_as_needed() -> None:
    read: list[int] = []

    def batches() -> Iterator[Tensor]:
        for index in range(10):
            read.append(index)
            yield IMAGES[index * 10 : index * 10 + 10]

    calibration = Calibration(batches(), samples=25)
    assert read == [0, 1, 2]
    assert firsts(calibration) == firsts(calibration) == list(range(25))


def test_the_ratio_counts_samples_of_the_set() -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16, shuffle=True)
    assert len(Calibration(loader, trainset_ratio=0.3)) == 30
    assert len(Calibration(list(IMAGES.split(20)), trainset_ratio=0.5)) == 50
    assert len(Calibration.of(Calibration(IMAGES), trainset_ratio=0.25)) == 25
    with pytest.raises(SettingsError, match="size is known"):
        Calibration(iter([IMAGES]), trainset_ratio=0.5)


class Augmented(Dataset[Tensor]):
    """Random transforms by all three global generators."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        noise = float(torch.rand(())) + random.random() + float(np.random.rand())
        return torch.full((3,), index + noise)


def test_workers_and_global_state_change_nothing() -> None:
    plain = Calibration(DataLoader(Augmented(), batch_size=8, shuffle=True), seed=3)
    torch.manual_seed(11)
    random.seed(11)
    np.random.seed(11)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    generator = torch.Generator().manual_seed(5)
    own = generator.get_state()
    loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=1, generator=generator)
    parallel = Calibration(loader, seed=3)
    assert all(torch.equal(a, b) for (a,), (b,) in zip(plain, parallel, strict=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # type: ignore[index]
    assert torch.equal(generator.get_state(), own)
    other = Calibration(loader, seed=4)
    assert not all(torch.equal(a, b) for (a,), (b,) in zip(plain, other, strict=True))


class Noisy(Dataset[Tensor]):
    """Images with random transforms."""

    def __len__(self) -> int:
        return 128

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(3, 8, 8) * random.random() + float(np.random.rand())


@pytest.mark.parametrize("method", ["pruning", "lowrank", "mixed"])
def test_a_compression_has_the_same_bits_whatever_the_number_of_workers(method: str) -> None:
    network = capture(randomized(SmallResNet()), torch.zeros(2, 3, 8, 8))
    loaders = [DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=workers) for workers in (0, 1, 2)]
    results = [compress(network, method, calibration=loader, total=0.4, seed=5) for loader in loaders]
    states = [one.network.state_dict() for one in results]
    for one in states[1:]:
        assert one.keys() == states[0].keys() and all(torch.equal(one[name], states[0][name]) for name in one)


def test_a_sorted_set_is_sampled_all_over() -> None:
    chosen = firsts(Calibration(DataLoader(TensorDataset(IMAGES), batch_size=10), samples=20))
    assert len(set(chosen)) == 20
    assert max(chosen) > 70 and min(chosen) < 30


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


def test_iterable_datasets_and_unbatched_loaders() -> None:
    assert firsts(Calibration(DataLoader(Stream(), batch_size=32, num_workers=1), samples=50)) == list(range(50))
    unbatched = DataLoader(list(IMAGES.split(25)), batch_size=None)  # type: ignore[arg-type]
    assert firsts(Calibration(unbatched)) == list(range(100))
    assert len(Calibration(unbatched, trainset_ratio=0.5)) == 50


def test_subset_is_spread_evenly_and_pickles_without_the_data() -> None:
    calibration = Calibration(DataLoader(TensorDataset(IMAGES, LABELS), batch_size=10)).subset(10)
    assert firsts(calibration) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    dumped = pickle.dumps(calibration)
    assert len(dumped) < 4000
    assert firsts(pickle.loads(dumped)) == firsts(calibration)


def test_sizes_may_differ_between_batches() -> None:
    calibration = Calibration([torch.zeros(3, 1, 8, 8), torch.zeros(2, 1, 6, 6), torch.zeros(4, 1, 6, 6)])
    assert [tuple(x.shape) for (x,) in calibration] == [(3, 1, 8, 8), (6, 1, 6, 6)]
    assert [tuple(x.shape) for (x,) in calibration.subset(3)] == [(1, 1, 8, 8), (2, 1, 6, 6)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "empty"),
        (iter(()), "empty"),
        (5, "iterable of batches"),
        ("images", "iterable of batches"),
        ({"x": IMAGES}, "iterable of batches"),
        (["a"], "starts with a str"),
        ([(None, IMAGES)], "starts with a NoneType"),
        ([torch.tensor(1.0)], "expected \\(N"),
        ([torch.full((2, 3), float("nan"))], "not finite"),
        ([((torch.zeros(2, 1), torch.zeros(3, 1)), 0)], "2 and 3 samples"),
        (torch.zeros(5), "stack of samples"),
    ],
)
def test_what_cannot_be_used_is_named(data: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Calibration(data)


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5])
def test_a_ratio_outside_its_range(ratio: float) -> None:
    with pytest.raises(SettingsError, match="trainset_ratio"):
        Calibration(IMAGES, trainset_ratio=ratio)


def test_the_network_gets_its_dtype_and_its_rank() -> None:
    network = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).double(), torch.rand(2, 3, 4, 4, dtype=torch.float64))
    (inputs,) = Calibration([IMAGES]).chunks(network)
    assert inputs[0].dtype == torch.float64
    with pytest.raises(SettingsError, match="dimensions") as caught:
        list(Calibration([torch.zeros(3, 4, 4)]).chunks(network))
    assert caught.value.hint is not None and "batch" in caught.value.hint
    with pytest.raises(SettingsError, match="takes 1 input tensors"):
        list(Calibration([((IMAGES, IMAGES), 0)]).chunks(network))


def test_inputs_of_another_shape_are_refused_in_words_where_the_network_does_not_run_on_them() -> None:
    """Another image size is fine for a network without a fixed layer; another number of channels never is."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    fixed = capture(head, torch.rand(2, 3, 8, 8))
    for data, got in ((torch.rand(4, 3, 9, 9), r"\(N, 3, 9, 9\)"), (torch.rand(4, 1, 8, 8), r"\(N, 1, 8, 8\)")):
        with pytest.raises(SettingsError, match=rf"inputs of shape {got}, .* captured with \(N, 3, 8, 8\)") as caught:
            compress(fixed, "pruning", calibration=[data], total=0.3)
        assert "capture the network with an example" in str(caught.value.hint)
    free = capture(head[:2], torch.rand(2, 3, 8, 8))
    chunks = list(Calibration([torch.rand(4, 3, 8, 8), torch.rand(4, 3, 12, 10)]).chunks(free))
    assert [tuple(one[0].shape[2:]) for one in chunks] == [(8, 8), (12, 10)]
