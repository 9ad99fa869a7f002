"""Hooks of mkdocs: the generated pages, files from outside docs/, links out of the site, formulas without JavaScript.

The site is complete in itself: it opens from a disk without a network.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import reference  # noqa: E402 - needs the path

ELSEWHERE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages whose source lies outside docs/: path in the site -> path in the repository."""


def sources() -> dict[str, str]:
    """Path in the site -> path in the repository, for every page that is not below docs/."""
    results = {f"results/{path.name}": f"benchmarks/results/{path.name}" for path in (ROOT / "benchmarks/results").glob("*.md")}
    return {**ELSEWHERE, "benchmarks-how.md": "benchmarks/README.md", **results}


def on_config(config: Any) -> Any:
    """Navigation to what grows: results and decisions."""
    background = next(part["Background"] for part in config.nav if isinstance(part, dict) and "Background" in part)
    named = {title: pages for part in background if isinstance(part, dict) for title, pages in part.items()}
    named["Benchmarks"] += sorted(path for path in sources() if path.startswith("results/"))
    named["Decisions"] += [f"adr/{path.name}" for path in sorted((ROOT / "docs/adr").glob("0*.md"))]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add what does not lie below docs/."""
    for path, source in sources().items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    results = [(path, (ROOT / source).read_text(encoding="utf-8")) for path, source in sources().items() if "results/" in path]
    files.append(File.generated(config, "benchmarks.md", content=reference.benchmarks_page(sorted(results))))
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    return files


LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(\s*)(`{3,}|~{3,}).*?^\1\2\s*?$", re.M | re.S)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files of the repository lead to their page in the site, or become the path as text if they have none."""
    path = page.file.src_uri
    source = PurePosixPath(sources().get(path, f"docs/{path}"))
    pages = {target: page_path for page_path, target in sources().items()}

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        address, _, anchor = target.partition("#")
        if not address or re.match(r"[a-z]+:", address) or path == "benchmarks.md" or path.startswith("reference/"):
            return match[0]
        resolved = os.path.normpath(source.parent / address)
        if not (ROOT / resolved).exists() and files.get_file_from_path(resolved.removeprefix("docs/")) is None:
            raise PluginError(f"{source}: `{target}` leads nowhere")
        inside = pages.get(resolved) or (resolved.removeprefix("docs/") if resolved.startswith("docs/") else None)
        if inside is None:
            name = resolved if re.fullmatch(r"[\w./-]+", text) else f"{text}` (`{resolved}"
            return f"`{name}`" if name == resolved else f"{text} (`{resolved}`)"
        if (ROOT / resolved).is_dir():
            inside = f"{inside}/README.md"
        relative = os.path.relpath(inside, PurePosixPath(path).parent)
        return f"[{text}]({relative}{'#' + anchor if anchor else ''})"

    return _outside_fences(markdown, lambda text: LINK.sub(link, text))


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    done, end = [], 0
    for fence in FENCE.finditer(markdown):
        done += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*done, change(markdown[end:])])


MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers set by themselves. A formula that is no LaTeX ends the build."""

    def math(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        markup = convert(html.unescape(match[3]).strip(), display=display)
        if "\\" in markup:
            raise PluginError(f"a formula has a command that is not known: {match[3]}")
        return f'<div class="math">{markup}</div>' if display == "block" else markup

    return MATH.sub(math, content)
