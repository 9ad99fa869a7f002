"""The report holds the figures of its run folder, whatever is missing there, and is one file that fetches nothing."""

from __future__ import annotations

import json
import math
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import amc_plugins as amc
from amc_plugins.core.charts import Series, line_chart, ticks
from amc_plugins.core.drawing.words import count
from amc_plugins.core.entries import network_entry
from amc_plugins.core.errors import RecipeError
from amc_plugins.core.report import write_report
from amc_plugins.core.results import ProfileRow, layer_lines, read_results
from amc_plugins.core.snapshots import save_snapshot
from amc_plugins.core.toml_text import toml_text
from amc_plugins.graph import ReconstructedNetwork, channel_map, replace
from tests.networks import SmallResNet, randomized

VOID = {"meta", "link", "input", "br", "path", "rect", "circle"}


def step(name: str, kind: str, network: ReconstructedNetwork, accuracy: float, **detail: Any) -> dict[str, Any]:
    accuracies = {"validation": accuracy, "test": accuracy - 0.005}
    return network_entry(name, kind, network, seconds=2.5, detail=detail, accuracy=accuracies)


@pytest.fixture(scope="module")
def networks() -> tuple[ReconstructedNetwork, ReconstructedNetwork]:
    """A network, and the same with fewer channels in one group and one layer as two."""
    torch.manual_seed(0)
    network = amc.capture(randomized(SmallResNet()), torch.rand(2, 3, 16, 16))
    channels = channel_map(network)
    smaller = channels.shrink(channels.group_of(int(channels.outputs["layer1.0.conv1"][0])).ids[:3])
    parts = [nn.Conv2d(16, 5, 3, padding=1, bias=False), nn.Conv2d(5, 16, 1, bias=False)]
    replace(smaller, "layer2.0.conv2", [("vn.conv2d", part) for part in parts])
    return network, smaller


def results_of(network: ReconstructedNetwork, smaller: ReconstructedNetwork) -> dict[str, Any]:
    layers = [
        {
            "name": "layer1.0.conv1",
            "macs_before": 147456,
            "macs_after": 92160,
            "error": 0.0125,
            "change": "8 -> 5 output channels",
        },
        {"name": "layer2.0.conv2", "macs_before": 147456, "macs_after": 51200, "error": 0.25, "change": "rank 5 of 16"},
        {"name": "stem", "macs_before": 55296, "macs_after": 55296, "error": None, "change": ""},
    ]
    evaluations = [{"candidate": {"a": n}, "score": -1.0 / n, "macs": 1.0} for n in range(1, 8)]
    search = {"method": "random", "objective": "divergence", "evaluations": evaluations}
    history = [
        {
            "train/total_loss": 1.0 / n,
            "val/total_loss": math.nan if n == 2 else 1.5 / n,
            "val/accuracy": 0.9,
            "learning_rate": 0.1,
        }
        for n in range(1, 5)
    ]
    return {
        "schema": 1,
        "title": "A run",
        "recipe": {
            "seed": 3,
            "network": {"source": "net.py:make", "input": [1, 3, 16, 16]},
            "compress": {"method": "mixed", "total": 0.25},
        },
        "steps": [
            step("capture", "capture", network, 0.98, opaque=[]),
            step(
                "round1-compress",
                "compress",
                smaller,
                0.95,
                method="mixed",
                removed=0.17,
                candidate={"a": 6},
                layers=layers,
                search=search,
            ),
            step("round1-train", "train", smaller, 0.97, method="supervised", epochs=4, best_epoch=3, history=history),
            {
                "name": "export",
                "kind": "export",
                "files": [{"path": "network.pkl", "bytes": 31_500}, {"path": "b.json", "bytes": 999}],
            },
        ],
    }


@pytest.fixture
def folder(tmp_path: Path, networks: tuple[ReconstructedNetwork, ReconstructedNetwork]) -> Path:
    network, smaller = networks
    (tmp_path / "results.json").write_text(json.dumps(results_of(network, smaller)))
    for name, one in (("capture", network), ("round1-compress", smaller), ("round1-train", smaller)):
        assert save_snapshot(one, tmp_path / f"{name}.pt")
    return tmp_path


