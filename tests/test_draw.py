"""Drawings say what the profile says, on every network of the tests, and show what a compression changed."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import amc_plugins as amc
from amc_plugins.core.draw import draw_all
from amc_plugins.core.drawing.picture import picture_of
from amc_plugins.core.drawing.theme import LIGHT
from amc_plugins.core.drawing.words import count, fitted, shape_change, share, width
from amc_plugins.core.errors import AmcError, SettingsError
from amc_plugins.graph import ReconstructedNetwork, channel_map, insert_before, remove, replace
from tests.networks import Gated, ShuffleUnit, SkipNet, SmallResNet, TwoInputs, randomized

SVG = "{http://www.w3.org/2000/svg}"
NETWORKS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {
    "residual": (SmallResNet, ((2, 3, 16, 16),)),
    "shuffle": (ShuffleUnit, ((2, 3, 8, 8),)),
    "gated": (Gated, ((2, 3, 8, 8),)),
    "skip": (SkipNet, ((2, 3, 16, 16),)),
    "two inputs": (TwoInputs, ((2, 3, 4, 4), (2, 2, 4, 4))),
}


def captured(name: str) -> ReconstructedNetwork:
    model, shapes = NETWORKS[name]
    torch.manual_seed(0)
    return amc.capture(randomized(model()), *(torch.rand(shape) for shape in shapes))


class Summed(nn.Module):
    """With an operation that no handler covers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logcumsumexp(self.conv(x), 2)


def cards_of(svg: Path) -> dict[str, str]:
    """The tooltip of each card by its first line's name, with the text that the card shows."""
    root = ET.parse(svg).getroot()
    found = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "card":
            title = group.find(f"{SVG}title")
            assert title is not None and title.text
            shown = " | ".join(text.text or "" for text in group.iter(f"{SVG}text"))
            found[title.text.split(" (")[0]] = f"{shown}\n{title.text}"
    return found


def page_data(page: Path) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    data: dict[str, Any] = json.loads(found)
    return data


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_says_what_the_profile_says(name: str, tmp_path: Path) -> None:
    network = captured(name)
    path = amc.draw(network, tmp_path / "net.svg")
    cards = cards_of(path)
    rows = [row for row in amc.profile(network).rows if row.op not in ("vn.size", "vn.int")]
    assert len(cards) == len(rows) + len(network.graph.inputs) + len(re.findall("output", " ".join(cards)))
    for row in rows:
        text = cards[row.name]
        assert row.name in text and row.type in text
        assert "×".join(map(str, row.output_shape)) in text or row.output_shape == ()
        assert f"{count(row.macs)} MACs" in text and f"{count(row.parameters)} params" in text
        assert f"MACs: {row.macs:,}, parameters: {row.parameters:,}" in text
        assert f"source: {row.source}" in text
    for spec in network.graph.inputs:
        assert f"input {spec.name}" in cards[spec.name]


@pytest.mark.parametrize("name", NETWORKS)
def test_wires_follow_the_values(name: str, tmp_path: Path) -> None:
    network = captured(name)
    data = page_data(amc.draw(network, tmp_path / "net.html"))
    index = {card["name"]: number for number, card in enumerate(data["cards"])}
    maker = {value: node.name for node in network.graph.nodes for value in node.outputs}
    maker |= {spec.name: spec.name for spec in network.graph.inputs}
    checked = 0
    for node in network.graph.nodes:
        if node.op in ("vn.size", "vn.int"):
            assert node.name not in index
            continue
        card = data["cards"][index[node.name]]
        sources = [data["wires"][wire][0] for wire in card["from"]]
        assert sources == [index[maker[value]] for value in dict.fromkeys(node.inputs)]
        for source, wire in zip(sources, card["from"], strict=True):
            assert index[node.name] in data["wires"][wire][1] and wire in data["cards"][source]["to"]
            checked += node.inputs.count(data["wires"][wire][2])
    outputs = [number for number, card in enumerate(data["cards"]) if card["about"] == "output"]
    assert outputs and all(len(data["cards"][number]["from"]) == 1 for number in outputs)
    assert sum(len(ends) for _, ends, _ in data["wires"]) == checked + len(outputs)


def test_sizes_are_folded_into_the_parameters_that_use_them(tmp_path: Path) -> None:
    cards = cards_of(amc.draw(captured("shuffle"), tmp_path / "net.svg"))
    assert "shape: [cat_0.size(0), 2, cat_0.size(1) // 2, cat_0.size(2), cat_0.size(3)]" in cards["reshape_0"]
    assert not [name for name in cards if "size" in name or "floordiv" in name]


