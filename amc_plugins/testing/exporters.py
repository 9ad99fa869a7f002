"""Checks of exporters, on small networks."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

import torch

from amc_plugins.core.engine import random_inputs
from amc_plugins.core.errors import AmcError, CheckFailed, UnsupportedOpError
from amc_plugins.core.loading import import_target
from amc_plugins.core.specs import ExporterSpec
from amc_plugins.exporting import Engine, Exporter, MissingEngineError
from amc_plugins.graph import ReconstructedNetwork, describe
from amc_plugins.testing.checks import DoesNotApply, Subject, check
from amc_plugins.testing.declarations import imported_by
from amc_plugins.testing.rebuilt import assert_same_outputs
from amc_plugins.testing.scenes import branching, residual, two_inputs, with_unknown_call
from amc_plugins.testing.unchanged import assert_untouched, fingerprint, steady_random_states

__all__ = ["Under"]

NETWORKS = {"residual": residual, "branching": branching, "two inputs": two_inputs}


class Under(Subject):
    """An exporter."""

    @property
    def suffix(self) -> str:
        assert isinstance(self.spec, ExporterSpec)
        return self.spec.suffixes[0]

    @property
    def loads(self) -> bool:
        assert isinstance(self.spec, ExporterSpec)
        return self.spec.loads

    @cached_property
    def exporter(self) -> Exporter:
        made: Exporter = self.make()
        return made

    @contextlib.contextmanager
    def file(self, network: ReconstructedNetwork | None = None) -> Iterator[Path]:
        """A path in a folder of its own, with the network written to it if one is given."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"network{self.suffix}"
            if network is not None:
                self.exporter.export(network, path)
            yield path

    def only_if_it_loads(self) -> None:
        if not self.loads:
            raise DoesNotApply("its files are not read back (`loads` is not set)")


@check("exporters")
def check_files_verify(subject: Under) -> None:
    """What it writes passes its own `verify`: residual, branching and several inputs with nested outputs; after training mode
    too.
    """
    for what, network in NETWORKS.items():
        one = network()
        with subject.file(one.train()) as path:
            assert path.is_file(), f"`export` wrote no file for the network with {what}"
            subject.exporter.verify(path, one, random_inputs(one))


@check("exporters")
def check_wrong_files_do_not_verify(subject: Under) -> None:
    """`verify` raises `CheckFailed` when one weight of the file is another."""
    network = residual()
    other = residual()
    with torch.no_grad():
        next(iter(other.layer("head").parameters()))[0, 0] += 0.5
    with subject.file(other) as path:
        try:
            subject.exporter.verify(path, network, random_inputs(network))
        except CheckFailed:
            return
        except Exception as error:
            raise AssertionError(f"a wrong file raises {type(error).__name__} ({error}) instead of CheckFailed") from error
    raise AssertionError("a file with another weight passes `verify`")


@check("exporters")
def check_round_trip(subject: Under) -> None:
    """A network that was written and read has the same document and gives the same bits."""
    subject.only_if_it_loads()
    for what, network in NETWORKS.items():
        one = network()
        with subject.file(one) as path:
            again = subject.exporter.load(path)
        assert_same_outputs(again, one, *random_inputs(one))
        assert describe(again).to_json() == describe(one).to_json(), f"the network with {what} comes back with another document"


@check("exporters")
def check_inputs_are_left_alone(subject: Under) -> None:
    """Writing and verifying change neither the network (tensors, modes, document) nor the inputs."""
    network = residual().train()
    inputs = random_inputs(network)
    before, data = fingerprint(network), fingerprint(inputs)
    with subject.file(network) as path:
        assert_untouched(network, before, "the network given to `export`")
        subject.exporter.verify(path, network, inputs)
    assert_untouched(network, before, "the network given to `verify`")
    assert_untouched(inputs, data, "the inputs given to `verify`")


@check("exporters")
def check_random_states_are_left_alone(subject: Under) -> None:
    """The global random states of Python, numpy and torch are as they were."""
    network = residual()
    with steady_random_states("the exporter"), subject.file(network) as path:
        subject.exporter.verify(path, network, random_inputs(network))
        if subject.loads:
            subject.exporter.load(path)


@check("exporters")
def check_repeatable(subject: Under) -> None:
    """The same network gives the same bytes, so files can be compared and cached."""
    with subject.file(residual()) as one, subject.file(residual()) as other:
        assert one.read_bytes() == other.read_bytes(), "two files of the same network differ"


