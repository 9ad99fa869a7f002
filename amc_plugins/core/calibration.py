"""`Calibration`: a bounded, repeatable set of inputs, taken once from whatever the user calls their data."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from amc_plugins.core.errors import SettingsError

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["DEFAULT_SAMPLES", "MOST_BYTES", "Calibration", "own_randomness"]

DEFAULT_SAMPLES = 4096
MOST_BYTES = 2 << 30
_CHUNK_ELEMENTS = 1 << 22
"""Input elements of one forward: 27 images of 3 x 224 x 224, or the largest chunk of small ones."""
_CHUNK_SAMPLES = 256

_log = logging.getLogger(__name__)
_Group = tuple[Tensor, ...]


class Calibration:
    """The first samples of `data`, stored on the CPU; iterating again gives the same samples in the same order.

    It holds no reference to `data`, so it pickles. Iterating yields one tuple of input tensors per chunk of samples, each
    (N, ...). Loading is done in this process and under a seed of its own: the samples do not depend on a loader's workers
    nor on the global random state, which is left as it was. A loader in dataset order is sampled at random over the whole
    set, since sets are often sorted by class.

    Args:
        data: an iterable of tensors `(N, ...)`, or of tuples, lists or dicts whose first item is the input: a tensor, or
            a tuple of tensors for a network with several inputs. One tensor is taken as a stack of samples. Labels are not
            used.
        samples: at most so many samples; default 4096, and never more than 2 GiB of them.
        trainset_ratio: the share of `data` to use; with less than 1 the size of `data` must be known (it has a length).
        seed: of the choice of samples and of random transforms.

    Raises:
        SettingsError: `data` is empty or holds something else; the message says what was found.
    """

    def __init__(self, data: Any, *, samples: int | None = None, trainset_ratio: float = 1.0, seed: int = 0) -> None:
        if not 0.0 < trainset_ratio <= 1.0:
            raise SettingsError(
                f"`trainset_ratio` is the share of the data to use, above 0 and at most 1; given was {trainset_ratio!r}"
            )
        if samples is not None and samples < 1:
            raise SettingsError(f"`samples` must be at least 1; given was {samples!r}")
        with own_randomness(seed, getattr(data, "generator", None)):
            self._groups = _grouped(_collect(data, samples, trainset_ratio))

    @classmethod
    def of(cls, data: Any, *, samples: int | None = None, trainset_ratio: float = 1.0, seed: int = 0) -> Calibration:
        """`data` itself if it is a `Calibration` already, else one made from it."""
        if not isinstance(data, Calibration):
            return cls(data, samples=samples, trainset_ratio=trainset_ratio, seed=seed)
        wanted = math.ceil(trainset_ratio * min(len(data), samples or len(data)))
        return data if wanted >= len(data) else data.subset(wanted)

    def __len__(self) -> int:
        """The number of samples."""
        return sum(len(group[0]) for group in self._groups)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for group in self._groups:
            step = _chunk(group)
            for start in range(0, len(group[0]), step):
                yield tuple(one[start : start + step] for one in group)

    def __repr__(self) -> str:
        shapes = ", ".join(" and ".join(str(tuple(one.shape)) for one in group) for group in self._groups)
        return f"Calibration({len(self)} samples: {shapes})"

    @property
    def bytes(self) -> int:
        return sum(one.nbytes for group in self._groups for one in group)

    def subset(self, samples: int) -> Calibration:
        """At most `samples` of these samples, spread evenly over them: what a plan keeps for its refit."""
        total = len(self)
        if samples >= total:
            return self
        return self._chosen(torch.div(torch.arange(samples) * total, samples, rounding_mode="floor"))

    def split(self, samples: int) -> tuple[Calibration, Calibration | None]:
        """`subset(samples)`, and the samples that are not in it (None when there are none)."""
        total = len(self)
        if samples >= total:
            return self, None
        others = torch.ones(total, dtype=torch.bool)
        others[torch.div(torch.arange(samples) * total, samples, rounding_mode="floor")] = False
        return self.subset(samples), self._chosen(others.nonzero().flatten())

    def _chosen(self, chosen: Tensor) -> Calibration:
        groups: list[_Group] = []
        start = 0
        for group in self._groups:
            inside = chosen[(chosen >= start) & (chosen < start + len(group[0]))] - start
            if len(inside):
                groups.append(tuple(one[inside] for one in group))
            start += len(group[0])
        made = object.__new__(Calibration)
        made._groups = groups
        return made

    def chunks(self, network: ReconstructedNetwork) -> Iterator[tuple[Any, ...]]:
        """The inputs as `network` takes them: on its device, floating inputs in its dtype, in the structure of its signature.

        Raises:
            SettingsError: the number of inputs or their rank is not what the network was captured with, or the network does
                not run on inputs of their shape.
        """
        specs = network.graph.inputs
        reference = next((one for one in network.state_dict().values() if one.is_floating_point()), None)
        flat = len(network.graph.signature) != len(specs)
        known: list[tuple[int | None, ...]] = [tuple(spec.shape[1:]) for spec in specs]
        for inputs in self:
            if len(inputs) != len(specs):
                raise SettingsError(
                    f"the network takes {len(specs)} input tensors ({', '.join(spec.name for spec in specs)}), "
                    f"the calibration data gives {len(inputs)}",
                    hint="each item's first element must be the input: a tensor, or a tuple of tensors for several inputs",
                )
            for spec, given in zip(specs, inputs, strict=True):
                if given.dim() != len(spec.shape):
                    raise SettingsError(
                        f"input `{spec.name}` has {len(spec.shape)} dimensions {_shown(spec.shape)}, "
                        f"the calibration data gives {tuple(given.shape)}",
                        hint="the first dimension of every tensor is the batch" if given.dim() == len(spec.shape) - 1 else None,
                    )
            moved = [_moved(given, reference) for given in inputs]
            made = tuple(_structured(network, moved)) if flat else tuple(moved)
            shapes: list[tuple[int | None, ...]] = [tuple(given.shape[1:]) for given in inputs]
            if shapes != known:
                _check_runs(network, made, inputs)
                known = shapes
            yield made


def _check_runs(network: ReconstructedNetwork, made: tuple[Any, ...], inputs: _Group) -> None:
    """Refuse inputs of another shape than the example's, unless the network runs on them: many do, by design."""
    from amc_plugins.core.stepping import evaluating

    try:
        with torch.no_grad(), evaluating(network):
            network(*made)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        got = " and ".join(_shown((None, *one.shape[1:])) for one in inputs)
        expected = " and ".join(_shown(spec.shape) for spec in network.graph.inputs)
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"the data gives inputs of shape {got}, the network was captured with {expected} and does not run on them: "
            f"{reason}",
            hint="bring the data to that shape, or capture the network with an example that has the shape of the data",
        ) from error


