"""The parts of what is asked of a model. Each is measured, kept and repeated for itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "Part"]

ROOT = Path(__file__).resolve().parents[2]
_HERE = ("benchmarks/zoo/child.py", "benchmarks/zoo/subject.py")
_NETWORKS = ("amc_plugins/*.py", "amc_plugins/core/*.py", "plugins/ops/*/src/**/*.py")


@dataclass(frozen=True)
class Part:
    """Stages that share a limit of time and a fingerprint."""

    module: str
    """Below `benchmarks.zoo`; its `STAGES` are the checks, in order."""
    seconds: int
    """CPU seconds that it may take."""
    measures: tuple[str, ...] = ()
    """Globs of the code that it measures."""
    gigabytes: float = 14.0
    """Memory that its process may have then."""

    def stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = import_module(f"benchmarks.zoo.{self.module}").STAGES
        return stages

    def fingerprint(self) -> str:
        """Of what is measured and of the checks themselves."""
        found = hashlib.sha256()
        for pattern in (*_HERE, f"benchmarks/zoo/{self.module}.py", *self.measures):
            for path in sorted(ROOT.glob(pattern)):
                found.update(path.read_bytes())
        return found.hexdigest()[:12]


PARTS = {
    "amc": Part("checks", 600, (*_NETWORKS, "amc_plugins/testing/*.py")),
    "files": Part("files", 300, (*_NETWORKS, "plugins/archive_export/src/**/*.py", "benchmarks/zoo/loaded.py")),
    "lowrank": Part("decomposition", 300, (*_NETWORKS, "plugins/lowrank/src/**/*.py")),
    "tracers": Part("tracers", 300, _NETWORKS),
    "torch_pruning": Part("peer", 60, gigabytes=12.0),
}
"""By name, in the order in which they run."""
