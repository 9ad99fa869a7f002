"""`amc plugins check`: the conformance checks of one plugin."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from amc_plugins.cli import plugins, render
from amc_plugins.cli.arguments import Json, SettingsOption, parse_settings

if TYPE_CHECKING:
    from amc_plugins.testing.checks import Outcome

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the command beside `amc plugins list`."""
    plugins.group.command("check")(check)


def check(
    name: plugins.Name,
    kind: plugins.Kind = None,
    settings: SettingsOption = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Run this check and not the others; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that a plugin keeps its contract.

    Runs the conformance checks of its kind on small networks and data; the exit code is 1 if one fails. A check that the
    plugin is known to fail, with a reason, shows as `known`.
    """
    from amc_plugins.core.errors import SettingsError, nearest
    from amc_plugins.testing.checks import plugin_checks

    checks = plugin_checks(name, kind=kind, settings=parse_settings(settings))
    names = {one.name for one in checks}
    for wanted in only or ():
        if wanted not in names:
            raise SettingsError(f"there is no check `{wanted}`{nearest(wanted, names)}", hint="without --only all are run")
    outcomes = []
    chosen = [one for one in checks if not only or one.name in only]
    with render.progress("checks", total=len(chosen)) as advance:
        for one in chosen:
            advance(0, one.name)
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is not data of this command
                outcomes.append(one.run())
            advance()
    failed = [one for one in outcomes if one.result == "failed"]
    if json:
        render.document({"ok": not failed, "checks": [_as_json(one) for one in outcomes]})
    else:
        _print(outcomes)
    if failed:
        raise typer.Exit(1)


def _as_json(outcome: Outcome) -> dict[str, str | None]:
    one = outcome.check
    return {
        "kind": one.kind,
        "plugin": one.plugin,
        "check": one.name,
        "result": outcome.result,
        "proves": one.proves,
        "text": outcome.text or None,
    }


def _print(outcomes: list[Outcome]) -> None:
    several = len({one.check.kind for one in outcomes}) > 1
    columns = [*(["kind"] if several else []), "check", "result", "what it proves, or what is wrong"]
    rows = [
        [*([one.check.kind] if several else []), one.check.name, one.result, one.text or one.check.proves] for one in outcomes
    ]
    render.table(columns, rows)
    counts = [(word, sum(one.result == word for one in outcomes)) for word in ("passed", "failed", "known", "skipped")]
    render.text()
    render.text(", ".join(f"{count} {word}" for word, count in counts if count))