class Page(HTMLParser):
    """The texts of each section, the rows of each table, and a check that elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.heading = ""
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] in ("style", "script"):
            return
        if self.open[-1] == "h2":
            self.heading = data
        self.sections[self.heading] = " ".join((self.sections.get(self.heading, "") + " " + data).split())
        if {"td", "th"} & set(self.open) and self.rows:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {' '.join(data.split())}".strip()

    def row(self, first: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0] == first]
        return found


def test_a_search_with_its_baselines_and_its_budget(folder: Path) -> None:
    plain = json.loads((folder / "results.json").read_text())
    detail = plain["steps"][1]["detail"]
    detail["budget"] = {"counts": "latency", "unit": "s", "before": 2e-3, "after": 1e-3, "batch": 64, "threads": 1}
    search = detail["search"]
    for number, one in enumerate(search["evaluations"], 1):
        one["latency"] = 1e-3 * number
    own = {name: {"candidate": {"a": n}, "score": -1.0 / n, "latency": 1e-3} for name, n in (("allocation", 2), ("uniform", 1))}
    confirmed = [{"candidate": {"a": n}, "score": -2.0 / n} for n in (6, 2, 1)]
    search |= {"baselines": own, "confirmed": confirmed, "gains": {"allocation": 2 / 3, "uniform": 5 / 3}, "budget": "latency"}
    (folder / "results.json").write_text(json.dumps(plain))
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "latency, batch 64 1 ms 2 ms before · −50.0 %" in page.sections[""]
    words = page.sections["Search"]
    assert "its score is −0.1667. On data that the search had not seen it is −0.3333." in words
    assert "allocation has −1 (+0.667 gained over it) and uniform has −2 (+1.67 gained over it)." in words
    assert "Score against latency" in words and "Score against MACs" not in words, "no candidate differs in MACs"
    assert "uniform, 1000: -1" in text and "chosen, 6000: -0.166667" in text


def test_the_figures_of_the_run(folder: Path, networks: tuple[ReconstructedNetwork, ReconstructedNetwork]) -> None:
    path = write_report(folder)
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    before, after = amc.profile(networks[0]), amc.profile(networks[1])
    head = page.sections[""]
    assert "A run" in head and "compressed with mixed" in head and "retrained with supervised" in head
    removed = f"{100 * (1 - after.total_macs / before.total_macs):.0f}"
    assert f"MACs {count(after.total_macs)} {count(before.total_macs)} before · −{removed} %" in head
    assert "validation accuracy 97.00 % 98.00 % before · −1.00 points" in head
    assert "test accuracy 96.50 % 97.50 % before · −1.00 points" in head
    assert "smallest file 999 bytes b.json" in head
    assert "7.5 s" in head
    assert page.row("round1-compress") == [
        "round1-compress",
        "compression: mixed, 17.0 % of the MACs removed",
        count(after.total_macs),
        count(after.total_parameters),
        "95.00 %",
        "94.50 %",
        "2.5 s",
    ]
    assert page.row("round1-train")[1] == "retraining: supervised, 4 epochs, the best was 3"
    assert page.row("network.pkl")[1] == "31.5 kB"
    assert "7 candidates by random; number 6 was chosen, its score is −0.1667." in page.sections["Search"]
    assert "4 epochs with supervised; the weights of epoch 3 were kept" in page.sections["Training"]
    for words in ("Loss", "Accuracy", "Learning rate", "train/total_loss", "val/accuracy"):
        assert words in page.sections["Training"]
    assert "total = 0.25" in page.sections["Recipe"] and "[network]" in page.sections["Recipe"]


def test_the_table_of_layers(folder: Path) -> None:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.row("layer1.0.conv1") == [
        "layer1.0.conv1", "Conv2d", "1×(8→5)×16×16", "147 k → 92.2 k −38 %", "", "576 → 360",
        "8 → 5 output channels", "0.013", "",
    ]  # fmt: skip
    assert page.row("layer2.0.conv2")[1:4] == ["Conv2d → 2 × Conv2d", "1×16×8×8", "147 k → 51.2 k −65 %"]
    assert page.row("layer2.0.conv2")[6:8] == ["rank 5 of 16", "0.25"]
    assert page.row("stem")[3:8] == ["55.3 k", "", "224", "", "–"]
    assert not [row for row in page.rows if row and row[0].startswith("layer1.0.relu")]


def test_the_drawings_compare_and_can_be_searched(
    folder: Path, networks: tuple[ReconstructedNetwork, ReconstructedNetwork]
) -> None:
    text = write_report(folder).read_text(encoding="utf-8")
    found = [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)]
    nodes = sum(node.op != "vn.size" for node in networks[0].graph.nodes)
    assert [len(one["cards"]) for one in found] == [nodes + 3, nodes + 2]  # one is two now; an input and an output
    compared = {card["name"]: dict(map(tuple, card["rows"])) for card in found[0]["cards"]}
    assert compared["layer2.0.conv2.0"]["replaced"] == "1 of 2 for layer2.0.conv2"
    assert compared["layer1.0.conv1"]["MACs before"] == "147,456 (−38 %)"
    assert "changed" not in dict(map(tuple, found[1]["cards"][2]["rows"]))
    assert text.count('class="amc-graph"') == 2 and text.count('role="tab"') == 2


def test_equal_folders_give_equal_bytes_and_nothing_is_fetched(folder: Path) -> None:
    text = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == text
    page = text.decode()
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert set(addresses) == {"data:,", "network.pkl", "b.json"}
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def test_texts_cannot_become_markup(folder: Path) -> None:
    hostile = '<img src=x onerror="alert(1)">&'
    plain = json.loads((folder / "results.json").read_text())
    plain["title"] = hostile
    plain["recipe"]["network"]["source"] = hostile
    plain["steps"][1]["detail"]["layers"][0]["change"] = hostile
    plain["steps"][1]["detail"]["search"]["method"] = hostile
    plain["steps"][2]["detail"]["history"][0][hostile] = 1.0
    plain["steps"][3]["files"][0]["path"] = 'x" onclick="alert(1)'
    (folder / "results.json").write_text(json.dumps(plain))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<img" not in text and 'onclick="alert' not in text
    page = Page(text)
    assert hostile in page.sections[""] and hostile in page.row("layer1.0.conv1") and hostile in page.sections["Training"]


# --- what may be missing ---


def test_without_snapshots_there_is_a_report_without_drawing(folder: Path) -> None:
    (folder / "round1-train.pt").unlink()
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "There is no drawing: the network of step `round1-train` was not kept" in page.sections["The network"]
    assert page.row("round1-train")
    (folder / "round1-train.pt").write_bytes(b"not a snapshot")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "round1-train.pt` is damaged" in page.sections["The network"]


def test_a_run_that_is_not_finished(folder: Path) -> None:
    plain = json.loads((folder / "results.json").read_text())
    plain["steps"] = plain["steps"][:1]
    plain["steps"][0]["accuracy"] = {}
    (folder / "results.json").write_text(json.dumps(plain))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "before" not in page.sections[""] and "Files" not in page.sections and "Search" not in page.sections
    assert [row[0] for row in page.rows if row][:2] == ["step", "capture"]


def test_unknown_macs_are_named(folder: Path) -> None:
    plain = json.loads((folder / "results.json").read_text())
    for one in plain["steps"][:3]:
        one["unknown"] = ["stem"]
        one["profile"][0]["macs"] = None
    plain["steps"][0]["detail"]["opaque"] = ["`torch.x` at net.py:3: there is no handler for it"]
    (folder / "results.json").write_text(json.dumps(plain))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "MACs unknown and left out of the totals: stem." in page.sections[""]
    assert "`torch.x` at net.py:3" in page.sections[""]
    assert page.row("stem")[3] == "unknown"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no results.json"),
        ("{", "is damaged"),
        ("[]", "not what a run writes"),
        ('{"schema": 2, "steps": []}', "schema"),
        ('{"schema": 1, "steps": []}', "steps"),
        ('{"schema": 1, "steps": [{"name": "export", "kind": "export"}]}', "has no network"),
        ('{"schema": 1, "steps": [{"name": "a", "kind": "capture", "profile": [{"name": 3}]}]}', r"steps\.0\.profile\.0\.name"),
    ],
)
def test_no_results_or_damaged_ones(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(RecipeError, match=message) as caught:
        write_report(tmp_path)
    assert caught.value.hint
    assert not (tmp_path / "report.html").exists()


def test_what_a_recipe_leaves_can_be_reported(tmp_path: Path) -> None:
    """The report reads what the pipeline writes: no field has another name there."""
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "from tests.networks import SmallResNet\n"
        "def make(): return SmallResNet(4)\n"
        "def data(): return [(torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 10)] * 4\n"
    )
    (tmp_path / "r.toml").write_text(
        'title = "Small"\nfolder = "run"\n[network]\nsource = "net.py:make"\ninput = [1, 3, 8, 8]\n'
        '[data]\ncalibration = "net.py:data"\nvalidation = "net.py:data"\n[compress]\nmethod = "pruning"\nratio = 0.3\n'
    )
    done = amc.run(tmp_path / "r.toml")
    assert tmp_path / "run" / "report.html" in done.files
    page = Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert page.row("round1-compress")
    assert [row for row in page.rows if len(row) > 6 and "channels" in row[6]]
    assert "PyTorch eager" in page.sections["Speed"] and "ONNX Runtime" in page.sections["Speed"]
    results = read_results(tmp_path / "run")
    assert results.networks[1].macs is not None and results.networks[1].macs == done.steps[1]["macs"]


# --- layers ---


def row(name: str, macs: int | None = 0, parameters: int = 0, kind: str = "Conv2d", layer: str | None = None) -> ProfileRow:
    return ProfileRow(name=name, layer=layer or name, type=kind, macs=macs, parameters=parameters, output_shape=[1, 2])


def test_layers_side_by_side() -> None:
    before = [
        row("a", 10, 4),
        row("b", 20, 6),
        row("b@1", 20, 6, layer="b"),
        row("gone", 0, 2, "BatchNorm2d"),
        row("c.0", 5, 1),
    ]
    after = [row("a.0", 3, 1), row("a.1.0", 1, 1), row("a.1.1", 2, 1), row("new", 0, 9, "Sampler"), row("b", 10, 3),
             row("b@1", 10, 3, layer="b"), row("c.0", None, 1)]  # fmt: skip
    rounds = [
        {"layers": [{"name": "a", "error": 0.1, "change": "rank 3"}]},
        {
            "layers": [
                {"name": "a.0", "error": 0.3, "change": ""},
                {"name": "a.1", "error": 0.2, "change": "rank 2"},
                {"name": "?", "error": 1},
            ]
        },
    ]
    lines = {line.name: line for line in layer_lines(before, after, rounds)}
    assert list(lines) == ["a", "new", "b", "gone", "c.0"]
    a = lines["a"]
    assert (a.macs_before, a.macs_after, a.parameters_before, a.parameters_after, a.after) == (
        10,
        6,
        4,
        3,
        "3\u00a0×\u00a0Conv2d",
    )
    assert a.errors == [0.1, 0.3] and a.error == 0.3 and a.changes == ["rank 3", "rank 2"]
    b = lines["b"]
    assert (b.macs_before, b.macs_after, b.parameters_before, b.parameters_after) == (40, 20, 6, 3)
    assert lines["new"].before == "" and lines["new"].after == "Sampler" and lines["new"].costs
    assert lines["gone"].after == "" and lines["gone"].macs_after == 0
    assert lines["c.0"].macs_after is None and lines["c.0"].costs


# --- charts and text ---


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 10))
def test_ticks_are_round_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most + 1
    slack = 1e-6 * (high - low)
    assert all(low - slack <= one <= high + slack for one in found) and found == sorted(found)


def test_a_chart_leaves_out_what_is_not_finite() -> None:
    chart = line_chart("T", [Series("a", [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)])], x_name="x")
    assert chart is not None and chart.count("<circle") == 2 and "nan" not in chart and "inf" not in chart
    assert line_chart("T", [Series("a", [(1, math.nan)])], x_name="x") is None
    flat = line_chart("T", [Series("a", [(1, 5.0), (2, 5.0)])], x_name="x")
    assert flat is not None and "nan" not in flat


@pytest.mark.parametrize(("count", "labelled"), [(2, 2), (5, 5), (9, 5), (30, 6)])
def test_labels_do_not_lie_on_each_other(count: int, labelled: int) -> None:
    names = [f"label {number:02}" for number in range(count)]
    chart = line_chart("T", [Series("a", [(x, 1.0) for x in range(count)])], x_name="", labels=names)
    assert chart is not None and [name in chart for name in names].count(True) == labelled and names[0] in chart


SCALARS = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=True) | st.text(max_size=20)
KEYS = st.text(min_size=1, max_size=8)


@given(
    st.recursive(
        st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=4),
        lambda inner: st.dictionaries(KEYS, inner | SCALARS, max_size=3),
    )
)
@example({"a": "\x7f\x00\u2028", "b c": {}, "d": [True, 1e300, -0.0, math.inf]})
def test_a_recipe_comes_back_from_its_text(plain: dict[str, Any]) -> None:
    def filled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: one for name, item in value.items() if not isinstance(one := filled(item), dict) or one}

    assert tomllib.loads(toml_text(plain)) == filled(plain)
