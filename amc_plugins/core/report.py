"""The report of a run: one self-contained page, made from what the run folder holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins import __version__
from amc_plugins.core.charts import Series, line_chart
from amc_plugins.core.drawing.page import Graph, graph_of, graph_rules, templates
from amc_plugins.core.drawing.words import count, shape_change, share
from amc_plugins.core.errors import AmcError
from amc_plugins.core.results import LayerLine, Results, Step, layer_lines, read_results
from amc_plugins.core.search_section import search_section
from amc_plugins.core.speed_section import speed_section
from amc_plugins.core.toml_text import toml_text
from amc_plugins.exporting import atomic_write

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["REPORT", "write_report"]

logger = logging.getLogger("amc_plugins.report")
REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, from `results.json` and the steps' snapshots.

    The page needs no network and no other file. Without the snapshots (a network with opaque operations leaves none) it has no
    drawing and says so. A run that is not finished yet gives a report of what is done.

    Returns:
        The path of the page. Equal run folders give equal bytes.

    Raises:
        RecipeError: the folder holds no results, or damaged ones.
    """
    folder = Path(folder)
    results = read_results(folder)
    first, last = results.kept[0], results.kept[-1]
    rounds = [step for step in results.kept if step.kind == "compress"]
    lines = layer_lines(first.profile, last.profile, [step.detail for step in rounds])
    graphs, missing = _graphs(folder, results)
    page = templates().get_template("report.html.j2")
    text = page.render(
        title=results.title,
        version=__version__,
        about=_about(results),
        rules=graph_rules(),
        tiles=_tiles(results),
        steps=_step_rows(results),
        stopped=results.stopped,
        progress=[one for one in (_accuracy_chart(results), _size_chart(results)) if one is not None],
        layers=_layer_rows(lines, len(rounds)),
        unknown=last.unknown,
        opaque=[str(one) for one in first.detail.get("opaque", ())],
        rounds=len(rounds),
        speed=speed_section(results),
        searches=[one for one in map(search_section, rounds) if one is not None],
        trainings=[one for one in map(_training, results.steps) if one is not None],
        graphs=graphs,
        missing=missing,
        files=_files(results),
        recipe=toml_text({"title": results.title, **results.recipe}),
    )
    path = folder / REPORT
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


# --- figures ---


@dataclass(frozen=True)
class Tile:
    """One headline figure."""

    name: str
    value: str
    before: str = ""
    change: str = ""


def _about(results: Results) -> str:
    compress = [str(step.detail.get("method", "")) for step in results.kept if step.kind == "compress"]
    train = [str(step.detail.get("method", "")) for step in results.kept if step.kind == "train"]
    words = [str(results.recipe.get("network", {}).get("source", ""))]
    if compress:
        words.append(f"compressed with {', '.join(dict.fromkeys(filter(None, compress))) or 'a compressor'}")
    if train:
        words.append(f"retrained with {', '.join(dict.fromkeys(filter(None, train))) or 'a trainer'}")
    if len(compress) > 1:
        words.append(f"{len(compress)} rounds")
    return " · ".join(filter(None, words))


def _tiles(results: Results) -> list[Tile]:
    first, last = results.kept[0], results.kept[-1]
    moved = first is not last
    tiles = []
    for name, old, new in (("MACs", first.macs, last.macs), ("parameters", first.parameters, last.parameters)):
        if old is not None and new is not None:
            tiles.append(Tile(name, count(new), count(old), share(old, new)) if moved else Tile(name, count(new)))
    tiles += _budget_tiles(results)
    for part in ("test", "validation"):
        if part in last.accuracy:
            tile = Tile(f"{part} accuracy", _percent(last.accuracy[part]))
            if moved and part in first.accuracy:
                points = _signed(100 * (last.accuracy[part] - first.accuracy[part]))
                tile = Tile(tile.name, tile.value, _percent(first.accuracy[part]), f"{points} points")
            tiles.append(tile)
    files = [file for step in results.steps for file in step.files]
    if files:
        smallest = min(files, key=lambda one: one.bytes)
        tiles.append(Tile("smallest file", _bytes(smallest.bytes), change=smallest.path))
    tiles.append(Tile("time", _seconds(sum(step.seconds or 0.0 for step in results.steps)), change="all steps together"))
    return tiles


