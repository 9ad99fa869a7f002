"""The swap polish of a candidate: its channels exchanged, and the weights of those that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from amc_plugins.compression import collect_moments
from amc_pruning._curves import nested_fit
from amc_pruning._exchange import exchanged
from amc_pruning._problems import Consumer
from amc_pruning._selection import shares

if TYPE_CHECKING:
    from amc_pruning._plan import PruningPlan

__all__ = ["polished"]


def polished(plan: PruningPlan, candidate: Mapping[str, int]) -> PruningPlan:
    """The plan with better channels for this one candidate. Statistics are gathered again: a plan does not keep them."""
    base, settings = plan.base(candidate), plan.settings
    changed = [variable for variable in plan.variables if candidate[variable.name] != variable.full]
    layers = dict.fromkeys(layer for variable in changed for layer in variable.layers)
    moments = collect_moments(
        base.network, plan.calibration, layers, per_sample=settings.sampled_pixels_per_img, seed=plan.seed
    )
    consumers = {name: Consumer.of(base, one, settings.ridge) for name, one in moments.items()}
    orders, nested = dict(plan.orders), dict(plan.nested)
    for variable in changed:
        count = candidate[variable.name]
        problems = [problem for layer in variable.layers for problem in consumers[layer].problems()]
        ids = plan.orders[variable.name].sort().values
        before = torch.isin(ids, plan.orders[variable.name][:count])
        kept = exchanged(list(zip(problems, shares(problems), strict=True)), ids, before)
        orders[variable.name] = order = torch.cat([ids[kept], ids[~kept]])
        place = variable.choices.index(count)
        for layer in variable.layers:
            if layer in nested:
                name, old = nested[layer]
                dtype = plan.network.layer(layer).get_parameter("weight").dtype
                new = nested_fit(consumers[layer], order, (count,), dtype)
                errors = (*old.errors[:place], *new.errors, *old.errors[place + 1 :])
                fits = (*old.fits[:place], *new.fits, *old.fits[place + 1 :])
                nested[layer] = name, replace(old, errors=errors, fits=fits)
    return replace(plan, orders=orders, nested=nested, _solved={})
