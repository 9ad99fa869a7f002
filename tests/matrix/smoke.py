"""A quick look at every cell of the matrix, in one process that has the core alone: each cell is a fork of it.

    PYTHON_WITH_THE_CORE_ALONE -m tests.matrix.smoke FOLDER

`FOLDER/DISTRIBUTION` holds the metadata of each plugin distribution. A fork puts some of them on the path, and with them their
code; nothing of the others is there. One line of JSON a cell: `{"cell": ..., "problem": null}`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import amc_plugins as amc
from amc_plugins.core.catalog import DISTRIBUTIONS, OPS
from amc_plugins.core.errors import AmcError
from amc_plugins.core.registry import registry, reset_registry
from amc_plugins.core.runs import Run
from amc_plugins.plugin import transparent
from amc_plugins.testing import plugin_checks
from amc_plugins.testing.layer_handlers import Under
from tests.matrix.places import BUILT_IN

LIBRARIES = ("accelerate", "deap", "kornia", "onnx", "onnxruntime", "scipy", "sklearn", "tensorboardX")
"""What plugins use, imported once, before the forks."""
IMAGES = torch.rand(32, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Double(nn.Module):
    """An op of this script: what can be captured without any plugin."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def network_without(family: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with no op of one family, and data for it."""
    torch.manual_seed(0)
    between = nn.Identity if family == "amc-op-activation" else nn.ReLU
    if family == "amc-op-conv":
        layers: list[nn.Module] = [nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)]
    else:
        layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)]
    steps = [one for layer in layers[:-1] for one in (layer, between()) if not isinstance(one, nn.Identity)]
    return nn.Sequential(*steps, layers[-1]), IMAGES[:, 0, :2].flatten(1) if family == "amc-op-conv" else IMAGES


# --- what a plugin does when it is alone ------------------------------------------------------------------------------------


def handle(name: str) -> None:
    """Its first example call becomes a node of its op. What the example needs of other families is opaque here."""
    subject = Under("layer_handlers", name, {})
    subject.examples = subject.examples[:1]
    for one in subject.captured if subject.examples else ():
        ops = [node.op for node in one.network.graph.nodes]
        assert subject.op in ops, f"`{name}` alone captures {ops}, not `{subject.op}`"


def refuse(name: str) -> None:
    """Without any op that has weights there is nothing to compress, and it says so; or it says which other it needs."""
    network = _captured()
    try:
        amc.compress(network, name, calibration=[IMAGES], total=0.5)
    except AmcError as error:
        if "nothing in this network can be compressed" not in str(error) and not str(error.hint).startswith("pip install"):
            raise
    else:
        raise AssertionError(f"{name} compressed a network without weights")


def search(name: str) -> None:
    """It proposes what can be had, and goes on where it was: the checks bring a plan of their own."""
    _passed("tuners", name, "candidates_are_admissible")
    _passed("tuners", name, "restored_goes_on")


def fit(name: str) -> None:
    """It trains a torch module; one that needs a captured network, or a teacher, says so."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    before = module.get_parameter("1.weight").detach().clone()
    labels = torch.arange(len(IMAGES)) % 2
    try:
        trained = amc.train(module, name, train=[(IMAGES, labels)], validation=[(IMAGES, labels)], epochs=1)
    except AmcError as error:
        if name == "supervised" or not any(word in str(error) for word in ("teacher", "captured", "handler")):
            raise
    else:
        assert not torch.equal(trained.network.get_parameter("1.weight"), before), f"{name} learnt nothing"


def write(name: str) -> None:
    """A network with an op of the script goes to a file, and back where the exporter reads."""
    network = _captured()
    with tempfile.TemporaryDirectory() as folder:
        spec: Any = registry().spec("exporters", name)
        path = amc.export(network, name, Path(folder) / "network", verify=spec.loads)  # no other engine knows the script's op
        if spec.loads:
            assert torch.equal(amc.load(path)(IMAGES), 2 * IMAGES)
        else:
            assert path.stat().st_size > 0


def watch(name: str) -> None:
    """It sees a run from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        with Run("a run", folder, registry().make_observers([name])) as run:
            run.epoch_ended(1, {"loss": 0.5})
        assert any(one.is_file() for one in Path(folder).rglob("*"))


