"""`amc plugins list|show|doctor`: data on stdout, the rest on stderr, and exit codes, over distributions on disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from amc_plugins import __version__
from amc_plugins.cli import app as cli
from amc_plugins.cli import errors, plugins, render, state
from amc_plugins.core.errors import CheckFailed, SettingsError
from amc_plugins.core.registry import registry

Put = Callable[..., None]
Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
Python = Callable[..., subprocess.CompletedProcess[str]]

BROKEN = (
    "duplicate_a",
    "duplicate_b",
    "future_api",
    "import_error",
    "invalid_declaration",
    "misspelt_hook",
    "missing_code",
    "past_api",
    "system_exit",
    "wrong_names",
    "wrong_type",
)


@pytest.fixture
def amc(capsys: pytest.CaptureFixture[str]) -> Run:
    """`amc("plugins", "list")`: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


# --- list ---------------------------------------------------------------------------------------------------------------


def test_list_shows_each_plugin_as_far_as_metadata_tells(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good", *BROKEN)
    code, out, err = amc("plugins", "list")
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATUS", "PROBLEM"]
    rows = {tuple(line.split()[1:3]): line.split(maxsplit=5)[4:] for line in lines}
    assert len(rows) == len(lines) == 18
    assert rows["keep-first", "amc-fixture-good"] == ["available"]
    assert rows["quitter", "amc-fixture-system-exit"] == ["available"]
    claim = "compressor `twin` is claimed by amc-fixture-duplicate-a 1.0 and amc-fixture-duplicate-b 2.5"
    assert rows["twin", "amc-fixture-duplicate-b"] == ["conflict", claim]
    assert not [name for name in sys.modules if name.startswith("fixture_")]


def test_list_as_json(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good")
    code, out, err = amc("plugins", "list", "--json", "--kind", "observer")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "schema": 1,
        "plugins": [
            {
                "kind": "observers",
                "name": "counter",
                "distribution": "amc-fixture-good",
                "version": "1.0",
                "module": "fixture_good.plugin",
                "status": "available",
                "problem": None,
                "hint": None,
            }
        ],
    }


@pytest.mark.parametrize("kind", ["layer_handlers", "layer-handlers", "layer handler", "Layer_Handlers"])
def test_a_kind_is_understood_in_every_spelling(only_fixtures: Put, amc: Run, kind: str) -> None:
    only_fixtures("good")
    code, out, _ = amc("plugins", "list", "--kind", kind)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["squash", "swish"]


def test_an_unknown_kind_is_refused(amc: Run) -> None:
    code, out, err = amc("plugins", "list", "--kind", "exporer")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "there is no kind `exporer`; did you mean `exporters`" in err
    assert err.endswith("\nhint: amc plugins list --help\n")


def test_an_empty_list_says_so_beside_the_data(only_fixtures: Put, amc: Run) -> None:
    only_fixtures()
    assert amc("plugins", "list") == (0, "", "no plugins are installed\n")
    assert amc("plugins", "list", "--kind", "tuners") == (0, "", "no tuners are installed\n")
    assert amc("-q", "plugins", "list") == (0, "", "")


# --- show ---------------------------------------------------------------------------------------------------------------


def test_show_prints_the_declaration_and_the_settings(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good")
    code, out, err = amc("plugins", "show", "keep-first")
    assert (code, err) == (0, "")
    declaration, table = out.split("\n\n")
    assert declaration.splitlines() == [
        "name          keep-first",
        "kind          compressor",
        "summary       keep the first channels",
        "distribution  amc-fixture-good 1.0",
        "module        fixture_good.plugin",
        "api           1.0",
        "target        fixture_good._impl:KeepFirst",
    ]
    assert [re.split(r"\s{2,}", line) for line in table.splitlines()] == [
        ["SETTING", "TYPE", "DEFAULT", "BOUNDS", "MEANING"],
        ["share", "float", "0.5", "> 0, <= 1", "Share of the channels to keep."],
        ["norm", '"l1" | "l2"', '"l2"', "How channels are measured."],
        ["skip", "list[str]", "[]", "Layers to leave alone."],
        ["limit", "int | none", "null", ">= 1", "Channels at most."],
        ["sorted", "bool", "false", "Sort the channels first. (not implemented yet: only the default)"],
        ["schedule", "Schedule", '{"rounds": 2}', "The rounds."],
        ["schedule.rounds", "int", "2", ">= 1, <= 8", "How often."],
    ]
    assert "fixture_good._impl" not in sys.modules


def test_show_as_json_has_the_json_schema(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good")
    code, out, _ = amc("plugins", "show", "keep-first", "--json")
    document = json.loads(out)
    (shown,) = document["plugins"]
    assert (code, document["schema"]) == (0, 1)
    assert (shown["status"], shown["distribution"]) == ("loaded", "amc-fixture-good")
    assert shown["declaration"]["target"] == "fixture_good._impl:KeepFirst"
    assert shown["settings"]["properties"]["share"]["exclusiveMinimum"] == 0
    assert shown["settings"]["additionalProperties"] is False
    assert shown["not_implemented"] == ["sorted"]


def test_show_prints_what_a_handler_captures(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good")
    code, out, _ = amc("plugins", "show", "swish")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert (shown["op"], shown["op_version"]) == ("com.fixture.swish", "3")
    assert shown["captures"] == "fixture_good.layers.Swish, fixture_good.layers.swish"
    code, out, _ = amc("plugins", "show", "swish", "--json")
    assert json.loads(out)["plugins"][0]["declaration"]["op"] == "com.fixture.swish"
    assert "settings" not in json.loads(out)["plugins"][0]


def test_show_without_settings_says_so(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("duplicate_a")
    assert amc("plugins", "show", "twin")[1].splitlines()[-1] == "It takes no settings."


def test_show_prints_all_of_one_name(only_fixtures: Put, write_dist: Write, amc: Run) -> None:
    source = (
        "from amc_plugins.plugin import *\n"
        "@hookimpl\ndef amc_tuners(): yield TunerSpec(name='swish', summary='a tuner', api=(1, 0), target='fixture_case:X')\n"
    )
    only_fixtures("good", write_dist("case", {"tuners": {"swish": "fixture_case"}}, source))
    assert [line.split()[1] for line in amc("plugins", "show", "swish")[1].splitlines() if line.startswith("kind")] == [
        "layer",
        "tuner",
    ]
    assert "layer" not in amc("plugins", "show", "swish", "--kind", "tuner")[1]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("lowrank", "compressor `lowrank` is not installed", "pip install amc-lowrank"),
        ("keepfirst", "there is no plugin `keepfirst`; did you mean `keep-first`?", "amc plugins list"),
        (
            "twin",
            "compressor `twin` (amc-fixture-duplicate-a 1.0) is in conflict: compressor `twin` is claimed by",
            "disable one",
        ),
        (
            "quitter",
            "compressor `quitter` (amc-fixture-system-exit 1.0) is broken: importing `fix",
            "pip install -U amc-fixture-system-e",
        ),
    ],
)
def test_show_refuses_what_it_cannot_show(only_fixtures: Put, amc: Run, name: str, message: str, hint: str) -> None:
    only_fixtures("good", "duplicate_a", "duplicate_b", "system_exit")
    code, out, err = amc("plugins", "show", name)
    assert (code, out) == (2, "")
    first, blank, last = err.splitlines()
    assert first.startswith(f"error: {message}")
    assert blank == "" and last.startswith(f"hint: {hint}")


def test_settings_without_a_json_schema_are_the_plugins_fault(only_fixtures: Put, write_dist: Write, amc: Run) -> None:
    source = (
        "from collections.abc import Callable\nfrom amc_plugins.plugin import *\n"
        "class Bad(Settings):\n    function: Callable[[], None] = print\n"
        "@hookimpl\ndef amc_tuners():\n"
        "    yield TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_case:X', settings=Bad)\n"
    )
    only_fixtures(write_dist("case", {"tuners": {"x": "fixture_case"}}, source))
    code, _, err = amc("plugins", "show", "x", "--json")
    assert code == 2
    assert err.startswith("error: tuner `x` (amc-fixture-case 1.0) is broken: its settings have no JSON Schema: ")


# --- doctor -------------------------------------------------------------------------------------------------------------


def test_doctor_explains_each_problem_with_the_way_out(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good", *BROKEN)
    code, out, err = amc("plugins", "doctor")
    assert (code, err) == (1, "")
    *blocks, summary = out.strip().split("\n\n")
    assert summary == "5 loaded, 12 broken, 2 conflict"
    assert len(blocks) == 14
    for block in blocks:
        head, *body = block.splitlines()
        assert head.startswith(("broken: ", "conflict: ")) and "(amc-fixture-" in head
        assert body[-1].startswith("  hint: ") and len(body) >= 2
    assert (
        "broken: compressor `quitter` (amc-fixture-system-exit 1.0)\n  importing `fixture_system_exit.plugin` raised SystemExit"
        in out
    )
    assert "\n  invalid TunerSpec:\n    summary: missing, and it has no default\n" in out


def test_doctor_as_json(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good", "import_error")
    code, out, _ = amc("plugins", "doctor", "--json")
    document = json.loads(out)
    assert (code, document["schema"], document["ok"]) == (1, 1, False)
    assert {one["name"]: one["status"] for one in document["plugins"]} == {
        "keep-first": "loaded",
        "unimportable": "broken",
        "squash": "loaded",
        "swish": "loaded",
        "counter": "loaded",
    }


def test_doctor_is_content_when_all_is_well(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good")
    assert amc("plugins", "doctor") == (0, "4 loaded\n", "")
    assert amc("--disable", "swish", "plugins", "doctor") == (0, "3 loaded, 1 disabled\n", "")
    only_fixtures()
    assert json.loads(amc("plugins", "doctor", "--json")[1])["ok"] is True


def test_replaces_resolves_a_conflict_for_doctor(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("duplicate_a", "duplicate_b", "replacing")
    assert amc("plugins", "doctor") == (0, "1 loaded, 2 disabled\n", "")


def test_broken_plugins_in_a_process_of_their_own(python: Python) -> None:
    """The same with real installed metadata beside it, through the entry of the command line."""
    listed = python("-m", "amc_plugins", "plugins", "list", "--json", dists=("good", *BROKEN))
    assert listed.returncode == 0, listed.stderr
    found = {(one["name"], one["distribution"]): one["status"] for one in json.loads(listed.stdout)["plugins"]}
    assert found["twin", "amc-fixture-duplicate-a"] == found["twin", "amc-fixture-duplicate-b"] == "conflict"
    assert found["keep-first", "amc-fixture-good"] == found["unimportable", "amc-fixture-import-error"] == "available"
    checked = python("-m", "amc_plugins", "plugins", "doctor", "--json", dists=("good", *BROKEN))
    assert checked.returncode == 1, checked.stderr
    records = [one for one in json.loads(checked.stdout)["plugins"] if one["distribution"].startswith("amc-fixture-")]
    assert {one["name"] for one in records if one["status"] == "loaded"} == {
        "keep-first",
        "swish",
        "squash",
        "counter",
        "declared",
    }
    assert all(one["problem"] and one["hint"] for one in records if one["status"] in ("broken", "conflict"))
    assert len(records) == 19


def test_a_damaged_entry_point_file_in_a_process_of_its_own(python: Python) -> None:
    """It makes importlib.metadata raise for everybody, pydantic among them: nothing can be loaded, and that is what is said."""
    listed = python("-m", "amc_plugins", "plugins", "list", dists=("good", "unreadable"))
    assert listed.returncode == 0, listed.stderr
    assert "its entry_points.txt cannot be read" in listed.stdout and "keep-first" in listed.stdout
    checked = python("-m", "amc_plugins", "plugins", "doctor", dists=("good", "unreadable"))
    assert checked.returncode == 1, checked.stderr
    assert checked.stdout.startswith(
        "broken: compressor `?` (amc-fixture-unreadable 1.0)\n  its entry_points.txt cannot be read"
    )
    shown = python("-m", "amc_plugins", "plugins", "show", "keep-first", dists=("good", "unreadable"))
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: amc-fixture-unreadable is damaged: its entry_points.txt cannot be read")


# --- global options -----------------------------------------------------------------------------------------------------


def test_help_version_and_nothing(amc: Run) -> None:
    assert amc("--version") == (0, f"amc {__version__}\n", "")
    for arguments in [(), ("-h",), ("--help",)]:
        code, out, err = amc(*arguments)
        assert (code, err) == (0, "")
        assert out.startswith("Usage: amc [OPTIONS] COMMAND") and "plugins" in out
    code, out, _ = amc("plugins")
    assert code == 0 and all(word in out for word in ("list", "show", "doctor"))
    assert amc("plugins", "show", "-h")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["plugin"], "No such command 'plugin'. Did you mean 'plugins'?", "amc --help"),
        (["plugins", "show"], "Missing argument 'NAME'.", "amc plugins show --help"),
        (["plugins", "list", "--jsn"], "No such option: --jsn", "amc plugins list --help"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_a_hint(amc: Run, arguments: list[str], message: str, hint: str) -> None:
    code, out, err = amc(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.endswith(f"\n\nhint: {hint}\n")


def test_disable_filters_before_import(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("good", "system_exit")
    code, out, _ = amc("--disable", "quitter", "--disable", "amc-fixture-good", "plugins", "doctor")
    assert (code, out) == (0, "5 disabled\n")
    assert not [name for name in sys.modules if name.startswith("fixture_")]
    assert "AMC_DISABLE" not in os.environ, "the option ends with the call"
    assert {record.status for record in registry().records()} == {"available"}


def test_disable_adds_to_the_environment(only_fixtures: Put, amc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("good")
    monkeypatch.setenv("AMC_DISABLE", "counter")
    code, out, _ = amc("--disable", "swish,squash", "plugins", "list", "--json")
    assert code == 0
    assert {one["name"]: one["status"] for one in json.loads(out)["plugins"]} == {
        "keep-first": "available",
        "counter": "disabled",
        "squash": "disabled",
        "swish": "disabled",
    }
    assert os.environ["AMC_DISABLE"] == "counter"


def test_disable_in_a_process_of_its_own(python: Python) -> None:
    probe = "import sys; from amc_plugins.cli.app import run; print(run(sys.argv[1:]), 'fixture_good' in sys.modules)"
    shown = python("-c", probe, "--disable", "amc-fixture-good", "plugins", "show", "keep-first", dists=("good",))
    assert shown.stdout == "2 False\n"
    assert "compressor `keep-first` (amc-fixture-good 1.0) is disabled by `amc-fixture-good`" in shown.stderr
    assert python("-c", probe, "plugins", "show", "keep-first", dists=("good",)).stdout.endswith("0 True\n"), (
        "the probe can fail"
    )


def test_warnings_of_the_registry_reach_the_terminal(only_fixtures: Put, amc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("import_error")
    _command(monkeypatch, lambda: registry().specs("compressors"))
    code, _, err = amc("work")
    assert code == 0
    assert err.startswith("warning: compressor `unimportable` (amc-fixture-import-error 1.0) is skipped, it is broken: ")
    only_fixtures("import_error")
    assert amc("-q", "work") == (0, "", "")


# --- errors -------------------------------------------------------------------------------------------------------------


def _command(monkeypatch: pytest.MonkeyPatch, function: Callable[[], object]) -> None:
    """Put the command `work` into the command line for one test."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(cli.options)
    plugins.add_to(app)

    @app.command("work")
    def work() -> None:
        function()

    monkeypatch.setattr(cli, "app", app)


def _raising(error: BaseException) -> Callable[[], object]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            SettingsError("`total` is out of range", hint="ask for less"),
            2,
            "error: `total` is out of range\n\nhint: ask for less\n",
        ),
        (CheckFailed("the floor was missed"), 1, "error: the floor was missed\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (typer.Abort(), 130, "error: interrupted\n"),
        (
            FileNotFoundError(2, "No such file or directory", "recipe.toml"),
            2,
            "error: No such file or directory: `recipe.toml`\n",
        ),
        (typer.Exit(1), 1, ""),
        (
            ZeroDivisionError("division by zero"),
            2,
            "error: internal failure: ZeroDivisionError: division by zero\n\nhint: `amc --debug ...` shows the traceback\n",
        ),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    amc: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    _command(monkeypatch, _raising(error))
    assert amc("work") == (code, "", message)


def test_a_validation_error_is_rewritten(only_fixtures: Put, amc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("good")
    spec: Any = registry().spec("compressors", "keep-first")
    _command(monkeypatch, lambda: spec.settings(share=2, norm="l3"))
    code, _, err = amc("work")
    assert code == 2
    assert err.splitlines()[:3] == [
        "error: invalid KeepFirstSettings:",
        "  share: input should be less than or equal to 1 (given 2)",
        "  norm: input should be 'l1' or 'l2' (given 'l3')",
    ]


@pytest.mark.parametrize("switch", ["option", "environment"])
def test_debug_shows_the_traceback(amc: Run, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    _command(monkeypatch, _raising(SettingsError("no")))
    if switch == "environment":
        monkeypatch.setenv("AMC_DEBUG", "1")
    code, _, err = amc(*(["--debug"] if switch == "option" else []), "work")
    assert code == 2
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("error: no\n")
    monkeypatch.delenv("AMC_DEBUG", raising=False)
    assert "Traceback" not in amc("work")[2], "the option ends with the call"


def test_debug_shows_what_a_plugin_raised_while_it_loaded(only_fixtures: Put, amc: Run) -> None:
    only_fixtures("import_error")
    _, _, err = amc("--debug", "plugins", "show", "unimportable")
    assert "import a_package_that_nobody_has" in err


def test_an_unexpected_failure_names_the_plugin(
    only_fixtures: Put, write_dist: Write, amc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from amc_plugins.plugin import *\n"
        "class Code:\n    def __init__(self, settings): pass\n    def go(self): return {}['key']\n"
        "@hookimpl\ndef amc_tuners(): yield TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_case:Code')\n"
    )
    only_fixtures(write_dist("case", {"tuners": {"x": "fixture_case"}}, source, version="4.2"))

    def use() -> None:
        settings, target = registry().create("tuners", "x", {})
        target(settings).go()

    _command(monkeypatch, use)
    code, _, err = amc("work")
    assert code == 2
    assert err.startswith("error: the plugin distribution amc-fixture-case 4.2 failed: KeyError: 'key'\n")
    assert "amc --disable amc-fixture-case" in err


def test_interrupting_a_process_returns_130(python: Python) -> None:
    program = (
        "import os, signal, sys\nfrom amc_plugins.cli import app, plugins\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "plugins.discover = lambda kind: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['amc', 'plugins', 'list']\napp.main()\n"
    )
    done = python("-c", program)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "error: interrupted"


# --- rendering ----------------------------------------------------------------------------------------------------------


class _Terminal:
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for variable, value, coloured in [("X", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)]:
        terminal = _Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            patch.setenv(variable, value)
            render.error("no", "yes")
        assert ("\x1b[" in terminal.written) is coloured
        assert ("error: no\n\nhint: yes\n" == terminal.written) is not coloured


def test_a_table_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    render.table(["name", "macs"], [["conv[1]", "12"], ["fc", "3456"]], right=["macs"])
    lines = [line.strip() for line in terminal.written.splitlines() if line.strip()]
    assert lines[0].split() == ["name", "macs"]
    assert "conv[1]" in terminal.written and "─" in terminal.written
    assert lines[-1].endswith("3456") and lines[-2].endswith("   12")


def test_a_plain_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(["name", "macs"], [["a" * 200, "12"], ["b", "3456\nx"]], right=["macs"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "NAME" + " " * 196 + "    MACS".rjust(8)
    assert lines[1].startswith("a" * 200) and lines[2].endswith("3456 x")


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with render.progress("work", total=2) as advance:
        advance()
        advance(description="more")
    assert capsys.readouterr() == ("", "")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("AMC_NO_PROGRESS", "1")
    with render.progress("work") as advance:
        advance()
    assert terminal.written == ""
    for name in ("AMC_NO_PROGRESS", "CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with render.progress("compress", total=2) as advance:
        advance(2, description="compress conv1")
    assert "compress conv1" in terminal.written


def test_verbosity_sets_the_log_level(amc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    seen: list[tuple[int, bool]] = []
    _command(monkeypatch, lambda: seen.append((logging.getLogger().level, state.options().quiet)))
    before = logging.getLogger().level
    for arguments in [[], ["-v"], ["-vv"], ["-q"]]:
        assert amc(*arguments, "work")[0] == 0
    assert seen == [(logging.WARNING, False), (logging.INFO, False), (logging.DEBUG, False), (logging.ERROR, True)]
    assert logging.getLogger().level == before


def test_the_base_of_typers_errors_is_what_the_shell_catches() -> None:
    assert errors.CLI_ERROR.__name__ == "ClickException"
