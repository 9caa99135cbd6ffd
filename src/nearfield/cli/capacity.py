"""nearfield capacity: machines for a bulk job and for queries, with hours and prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

if TYPE_CHECKING:
    from nearfield.evaluation.planning.speed.capacity import PlannedModel

EXAMPLES = """Examples:

nearfield capacity 10M --model bge-m3 --tokens 200 --within 24h --queries 50

nearfield capacity 10M --model all-MiniLM-L6-v2 --tokens 128 --on "RTX 4090"

nearfield capacity 100k --model bge-small --tokens 128 --on M2 --vectors int8 --json

nearfield capacity 1B --shape hidden=768,layers=12,inner=3072,vocabulary=30522 --machines my.toml --within 7d"""

#: The argument of --on that means each machine of the table, and that of --within that means no limit.
_ALL, _NEVER = "all", "none"


def capacity(
    texts: Annotated[str, typer.Argument(help="Number of texts to embed, such as 250k, 10M or 0 for queries alone.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model of the catalogue.")] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Instead of a model: hidden=768,layers=12,inner=3072,vocabulary=30522,gated=0."),
    ] = None,
    tokens: Annotated[float, typer.Option(help="Tokens per text.")] = 256.0,
    within: Annotated[str, typer.Option(help="Time for all texts, such as 90m, 24h or 7d, or none.")] = "24h",
    queries: Annotated[float, typer.Option(help="Queries per second.")] = 0.0,
    query_tokens: Annotated[float, typer.Option(help="Tokens per query.")] = 16.0,
    on: Annotated[str, typer.Option("--on", help='Machine, such as "RTX 4090", L4, M2 or "8 vCPU", or all.')] = _ALL,
    precision: Annotated[
        str, typer.Option(help="Precision: float32, tf32, float16, bfloat16 or int8 [the one Nearfield chooses].")
    ] = "",
    vectors: Annotated[
        str | None, typer.Option(help="Number type of vectors in the machine's memory; without it they are elsewhere.")
    ] = None,
    machines: Annotated[
        Path | None, typer.Option(help="File of machines (TOML) to use instead of the built-in table.")
    ] = None,
    kwh: Annotated[float, typer.Option(help="Price of a kilowatt-hour, for machines that are bought.")] = 0.0,
    count: Annotated[int, typer.Option(help="Maximum number of machines to show.", min=1)] = 10,
    show_sources: Annotated[bool, typer.Option("--sources", help="Show the source of each number.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all machines.")] = False,
) -> None:
    """Estimate which machines a job and queries need, and their price.

    For machines that are not here, by their data sheets; the cheapest is first, with the arithmetic.
    """
    from nearfield.evaluation.planning.speed import capacity as planning
    from nearfield.evaluation.planning.speed.machines import read_machines
    from nearfield.units import parse_count

    load = planning.Workload(parse_count(texts), tokens, _hours(within), queries, query_tokens, vectors)
    planned, table = _planned_model(model, shape), read_machines(machines)
    only = None if on.strip().lower() == _ALL else table.find(on)
    plan = planning.plan_capacity(load, planned, table, only=only, precision=precision, kwh=kwh)
    typer.echo(json.dumps(plan) if as_json else _format(plan, count, sources=show_sources))
    if not any(row["fits"] for row in plan["plans"]):
        raise typer.Exit(1)


def _hours(within: str) -> float | None:
    from nearfield.units import parse_duration

    return None if within.strip().lower() == _NEVER else parse_duration(within) / 3600


def _planned_model(model: str | None, shape: str | None) -> PlannedModel:
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.speed.capacity import find_planned_model, parse_shape

    if (model is None) == (shape is None):
        raise InputError("Name the model with --model, or describe it with --shape.", param="model")
    return parse_shape(shape) if shape is not None else find_planned_model(str(model))


def _format(plan: JsonObject, count: int, *, sources: bool) -> str:
    fitting = [row for row in plan["plans"] if row["fits"]]
    lines = [_headline(plan), *_table(plan, fitting[:count])]
    if len(fitting) > count:
        lines.append(f"  {len(fitting) - count} more: --count {len(fitting)}")
    for row in (row for row in plan["plans"] if not row["fits"]):
        lines.append(f"  {row['machine']} cannot run it: {row['obstacle']}.")
    if fitting:
        lines += ["", f"{fitting[0]['machine']}:", *(f"  {line}" for line in fitting[0]["lines"])]
    if sources:
        lines += ["", *_source_lines(fitting[:count])]
    return "\n".join([*lines, "", *_remarks(plan)])


def _headline(plan: JsonObject) -> str:
    from nearfield.units import format_count

    load, parts = plan["load"], []
    if load["texts"]:
        limit = "" if load["hours"] is None else f" within {load['hours']:g} h"
        parts.append(f"{format_count(load['texts'])} texts of {load['tokens']:g} tokens{limit}")
    if load["queries"]:
        parts.append(f"{load['queries']:g} queries/s of {load['query_tokens']:g} tokens")
    return f"{plan['model']}: {', '.join(parts)}"


def _table(plan: JsonObject, rows: list[JsonObject]) -> list[str]:
    if not rows:
        return []
    currency = plan["currency"]
    head = f"  {'machine':22} {'precision':9} {'memory':>9} {'texts/s':>9} {'hours':>9} {'need':>5} {'queries/s':>9}"
    head += f" {'need':>5} {'job ' + currency:>10} {'month ' + currency:>10} {'buy ' + currency:>9}"
    return ["", head, *(_row(row) for row in rows)]


def _row(row: JsonObject) -> str:
    from nearfield.units import format_bytes

    job, serving = row["job"] or {}, row["serving"] or {}
    cells = (
        f"{row['machine']:22} {row['precision']:9} {format_bytes(row['memory']['total']):>9}",
        f"{row['texts_per_second']:>9,.1f} {_number(row['hours'], 2):>9} {_number(job.get('machines'), 0):>5}",
        f"{_number(serving.get('queries_per_second'), 1):>9} {_number(serving.get('machines'), 0):>5}",
        f"{_number(job.get('price'), 2):>10} {_number(serving.get('price'), 2):>10}",
        f"{_number(row['purchase'] or None, 0):>9}",
    )
    return "  " + " ".join(cells)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _source_lines(rows: list[JsonObject]) -> list[str]:
    return [
        f"  {row['machine']}, {name}: {source['address']} ({source['date']}, {source['status']})"
        + (f"; {source['note']}" if source["note"] else "")
        for row in rows
        for name, source in row["sources"].items()
    ]


def _remarks(plan: JsonObject) -> list[str]:
    from nearfield.evaluation.planning.speed.capacity import EFFICIENCY, LOAD, MAX_MACHINES

    return [
        "hours: of one machine; need: machines for the job, and for the queries; month: of the queries' machines.",
        f"Estimates are true within a factor of {plan['error']:g} in 8 of 10 published cases: measure one machine with",
        "nearfield speed before you rent others or buy.",
        f"Queries take {LOAD:.0%} of the highest rate. Of several machines each reaches {EFFICIENCY:.0%} on a job.",
        f"The cheapest in its first month is first; without a price, or above {MAX_MACHINES} machines, last.",
        "Not included: hosts of bought cards, disks, traffic, idle time, and the database of the vectors.",
    ]
