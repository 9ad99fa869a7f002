"""The steps of the demo, through the public API: what a user's own script and recipes would do."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import amc_plugins as amc
from amc_plugins.core.errors import AmcError, CheckFailed
from amc_plugins.core.objectives import accuracy
from amc_plugins.core.pipeline import done_before
from amc_plugins.core.recipe import read_recipe
from amc_plugins.demo import data, recipes
from amc_plugins.demo.network import fit, small_resnet
from amc_plugins.exporting import atomic_write

if TYPE_CHECKING:
    from amc_plugins.core.macs import Profile

__all__ = ["Branch", "Demo", "DemoResult", "Reload"]

MARKER = "demo.json"
WEIGHTS = "resnet.pt"
TRAINED = "trained.pkl"


@dataclass(frozen=True)
class Reload:
    """One exported file, and whether the network read from it gives the same bits on every test image."""

    path: Path
    bytes: int
    equal: bool


@dataclass
class Branch:
    """One recipe's run. `steps` are those of its results.json."""

    name: str
    profile: Profile
    """Of the final network."""
    steps: list[dict[str, Any]]
    reloads: list[Reload]
    report: Path | None


@dataclass
class DemoResult:
    """All figures of the demo."""

    folder: Path
    profile: Profile
    """Of the network as captured."""
    accuracy: dict[str, float]
    seconds: float
    """Of training the network."""
    branches: list[Branch] = field(default_factory=list)


class Demo:
    """The main job in a folder of its own.

    Args:
        folder: made when missing. An earlier demo there is replaced, unless it is resumed; anything else is left alone.
        quick: a smaller network, trained less.
        say: told what happens, in one line a step.
    """

    def __init__(self, folder: Path, *, quick: bool = False, say: Callable[[str], object] = lambda line: None) -> None:
        self.folder = folder
        self.quick = quick
        self.say = say

    def run(self, *, resume: bool = False, observers: Iterable[object] = ()) -> DemoResult:
        """Do everything that is not done yet.

        Raises:
            AmcError: the folder is somebody else's, scikit-learn or a plugin is missing.
            CheckFailed: an accuracy floor is missed, or a file does not give the same bits.
        """
        self._open_folder(resume)
        with _one_thread():
            state = self._state()
            if "seconds" in state:
                self.say(f"train      kept from before: {self.folder / WEIGHTS}")
            else:
                state["seconds"] = self._trained()
                self._write_state(state)
            result = self._captured(state["seconds"])
            for name, method in recipes.BRANCHES.items():
                path = self.folder / f"{name}.toml"
                path.write_text(recipes.text(name, method, quick=self.quick), encoding="utf-8")
                result.branches.append(self._branch(name, path, observers))
        return result

    # --- the folder ---

    def _open_folder(self, resume: bool) -> None:
        marker = self.folder / MARKER
        if marker.is_file():
            if resume:
                if self._state()["quick"] != self.quick:
                    other = "with" if not self.quick else "without"
                    raise AmcError(f"the demo in `{self.folder}` was started {other} --quick", hint="resume it the same way")
                return
            self.say(f"replacing the earlier demo in {self.folder}; --resume goes on with one that was interrupted")
            for name in recipes.BRANCHES:
                shutil.rmtree(self.folder / name, ignore_errors=True)
                (self.folder / f"{name}.toml").unlink(missing_ok=True)
            for name in (WEIGHTS, TRAINED):
                (self.folder / name).unlink(missing_ok=True)
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise AmcError(f"`{self.folder}` exists and is no demo's folder", hint="give an empty or a new one with --folder")
        elif resume:
            raise AmcError(f"there is no demo to resume in `{self.folder}`", hint="leave --resume out to start one")
        self._write_state({"quick": self.quick})

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / MARKER).read_text(encoding="utf-8"))
        return found

    def _write_state(self, state: dict[str, Any]) -> None:
        with atomic_write(self.folder / MARKER, durable=True) as temporary:
            temporary.write_text(json.dumps(state), encoding="utf-8")

    # --- the steps ---

    def _trained(self) -> float:
        """Train the network as any PyTorch program would, and keep its weights. Returns the seconds it took."""
        width, epochs = recipes.size(self.quick)
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = small_resnet(width)
            fit(network, data.train(), epochs=epochs)
        seconds = time.perf_counter() - started
        with atomic_write(self.folder / WEIGHTS, durable=True) as temporary:
            torch.save(network.state_dict(), temporary)
        self.say(f"train      a residual network of {width} to {4 * width} channels, {epochs} epochs  ({seconds:.1f} s)")
        return seconds

    def _captured(self, seconds: float) -> DemoResult:
        with torch.random.fork_rng(devices=[]):  # making it draws weights
            model = small_resnet(recipes.size(self.quick)[0]).eval()
        model.load_state_dict(torch.load(self.folder / WEIGHTS, weights_only=True))
        network = amc.capture(model, data.images("test")[0][:1])
        groups = amc.channel_groups(network)
        free = sum(not group.pinned for group in groups)
        self.say(f"capture    {len(network.graph.nodes)} calls recorded; {free} groups of channels can be pruned")
        profile = amc.profile(network)
        self.say(f"profile    {profile.total_macs:,} multiply-adds, {profile.total_parameters:,} parameters")
        amc.export(network, "pkl", self.folder / TRAINED)
        found = {"validation": accuracy(network, data.validation()), "test": accuracy(network, data.test())}
        return DemoResult(self.folder, profile, found, seconds)

    def _branch(self, name: str, recipe: Path, observers: Iterable[object]) -> Branch:
        """One recipe from start to end, and its files read back."""
        if kept := done_before(read_recipe(recipe), self.folder):
            self.say(f"{name:<10} kept from before: {', '.join(kept)}")
        run = amc.run(recipe, observers=observers)
        compress, retrain = (next(step for step in run.steps if step["kind"] == kind) for kind in ("compress", "train"))
        removed = compress["detail"]["removed"]
        self.say(f"{name:<10} {removed:.1%} of the multiply-adds removed  ({compress['seconds']:.1f} s)")
        self.say(f"  retrain  {retrain['detail']['epochs']} epochs  ({retrain['seconds']:.1f} s)")
        pixels, _ = data.images("test")
        with torch.no_grad():
            expected = run.network.eval()(pixels)
            reloads = [
                Reload(self._shown(path), path.stat().st_size, torch.equal(amc.load(path).eval()(pixels), expected))
                for path in run.files
                if path.suffix != ".html"
            ]
        self.say(f"  export   {', '.join(one.path.name for one in reloads)}; each read back")
        different = [str(one.path) for one in reloads if not one.equal]
        if different:
            raise CheckFailed(f"read back, {', '.join(different)} does not give the same bits")
        report = next((path for path in run.files if path.suffix == ".html"), None)
        return Branch(name, amc.profile(run.network), run.steps, reloads, report and self._shown(report))

    def _shown(self, path: Path) -> Path:
        """A file of a run as the folder was given."""
        return self.folder / path.resolve().relative_to(self.folder.resolve())


@contextmanager
def _one_thread() -> Iterator[None]:
    """The network is too small for more; and so the figures do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
