"""The environments of the peers and of ONNX Runtime, made on first use below the benchmark's cache.

    python -m benchmarks.peers.environments [torch_pruning aimet onnxruntime]

Each gets the torch of this project's constraints by `pip install torch==...`; where pip would take a build for a GPU, name an
index of CPU builds in `PIP_EXTRA_INDEX_URL`, or a folder with the wheel in `PIP_FIND_LINKS`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.train import cache

__all__ = ["ENVIRONMENTS", "Environment", "methods", "python_of"]

_TORCH = "torch==2.13.0"
_EMPTY_MODULES = ("datasets", "models", "ops", "transforms")


@dataclass(frozen=True)
class Environment:
    module: str
    """Below `benchmarks.peers`; what the environment's Python runs."""
    methods: tuple[str, ...]
    """Compression methods that the module has."""
    needs: tuple[str, ...]
    alone: tuple[str, ...] = ()
    """Installed without what they name as dependencies."""
    without_torchvision: bool = False
    """The package imports torchvision without needing it here: empty modules stand in for it."""


ENVIRONMENTS = {
    "torch_pruning": Environment(
        "torch_pruning_peer",
        ("torch-pruning-l2", "torch-pruning-l2-global"),
        needs=("numpy", "tqdm"),
        alone=("torch-pruning==1.6.1",),
    ),
    "aimet": Environment(
        "aimet_peer",
        ("aimet-channel-pruning", "aimet-spatial-svd"),
        needs=(
            *("Jinja2", "PyYAML", "bokeh>=3.3.0,<=3.6.3", "cvxpy", "holoviews", "hvplot", "jsonschema", "matplotlib"),
            *("networkx", "numpy", "onnx", "onnx_ir", "onnxscript", "osqp", "pandas", "psutil", "safetensors"),
            *("scikit-learn", "scipy", "tensorboard", "tqdm"),
        ),
        alone=("aimet-torch==2.42.0",),
        without_torchvision=True,
    ),
    "onnxruntime": Environment("onnx_latency", (), needs=("numpy", "onnx", "onnxscript", "onnxruntime")),
}


def methods() -> dict[str, str]:
    """Environment by method."""
    return {method: name for name, environment in ENVIRONMENTS.items() for method in environment.methods}


def python_of(name: str) -> Path:
    """The Python of an environment, which is made if it is not there."""
    folder, environment = cache().resolve() / "environments" / name, ENVIRONMENTS[name]
    python, done = folder / "bin" / "python", folder / ".done"
    if done.is_file():
        return python
    print(f"{name}: making an environment in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, _TORCH, *environment.needs], check=True)
    if environment.alone:
        subprocess.run([*install, "--no-deps", *environment.alone], check=True)
    if environment.without_torchvision:
        package = next(folder.glob("lib/python3*/site-packages")) / "torchvision"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(f"from . import {', '.join(_EMPTY_MODULES)}\n", encoding="utf-8")
        for module in _EMPTY_MODULES:
            (package / f"{module}.py").write_text(_STAND_IN, encoding="utf-8")
    done.touch()
    return python


_STAND_IN = '''"""Stands in for torchvision, which aimet-torch imports but does not need here."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
'''


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the environments of the peers and of ONNX Runtime.")
    parser.add_argument("names", nargs="*", default=list(ENVIRONMENTS), metavar="name", help=", ".join(ENVIRONMENTS))
    asked = parser.parse_args()
    os.nice(19)
    for name in asked.names:
        if name not in ENVIRONMENTS:
            parser.error(f"there is no environment `{name}`; there are {', '.join(ENVIRONMENTS)}")
        print(f"{name}: {python_of(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
