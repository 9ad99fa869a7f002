"""`amc capture|profile|inspect`: what a network is and what it costs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Input, Json, Network, NetworkSettings, Out, Seed, Weights, parse_inputs
from amc_plugins.cli.networks import as_rows, check_outputs, open_network, removed_share, side_by_side, write_outputs
from amc_plugins.core.errors import AmcError, SettingsError

if TYPE_CHECKING:
    from amc_plugins.core.document import Document
    from amc_plugins.core.macs import Profile
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.results import LayerLine

__all__ = ["add_to"]

Draw = Annotated[str | None, typer.Option("--draw", metavar="FILE", help="Draw the graph: .svg, .png or .html.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command("capture")(capture)
    app.command("profile")(profile)
    app.command("inspect")(inspect)


def capture(
    network: Network,
    inputs: Input = None,
    weights: Weights = None,
    settings: NetworkSettings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse operations without a handler.")] = False,
    output: Out = None,
    draw: Draw = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Record a network as a graph and write it.

    The record is run beside the network and compared before anything is written.

    \b
    amc capture model.py:net --weights net.pt --input 1x3x224x224 -o net.vnmodel --draw net.html
    """
    outputs = check_outputs(output)
    captured = open_network(network, inputs=inputs, weights=weights, settings=settings, seed=seed, strict=strict)
    files = write_outputs(captured, outputs)
    if draw is not None:
        files.append(_drawn(captured, draw))
    if json:
        render.document({"network": network, **_summary(captured), "files": [str(path) for path in files]})
        return
    _print_summary(network, _summary(captured))
    if not files:
        render.note("nothing was written; --output and --draw name files")