def test_a_value_whose_size_only_is_used_hangs_on_a_faint_wire() -> None:
    class Like(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x.relu().reshape(y.size(0), y.size(1) * 2)

    network = amc.capture(Like(), torch.rand(2, 4, 2), torch.rand(2, 4))
    picture = picture_of(network, title="t")
    names = [card.name for card in picture.cards]
    (faint,) = [wire for wire in picture.wires if wire.faint]
    assert names[faint.start] == "y" and [names[end] for end, _ in faint.ends] == ["reshape_0"]
    assert dict(picture.cards[names.index("reshape_0")].details)["shape"] == "[y.size(0), y.size(1) · 2]"


def test_unknown_macs_say_so(tmp_path: Path) -> None:
    path = amc.draw(amc.capture(Summed(), torch.rand(2, 3, 4, 4)), tmp_path / "net.svg")
    text = next(text for name, text in cards_of(path).items() if "cumsum" in name)
    assert "unknown MACs" in text and "MACs: unknown" in text and LIGHT["opaque"] in path.read_text()
    assert "48 MACs, 1 unknown" not in path.read_text() and "192 MACs, 1 unknown" in path.read_text()


def test_inputs_of_another_size_are_drawn(tmp_path: Path) -> None:
    network = captured("residual")
    cards = cards_of(amc.draw(network, tmp_path / "net.svg", inputs=(torch.rand(1, 3, 32, 32),)))
    assert "1×3×32×32" in cards["x"] and "1×8×32×32" in cards["stem"]


# --- before and after ---


def compressed() -> tuple[ReconstructedNetwork, ReconstructedNetwork]:
    """A residual network, and one made from it: fewer channels in a group, one layer as two, one inserted, one removed."""
    network = captured("residual")
    channels = channel_map(network)
    group = channels.group_of(int(channels.outputs["layer1.0.conv1"][0]))
    smaller = channels.shrink(group.ids[:3])
    replace(
        smaller,
        "layer2.0.conv2",
        [("vn.conv2d", nn.Conv2d(16, 5, 3, padding=1, bias=False)), ("vn.conv2d", nn.Conv2d(5, 16, 1))],
    )
    insert_before(smaller, "fc", 0, "vn.relu", nn.ReLU(), "extra")
    remove(smaller, "layer1.1.relu")
    return network, smaller


def test_what_changed_is_marked(tmp_path: Path) -> None:
    network, smaller = compressed()
    path = amc.draw(smaller, tmp_path / "net.svg", before=network)
    cards, text = cards_of(path), path.read_text()
    assert "out 8 → 5" in cards["layer1.0.conv1"] and "1×(8→5)×16×16" in cards["layer1.0.conv1"]
    assert "147 k → 92.2 k (−38 %) MACs" in cards["layer1.0.conv1"] and "576 → 360 params" in cards["layer1.0.conv1"]
    assert "features 8 → 5" in cards["layer1.0.bn1"]
    assert "in 8 → 5" in cards["layer1.0.conv2"]
    assert "1 of 2 for layer2.0.conv2" in cards["layer2.0.conv2.0"]
    assert "in all 147 k → 51.2 k (−65 %) MACs" in cards["layer2.0.conv2.0"]
    assert "2 of 2 for layer2.0.conv2" in cards["layer2.0.conv2.1"]
    assert "inserted" in cards["extra"]
    assert "→" not in cards["stem"].split("\n")[0]
    assert "removed: layer1.1.relu" in text
    before, after = amc.profile(network), amc.profile(smaller)
    assert f"{count(before.total_macs)} → {count(after.total_macs)} MACs ({share(before.total_macs, after.total_macs)})" in text
    for words in ("unchanged", "changed", "part of a replacement", "inserted", "grey before"):
        assert words in text
    strokes = {role: f'stroke="{LIGHT[role]}"' for role in ("changed", "replaced", "inserted")}
    assert {role: text.count(stroke) for role, stroke in strokes.items()} == {"changed": 4, "replaced": 2, "inserted": 1}


def test_the_statuses_match_the_networks() -> None:
    network, smaller = compressed()
    picture = picture_of(smaller, before=network, title="t")
    status = {card.name: card.change.status for card in picture.cards if card.change is not None}
    assert [name for name, one in status.items() if one == "changed"] == [
        "layer1.0.conv1",
        "layer1.0.bn1",
        "layer1.0.relu",
        "layer1.0.conv2",
    ]
    assert [name for name, one in status.items() if one == "replaced"] == ["layer2.0.conv2.0", "layer2.0.conv2.1"]
    assert [name for name, one in status.items() if one == "inserted"] == ["extra"]
    assert picture.removed == ("layer1.1.relu",)
    unchanged = picture_of(network.clone(), before=network, title="t")
    assert {card.change.status for card in unchanged.cards if card.change is not None} == {"same"}


# --- files ---


def test_one_layout_in_three_forms(tmp_path: Path) -> None:
    network, smaller = compressed()
    paths = [tmp_path / f"net{suffix}" for suffix in (".svg", ".png", ".html")]
    assert draw_all(smaller, paths, before=network, title="A title") == paths
    root = ET.parse(paths[0]).getroot()
    with Image.open(paths[1]) as image:
        assert image.size == (2 * int(root.get("width", 0)), 2 * int(root.get("height", 0)))
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    for role in ("changed", "replaced", "inserted", "wire", "text"):
        assert tuple(bytes.fromhex(LIGHT[role][1:])) in colours, role
    assert "A title" in paths[0].read_text() and "A title" in paths[2].read_text()


def test_equal_networks_give_equal_bytes(tmp_path: Path, python: Callable[..., CompletedProcess[str]]) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from amc_plugins.core.draw import draw_all; from tests.test_draw import compressed\n"
        "network, smaller = compressed()\n"
        "draw_all(smaller, [Path(sys.argv[1]) / f'net{s}' for s in ('.svg', '.png', '.html')], before=network)"
    )
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        done = python("-c", program, str(tmp_path / seed), env={"PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
    for suffix in (".svg", ".png", ".html"):
        assert (tmp_path / "1" / f"net{suffix}").read_bytes() == (tmp_path / "2" / f"net{suffix}").read_bytes()


def test_nothing_is_fetched_and_nothing_can_be_injected(tmp_path: Path) -> None:
    network = captured("gated")
    hostile = "</script><script>alert(1)</script>&\"'"
    for node in network.graph.nodes:
        if node.name == "reduce":
            node.source = hostile
    network.recompile()
    svg, page = draw_all(network, [tmp_path / "a.svg", tmp_path / "a.html"], title=hostile + "\x01")
    assert ET.parse(svg).getroot().find(f"{SVG}title").text == hostile  # type: ignore[union-attr]
    text = page.read_text()
    assert "alert(1)</script>" not in text
    assert dict(map(tuple, page_data(page)["cards"][4]["rows"]))["source"] == hostile
    assert text.count("<script") == 2
    for path in (svg, page):
        addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.]+", path.read_text()))
        assert addresses <= {"http://www.w3.org"}, addresses
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text


def test_a_wrong_suffix_or_network_is_refused(tmp_path: Path) -> None:
    network = captured("gated")
    with pytest.raises(SettingsError, match=r"\.svg, \.png, \.html.*`net\.pdf`"):
        amc.draw(network, tmp_path / "net.pdf")
    with pytest.raises(AmcError, match="Gated"):
        amc.draw(Gated(), tmp_path / "net.svg")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# --- words ---


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9996, "10.0 k"),
        (36_864, "36.9 k"),
        (999_499, "999 k"),
        (999_600, "1.00 M"),
        (4_089_184_256, "4.09 G"),
        (3e12, "3.00 T"),
        (None, "unknown"),
    ],
)
def test_counts(number: float | None, text: str) -> None:
    assert count(number) == text


def test_changes_in_words() -> None:
    assert share(100, 60) == "−40 %" and share(100, 105.5) == "+5.5 %" and share(100, 100.01) == "±0 %"
    assert share(0, 3) == "new" and share(0, 0) == "±0 %"
    assert shape_change((1, 64, 8, 8), (1, 40, 8, 8)) == "1×(64→40)×8×8"
    assert shape_change((1, 64), (1, 8, 8)) == "1×64 → 1×8×8"


def test_long_names_keep_their_start_and_end() -> None:
    name = "backbone.stage3.block17.branch2.conv_expand.weight_normed"
    short = fitted(name, 12.0, 150.0)
    assert width(short, 12.0) <= 150.0 < width(name, 12.0)
    assert short.startswith("backbone.") and short.endswith("normed") and "…" in short
    assert fitted("short", 12.0, 150.0) == "short"
