"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from amc_plugins.cli import app as cli
from amc_plugins.core import discovery
from amc_plugins.core.registry import reset_registry
from tests.work_files import Command, write_files

# Of tests/test_fuzz_graphs.py and other property tests without settings of their own: `make test` and `make fuzz`.
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=600, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile("quick")

TESTS = Path(__file__).resolve().parent
DISTS = TESTS / "fixtures" / "dists"


@pytest.fixture
def only_fixtures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`only_fixtures("good", ...)`: this process sees those distributions of tests/fixtures/dists and no other plugin."""
    read = discovery._read

    def ours() -> list[discovery.PluginRecord]:
        return [record for record in read() if discovery.normalized(record.distribution).startswith("amc-fixture")]

    monkeypatch.setattr(discovery, "_read", ours)
    monkeypatch.delenv("AMC_DISABLE", raising=False)
    before = set(sys.modules)
    reset_registry()

    def put(*folders: str | Path) -> None:
        for folder in folders:
            path = DISTS / folder  # an absolute path stays itself
            assert path.is_dir(), path
            monkeypatch.syspath_prepend(str(path))
        reset_registry()

    yield put
    reset_registry()
    for name in set(sys.modules) - before:
        if name.startswith("fixture_"):
            del sys.modules[name]


@pytest.fixture
def write_dist(tmp_path: Path) -> Callable[..., Path]:
    """`write_dist("name", {"tuners": {"x": "fixture_name"}}, source)`: a distribution of one module, for `only_fixtures`."""

    def write(name: str, entries: dict[str, dict[str, str]], source: str, version: str = "1.0") -> Path:
        folder = tmp_path / name
        info = folder / f"amc_fixture_{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: amc-fixture-{name}\nVersion: {version}\n")
        groups = [
            "\n".join([f"[amc_plugins.{kind}]", *(f"{entry} = {value}" for entry, value in named.items()), ""])
            for kind, named in entries.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        (folder / f"fixture_{name}.py").write_text(source)
        return folder

    return write


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python("-m", "amc_plugins", ..., dists=("good",))`: a new interpreter with those fixture distributions on its path."""

    def run(
        *arguments: str, dists: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(str(folder) for folder in (*(DISTS / name for name in dists), TESTS.parent))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AMC_", "_AMC"))}
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env={**clean, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(env or {})},
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def user_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `tests.work_files`, made once."""
    return write_files(tmp_path_factory.mktemp("user"))


@pytest.fixture
def here(user_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test, with the user's files in it."""
    for one in user_files.iterdir():
        if one.is_file():
            (tmp_path / one.name).write_bytes(one.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def amc_(capsys: pytest.CaptureFixture[str]) -> Command:
    """`amc_("compress", ...)`: exit code, stdout and stderr of a command in this process."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run
