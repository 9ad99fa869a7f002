"""The musts of the design that can be read off the sources: who imports whom, what stays light, how long a module may be.

scripts/check_imports.py checks the run-time imports with import-linter; here are the checks that it cannot make.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from scripts.check_imports import ROOT, plugin_folders, plugin_packages

AUTHORS_API = {"compression", "document", "exporting", "graph", "handlers", "plugin", "testing", "training", "tuning"}
HEAVY = {"igraph", "jinja2", "numpy", "PIL", "rich", "scipy", "sklearn", "tensorboardX", "torch"}
LIGHT = [
    "amc_plugins",
    "amc_plugins.document",
    "amc_plugins.exporting",
    "amc_plugins.plugin",
    "amc_plugins.training",
    "amc_plugins.core.catalog",
    "amc_plugins.core.discovery",
    "amc_plugins.core.document",
    "amc_plugins.core.errors",
    "amc_plugins.core.handler_index",
    "amc_plugins.core.hookspecs",
    "amc_plugins.core.loading",
    "amc_plugins.core.names",
    "amc_plugins.core.recipe",
    "amc_plugins.core.registry",
    "amc_plugins.core.runs",
    "amc_plugins.core.specs",
    "amc_plugins.core.store",
    "amc_plugins.core.strict_json",
    "amc_plugins.core.validation",
]
"""Modules that load without torch and its friends; those of `cli` and every `plugin.py` are added below."""
LISTING = ["amc_plugins", "amc_plugins.cli.app", "amc_plugins.core.discovery"]
"""What `amc --help` and `amc plugins list` load: without pydantic too."""
LONGEST = 400


def _sources() -> dict[str, Path]:
    """Every module of the core and of the plugins, by dotted name."""
    packages = {"amc_plugins": ROOT / "amc_plugins", **plugin_packages()}
    found: dict[str, Path] = {}
    for name, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            found[".".join((name, *(part for part in inside if part != "__init__")))] = path
    return found


SOURCES = _sources()


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when the module is loaded: also inside classes, `if` and `try`, not inside functions."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif _is_type_checking(node):
            assert isinstance(node, ast.If)
            yield from _top_level(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level(handler.body)


def _targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What an import statement loads, as dotted names; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "relative imports are banned"
    base = node.module or ""
    inside = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in SOURCES]
    return [base, *inside]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _loads(root: str) -> dict[str, str]:
    """All that loading the module `root` loads, each with the module that asks for it."""
    asked_by = {root: ""}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        wanted = [target for node in _top_level(_tree(SOURCES[name]).body) for target in _targets(node)]
        for target in [name, *wanted]:
            parts = target.split(".")
            for end in range(1, len(parts) + 1):
                part = ".".join(parts[:end])
                if part not in asked_by:
                    asked_by[part] = name
                    if part in SOURCES:
                        waiting.append(part)
    return asked_by


def _chain(asked_by: dict[str, str], name: str) -> str:
    steps = [name]
    while asked_by.get(steps[-1]):
        steps.append(asked_by[steps[-1]])
    return " <- ".join(steps)


def _light_modules() -> list[str]:
    doors = [name for name in SOURCES if re.fullmatch(r"\w+\.plugin|amc_plugins\.cli(\.\w+)*", name)]
    return sorted({*LIGHT, *doors, *plugin_packages()})


@pytest.mark.parametrize("module", _light_modules())
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    asked_by = _loads(module)
    heavy = {name for name in asked_by if name in HEAVY}
    if module == "amc_plugins.cli.render":
        heavy.discard("rich")
    assert not heavy, "; ".join(_chain(asked_by, name) for name in sorted(heavy))


@pytest.mark.parametrize("module", LISTING)
def test_the_listing_loads_no_pydantic_and_no_plugin(module: str) -> None:
    asked_by = _loads(module)
    unwanted = {name for name in asked_by if name in {"pydantic", *plugin_packages()}}
    assert not unwanted, "; ".join(_chain(asked_by, name) for name in sorted(unwanted))


def test_the_analysis_sees_a_heavy_import() -> None:
    asked_by = _loads("amc_plugins.compression")
    assert "numpy" in _loads("amc_plugins.tuning")
    assert "torch" in asked_by
    assert _chain(asked_by, "torch").endswith("<- amc_plugins.compression")


@pytest.mark.parametrize("package", list(plugin_packages()))
def test_a_plugin_uses_only_the_authors_api(package: str) -> None:
    """Also under `TYPE_CHECKING`, inside functions and by name in a string."""
    others = {*plugin_packages()} - {package}
    allowed = {f"amc_plugins.{name}" for name in AUTHORS_API}
    allowed.add("amc_plugins.prepare")  # how a compressor gets the plan of another one, whoever wrote that
    wrong: list[str] = []
    for name, path in SOURCES.items():
        if name.partition(".")[0] != package:
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = modules if node.module == "amc_plugins" else [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                targets = [node.value] if re.fullmatch(r"amc_plugins\.core[\w.:]*", node.value) else []
            else:
                continue
            for target in targets:
                ours = target.partition(".")[0] == "amc_plugins" and ".".join(target.split(".")[:2]) not in allowed
                if ours or target.partition(".")[0] in others:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {target}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", plugin_folders(), ids=lambda folder: folder.name)
def test_the_tests_of_a_plugin_stay_out_of_the_core(folder: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(folder.glob("tests/**/*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        if any(target.startswith("amc_plugins.core") for target in _names(node))
    ]
    assert not wrong, "\n".join(wrong)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def test_no_module_is_longer_than_it_may_be() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES.values()}
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_all_its_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {int(path.name[:4])}\. \S", text)
    assert re.search(r"^\*\*Status:\*\* (proposed|accepted|superseded by \[\d{4}\])", text, flags=re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert "- Cost: " in text, "a decision names what it costs"
    assert f"({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8"), "docs/adr/README.md lists it"
