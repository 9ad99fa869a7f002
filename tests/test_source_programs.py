"""The page's program of section 4 (Code-2), and the classes that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.errors import SettingsError
from amc_plugins.source_system import ChannelPruning, ChannelPrunning, LowRankDecomposition, LowRankDecompostion
from tests.networks import SmallResNet, randomized

PROGRAM = Path(__file__).resolve().parent.parent / "examples" / "source_programs" / "code2.py"


@pytest.mark.needs("amc-training")  # the program takes its images from there
@pytest.mark.parametrize("algorithm", ["lowrankdecomposition", "channelprunning"])
def test_the_pages_program_runs(algorithm: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), algorithm, "--verbose", "--checkpoint_folder", "out", "--compress_draw_graph"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Using {'Low-Rank' if algorithm.startswith('low') else 'Channel Prunning'}" in done.stdout
    removed = re.search(r"^MACs (\d+) -> (\d+): ", done.stderr, re.MULTILINE)
    accuracy = re.search(r"^accuracy on valloader: ([\d.]+) -> ([\d.]+)$", done.stderr, re.MULTILINE)
    assert removed is not None and accuracy is not None, done.stderr
    network = amc.load(tmp_path / "out" / "compressed_net.pkl")
    assert amc.profile(network).total_macs == int(removed[2]) < 0.55 * int(removed[1])
    assert float(accuracy[1]) > 0.9 and float(accuracy[2]) > 0.5
    assert "<html" in (tmp_path / "out" / "compressed_net.html").read_text()


PAGE = "6a9e0e8ff0572f9972d74bf698c78fef5ccea0eac12398819d267f0212be3e7f"
"""SHA-256 of the 44 lines of the page's Code-2, with runs of white space as one space."""


def test_the_program_is_the_pages_one() -> None:
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    program = [" ".join(line.split()) for line in lines[lines.index("if compress_algorithm=='lowrankdecomposition':") :]]
    assert len(program) == 44
    assert sha256("\n".join(program).encode()).hexdigest() == PAGE


# --- the classes ---


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return randomized(SmallResNet())


@pytest.fixture(scope="module")
def loader() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(64, 3, 8, 8, generator=generator), torch.zeros(64, dtype=torch.long)) for _ in range(3)]


def test_accuracy_first(net: nn.Module, loader: Any) -> None:
    """The ratio is the most to remove; the labels of `valloader` decide how much of it is."""
    with torch.no_grad():
        scores = [(images, net(images)) for images, _ in loader]
    keywords: dict[str, Any] = {"compress_ratio": 0.6, "accuracy_first": True, "accuracy_threshold": 0.9}
    ca = ChannelPruning(net, loader, [(images, one.argmax(1)) for images, one in scores], **keywords)
    ca.compress()
    most = amc.compress(ca.origin_net, "pruning", calibration=loader, ratio=0.6)
    assert ca.result.candidate == most.candidate  # these outputs keep their order whatever is removed
    wrong = ChannelPruning(net, loader, [(images, one.argmin(1)) for images, one in scores], **keywords)
    with pytest.raises(amc.AmcError, match=r"at or above 0\.9, and that of the network itself is 0"):
        wrong.compress()


def test_both_spellings() -> None:
    assert LowRankDecomposition is LowRankDecompostion and ChannelPruning is ChannelPrunning


def test_it_is_amc_compress(net: nn.Module, loader: Any, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    folder = tmp_path / "out"
    ca = ChannelPruning(net, loader, compress_ratio={"*": 0.3}, trainset_ratio=0.5, checkpointfolder=folder, device="cpu")
    with pytest.raises(amc.AmcError, match="no compressed network yet") as caught:
        _ = ca.compressed_net
    assert caught.value.hint == "call compress() first"
    ca.compress()
    direct = amc.compress(ca.origin_net, "pruning", calibration=loader, ratios={"*": 0.3}, trainset_ratio=0.5)
    ours, theirs = ca.compressed_net.state_dict(), direct.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert (folder / "compressed_net.pkl").is_file() and (folder / "pruning.json").is_file()


def test_ratios_for_each_convolution(net: nn.Module, loader: Any) -> None:
    shares = [0.0, 0.5, 0.0, 0.3, 0.3, 0.0, 0.6, 0.0]
    ca = LowRankDecompostion(net, loader, compress_ratio=shares)
    ca.compress()
    removed = {one.name: 1 - one.macs_after / one.macs_before for one in ca.result.layers}
    names = [name for name in ca.origin_net.layer_names if isinstance(ca.origin_net.layer(name), nn.Conv2d)]
    for name, share in zip(names, shares, strict=True):
        assert share <= removed[name] < share + 0.25, name
        assert share > 0 or removed[name] == 0
    with pytest.raises(SettingsError, match=r"`compress_ratio` has 2 numbers, and the network has 8 convolutions"):
        LowRankDecompostion(net, loader, compress_ratio=[0.5, 0.5])


def test_a_penalty_means_the_lasso_path(net: nn.Module, loader: Any) -> None:
    ca = ChannelPrunning(net, loader, compress_ratio=0.5, lars_alpha_init=1e-6)
    ca.compress()
    direct = amc.compress(ca.origin_net, "pruning", calibration=loader, ratio=0.5, selection="lasso", lars_alpha_init=1e-6)
    assert ca.result.kept == direct.kept


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"accuracy_first": True, "accuracy_threshold": 0.9}, "`accuracy_first` needs a `valloader`"),
        ({"accuracy_threshold": 0.9}, "`accuracy_threshold` has no meaning without `accuracy_first=True`"),
        ({"trainset_ratio": 0.0}, "trainset_ratio: input should be greater than 0"),
        ({"drawgraph": True}, "`drawgraph` needs a `checkpointfolder`"),
        ({"compress_ration": 0.5}, "compress_ration: unknown name; did you mean `compress_ratio`"),
    ],
)
def test_what_is_refused_on_construction(net: nn.Module, loader: Any, keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ChannelPrunning(origin_net=net, trainloader=loader, valloader=None, **keywords)
