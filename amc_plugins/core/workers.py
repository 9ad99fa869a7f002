"""Scoring candidates in processes, through joblib: its own, or a cluster that the caller has chosen as joblib's backend.

with joblib.parallel_config(backend="ray"):
    amc.tune(plan, "ga", total=0.5, workers=32, folder="/shared/search")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch

from amc_plugins.compression import Candidate
from amc_plugins.core.errors import SettingsError
from amc_plugins.core.registry import registry

if TYPE_CHECKING:
    from amc_plugins.core.scoring import Judge

__all__ = ["Workers"]

_HELD: dict[str, Any] = {}
"""In a worker: the judge by the path that it was read from; one at a time."""


class Workers:
    """A pool of `count` processes that score. A context; what the processes need travels in one file, read once by each: the
    judge, and the plugins that the running script has registered.

    Args:
        judge: what scores; must pickle (functions may be local ones or lambdas).
        count: of processes.
        folder: where the file goes; machines of a cluster must share it. Default: the system's temporary folder.

    Each process runs torch with its share of this process's threads. Scores are the same bits as with one worker as long as the
    number of threads per process is (set OMP_NUM_THREADS=1 to be sure).

    Raises:
        SettingsError: the judge does not pickle.
    """

    def __init__(self, judge: Judge, count: int, folder: str | os.PathLike[str] | None = None) -> None:
        import cloudpickle

        try:
            # in one file, so that a layer's class of the script and what handles it stay the same class
            self._bytes = cloudpickle.dumps((registry().registered(), judge))
        except Exception as error:  # pickling runs foreign code, which may raise anything
            raise SettingsError(
                f"the plan or its evaluation cannot be sent to other processes: {error}", hint="leave `workers` at 1"
            ) from error
        self._count = count
        self._folder = folder
        self._threads = max(1, torch.get_num_threads() // count)
        self._stack = ExitStack()
        self._path = ""
        self._pool: Any = None

    def __enter__(self) -> Self:
        from joblib import Parallel
        from joblib.parallel import get_active_backend

        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix=".workers-", dir=self._folder))
        path = Path(folder) / "judge.pickle"
        path.write_bytes(self._bytes)
        self._bytes, self._path = b"", str(path)
        backend, _ = get_active_backend()
        # some backends (Ray's) cannot hand over one score as soon as it is known: they come round by round
        streams = bool(getattr(backend, "supports_return_generator", False))
        parallel = Parallel(n_jobs=self._count, return_as="generator_unordered" if streams else "list", batch_size=1)
        self._pool = self._stack.enter_context(parallel)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, dict[str, float]]]:
        """Scores of all candidates, in any order, each as soon as it is known where the backend can do that."""
        from joblib import delayed

        jobs = [delayed(_scored)(self._path, self._threads, dict(candidate)) for candidate in candidates]
        for values, objectives in self._pool(jobs):
            yield Candidate(values), objectives


def _scored(path: str, threads: int, values: dict[str, int]) -> tuple[dict[str, int], dict[str, float]]:
    import cloudpickle

    if path not in _HELD:
        _HELD.clear()
        torch.set_num_threads(threads)
        registered, _HELD[path] = cloudpickle.loads(Path(path).read_bytes())
        known = [spec for spec, _ in registry().registered()]  # threads share the registry
        for spec, target in registered:
            if spec not in known:
                registry().register(spec, target)
    return values, _HELD[path](Candidate(values))
