"""The fenced code blocks of the documentation, and what running them means.

A page's blocks run in order, in one folder and one Python namespace:

- `python`: executed. With `title="model.py"`: written to that file instead.
- `sh`: every command runs: `amc`, `cd`, `cat`, `pip install`, `python -c` and `pytest`. Anything else is refused.
- `toml`: must be TOML. With a title it is written to that file, and a recipe must validate.
- `text title="output"`: what the block before it printed, to the letter, where `...` stands for what is left out;
  `title="output (figures may differ)"`: but for numbers.
- `text`, `ini`, `json`, ...: not code to run.

A block that cannot run here says so where readers see it: `title="not run in the tests: <reason>"`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_plugins.cli import app as cli
from amc_plugins.core.registry import reset_registry

__all__ = ["SHOWN", "Block", "Page", "blocks", "unfenced"]

NOT_RUN = "not run in the tests: "
EXACT, LOOSE = "output", "output (figures may differ)"
RUN = ("python", "sh", "toml")
SHOWN = ("text", "json", "ini", "console", "c", "cpp")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?: +title=\"(?P<title>[^\"]*)\")?[^\n]*\n(?P<code>.*?)^ *```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of code, counted from 1."""

    path: Path
    line: int
    language: str
    title: str
    code: str

    @property
    def why_not_run(self) -> str | None:
        """The reason that its title gives, None for a block that runs."""
        return self.title.removeprefix(NOT_RUN).strip() if self.title.startswith(NOT_RUN) else None

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] if line.strip() else "\n" for line in match["code"].splitlines(keepends=True))
        found.append(Block(path, text.count("\n", 0, match.start("code")) + 1, match["language"], match["title"] or "", code))
    return found


def unfenced(path: Path) -> list[str]:
    """Lines of a page that Markdown takes for code without a fence: an indented block after an empty line."""
    text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), path.read_text(encoding="utf-8"))
    lines = text.splitlines()
    found, inside_list = [], False
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*([-*+]|\d+\.|!!!|\?\?\?|===) ", line):
            inside_list = True
        elif line.strip() and not line.startswith(" "):
            inside_list = False
        elif line.startswith("    ") and line.strip() and not inside_list and (number == 1 or not lines[number - 2].strip()):
            found.append(f"{path.name}:{number}: {line.strip()}")
    return found


class Page:
    """One page while its blocks run; `folder` must be the working folder."""

    def __init__(self, path: Path, folder: Path, given: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.folder = folder
        name = re.sub(r"\W", "_", path.stem)
        self.module = types.ModuleType(f"page_{name}")
        self.module.__dict__.update(given or {})
        self.printed = ""

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Modules of the folder can be imported, and are forgotten afterwards; so is what the blocks define."""
        before, path = set(sys.modules), list(sys.path)
        sys.modules[self.module.__name__] = self.module
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            sys.path[:] = path
            del sys.modules[self.module.__name__]
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(self.folder)):
                    del sys.modules[name]

    def run(self, block: Block) -> None:
        """Run one block; what it prints is kept for the output that may follow."""
        if block.why_not_run is not None:
            return
        if block.title in (EXACT, LOOSE):
            self._compare(block)
        elif block.title and block.language in RUN:
            target = self.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code, encoding="utf-8")
            if block.language == "toml":
                self._check_toml(block, target)
        elif block.language in RUN:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                getattr(self, f"_{block.language}")(block)
            self.printed = out.getvalue()

    def _python(self, block: Block) -> None:
        """Tracebacks show the page and its lines."""
        source = "\n" * (block.line - 1) + block.code
        exec(compile(source, str(block.path), "exec"), self.module.__dict__)

    def _toml(self, block: Block) -> None:
        tomllib.loads(block.code)

    def _check_toml(self, block: Block, path: Path) -> None:
        plain = tomllib.loads(block.code)
        if "compress" in plain:
            from amc_plugins.core.recipe import read_recipe

            read_recipe(path)

    def _sh(self, block: Block) -> None:
        for words in _commands(block):
            if words[0] == "amc":
                code = cli.run(words[1:])
                assert code == 0, f"{block}: `{shlex.join(words)}` ends with exit code {code}"
            elif words[0] == "cd":
                os.chdir(words[1])
            elif words[:2] == ["pip", "install"]:
                self._install(words[2:])
            elif words == ["pytest"]:
                self._new_python("-m", "pytest", "-q", "-p", "no:cacheprovider")
            elif words[:2] == ["python", "-c"]:
                sys.stdout.write(self._new_python(*words[1:]))
            elif words[0] == "cat":
                sys.stdout.write(Path(words[1]).read_text(encoding="utf-8"))
            else:
                raise AssertionError(f"{block}: `{words[0]}` cannot run here; title it `{NOT_RUN}<reason>`")

    def _install(self, words: list[str]) -> None:
        """What `pip install -e FOLDER` comes to, for this process: the entry points are found and the code can be imported.

        A distribution by its name is here already, under that name.
        """
        if words[0] != "-e":
            for name in words:
                importlib.metadata.distribution(name)
            return
        folder = Path(words[1].partition("[")[0]).resolve()
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = self.folder / ".installed" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        groups = project.get("entry-points", {}).items()
        lines = [
            line for group, named in groups for line in (f"[{group}]", *(f"{name} = {value}" for name, value in named.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for path in (str(info.parent), str(folder / "src")):
            if path not in sys.path:
                sys.path.insert(0, path)
        importlib.invalidate_caches()
        reset_registry()

    def _new_python(self, *arguments: str) -> str:
        """A new interpreter in the working folder, which has what was installed here; what it printed."""
        paths = [path for path in sys.path if path.startswith(str(self.folder))]
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _compare(self, block: Block) -> None:
        exact = block.title == EXACT
        expected, found = _comparable(block.code, exact), _comparable(self.printed, exact)
        pattern = r"[^\0]*".join(re.escape(part.strip()) for part in expected.split("..."))
        assert re.fullmatch(rf"\s*{pattern}\s*", found), f"{block}: expected\n{expected}\n\nprinted was\n{found}"


def _commands(block: Block) -> Iterator[list[str]]:
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def _comparable(text: str, exact: bool) -> str:
    """Without the width of columns, and unless they matter without numbers."""
    if not exact:
        text = re.sub(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?", "#", text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
