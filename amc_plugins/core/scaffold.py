"""New plugin distributions from templates: complete, small, and passing their own tests."""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amc_plugins import __version__
from amc_plugins.core.catalog import distribution_of
from amc_plugins.core.discovery import discover, kind_word
from amc_plugins.core.errors import AmcError, SettingsError, nearest

__all__ = ["TEMPLATES", "names_of", "write_distribution"]

TEMPLATES: dict[str, dict[str, Any]] = {
    "compressor": {
        "kind": "compressors",
        "summary": "keeps the channels with the largest filters, with bias compensation",
        "contract": "amc_plugins.compression.Compressor",
        "use": """Half of a network's multiply-adds go:

```sh
amc compress model.py:network {name} --input 1x3x32x32 --calibration data.py:images --total 0.5 -o small.json
```""",
    },
    "tuner": {
        "kind": "tuners",
        "summary": "hill climbing from the uniform candidate",
        "contract": "amc_plugins.tuning.Tuner",
        "use": """It searches how much to remove where:

```python
import amc_plugins as amc

plan = amc.prepare(network, "pruning", calibration=loader)
search = amc.tune(plan, "{name}", total=0.5, evaluations=100)
```""",
        "dependencies": ["numpy"],
    },
    "trainer": {
        "kind": "trainers",
        "summary": "stochastic gradient descent on labels, with a cosine learning rate",
        "contract": "amc_plugins.training.Trainer",
        "use": """It retrains a network, on batches of inputs and labels:

```python
import amc_plugins as amc

result = amc.train(network, "{name}", train=train_loader, validation=val_loader, epochs=5)
```""",
    },
    "exporter": {
        "kind": "exporters",
        "summary": "a NumPy archive: the graph as JSON, and one array a tensor",
        "contract": "amc_plugins.exporting.Exporter",
        "use": """Files `{suffix}` are written, and read by every command that takes a network:

```sh
amc export model.py:network {name} --input 1x3x32x32 -o model{suffix}
amc profile model{suffix}
```""",
        "dependencies": ["numpy"],
    },
    "layer-handler": {
        "kind": "layer_handlers",
        "summary": "a trained scale per channel",
        "contract": "amc_plugins.handlers.LayerHandler",
        "use": """Networks with a `{title}` are captured, compressed and saved as any others. With such a network in `mine.py`,

```python title="mine.py"
from torch import nn

from {package}.layers import {title}


def network():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), {title}(16), nn.ReLU(), nn.Conv2d(16, 8, 3))
```

every layer has its row, and none is opaque:

```sh
amc capture mine.py:network --input 1x3x32x32 --strict
amc profile mine.py:network --input 1x3x32x32
```""",
    },
    "observer": {
        "kind": "observers",
        "summary": "a CSV file of what happens in a run",
        "contract": "the observer hooks, for example `amc_epoch_ended(epoch, metrics)`",
        "use": """A run that names it leaves the file in its folder. In a recipe:

```toml
observers = ["{name}"]
```

or, for one run:

```sh
amc run recipe.toml --set 'observers=["{name}"]'
```""",
    },
}
"""What `amc new` takes -> the kind of plugin, and what the templates say of it."""

_FILES = {
    "pyproject.toml": "common/pyproject.toml.j2",
    "README.md": "common/README.md.j2",
    "src/{package}/__init__.py": "common/init.py.j2",
    "src/{package}/plugin.py": "{template}/plugin.py.j2",
    "src/{package}/_{ident}.py": "{template}/impl.py.j2",
    "tests/test_{ident}.py": "{template}/tests.py.j2",
}
_MORE = {
    "layer-handler": {
        "src/{package}/layers.py": "layer-handler/layers.py.j2",
        "src/{package}/_examples.py": "layer-handler/examples.py.j2",
    }
}
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_RESERVED = {"plugin", "layers", "examples"}
"""Modules that the templates have themselves."""


def names_of(what: str, name: str) -> dict[str, str]:
    """What everything is called: `distribution`, `package`, `ident` (of modules), `title` (of classes), `suffix` (of files).

    Raises:
        SettingsError: there is no such template, or the name is not one that pip, Python and users can all write.
        AmcError: a plugin or a package of that name is there already.
    """
    if what not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise SettingsError(f"there is no template `{what}`{nearest(what, TEMPLATES)}", hint=f"amc new makes: {known}")
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()).strip("-0123456789")
        meant = f"; did you mean `{better}`?" if _NAME.fullmatch(better) else ""
        raise SettingsError(
            f"`{name}` is no name for a plugin{meant}",
            hint="a name starts with a letter and has lower-case letters and digits, in parts joined by `-` or `_`",
        )
    ident = name.replace("-", "_")
    if keyword.iskeyword(ident) or ident in _RESERVED:
        raise SettingsError(f"`{name}` cannot be the name of a module", hint=f"for example `my-{name}`")
    kind = TEMPLATES[what]["kind"]
    owners = [record.source for record in discover(kind) if record.name == name]
    owners = owners or [one for one in (distribution_of(kind, name),) if one is not None]
    if owners:
        raise AmcError(f"there is a {kind_word(kind)} `{name}` already, of {owners[0]}", hint="choose another name")
    distribution = name.replace("_", "-")
    distribution = distribution if distribution.startswith("amc-") else f"amc-{distribution}"
    package = distribution.replace("-", "_")
    if find_spec(package) is not None:
        raise AmcError(f"there is an installed package `{package}` already", hint="choose another name")
    title = "".join(part.capitalize() for part in ident.split("_"))
    suffix = "." + ident.replace("_", "")
    return {"distribution": distribution, "package": package, "ident": ident, "title": title, "suffix": suffix, "name": name}


def write_distribution(what: str, name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write a new distribution and return its folder, by default `./<distribution>`. All of it appears at once, or nothing.

    Raises:
        SettingsError: see `names_of`.
        AmcError: the folder has something in it, or see `names_of`.
    """
    names = names_of(what, name)
    target = Path(names["distribution"] if folder is None else folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AmcError(f"`{target}` is there already; nothing is overwritten", hint="give another --folder, or remove it")
    parent = target.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{target.name}."))
    try:
        for path, text in _rendered(what, names):
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _rendered(what: str, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Paths of files, and what is in them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from amc_plugins.core.specs import AMC_API

    environment = Environment(
        loader=PackageLoader("amc_plugins.core", "templates/plugin"),
        autoescape=False,  # Python, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    major, minor = (int(part) for part in __version__.split(".")[:2])
    template = TEMPLATES[what]
    values = {
        "dependencies": [],
        **template,
        **names,
        "api": AMC_API,
        "word": kind_word(template["kind"]),
        "core": f"{major}.{minor}",
        "core_below": f"{major}.{minor + 1}",
        "use": template["use"].format(**names),
    }
    for path, source in {**_FILES, **_MORE.get(what, {})}.items():
        text = environment.get_template(source.format(template=what)).render(values)
        yield path.format(**names), text
    yield f"src/{names['package']}/py.typed", ""
