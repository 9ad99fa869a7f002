"""The prose at the head of the generated pages; scripts/reference.py writes what follows."""

__all__ = [
    "BENCHMARKS",
    "COLLECTING",
    "COMMANDS",
    "ENVIRONMENT",
    "HANDLERS",
    "HOOKS",
    "OBSERVING",
    "PLUGINS",
    "PYTHON",
    "RECIPES",
]

HOOKS = """\
# Hooks

A plugin's light module implements hooks of the first kind; an observer's class implements hooks of the second. An
implementation may take any subset of the arguments, by name. One whose name is no hook is a mistake that `amc plugins doctor`
reports.
"""

COLLECTING = """\
## Collecting hooks

Called when a plugin of the distribution is asked for. They return declarations, and must be free of torch.
"""

OBSERVING = """\
## Observer hooks

Told what happens in a run, in the process that runs it. See [writing an observer](../authors/observer.md).
"""

PLUGINS = """\
# {Title}s

The {title}s of this build, with all their settings. A setting has one name in Python, in recipes and on the command line;
`amc plugins show NAME` prints the same table, and with `--json` its JSON Schema.
"""

HANDLERS = """\
# Layer handlers

Each operation that capture knows is a plugin of its own: found, shown, replaced and switched off by itself. What none of them
claims still runs, as an opaque node that compressors keep away from. [Write one](../authors/layer-handler.md) for yours.
"""

RECIPES = """\
# Recipes

A recipe is a TOML file: (compress, then retrain) × rounds, then exports and a report. `amc run RECIPE` runs it, `--dry-run`
checks it and prints it with every default, `--set compress.total=0.3` replaces a value. Relative paths start at the recipe.
[An example with every step](../guides/deployer.md).

## At the top
"""

COMMANDS = """\
# Commands

Plugin names are arguments, never subcommands. Tables go to standard output, notes and progress to standard error; `--json`
prints one document instead of a table.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the work ran, and the answer is no: a check failed, a floor was missed |
| 2 | bad input, or a refusal |
| 130 | interrupted; what is resumable says so |

## Global options { #amc }

They come before the command: `amc --verbose run recipe.toml`.
"""

ENVIRONMENT = """\
| environment | meaning |
|---|---|
| `AMC_DISABLE` | plugins or distributions to leave out, separated by commas |
| `AMC_CACHE` | the folder of measured latencies |
| `NO_COLOR` | no colours |
"""

PYTHON = """\
# `import amc_plugins as amc`

What a notebook or a program needs. Every name is imported on first use.
"""

BENCHMARKS = """\
# Benchmarks

Every figure comes from `benchmarks/` with the command that is given, on real data: Fashion-MNIST, and networks with batch
norms, a residual and an inverted-residual one among them. [How to run them](benchmarks-how.md). A result that is not complete
says so.
"""
