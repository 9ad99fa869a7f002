"""The documentation site: it builds without a warning, needs no network, and every hook, setting, command and name is in it."""

from __future__ import annotations

import html
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pluggy
import pytest
import typer

import amc_plugins as amc
from amc_plugins.cli.app import app
from amc_plugins.core import hookspecs
from amc_plugins.core.discovery import KINDS
from amc_plugins.core.recipe import Recipe
from amc_plugins.core.registry import registry
from scripts.reference import AUTHOR_MODULES
from tests.matrix.places import BUILT_IN
from tests.test_architecture import ROOT

pytestmark = pytest.mark.needs(*BUILT_IN)  # the reference describes all of them

WITH_SETTINGS = [kind for kind in KINDS if kind != "layer_handlers"]
AWAY = re.compile(r"(?:https?:)?//", re.I)
ASKS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data|srcset)\s*=\s*["']?([^"'\s>]+)"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref\s*=\s*["']?([^"'\s>]+)"""
    r"""|url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""",
    re.I,
)
"""What a browser fetches by itself when it opens a page or a style sheet."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def text_of(markup: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).replace("¶", "").split())


def headings(page: str) -> dict[str, str]:
    """Anchor -> text of every heading."""
    found = re.findall(r'<h[1-6] id="([^"]+)"[^>]*>(.*?)</h[1-6]>', page, re.S)
    return {anchor: text_of(markup) for anchor, markup in found}


def section(page: str, anchor: str) -> str:
    """The markup from a heading of level 2 to the next."""
    start = page.index(f'<h2 id="{anchor}"')
    end = page.find("<h2 ", start + 1)
    return page[start : end if end > 0 else len(page)]


def table_rows(markup: str) -> dict[str, list[str]]:
    """First cell -> all cells, of every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", markup, re.S)
    cells = [[text_of(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows]
    return {row[0]: row for row in cells if row}


def test_opening_a_page_asks_for_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 50
    asked = [
        (page.name, one) for page in pages for match in ASKS.findall(page.read_text(encoding="utf-8")) for one in match if one
    ]
    assert len(asked) > 100
    assert not [one for one in asked if AWAY.match(one[1])]
    for page in site.rglob("*.html"):
        for _, one in [pair for pair in asked if pair[0] == page.name and "{" not in pair[1]]:
            assert not one.startswith("/") or page.name == "404.html", f"{page}: {one} does not open from a disk"


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """Those of the other pages are checked when the site is built."""
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 5
    for link in links:
        assert AWAY.match(link) or (ROOT / link).exists(), link


def test_no_page_makes_the_theme_fetch_a_script(site: Path) -> None:
    """Diagrams are the one thing for which it would."""
    for page in site.rglob("*.html"):
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), page


def test_formulas_are_set_by_the_browser(site: Path) -> None:
    page = (site / "algorithms" / "pruning.html").read_text(encoding="utf-8")
    assert page.count("<math") > 30
    for one in site.rglob("*.html"):
        assert "arithmatex" not in one.read_text(encoding="utf-8"), f"{one}: a formula is left as LaTeX"


def test_search_finds_the_reference(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {one["location"] for one in index["docs"]}
    assert {"reference/hooks.html#amc_epoch_ended", "reference/compressors.html#pruning", "index.html"} <= places


# --- hooks ----------------------------------------------------------------------------------------------------------------


def hooks() -> dict[str, tuple[str, ...]]:
    """Name -> arguments, as pluggy sees them."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    found = {name: caller.spec for name, caller in vars(manager.hook).items() if isinstance(caller, pluggy.HookCaller)}
    return {name: tuple(spec.argnames) for name, spec in found.items() if spec is not None}


@pytest.mark.parametrize("name", sorted(hooks()))
def test_every_hook_has_its_exact_arguments_and_a_description(site: Path, name: str) -> None:
    page = (site / "reference" / "hooks.html").read_text(encoding="utf-8")
    arguments = hooks()[name]
    assert headings(page)[name] == f"{name}({', '.join(arguments)})"
    function = getattr(hookspecs, name)
    assert inspect.getdoc(function), "a hook without a description"
    shown = page[page.index(f'<h3 id="{name}"') :]
    rows = table_rows(shown[: shown.index("<h3 ", 1)] if "<h3 " in shown[1:] else shown)
    assert set(rows) == set(arguments)
    for argument, (_, kind) in rows.items():
        assert kind == inspect.signature(function).parameters[argument].annotation


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_SETTINGS)
def test_every_setting_of_every_plugin_has_its_default_and_a_description(site: Path, kind: str) -> None:
    page = (site / "reference" / f"{kind}.html").read_text(encoding="utf-8")
    specs = registry().specs(kind)
    assert specs
    for spec in specs:
        shown = section(page, spec.name)
        assert spec.summary.lower().rstrip(".") in text_of(shown).lower()
        rows = table_rows(shown)
        fields = spec.settings.model_fields  # type: ignore[attr-defined]
        assert {name for name in rows if "." not in name} == set(fields), spec.name
        for name, field in fields.items():
            assert field.description, f"{spec.name}.{name} has no description"
            default, meaning = rows[name][2], rows[name][3]
            words = " ".join(field.description.replace("`", "").split())
            assert meaning.startswith(words), f"{spec.name}.{name}"
            if not field.is_required():
                given = field.get_default(call_default_factory=True)
                assert json.loads(default) == json.loads(json.dumps(given, default=dump)), f"{spec.name}.{name}"


def dump(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def test_every_layer_handler_is_listed(site: Path) -> None:
    rows = table_rows((site / "reference" / "layer-handlers.html").read_text(encoding="utf-8"))
    assert set(rows) == {spec.name for spec in registry().specs("layer_handlers")}
    for spec in registry().specs("layer_handlers"):
        assert rows[spec.name][1] == spec.op  # type: ignore[attr-defined]


def test_every_table_and_key_of_a_recipe_has_a_description(site: Path) -> None:
    page = (site / "reference" / "recipe.html").read_text(encoding="utf-8")
    plain = table_rows(page)
    for name, field in Recipe.model_fields.items():
        models = [one for one in [field.annotation, *getattr(field.annotation, "__args__", ())] if hasattr(one, "model_fields")]
        if not models:
            assert field.description and name in plain, name
        for model in models:
            rows = table_rows(section(page, name))
            assert set(rows) == set(model.model_fields), name
            for key, one in model.model_fields.items():
                assert one.description, f"[{name}] {key} has no description"
                assert rows[key][3], f"[{name}] {key}"


# --- commands -------------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """`amc plugins list` -> its command, for every command of every group."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", {})
        yield from [(name, command)] if not inner else []
        for word, one in inner.items():
            yield from walk(f"{name} {word}", one) if not one.hidden else ()

    return dict(walk("amc", typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_its_arguments_and_options(site: Path, name: str) -> None:
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    shown = section(page, name.replace(" ", "-"))
    command = commands()[name]
    assert headings(page)[name.replace(" ", "-")] == name
    summary = " ".join((command.help or "").split("\n\n")[0].replace("`", "").split())
    assert summary and summary in text_of(shown), "the first sentence of the help"
    rows = table_rows(shown)
    spelled = {word for row in rows for word in row.replace(",", " ").replace("[", " ").replace("]", " ").split()}
    usage = text_of(shown)
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        assert getattr(one, "help", None), f"{name}: {one.name} has no help"
        if one.param_type_name == "argument":
            metavar = (one.metavar or one.name.upper()).strip("{}[]")
            assert metavar in spelled and metavar in usage, f"{name}: {metavar}"
        else:
            assert {*one.opts, *one.secondary_opts} <= spelled, f"{name}: {one.opts}"
    assert len(rows) == sum(not getattr(one, "hidden", False) for one in command.params)


# --- names of Python --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["amc_plugins", *(f"amc_plugins.{one}" for one in AUTHOR_MODULES)])
def test_every_public_name_is_documented(site: Path, module: str) -> None:
    page = "python" if module == "amc_plugins" else f"author-{module.rpartition('.')[2]}"
    markup = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'\bid="([^"]+)"', markup))
    for name in import_module(module).__all__:
        if not name.startswith("__"):
            assert f"{module}.{name}" in anchors or headings_of(anchors, name), f"{module}.{name}"
    for name, one in ((name, getattr(import_module(module), name)) for name in amc.__all__ if module == "amc_plugins"):
        if callable(one):
            assert inspect.getdoc(one), name


def headings_of(anchors: set[str], name: str) -> bool:
    """A name that is imported from elsewhere has the anchor of its home."""
    return any(anchor.endswith(f".{name}") and anchor.startswith("amc_plugins.") for anchor in anchors)


def test_the_modules_of_the_author_are_those_that_plugins_may_import() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for module in AUTHOR_MODULES:
        assert re.search(rf"`(amc_plugins\.)?{module}`", told), module