JOBS: dict[str, Callable[[str], None]] = {
    "layer_handlers": handle,
    "compressors": refuse,
    "tuners": search,
    "trainers": fit,
    "exporters": write,
    "observers": watch,
}


def _captured() -> Any:
    amc.register(transparent("tests.matrix.smoke:Double"))
    return amc.capture(Double(), IMAGES, strict=True)


def _passed(kind: str, name: str, check: str) -> None:
    (outcome,) = (one.run() for one in plugin_checks(name, kind=kind) if one.name == check)
    assert outcome.result == "passed", f"{name}: {check}: {outcome.text}"


def _none(problems: list[str]) -> None:
    if problems:
        raise AssertionError("; ".join(problems))


# --- the cells --------------------------------------------------------------------------------------------------------------


def core_alone() -> None:
    """It captures, runs and reports; asked for a plugin, it says what to install."""
    assert registry().records() == []
    network = amc.capture(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), IMAGES)
    assert len(amc.profile(network).unknown) == 2
    for distribution in DISTRIBUTIONS:
        _refused(distribution)


def only(distribution: str) -> None:
    """One distribution beside the core: all of it loads, and each plugin does its job."""
    records = registry().load_all(targets=True)
    assert {record.distribution for record in records} == {distribution}
    _none([f"{record}: {record.problem}" for record in records if record.status != "loaded"])
    for record in records:
        JOBS[record.kind](record.name)


def without(distribution: str) -> None:
    """All but one: everything loads, the absent one is named where it is asked for, and the main job is done."""
    records = registry().load_all(targets=True)
    assert distribution not in {record.distribution for record in records}
    _none([f"{record}: {record.problem}" for record in records if record.status != "loaded"])
    _refused(distribution)
    model, data = network_without(distribution)
    network = amc.capture(model.eval(), data, strict=True)
    names = {record.name for record in records}
    plan = amc.prepare(network, "pruning" if "pruning" in names else "lowrank", calibration=[data])
    result = plan.apply(plan.candidate(total=0.2))
    assert result.removed >= 0.2
    with tempfile.TemporaryDirectory() as folder:
        path = amc.export(result.network, "json" if "json" in names else "vnmodel", Path(folder) / "network")
        assert torch.equal(amc.load(path)(data), result.network(data))


def _refused(distribution: str) -> None:
    """Whoever asks for a plugin of an absent distribution, or for its op, is told what to install."""
    asks: list[Callable[[], object]] = []
    for kind, names in DISTRIBUTIONS[distribution].items():
        asks += [partial(registry().spec, kind, name) for name in names.split()]
        if kind == "layer_handlers":
            asks += [partial(registry().handler_for_op, op) for op, name in OPS.items() if name in names.split()]
    for ask in asks:
        try:
            ask()
        except AmcError as error:
            assert error.hint == f"pip install {distribution}", (error, error.hint)
        else:
            raise AssertionError(f"{ask} works without {distribution}")


def main() -> None:
    """Fork for every cell and print what became of it."""
    folder = Path(sys.argv[1])
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is not None:
            importlib.import_module(library)
    assert registry().records() == []
    everything = list(BUILT_IN)
    _cell("the core alone", folder, [], core_alone)
    for one in everything:
        _cell(f"only {one}", folder, [one], lambda: only(one))  # noqa: B023
        _cell(f"without {one}", folder, [other for other in everything if other != one], lambda: without(one))  # noqa: B023


def _cell(name: str, folder: Path, there: list[str], look: Callable[[], None]) -> None:
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        problem = None
        os.close(reader)
        try:
            os.dup2(2, 1)  # what a plugin prints is no answer
            sys.path += [part for one in there for part in (str(folder / one), str(BUILT_IN[one] / "src"))]
            importlib.invalidate_caches()
            reset_registry()
            look()
        except BaseException:  # noqa: BLE001 - told to the parent
            problem = traceback.format_exc()
        os.write(writer, json.dumps(problem).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    sys.stdout.write(json.dumps({"cell": name, "problem": json.loads(said or '"it died"')}) + "\n")


if __name__ == "__main__":
    importlib.import_module("tests.matrix.smoke").main()  # `Double` must have the name that it is registered under
