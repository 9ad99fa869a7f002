"""Layouts are readable: nothing lies on anything else, wires keep away from cards, and large networks take seconds."""

from __future__ import annotations

import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.draw import draw_all
from amc_plugins.core.drawing.layered import layered
from amc_plugins.core.drawing.picture import Wire, picture_of
from amc_plugins.core.drawing.png import _flat, write_png
from amc_plugins.core.drawing.primitives import Box, Curve
from amc_plugins.core.drawing.scene import Scene, scene_of
from amc_plugins.core.drawing.theme import LIGHT
from tests.networks import randomized
from tests.test_draw import NETWORKS, captured


class Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = nn.Sequential()
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """He et al. (CVPR 2016), table 1, with a fraction of the channels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        channels, stages = width, []
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                stages.append(Bottleneck(channels, width * 2**stage, 2 if stage and not block else 1))
                channels = 4 * width * 2**stage
        self.blocks = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))


class Dense(nn.Module):
    """Every layer reads all before it, as in a DenseNet block."""

    def __init__(self, layers: int = 14, growth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(growth * (index + 1), growth, 3, padding=1) for index in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for conv in self.convs:
            found.append(F.relu(conv(torch.cat(found, 1))))
        return torch.cat(found, 1)


class Inception(nn.Module):
    def __init__(self, modules: int = 3) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Conv2d(16 if name[1:] in ("", "1") else 4, 4, 1) for name in ("a", "b1", "b2", "c1", "c2", "c3", "d")}
            )
            for _ in range(modules)
        )
        self.stem = nn.Conv2d(3, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for one in self.convs:
            pooled = one["d"](F.max_pool2d(x, 3, 1, 1))
            x = torch.cat([one["a"](x), one["b2"](one["b1"](x)), one["c3"](one["c2"](one["c1"](x))), pooled], 1)
        return x


LARGE = {"resnet50": (ResNet50, 32), "dense": (Dense, 8), "inception": (Inception, 8)}


def scene(name: str) -> Scene:
    if name in NETWORKS:
        return scene_of(picture_of(captured(name), title=name))
    model, size = LARGE[name]
    return scene_of(picture_of(amc.capture(randomized(model()), torch.rand(2, 3, size, size)), title=name))


@pytest.mark.parametrize("name", [*NETWORKS, *LARGE])
def test_cards_lie_inside_and_apart(name: str) -> None:
    drawn = scene(name)
    for card in drawn.cards:
        assert card.x >= 0 and card.y >= 0 and card.x + card.width <= drawn.width and card.y + card.height <= drawn.height
    for index, a in enumerate(drawn.cards):
        for b in drawn.cards[index + 1 :]:
            apart = (
                a.x + a.width + 10 <= b.x
                or b.x + b.width + 10 <= a.x
                or a.y + a.height + 10 <= b.y
                or b.y + b.height + 10 <= a.y
            )
            assert apart, (a, b)


@pytest.mark.parametrize("name", [*NETWORKS, *LARGE])
def test_wires_stay_inside_and_pass_no_card(name: str) -> None:
    drawn = scene(name)
    boxes = [(card.x + 1, card.y + 1, card.x + card.width - 1, card.y + card.height - 1) for card in drawn.cards]
    for wire in drawn.wires:
        for shape in wire.shapes:
            if not isinstance(shape, Curve):
                continue
            points = _flat(shape.steps)
            assert all(0 < x < drawn.width and 0 < y < drawn.height for x, y in points)
            for (ax, ay), (bx, by) in pairwise(points):
                steps = max(1, round((abs(bx - ax) + abs(by - ay)) / 4))
                for step in range(steps + 1):
                    x, y = ax + (bx - ax) * step / steps, ay + (by - ay) * step / steps
                    assert not any(left < x < right and top < y < foot for left, top, right, foot in boxes), (wire.index, x, y)


@pytest.mark.parametrize("name", [*NETWORKS, *LARGE])
def test_wires_lead_down_except_between_columns(name: str) -> None:
    """Within a column an arrow points at something lower; a wire that goes up is one to the next column."""
    drawn = scene(name)
    for wire in drawn.wires:
        for shape in wire.shapes:
            if isinstance(shape, Curve):
                (x0, y0), (x1, y1) = shape.steps[0][-2:], shape.steps[-1][-2:]
                assert y1 > y0 or x1 > x0 + 20


def test_texts_fit_their_cards() -> None:
    from amc_plugins.core.drawing.primitives import Label
    from amc_plugins.core.drawing.words import width

    for name in (*NETWORKS, *LARGE):
        for card in scene(name).cards:
            for shape in card.shapes:
                if isinstance(shape, Label):
                    wide = width(shape.text, shape.size, shape.bold)
                    left = shape.x - {"start": 0.0, "middle": wide / 2, "end": wide}[shape.anchor]
                    assert card.x <= left and left + wide <= card.x + card.width, shape.text
                    assert card.y < shape.y < card.y + card.height


def test_a_large_network_is_drawn_in_seconds_and_in_landscape(tmp_path: Path) -> None:
    network = amc.capture(randomized(ResNet50()), torch.rand(2, 3, 32, 32))
    assert len(network.graph.nodes) > 150
    started = time.perf_counter()
    paths = draw_all(network, [tmp_path / f"net{suffix}" for suffix in (".svg", ".png", ".html")])
    assert time.perf_counter() - started < 20  # 2 s on one core; machines differ
    assert max(path.stat().st_size for path in paths) < 4e6
    drawn = scene("resnet50")
    assert 0.8 < drawn.width / drawn.height < 3.0


def test_the_main_path_is_straight() -> None:
    drawn = scene("skip")
    centres = {round(card.x + card.width / 2) for card in drawn.cards}
    assert len(centres) <= 2, centres


def test_bends_of_a_skip_connection_are_in_line() -> None:
    wires = [Wire(f"v{i}", i, 0, ((i + 1, 0),)) for i in range(6)]
    wires[0] = Wire("v0", 0, 0, ((1, 0), (6, 1)))
    found = layered([100.0] * 7, [0] * 7, wires)
    assert found.cards == 7 and len(found.x) == 12
    bends = {round(x, 3) for x in found.x[7:]}
    assert len(bends) == 1 and abs(bends.pop()) >= 56.0
    assert {round(x, 3) for x in found.x[:7]} == {0.0}


def test_bends_of_a_shortcut_are_in_line_too() -> None:
    """Its layer stands beside the main path, its end is on it: least squares alone would draw a slope with a kink a rank."""
    wires = [Wire(f"v{i}", i, 0, ((i + 1, 0),)) for i in range(1, 6)]
    wires += [Wire("v0", 0, 0, ((1, 0), (7, 0))), Wire("v7", 7, 0, ((6, 1),))]
    found = layered([100.0] * 8, [0] * 8, sorted(wires, key=lambda wire: wire.start))
    assert abs(found.x[7]) > 121.9 and len(found.x) == 8 + 4
    bends = {round(x, 3) for x in found.x[8:]}
    assert len(bends) == 1 and 56.0 <= abs(bends.pop()) < 100.0


def test_dashes_have_gaps(tmp_path: Path) -> None:
    for dash in (False, True):
        shapes = (
            Curve(((10.0, 10.0), (210.0, 10.0)), "wire", 2.0, dash),
            Box(10.0, 20.0, 200.0, 60.0, 6.0, "card", "inserted", 2.0, dash),
        )
        write_png(Scene(220, 100, list(shapes)), tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            line = [image.getpixel((x, 20)) for x in range(24, 416)]
            border = [image.getpixel((x, 40)) for x in range(40, 400)]
        for colours, role in ((line, "wire"), (border, "inserted")):
            share = colours.count(tuple(bytes.fromhex(LIGHT[role][1:]))) / len(colours)
            assert 0.3 < share < 0.75 if dash else share > 0.99, (role, dash, share)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
def test_the_page_runs_in_a_browser(tmp_path: Path) -> None:
    (page,) = draw_all(captured("residual"), [tmp_path / "net.html"])
    assert CHROMIUM is not None
    whole = f'viewBox="0 0 {scene("residual").width}'
    for attempt in (1, 2, 3):  # a browser on a busy machine may dump the page before it drew a frame
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / f'profile{attempt}'}",
             "--window-size=1280,800", "--enable-logging=stderr", f"--virtual-time-budget={2000 * attempt}",
             "--run-all-compositor-stages-before-draw", "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        if whole not in done.stdout:
            break
    assert "CONSOLE" not in done.stderr, done.stderr
    assert 'data-theme="' in done.stdout  # the script ran to the theme
    assert done.stdout.count("viewBox=") and whole not in done.stdout  # and past the layout
