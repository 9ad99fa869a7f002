"""Whole pages of documentation while they run: the files and names that they speak of as yours."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import amc_plugins as amc
from amc_plugins.core.registry import reset_registry
from tests.doc_blocks import RUN, SHOWN, Page, blocks, unfenced

__all__ = ["check_fences", "given", "run_page", "yours"]

YOURS = Path(__file__).parent / "fixtures" / "docs"


def yours(folder: Path) -> dict[str, Any]:
    """Put the files of tests/fixtures/docs into a folder, and give the names that README.md speaks of."""
    for one in YOURS.glob("*.*"):
        shutil.copy(one, folder / one.name)
    made, data = runpy.run_path(str(folder / "model.py")), runpy.run_path(str(folder / "data.py"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = made["network"]().eval()
        example = torch.rand(1, 3, 224, 224)
    torch.save(model.state_dict(), folder / "trained.pt")
    return {"model": model, "example": example, "loader": data["train"](), "validation": data["validation"]()}


def given(folder: Path) -> dict[str, Any]:
    """What the README of a distribution takes as yours: names in Python, and files in `folder`."""
    names = yours(folder)
    batches, validation = names["loader"][:2], names["validation"][:1]
    network = amc.capture(names["model"], torch.zeros(1, 3, 32, 32))
    for file in ("model.pkl", "smaller.json", "model.vnmodel"):
        amc.export(network, file.rpartition(".")[2], folder / file)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    return {
        "amc": amc,
        "torch": torch,
        "network": network,
        "loader": [images for images, _ in batches],
        "validation": validation,
        "plan": amc.prepare(network, "pruning", calibration=[batches[0][0]]),
        "train_loader": batches,
        "val_loader": validation,
        "criterion": torch.nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 1e-4),
    }


def check_fences(page: Path) -> None:
    """All code of a page is fenced and says its language; else it would be left out of what runs."""
    assert not unfenced(page)
    for one in blocks(page):
        assert one.language in (*RUN, *SHOWN), f"{one}: `{one.language}` is none of {RUN} and {SHOWN}"


def run_page(page: Path, folder: Path, given: Mapping[str, Any]) -> Page:
    """Run all blocks of a page in a folder; its Python blocks have the names of `given`."""
    before = Path.cwd()
    threads = torch.get_num_threads()
    running = Page(page, folder, given)
    os.chdir(folder)
    try:
        with running.open(), torch.random.fork_rng(devices=[]):
            for block in blocks(page):
                running.run(block)
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
        reset_registry()
    return running
