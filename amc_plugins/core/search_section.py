"""What the report says of a search: its course, score against cost, and what it gained over the plan's own candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amc_plugins.core.charts import Series, line_chart
from amc_plugins.core.results import Step

__all__ = ["search_section"]

_COSTS = {"macs": ("MACs", 1.0), "parameters": ("parameters", 1.0), "activations": ("kB", 1e-3), "latency": ("µs", 1e6)}
"""Name on the axis and factor."""


def search_section(step: Step) -> dict[str, Any] | None:
    """The words and charts of a compression's search; None where there was none."""
    search = step.detail.get("search")
    evaluations = search.get("evaluations") if isinstance(search, dict) else None
    if not isinstance(search, dict) or not evaluations:
        return None
    scored = [one for one in evaluations if "score" in one]
    own = {name: one for name, one in _mapping(search.get("baselines")).items() if "score" in _mapping(one)}
    chart = _course(search, scored, own)
    if chart is None:
        return None
    chosen = [place for place, one in enumerate(scored, 1) if one.get("candidate") == step.detail.get("candidate")]
    number = max(range(1, len(scored) + 1), key=lambda one: (one in chosen, scored[one - 1]["score"], -one))
    best = scored[number - 1]
    words = f"{len(scored)} candidates by {search.get('method', 'a tuner')}; number {number} was chosen, its score is "
    words += f"{_figure(best['score'])}."
    charts = [chart, *_against_costs(search, scored, own, best)]
    return {"step": step.name, "words": " ".join([words, *_gained(search, best, own)]), "charts": charts}


def _mapping(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _course(search: Mapping[str, Any], scored: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> str | None:
    scores = [(float(number), float(one["score"])) for number, one in enumerate(scored, 1)]
    best: list[tuple[float, float]] = []
    for number, score in scores:
        best.append((number, max(score, best[-1][1]) if best else score))
    series = [Series("candidates", scores, 0, line=False), Series("best so far", best, 1, steps=True)]
    for colour, (name, one) in enumerate(own.items(), 2):
        level = float(one["score"])
        series.append(Series(name, [(1.0, level), (float(max(2, len(scored))), level)], colour % 6, steps=True))
    divergence = search.get("objective") == "divergence"
    objective = "minus the divergence of the outputs" if divergence else str(search.get("objective", ""))
    return line_chart("Score, higher is better", series, x_name="candidate", y_name=objective)


def _against_costs(
    search: Mapping[str, Any], scored: Sequence[Mapping[str, Any]], own: Mapping[str, Any], best: Mapping[str, Any]
) -> list[str]:
    """Score against every cost in which the candidates differ, with the front of what no other beats in both."""
    found = []
    for cost in dict.fromkeys((str(search.get("budget", "macs")), *_COSTS)):
        if cost not in _COSTS or any(cost not in one for one in scored) or len({one[cost] for one in scored}) < 2:
            continue
        unit, factor = _COSTS[cost]

        def at(one: Mapping[str, Any], cost: str = cost, factor: float = factor) -> tuple[float, float]:
            return factor * float(one[cost]), float(one["score"])

        front: list[tuple[float, float]] = []
        for x, y in sorted((at(one) for one in scored), key=lambda point: (point[0], -point[1])):
            if not front or y > front[-1][1]:
                front.append((x, y))
        series = [
            Series("candidates", [at(one) for one in scored], 0, line=False),
            Series("front", front, 1, steps=True),
            *(
                Series(name, [at(one)], colour % 6, line=False)
                for colour, (name, one) in enumerate(own.items(), 2)
                if cost in one
            ),
            Series("chosen", [at(best)], 4, line=False),
        ]
        chart = line_chart(f"Score against {cost if cost != 'macs' else 'MACs'}", series, x_name=unit)
        if chart is not None:
            found.append(chart)
    return found


def _gained(search: Mapping[str, Any], best: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Sentences: the score on unseen data, and above which baselines it is by how much."""
    unseen = {str(one.get("candidate")): one for one in search.get("confirmed") or () if "score" in one}
    words = []
    confirmed = unseen.get(str(best.get("candidate")))
    if confirmed is not None:
        words.append(f"On data that the search had not seen it is {_figure(confirmed['score'])}.")
    if lucky := search.get("lucky"):
        words.append(f"{lucky} scored higher there than the better of the plan's own, by no more than two standard errors.")
    gains = _mapping(search.get("gains"))
    parts = []
    for name, one in own.items():
        if name in gains:
            level = unseen.get(str(one.get("candidate")), one) if confirmed is not None else one
            sign = "±" if gains[name] == 0 else "−" if gains[name] < 0 else "+"
            parts.append(f"{name} has {_figure(level['score'])} ({sign}{abs(gains[name]):.3g} gained over it)")
    if parts:
        words.append(f"Of the candidates of the plan itself {' and '.join(parts)}.")
    return words


def _figure(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