@check("exporters")
def check_whole_or_not_at_all(subject: Under) -> None:
    """When the disk fails before the file is complete, the old file is as it was and no part of the new one stays."""
    network = residual()
    with subject.file() as path:
        path.write_bytes(b"the old file")
        broken = OSError(28, "no space left on device")
        with contextlib.ExitStack() as stack:
            for owner, name in ((os, "replace"), (os, "rename"), (os, "link"), (shutil, "move"), (shutil, "copyfile")):
                stack.enter_context(mock.patch.object(owner, name, side_effect=broken))
            stack.enter_context(contextlib.suppress(OSError, AmcError))
            subject.exporter.export(network, path)
        assert path.read_bytes() == b"the old file", "the old file is gone though the new one could not be put in its place"
        left = sorted(one.name for one in path.parent.iterdir() if one != path)
        assert not left, f"parts of the new file stay: {', '.join(left)}"


@check("exporters")
def check_unknown_calls_are_refused(subject: Under) -> None:
    """A network with a call that no handler covers is refused, by the name of the call and its source line; no file stays."""
    network = with_unknown_call()
    opaque = next(node for node in network.graph.nodes if node.op == "opaque")
    with subject.file() as path:
        try:
            subject.exporter.export(network, path)
        except UnsupportedOpError as error:
            assert "matrix_power" in str(error), f"the refusal does not name the call `torch.linalg.matrix_power`: {error}"
            assert str(opaque.source) in str(error), f"the refusal does not name the source line, {opaque.source}: {error}"
        except Exception as error:
            raise AssertionError(f"it raises {type(error).__name__} ({error}) instead of UnsupportedOpError") from error
        else:
            raise AssertionError("a network with an opaque call is written")
        left = sorted(one.name for one in path.parent.iterdir())
        assert not left, f"the refusal leaves {', '.join(left)}"


@check("exporters")
def check_damaged_files_are_refused(subject: Under) -> None:
    """Reading a file that is empty, cut off, of another kind, or not there is an `AmcError`, never something else."""
    subject.only_if_it_loads()
    with subject.file(residual()) as path:
        whole = path.read_bytes()
        damages: dict[str, Callable[[], object]] = {"an empty file": lambda: path.write_bytes(b"")}
        for share in (0.01, 0.3, 0.7, 0.99):
            damages[f"{share:.0%} of a file"] = partial(path.write_bytes, whole[: int(share * len(whole))])
        damages["a file of zeros"] = lambda: path.write_bytes(b"\0" * len(whole))
        damages["a text"] = lambda: path.write_text("not a network\n")
        damages["no file"] = path.unlink
        for what, damage in damages.items():
            damage()
            try:
                subject.exporter.load(path)
            except AmcError:
                continue
            except Exception as error:
                raise AssertionError(f"reading {what} raises {type(error).__name__} ({error}), not an AmcError") from error
            raise AssertionError(f"reading {what} gives a network")


@check("exporters")
def check_reading_is_declared(subject: Under) -> None:
    """`loads` says the truth: with it `load` reads the file, without it `load` refuses."""
    with subject.file(residual()) as path:
        try:
            subject.exporter.load(path)
        except UnsupportedOpError as error:
            assert not subject.loads, f"the declaration says loads=True, and `load` refuses: {error}"
            return
        assert subject.loads, "`load` reads the file, and the declaration does not say loads=True: `amc.load` will not find it"


@check("exporters")
def check_engines_agree(subject: Under) -> None:
    """Engines that it declares are imported without torch, and compute what the network does to 1e-3 of the largest output."""
    assert isinstance(subject.spec, ExporterSpec)
    if not subject.spec.engines:
        return
    missing = []
    network = residual()
    inputs = random_inputs(network, batch=1)
    with torch.no_grad():
        expected = network(*inputs)
    for name, target in subject.spec.engines.items():
        loaded = imported_by(target.partition(":")[0])
        assert not loaded, f"importing the engine `{name}` loads {loaded}"
        kind: type[Engine] = import_target(target)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"network{subject.suffix}"
            subject.make(**kind.settings(1)).export(network, path)
            try:
                (given,) = kind(path, 1)([one.numpy() for one in inputs])
            except MissingEngineError as error:
                missing.append(str(error))
                continue
        worst = float((torch.as_tensor(given) - expected).abs().max() / expected.abs().max())
        assert worst <= 1e-3, f"the engine `{name}` differs by {worst:.1e} of the largest output"
    if len(missing) == len(subject.spec.engines):
        raise DoesNotApply("; ".join(missing))