def _shown(shape: Iterable[int | None]) -> str:
    return "(" + ", ".join("N" if dim is None else str(dim) for dim in shape) + ")"


def _moved(given: Tensor, reference: Tensor | None) -> Tensor:
    if reference is None:
        return given
    return given.to(reference.device, reference.dtype if given.is_floating_point() else given.dtype)


def _structured(network: ReconstructedNetwork, flat: list[Tensor]) -> Iterator[Any]:
    from amc_plugins.core.document import map_tree

    by_name = {spec.name: one for spec, one in zip(network.graph.inputs, flat, strict=True)}
    for tree in network.graph.signature:
        yield map_tree(tree, by_name.__getitem__)


def _chunk(group: _Group) -> int:
    elements = sum(one[0].numel() for one in group)
    return max(1, min(_CHUNK_SAMPLES, _CHUNK_ELEMENTS // max(1, elements)))


# --- taking the samples --------------------------------------------------------------------------------------------------


def _collect(data: Any, samples: int | None, ratio: float) -> list[_Group]:
    """Batches of the data until the bound is reached; the last one cut."""
    if not isinstance(data, Iterable):
        raise SettingsError(f"calibration data must be an iterable of batches, given was {type(data).__name__}")
    if isinstance(data, str | bytes | Mapping):
        raise SettingsError(f"calibration data must be an iterable of batches, given was a {type(data).__name__}")
    size = _size(data)
    if ratio < 1.0 and size is None and not isinstance(data, Sized):
        raise SettingsError(
            f"`trainset_ratio` = {ratio:g} needs data whose size is known; a {type(data).__name__} has no length",
            hint="give `samples` instead, or a loader",
        )
    bound = samples or DEFAULT_SAMPLES
    if size is not None:
        bound = min(bound, max(1, math.ceil(ratio * size)))
    taken: list[_Group] = []
    count = filled = 0
    for number, item in enumerate(_batches(data, bound)):
        inputs = _inputs_of(item, number)
        if number == 0 and size is None and ratio < 1.0:
            bound = min(bound, max(1, math.ceil(ratio * len(cast("Sized", data)) * len(inputs[0]))))
        inputs = tuple(one[: bound - count].detach().to("cpu", copy=True) for one in inputs)
        taken.append(inputs)
        count += len(inputs[0])
        filled += sum(one.nbytes for one in inputs)
        if count >= bound:
            break
        if filled >= MOST_BYTES:
            _log.warning("calibration data cut at %d samples, %.1f GiB", count, filled / 2**30)
            break
    if not count:
        raise SettingsError(
            "the calibration data is empty: it gave no batch", hint="a generator can be read only once; give a loader or a list"
        )
    return taken


def _size(data: Any) -> int | None:
    """The number of samples, if it can be known without reading them."""
    if isinstance(data, Tensor):
        return len(data) if data.dim() else None
    if isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset):
        sampler = data.sampler if data.batch_size is not None else None
        return len(sampler) if isinstance(sampler, Sized) else None
    return None


def _batches(data: Any, bound: int) -> Iterable[Any]:
    if isinstance(data, Tensor):
        if data.dim() < 2:
            raise SettingsError(
                f"a tensor as calibration data must be a stack of samples (N, ...), given was shape {tuple(data.shape)}"
            )
        order = torch.arange(len(data)) if bound >= len(data) else torch.randperm(len(data))[:bound].sort().values
        return (data[part.to(data.device)] for part in order.split(_CHUNK_SAMPLES))
    if isinstance(data, DataLoader) and type(data).__iter__ is DataLoader.__iter__:
        return _in_process(data, bound)
    return cast("Iterable[Any]", data)


def _in_process(loader: DataLoader[Any], bound: int) -> DataLoader[Any]:
    """The same loader without workers, and over a random subset if it reads more samples than are wanted in dataset order."""
    dataset = loader.dataset
    common: dict[str, Any] = {"num_workers": 0, "collate_fn": loader.collate_fn}
    if isinstance(dataset, IterableDataset):
        return DataLoader(dataset, batch_size=loader.batch_size, drop_last=loader.drop_last, **common)
    if loader.batch_size is not None and type(loader.sampler) is SequentialSampler and bound < len(loader.sampler):
        chosen = torch.randperm(len(loader.sampler))[:bound].sort().values.tolist()
        return DataLoader(Subset(dataset, chosen), batch_size=loader.batch_size, **common)
    if loader.batch_size is not None and type(loader.sampler) is RandomSampler and not loader.sampler.replacement:
        return DataLoader(dataset, batch_size=loader.batch_size, shuffle=True, **common)
    if loader.batch_sampler is not None:
        return DataLoader(dataset, batch_sampler=loader.batch_sampler, **common)
    return DataLoader(dataset, batch_size=None, sampler=loader.sampler, **common)


def _inputs_of(item: Any, number: int) -> _Group:
    """The input tensors of one item of the data."""
    first = item
    if isinstance(item, Mapping):
        first = next(iter(item.values()), None)
    elif isinstance(item, tuple | list):
        first = item[0] if item else None
    inputs = tuple(first) if isinstance(first, tuple | list) else (first,)
    for one in inputs:
        if not isinstance(one, Tensor):
            kind = type(one).__name__
            raise SettingsError(
                f"item {number} of the calibration data ({type(item).__name__}) starts with a {kind}, not with an input tensor",
                hint="items must be tensors, or tuples, lists or dicts whose first element is the input",
            )
        if one.dim() == 0 or one.numel() == 0:
            raise SettingsError(
                f"item {number} of the calibration data has an input of shape {tuple(one.shape)}; expected (N, ...)"
            )
        if len(one) != len(inputs[0]):
            raise SettingsError(
                f"item {number} of the calibration data has inputs of {len(inputs[0])} and {len(one)} samples",
                hint="the first dimension of every input tensor is the batch",
            )
        if one.is_floating_point() and not bool(torch.isfinite(one).all()):
            raise SettingsError(f"item {number} of the calibration data holds values that are not finite")
    return inputs


def _grouped(batches: list[_Group]) -> list[_Group]:
    """Neighbouring batches of equal sample shapes and dtypes joined: chunks do not depend on the loader's batch size."""
    runs: list[list[_Group]] = []
    for batch in batches:
        kind = [(one.shape[1:], one.dtype) for one in batch]
        if runs and kind == [(one.shape[1:], one.dtype) for one in runs[-1][0]]:
            runs[-1].append(batch)
        else:
            runs.append([batch])
    return [tuple(torch.cat(parts) for parts in zip(*run, strict=True)) for run in runs]


@contextmanager
def own_randomness(seed: int, generator: Any) -> Iterator[None]:
    """Run under `seed`; the global states of torch, numpy and random, and a loader's own generator, are put back afterwards."""
    python, numeric = random.getstate(), np.random.get_state()
    own = generator.get_state() if isinstance(generator, torch.Generator) else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numeric)
            if own is not None:
                generator.set_state(own)
