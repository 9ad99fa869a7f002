"""One model saved by the exporters of this project, and loaded where neither torchvision nor timm can be imported."""

from __future__ import annotations

import os
import tempfile
from multiprocessing.connection import Client
from pathlib import Path

import torch

import amc_plugins as amc
from benchmarks.zoo.loader import ADDRESS
from benchmarks.zoo.subject import Record, Refused, Stage, Subject, last_line, outputs

__all__ = ["STAGES"]

KINDS = ("pkl", "json")


def files(subject: Subject) -> Record:
    """Written as `.pkl` and `.json` and read back by the exporters; then loaded in a process of its own, equal bit for bit."""
    network = subject.network
    inputs = subject.entry.batch(2, seed=3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save({"inputs": list(inputs), "expected": outputs(subject.model, inputs)}, folder / "expected.pt")
        refused = {}
        for kind in KINDS:
            try:
                amc.export(network, kind, folder / f"model.{kind}", verify=False)  # the other process does that
            except amc.AmcError as error:
                refused[kind] = last_line(error)
        sizes = {path.suffix[1:]: path.stat().st_size for path in folder.glob("model.*")}
        with Client(os.environ[ADDRESS], family="AF_UNIX") as loader:
            loader.send([str(folder / f"model.{kind}") for kind in KINDS if kind in sizes])
            loaded: dict[str, str] = loader.recv()
    found = {**loaded, **refused}
    bad = {kind: why for kind, why in found.items() if why != "equal"}
    if wrong := {kind: why for kind, why in bad.items() if why.startswith("differs")}:
        raise AssertionError(f"loaded from a file: {wrong}")
    if bad:
        others = ", ".join(kind for kind in found if kind not in bad) or "none"
        raise Refused(f"{'; '.join(f'.{kind}: {why}' for kind, why in bad.items())} (equal: {others})")
    return {"bytes": sizes}


STAGES: dict[str, Stage] = {"files": files}
