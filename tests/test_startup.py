"""What starting costs: the package, help, the listing and completion load neither torch nor pydantic nor any plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import amc_plugins

Python = Callable[..., subprocess.CompletedProcess[str]]

BUDGET = 320
"""Modules that the listing may import; a minimal one with typer takes 258 on a terminal."""
HEAVY = ("torch", "numpy", "scipy", "sklearn", "pydantic")

REPORT = (
    "import json, sys, atexit\natexit.register(lambda: sys.stderr.write('\\nMODULES ' + json.dumps(sorted(sys.modules))))\n"
)
AMC = REPORT + "from amc_plugins.cli.app import main\nmain()\n"


def modules_after(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The modules that a process had imported when it ended."""
    _, found, listing = done.stderr.rpartition("\nMODULES ")
    assert found, done.stderr
    return set(json.loads(listing))


def plugin_modules(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(("fixture_", "amc_")) and name.partition(".")[0] != "amc_plugins"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["plugins", "--help"],
        ["plugins", "list"],
        ["plugins", "list", "--json", "--kind", "compressor"],
        ["-vv", "--disable", "keep-first", "plugins", "list"],
    ],
    ids=" ".join,
)
def test_help_and_listing_load_nothing_heavy_and_no_plugin(python: Python, arguments: list[str]) -> None:
    done = python("-c", AMC, *arguments, dists=("good", "system_exit", "duplicate_a", "duplicate_b"))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    modules = modules_after(done)
    assert modules & {*HEAVY, "pluggy"} == set()
    assert plugin_modules(modules) == set()
    assert len(modules) <= BUDGET


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("amc plugins show kee", "keep-first"),
        ("amc --disable kee", "keep-first"),
        ("amc --disable amc-fix", "amc-fixture-good"),
    ],
)
def test_completion_loads_nothing_heavy_and_no_plugin(python: Python, words: str, expected: str) -> None:
    env = {"_AMC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = python("-c", AMC, dists=("good",), env=env)
    assert done.stdout.split() == [expected]
    modules = modules_after(done)
    assert modules & {*HEAVY, "pluggy"} == set()
    assert plugin_modules(modules) == set()


COMPRESS = "amc compress model.py : net keep-first --calibration data.py : images --set"
"""As bash hands it over: split at every `:` and `=`."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f"{COMPRESS} ", {"share=", "norm=", "skip=", "limit=", "sorted=", "schedule="}),
        (f"{COMPRESS} no", {"norm=l1", "norm=l2"}),
        (f"{COMPRESS} norm =", {"l1", "l2"}),
        (f"{COMPRESS} norm = l2", {"l2"}),
        (f"{COMPRESS} sorted = t", {"true"}),
        (f"{COMPRESS} sh", {"share=0.5"}),
        (f"{COMPRESS} li", {"limit="}),
        ("amc compress model.py : net nobody --set ", set()),
        ("amc plugins check keep-first --set no", {"norm=l1", "norm=l2"}),
        ("amc train a.pkl keep-first --set ", set()),
    ],
)
def test_completion_of_settings_loads_the_one_declaration(python: Python, words: str, expected: set[str]) -> None:
    """Pydantic, which declares settings, and the plugin's light module; no torch, no other plugin."""
    count = len(words.split()) - (not words.endswith(" "))
    env = {"_AMC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = python("-c", AMC, dists=("good", "system_exit"), env=env)
    assert set(done.stdout.split()) == expected, done.stderr
    modules = modules_after(done)
    assert modules & {"torch", "numpy", "scipy", "sklearn", "rich"} == set()
    assert {name.partition(".")[0] for name in plugin_modules(modules)} <= {"fixture_good"}
    assert "fixture_good._impl" not in modules


def test_other_shells_get_the_whole_word(python: Python) -> None:
    env = {"_AMC_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    line = "amc compress model.py:net keep-first --set norm="
    done = python("-c", AMC, dists=("good",), env={**env, "_TYPER_COMPLETE_ARGS": line})
    assert done.stdout.split() == ["norm=l1", "norm=l2"]


def test_completion_of_a_recipes_settings(python: Python, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[compress]\nmethod = "keep-first"\n')
    for line, expected in (
        ("run recipe.toml --set compress.settings.no", ["norm=l1", "norm=l2"]),
        ("run recipe.toml --set compress.all", ["allocation=curves", "allocation=uniform"]),
        ("run recipe.toml --set see", ["seed=0"]),
        ("recipe init --compressor keep-first --set compress.settings.no", ["norm=l1", "norm=l2"]),
        ("recipe init --set compress.settings.no", []),
    ):
        env = {"_AMC_COMPLETE": "complete_bash", "COMP_WORDS": f"amc {line}", "COMP_CWORD": str(1 + line.count(" "))}
        done = python("-c", AMC, dists=("good",), env=env)
        found = [one.rpartition(".")[2] for one in done.stdout.split()]
        assert found == expected, done.stderr
        assert "torch" not in modules_after(done)


@pytest.mark.parametrize("count", [50])
def test_the_listing_of_many_distributions_imports_what_that_of_one_does(python: Python, tmp_path: Path, count: int) -> None:
    many = tmp_path / "many"
    for number in range(count):
        info = many / f"amc_fixture_many{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: amc-fixture-many{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[amc_plugins.compressors]\nmany-{number} = fixture_many{number}.plugin\n")
    one = python("-c", AMC, "plugins", "list", "--json", dists=("good",))
    all_of_them = python("-c", AMC, "plugins", "list", "--json", dists=("good", str(many)))
    assert all_of_them.returncode == 0, all_of_them.stderr
    names = {plugin["name"] for plugin in json.loads(all_of_them.stdout)["plugins"]}
    assert {f"many-{number}" for number in range(count)} <= names and "keep-first" in names
    assert modules_after(all_of_them) == modules_after(one)
    assert len(modules_after(all_of_them)) <= BUDGET


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_the_listing_on_a_terminal_keeps_to_the_budget(tmp_path: Path) -> None:
    """There rich draws the table."""
    import pty

    report = tmp_path / "modules.json"
    program = (
        "import atexit, json, sys\n"
        f"atexit.register(lambda: open({str(report)!r}, 'w').write(json.dumps(sorted(sys.modules))))\n"
        "from amc_plugins.cli.app import main\nmain()\n"
    )
    reader, writer = pty.openpty()
    root = Path(amc_plugins.__file__).parent.parent
    path = os.pathsep.join(str(one) for one in (root / "tests" / "fixtures" / "dists" / "good", root))
    process = subprocess.Popen(
        [sys.executable, "-c", program, "plugins", "list", "--kind", "compressors"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "TERM": "xterm"},
    )
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(reader)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 0, problems
    assert b"keep-first" in shown and "─".encode() in shown
    modules = set(json.loads(report.read_text()))
    assert "rich" in modules
    assert modules & {*HEAVY, "pluggy"} == set()
    assert len(modules) <= BUDGET


def test_importing_the_package_loads_next_to_nothing(python: Python) -> None:
    bare = modules_after(python("-c", REPORT))
    modules = modules_after(python("-c", REPORT + "import amc_plugins\ndir(amc_plugins)\n"))
    assert {name.partition(".")[0] for name in modules - bare} - sys.stdlib_module_names == {"amc_plugins"}
    assert "amc_plugins.core" not in modules
    assert len(modules - bare) <= 30


def test_asking_for_the_records_loads_no_plugin(python: Python) -> None:
    program = REPORT + "import amc_plugins as amc\nprint([record.name for record in amc.plugins('compressors')])\n"
    done = python("-c", program, dists=("good", "system_exit"))
    assert "keep-first" in done.stdout and "quitter" in done.stdout
    modules = modules_after(done)
    assert modules & {*HEAVY, "pluggy"} == set()
    assert plugin_modules(modules) == set()


def test_showing_a_plugin_loads_no_torch(python: Python) -> None:
    done = python("-c", AMC, "plugins", "show", "keep-first", dists=("good",))
    modules = modules_after(done)
    assert plugin_modules(modules) >= {"fixture_good.plugin"}
    assert "fixture_good._impl" not in modules
    assert modules & {"torch", "numpy", "scipy", "sklearn"} == set()


def test_the_probe_sees_what_is_imported(python: Python) -> None:
    """The meta-test: each of the assertions above can fail."""
    program = REPORT + "import amc_plugins as amc, torch\namc.register\n"
    modules = modules_after(python("-c", program))
    assert {"torch", "numpy", "pydantic", "pluggy"} <= modules
    assert len(modules) > BUDGET
    loaded = modules_after(python("-c", AMC, "plugins", "doctor", dists=("good",), env={"AMC_DISABLE": "squash"}))
    assert "fixture_good.plugin" in plugin_modules(loaded)


def test_every_name_of_the_users_api_is_lazy_and_there() -> None:
    assert amc_plugins.__version__ == "0.1.0"
    assert set(amc_plugins._WHERE) | {"__version__"} == set(amc_plugins.__all__)
    assert set(amc_plugins.__all__) <= set(dir(amc_plugins))
    for name in amc_plugins.__all__:
        assert getattr(amc_plugins, name) is not None, name
    with pytest.raises(AttributeError, match="module 'amc_plugins' has no attribute 'compres'"):
        _ = amc_plugins.compres  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(amc_plugins.__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    assert project["version"] == amc_plugins.__version__
