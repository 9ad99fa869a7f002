"""Drawing a network as SVG, PNG or an interactive page, with pip packages alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.core.errors import AmcError, SettingsError
from amc_plugins.exporting import atomic_write

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["SUFFIXES", "draw", "draw_all"]

SUFFIXES = (".svg", ".png", ".html")


def draw(
    network: ReconstructedNetwork,
    path: str | os.PathLike[str],
    *,
    before: ReconstructedNetwork | None = None,
    title: str | None = None,
    inputs: Sequence[Any] = (),
) -> Path:
    """Draw a network: every layer with its name, type, output shape, MACs and parameters.

    Args:
        network: a captured network, or what compression or training made of one.
        path: the file; its suffix chooses `.svg`, `.png` (light, two pixels to a unit) or `.html` (one self-contained page to
            pan, zoom and search; a click shows a layer's parameters and source line).
        before: the network that this one was made from: what changed is marked, with channels and MACs before and after.
        title: default: the file's name.
        inputs: example inputs, for shapes other than the captured ones.

    Returns:
        The path. Equal networks give equal bytes.

    Raises:
        SettingsError: another suffix.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise SettingsError(f"drawings are {', '.join(SUFFIXES)}, given was `{path.name}`", hint="the suffix chooses the form")
    return draw_all(network, [path], before=before, title=title, inputs=inputs)[0]


def draw_all(
    network: ReconstructedNetwork,
    paths: Sequence[Path],
    *,
    before: ReconstructedNetwork | None = None,
    title: str | None = None,
    inputs: Sequence[Any] = (),
) -> list[Path]:
    """Draw one layout into several files, each with a suffix of `SUFFIXES`."""
    from amc_plugins.core.drawing.picture import picture_of
    from amc_plugins.core.drawing.scene import scene_of

    for one in (network, before):
        if one is not None and not hasattr(one, "graph"):
            raise AmcError(
                f"a captured network is needed, given was a {type(one).__name__}",
                hint="network = amc.capture(model, example_input)",
            )
    picture = picture_of(network, before=before, title=title or paths[0].stem, inputs=inputs)
    scene = scene_of(picture)
    for path in paths:
        with atomic_write(path) as temporary:
            if path.suffix == ".svg":
                from amc_plugins.core.drawing.svg import svg_file

                temporary.write_text(svg_file(picture, scene), encoding="utf-8")
            elif path.suffix == ".png":
                from amc_plugins.core.drawing.png import write_png

                write_png(scene, temporary)
            else:
                from amc_plugins.core.drawing.page import page_of

                temporary.write_text(page_of(picture), encoding="utf-8")
    return list(paths)