def _budget_tiles(results: Results) -> list[Tile]:
    """What the budget counted, where that has no tile of its own: from before the first round to after the last."""
    spent = [step.detail["budget"] for step in results.kept if isinstance(step.detail.get("budget"), dict)]
    if not spent or spent[-1].get("counts") not in ("activations", "latency"):
        return []
    name, unit, factor = {"activations": ("peak activations", "kB", 1e-3), "latency": ("latency", "ms", 1e3)}[
        spent[-1]["counts"]
    ]
    if name == "latency":
        name = f"latency, batch {spent[-1].get('batch', 1)}"
    before, after = factor * float(spent[0]["before"]), factor * float(spent[-1]["after"])
    change = f"{100 * (after / before - 1):.1f} %".replace("-", "−") if before else ""
    return [Tile(name, f"{after:.4g} {unit}", f"{before:.4g} {unit}", change)]


def _step_rows(results: Results) -> list[dict[str, Any]]:
    first, kept = results.networks[0], results.kept
    parts = [part for part in ("validation", "test") if any(part in step.accuracy for step in results.steps)]
    rows = []
    for step in results.networks:
        rows.append(
            {
                "name": step.name,
                "what": _what(step) + ("" if step in kept else "; left out"),
                "macs": count(step.macs),
                "macs_share": 100.0 * step.macs / first.macs if step.macs is not None and first.macs else None,
                "parameters": count(step.parameters),
                "parameters_share": 100.0 * (step.parameters or 0) / first.parameters if first.parameters else None,
                "accuracy": [(part, _percent(step.accuracy[part]) if part in step.accuracy else "–") for part in parts],
                "seconds": _seconds(step.seconds),
            }
        )
    return rows


def _what(step: Step) -> str:
    method = step.detail.get("method")
    words = {"capture": "the original, captured", "compress": "compression", "train": "retraining"}.get(step.kind, step.kind)
    if step.kind == "train" and "best_epoch" in step.detail:
        return f"{words}: {method}, {step.detail.get('epochs')} epochs, the best was {step.detail['best_epoch']}"
    if step.kind == "compress" and isinstance(step.detail.get("removed"), int | float):
        return f"{words}: {method}, {100 * step.detail['removed']:.1f} % of the MACs removed"
    return f"{words}: {method}" if method else words


def _layer_rows(lines: Sequence[LayerLine], rounds: int) -> list[dict[str, Any]]:
    most = max((max(line.macs_before or 0, line.macs_after or 0) for line in lines), default=0) or 1
    worst = max((line.error or 0.0 for line in lines), default=0.0) or 1.0
    rows = []
    for line in lines:
        if not line.costs:
            continue
        shape = "×".join(map(str, line.shape_after or line.shape_before))
        if line.shape_before and line.shape_after and line.shape_before != line.shape_after:
            shape = shape_change(line.shape_before, line.shape_after)
        kind = line.before or line.after
        if line.before and line.after and line.before != line.after:
            kind = f"{line.before} → {line.after}"
        status = "" if line.before and line.after else "removed" if line.before else "inserted"
        same = line.macs_before == line.macs_after
        rows.append(
            {
                "name": line.name,
                "type": kind,
                "status": status,
                "shape": shape,
                "macs_before": count(line.macs_before),
                "macs_after": count(line.macs_after),
                "macs_sort": line.macs_after or 0,
                "bar_before": 100.0 * (line.macs_before or 0) / most,
                "bar_after": 100.0 * (line.macs_after or 0) / most,
                "macs_change": ""
                if same or not line.macs_before or line.macs_after is None
                else share(line.macs_before, line.macs_after),
                "parameters_before": count(line.parameters_before),
                "parameters_after": count(line.parameters_after),
                "parameters_sort": line.parameters_after,
                "change": "; ".join(dict.fromkeys(line.changes)).replace("->", "→"),
                "errors": ["–" if one is None else f"{one:.2g}" for one in line.errors] or ["–"] * rounds,
                "error_sort": line.error or 0.0,
                "error_bar": 100.0 * (line.error or 0.0) / worst,
            }
        )
    return rows


def _files(results: Results) -> list[dict[str, str]]:
    files = [file for step in results.steps for file in step.files]
    most = max((file.bytes for file in files), default=1) or 1
    return [{"path": file.path, "size": _bytes(file.bytes), "bar": f"{100 * file.bytes / most:.1f}"} for file in files]


