"""The random state of a training, kept apart from the program's own.

Dropout, augmentation and unseeded loaders draw from global generators (torch's, `random`, NumPy's legacy one). A training
borrows them: it starts them from its seed, may save and restore their state, and puts the program's state back when it
ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

from amc_training._errors import TrainingError

__all__ = ["isolated", "loader_generators", "peek", "restore", "state"]


@contextmanager
def isolated(seed: int | None, device: torch.device) -> Iterator[None]:
    """Inside, the global generators belong to the training: started from `seed`, or going on from where they are if it is None.

    Whatever is drawn inside, they are as before when the block ends, also with an exception.
    """
    before = state(device)
    try:
        if seed is not None:
            _start(seed, device)
        yield
    finally:
        restore(before, device)


def state(device: torch.device) -> dict[str, Any]:
    """The global generators, of an accelerator only that of `device`. Tensors, numbers, tuples: `weights_only` loads them."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy_state = (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), float(gauss))
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy_state}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(*_arguments(device))
    return states


def restore(states: dict[str, Any], device: torch.device) -> None:
    """Put back what `state` gave. A state without this accelerator's generator (saved elsewhere) leaves that one alone."""
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    if device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], *_arguments(device))


def loader_generators(loaders: Iterable[Any]) -> list[torch.Generator]:
    """The generators that loaders and their samplers own, each once, in a fixed order: what decides the next shuffle."""
    found: list[torch.Generator] = []
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        for owner in (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator) and all(generator is not other for other in found):
                found.append(generator)
    return found


def peek(loader: Iterable[Any], batches: int) -> list[Any]:
    """The first batches of a loader. No generator moves: what follows is as if nobody had looked.

    Raises:
        TrainingError: the loader can be read only once.
    """
    if isinstance(loader, Iterator):
        raise TrainingError(
            f"the training loader is a {type(loader).__name__}, which can be read only once, and its first batches are needed "
            "before the training",
            hint="give an iterable that starts again, for example a DataLoader or a list of batches",
        )
    generators = loader_generators([loader])
    states = [generator.get_state() for generator in generators]
    try:
        with isolated(None, torch.device("cpu")):
            return list(islice(loader, batches))
    finally:
        for generator, before in zip(generators, states, strict=True):
            generator.set_state(before)


def _start(seed: int, device: torch.device) -> None:
    # Not torch.manual_seed: it would seed every accelerator, also those whose state is not put back.
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        if device.type == "cuda":
            with torch.cuda.device(device):
                module.manual_seed(seed)
        else:
            module.manual_seed(seed)


def _arguments(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)