def profile(
    network: Network,
    inputs: Input = None,
    weights: Weights = None,
    settings: NetworkSettings = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="FILE", help="The network after compression, side by side.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Show what each layer costs.

    Multiply-adds (MACs), parameters and output shapes for one sample of the captured shapes; a file takes other shapes by
    --input. With --compare before and after a compression side by side.

    \b
    amc profile model.py:net --input 1x3x224x224
    amc profile before.pkl --compare after.pkl
    """
    if compare is not None and ":" in compare:
        raise SettingsError(f"--compare takes a file, given was `{compare}`", hint="`amc compress ... -o FILE` writes one")
    others = None if ":" in network else inputs  # a file knows its input: these are the ones to count for
    before = open_network(network, inputs=None if others else inputs, weights=weights, settings=settings, seed=seed)
    counted = _profiled(before, others)
    if compare is None:
        if json:
            render.document({"network": network, **as_rows(counted)})
        else:
            _print_profile(counted)
        return
    now = _profiled(open_network(compare), others)
    lines = side_by_side(counted, now)
    if json:
        both = {"before": {"network": network, **as_rows(counted)}, "after": {"network": compare, **as_rows(now)}}
        render.document({**both, "layers": [asdict(line) for line in lines]})
    else:
        _print_comparison(lines, counted, now)


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .pkl, .json or .vnmodel file.")],
    draw: Draw = None,
    json: Json = False,
) -> None:
    """Show what a network file holds.

    Inputs, outputs, operations, metadata and what the format keeps beside the network. A sound file that cannot be loaded here,
    because no plugin handles one of its operations, is shown as far as it can be, with the reason.

    \b
    amc inspect net.vnmodel --draw net.html
    """
    from amc_plugins.core.engine import file_document, file_facts

    problem = None
    try:
        loaded = open_network(file)
        found, graph = _summary(loaded), loaded.graph
    except AmcError as error:
        if draw is not None:
            raise
        try:
            graph = file_document(file)
        except AmcError:  # it is the file itself: the first error says so
            raise error from None
        found, problem = _graph_summary(graph), error
    size, facts = Path(file).stat().st_size, file_facts(file)
    drawn = [] if draw is None else [str(_drawn(loaded, draw))]
    if json:
        said = {} if problem is None else {"problem": str(problem)}
        render.document({"file": file, "bytes": size, "facts": facts, **found, **said, "files": drawn})
        return
    _print_summary(file, found, size, facts)
    render.text()
    operations = _operations(graph)
    render.table(["operation", "version", "calls"], [[op, str(v), str(n)] for (op, v), n in operations], right=["calls"])
    if problem is not None:
        render.note(f"\nit cannot be loaded here: {problem}")
        if problem.hint:
            render.note(f"hint: {problem.hint}")


def _drawn(network: ReconstructedNetwork, path: str) -> Path:
    from amc_plugins.core.draw import draw

    drawn = draw(network, path)
    render.note(f"drew {drawn}")
    return drawn


def _profiled(network: ReconstructedNetwork, inputs: list[str] | None) -> Profile:
    """The profile for these inputs; none: the captured ones, one sample. A type that is left out is the recorded one."""
    from amc_plugins.core.example_inputs import ExampleInput, make_inputs
    from amc_plugins.core.macs import profile as profiled

    given = parse_inputs(inputs)
    if len(given) == len(network.graph.inputs):
        pairs = zip(given, network.graph.inputs, strict=True)
        given = [
            replace(one, dtype=spec.dtype) if isinstance(one, ExampleInput) and one.dtype is None else one
            for one, spec in pairs
        ]
    return profiled(network, *make_inputs(given))


# --- printing -----------------------------------------------------------------------------------------------------------


def _graph_summary(graph: Document) -> dict[str, Any]:
    from amc_plugins.core.document import tree_leaves

    return {
        "inputs": [{"name": one.name, "dtype": one.dtype, "shape": list(one.shape)} for one in graph.inputs],
        "outputs": list(tree_leaves(graph.outputs)),
        "nodes": len(graph.nodes),
        "layers": len({node.layer for node in graph.nodes}),
        "operations": [{"op": op, "version": version, "calls": calls} for (op, version), calls in _operations(graph)],
        "metadata": dict(graph.metadata),
    }


def _summary(network: ReconstructedNetwork) -> dict[str, Any]:
    from amc_plugins.core.intrinsics import OPAQUE
    from amc_plugins.core.macs import profile as profiled

    counted = profiled(network)
    tensors = network.state_dict().values()
    return {
        **_graph_summary(network.graph),
        "opaque": [
            {"name": node.name, "call": getattr(network.layer(node.layer), "target", node.op), "source": node.source}
            for node in network.graph.nodes
            if node.op == OPAQUE
        ],
        "macs": counted.total_macs,
        "parameters": counted.total_parameters,
        "activations": counted.total_activations,
        "tensor_bytes": sum(one.nbytes for one in tensors),
    }


def _operations(graph: Document) -> list[tuple[tuple[str, int], int]]:
    from collections import Counter

    return sorted(Counter((node.op, node.op_version) for node in graph.nodes).items())


def _print_summary(name: str, found: dict[str, Any], size: int | None = None, facts: dict[str, Any] | None = None) -> None:
    pairs = [("network", name)]
    if size is not None:
        pairs.append(("bytes", f"{size:,}"))
    pairs += [(key.replace("_", " "), _fact(value)) for key, value in (facts or {}).items()]
    pairs += [("input", f"{one['name']}: {one['dtype']} {_shape(one['shape'])}") for one in found["inputs"]]
    pairs += [
        ("outputs", ", ".join(found["outputs"])),
        ("nodes", f"{found['nodes']:,} of {found['layers']:,} layers"),
    ]
    pairs += [(title, f"{found[key]:,}") for title, key in (("MACs", "macs"), ("parameters", "parameters")) if key in found]
    pairs += [(f"metadata {key}", value) for key, value in found["metadata"].items() if not key.startswith("opaque:")]
    render.fields(pairs)
    for one in found.get("opaque", ()):
        render.text(
            f"opaque      {one['call']} at {one['source'] or 'an unknown line'} ({one['name']}): no handler, kept as it is"
        )


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(_fact, value))
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _shape(shape: list[int | None]) -> str:
    return " x ".join("N" if dim is None else str(dim) for dim in shape)


def _print_profile(counted: Profile) -> None:
    rows = [
        [row.name, row.type, _shape(list(row.output_shape)), _count(row.macs), f"{row.parameters:,}"] for row in counted.rows
    ]
    rows.append(["total", "", "", f"{counted.total_macs:,}", f"{counted.total_parameters:,}"])
    render.table(["layer", "type", "output", "MACs", "parameters"], rows, right=["MACs", "parameters"])
    _note_unknown(counted)


def _print_comparison(lines: list[LayerLine], before: Profile, after: Profile) -> None:
    """Layers that cost nothing are left out."""
    rows = [
        [
            line.name,
            line.before or "inserted",
            (line.after or "removed") if line.after != line.before else "",
            _count(line.macs_before),
            _count(line.macs_after),
            removed_share(line.macs_before, line.macs_after),
            f"{line.parameters_before:,}",
            f"{line.parameters_after:,}",
        ]
        for line in lines
        if line.costs
    ]
    macs, parameters = (before.total_macs, after.total_macs), (before.total_parameters, after.total_parameters)
    rows.append(["total", "", "", *(f"{n:,}" for n in macs), removed_share(*macs), *(f"{n:,}" for n in parameters)])
    columns = ["layer", "type", "now", "MACs before", "MACs after", "removed", "parameters before", "parameters after"]
    render.table(columns, rows, right=columns[3:])
    _note_unknown(before)


def _count(macs: int | None) -> str:
    return "unknown" if macs is None else f"{macs:,}" if macs else "-"


def _note_unknown(counted: Profile) -> None:
    if counted.unknown:
        render.note(f"the MACs of {len(counted.unknown)} operations without a handler are unknown, and not in the total")
