"""A user's files, for tests of the commands and of recipes: a network, its data, an evaluation, a recipe, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

import amc_plugins as amc
from amc_plugins.demo.data import images
from amc_plugins.demo.network import fit
from amc_plugins.demo.network import small_resnet as trained_form

__all__ = ["Command", "recipe", "write_files"]

Command = Callable[..., tuple[int, str, str]]
"""Runs one command line: exit code, stdout, stderr."""


MODEL = '''
"""A user's network."""
import torch
from torch import nn
from amc_plugins.demo.network import SmallResNet

class Net(SmallResNet):
    """A class that exists in this file only."""

def net(width=4):
    return Net(width)

def odd():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x).mean((1, 2, 3))
    return Odd()

def table():
    return {"not": "a module"}
'''

DATA = '''
"""A user's data: small parts of the digits."""
from torch.utils.data import DataLoader, TensorDataset
import torch
from amc_plugins.demo.data import images

def _part(name, count, shuffle=False):
    pixels, labels = images(name)
    return DataLoader(TensorDataset(pixels[:count], labels[:count]), 64, shuffle=shuffle,
                      generator=torch.Generator().manual_seed(0))

def train(count=384):
    return _part("train", count, shuffle=True)

def validation(count=200):
    return _part("validation", min(count, 200))

def test(count=200):
    return _part("test", min(count, 200))

def inputs():
    return [images("train")[0][:512]]
'''

SCORE = '''
"""An evaluation, and one that the user stops with Ctrl-C."""
import os
from collections.abc import Callable
from pathlib import Path

import torch

import amc_plugins as amc
from amc_plugins.demo.data import images

def accuracy(network):
    pixels, labels = images("validation")
    with torch.no_grad():
        return (network.eval()(pixels).argmax(1) == labels).float().mean().item()

def stopped(network):
    calls = Path("calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    if len(calls.read_text()) == 3:
        raise KeyboardInterrupt
    return accuracy(network)

def wrong(network):
    return network.no_such_attribute
'''

_RECIPE = """
title = "A test"
folder = "{folder}"

[network]
source = "model.py:net"
weights = "net.pt"
input = [1, 1, 8, 8]

[data]
calibration = "data.py:inputs"
train = "data.py:train"
validation = "data.py:validation"
test = "data.py:test"
settings = {{}}

[compress]
method = "{method}"
total = 0.4

[train]
method = "supervised"
settings = {{ epochs = 2, learning_rate = 0.02 }}

{more}
"""


def write_files(folder: Path) -> Path:
    """The files, with weights (`net.pt`) that are right for some nine images of ten; captured, the network is `net.pkl`."""
    for name, text in (("model.py", MODEL), ("data.py", DATA), ("score.py", SCORE)):
        (folder / name).write_text(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = trained_form(4)
        pixels, labels = images("train")
        batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pixels, labels), 64)
        fit(network, batches, epochs=12)
    torch.save(network.state_dict(), folder / "net.pt")
    amc.capture(network, torch.zeros(1, 1, 8, 8)).save(pkl=folder / "net.pkl")
    return folder


def recipe(folder: Path, name: str = "recipe.toml", *, method: str = "lowrank", run: str = "run", more: str = "") -> Path:
    """A recipe in `folder`; `more` is put at its end."""
    path = folder / name
    text = _RECIPE.format(method=method, folder=run, more=more).replace("settings = {}\n\n[compress]", "[compress]")
    path.write_text(text)
    return path