# --- charts ---


def _labels(steps: Sequence[Step]) -> list[str]:
    return [step.name.replace("round", "r").replace("-compress", " compr.").replace("-train", " train") for step in steps]


def _accuracy_chart(results: Results) -> str | None:
    steps = results.networks
    series = [
        Series(part, [(index, step.accuracy[part]) for index, step in enumerate(steps) if part in step.accuracy], colour)
        for colour, part in enumerate(("validation", "test"))
    ]
    return line_chart("Accuracy after every step", series, x_name="", percent=True, labels=_labels(steps))


def _size_chart(results: Results) -> str | None:
    steps, first = results.networks, results.networks[0]
    series = []
    for colour, (name, whole) in enumerate((("MACs", first.macs), ("parameters", first.parameters))):
        values = [step.macs if name == "MACs" else step.parameters for step in steps]
        if whole:
            points = [(float(index), value / whole) for index, value in enumerate(values) if value is not None]
            series.append(Series(name, points, colour))
    return line_chart("MACs and parameters, of the original's", series, x_name="", percent=True, labels=_labels(steps))


def _training(step: Step) -> dict[str, Any] | None:
    history = step.detail.get("history")
    if step.kind != "train" or not isinstance(history, list) or not history:
        return None
    curves: dict[str, list[tuple[float, float]]] = {}
    for number, entry in enumerate(history, 1):
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "epoch":
                curves.setdefault(name, []).append((float(entry.get("epoch", number)), float(value)))
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in curves.items():
        groups.setdefault(_group(name, points), {})[name] = points
    charts = [
        line_chart(
            title,
            [Series(name, points, colour % 6) for colour, (name, points) in enumerate(sorted(members.items()))],
            x_name="epoch",
            percent=title == "Accuracy",
        )
        for title, members in groups.items()
    ]
    words = f"{step.detail.get('epochs', len(history))} epochs with {step.detail.get('method', 'a trainer')}"
    if "best_epoch" in step.detail:
        words += f"; the weights of epoch {step.detail['best_epoch']} were kept"
    shown = [chart for chart in charts if chart is not None]
    return {"step": step.name, "words": f"{words}.", "charts": shown} if shown else None


def _group(name: str, points: Sequence[tuple[float, float]]) -> str:
    short = name.rpartition("/")[2]
    if "loss" in short:
        return "Loss"
    if short in ("lr", "learning_rate"):
        return "Learning rate"
    if "acc" in short and all(0.0 <= value <= 1.0 for _, value in points):
        return "Accuracy"
    return short


# --- drawings ---


def _graphs(folder: Path, results: Results) -> tuple[list[tuple[str, str, Graph]], str]:
    """(tab, totals, drawing) of the result compared with the original, and of the original; or why there are none."""
    from amc_plugins.core.drawing.picture import picture_of

    first, last = results.kept[0], results.kept[-1]
    networks: Mapping[str, ReconstructedNetwork]
    try:
        networks = _snapshots(folder, first.name, last.name)
        pictures = [("Original", picture_of(networks[first.name], title=f"{results.title}: the original"))]
        if last is not first:
            compared = picture_of(networks[last.name], before=networks[first.name], title=f"{results.title}: the result")
            pictures.insert(0, ("Result, changes marked", compared))
    except AmcError as error:
        logger.warning("the report has no drawing: %s", error)
        return [], str(error)
    return [(tab, picture.facts, graph_of(picture, gentle=True, height="min(78vh, 720px)")) for tab, picture in pictures], ""


def _snapshots(folder: Path, *names: str) -> dict[str, ReconstructedNetwork]:
    from amc_plugins.core.snapshots import load_snapshot

    for name in names:
        if not (folder / f"{name}.pt").is_file():
            raise AmcError(f"the network of step `{name}` was not kept ({name}.pt is missing)")
    return {name: load_snapshot(folder / f"{name}.pt") for name in names}


# --- words ---


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}"
    return f"±{text}" if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def _bytes(size: int) -> str:
    for unit, whole in (("MB", 1e6), ("kB", 1e3)):
        if size >= whole:
            return f"{size / whole:.{2 if size < 10 * whole else 1}f} {unit}"
    return f"{size} bytes"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
