"""The recipes of the demo. They are written into its folder, to be read, changed and run again with `amc run`."""

from __future__ import annotations

__all__ = ["BRANCHES", "size", "text"]

BRANCHES = {"pruned": "pruning", "decomposed": "lowrank"}
"""Name of the branch and its folder -> compressor."""

_TEXT = """\
# {what}
# Run it again: amc run {name}.toml --set folder=again --set compress.total=0.6
title = "Digits, {name} to half of the multiply-adds"
folder = "{name}"

[network]
source = "amc_plugins.demo.network:small_resnet"
settings = {{ width = {width} }}
weights = "resnet.pt"
input = [1, 1, 8, 8]

[data]
calibration = "amc_plugins.demo.data:calibration"  # what compression is fitted on; needs no labels
train = "amc_plugins.demo.data:train"
validation = "amc_plugins.demo.data:validation"  # chooses the best epoch
test = "amc_plugins.demo.data:test"              # reported, never used for a choice

[compress]
method = "{method}"
total = 0.5  # the share of the multiply-adds to remove

[train]
method = "supervised"
settings = {{ epochs = {epochs}, learning_rate = 0.02 }}

[floor]
accuracy = {floor}  # on the validation images; the run fails below it

[export.pkl]
[export.json]
[export.vnmodel]
"""
_WHAT = {
    "pruned": "Channel pruning: the channels that the layers reading them can do without are taken out.",
    "decomposed": "Low-rank decomposition: layers become chains of two smaller ones.",
}


def size(quick: bool) -> tuple[int, int]:
    """Width of the network and epochs of its training."""
    return (8, 10) if quick else (16, 15)


def text(name: str, method: str, *, quick: bool) -> str:
    """The recipe of a branch."""
    width, _ = size(quick)
    epochs, floor = (2, 0.7) if quick else (8, 0.9)
    return _TEXT.format(what=_WHAT[name], name=name, method=method, width=width, epochs=epochs, floor=floor)
