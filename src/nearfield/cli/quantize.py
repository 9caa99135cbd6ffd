"""nearfield quantize: a model in int8 or int4, written if it loses little on your data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.report_storage import keep_report
from nearfield.message_text import escape_lines, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.training.light.quantize import QuantizationPlan

EXAMPLES = """Examples:

nearfield quantize all-MiniLM-L6-v2 --data scifact --data stsb/test.tsv -o minilm-int8/

nearfield quantize Qwen3-Embedding-0.6B --precision int4 --data questions.jsonl --max-loss 1 -o qwen3-int4/

nearfield quantize my-model/ --precision int4 --dry-run

nearfield serve minilm-int8/

A data set is as for nearfield evaluate: take your task, with some hundred items. The model is measured before and
after; if a set loses more than --max-loss points, nothing is written and the exit status is 3. Texts alone do not show
what a task loses: without --data nothing is written, unless you accept that."""


def quantize(
    model: Annotated[str, typer.Argument(help="Model of texts.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to create.")] = None,
    precision: Annotated[str, typer.Option(help="Form of the weights: int8 or int4.")] = "int8",
    data: Annotated[
        list[Path] | None, typer.Option("--data", "-d", help="Data set: a file or folder; may be repeated.")
    ] = None,
    max_loss: Annotated[float, typer.Option(help="Points that each data set may lose.", min=0)] = 0.5,
    accept_unmeasured: Annotated[
        bool, typer.Option("--accept-unmeasured", help="Write the folder without a data set.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the sizes and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a model with weights in int8 or int4, after measuring what it loses."""
    from nearfield.errors import InputError
    from nearfield.training.light.quantize import plan
    from nearfield.training.light.quantize import quantize as run

    if dry_run:
        _show_plan(plan(model, precision), as_json=as_json)
        return
    if output is None:
        raise InputError("Name the folder to create: -o FOLDER, or see the sizes with --dry-run.", param="output")
    report = run(
        model,
        output,
        precision=precision,
        data=data or (),
        max_loss=max_loss,
        accept_unmeasured=accept_unmeasured,
        progress=sys.stderr.isatty() and not as_json,
    )
    refused = report.refusal
    facts = {"folder": None if refused else str(output), "refusal": refused, **report.to_dict()}
    keep_report("quantize", facts, quiet=as_json)
    if as_json:
        typer.echo(to_json(facts))
    else:
        typer.echo(escape_lines(report.to_text()))
        typer.echo(f"Nothing was written: {refused}." if refused else f"written: {quote_name(str(output))}")
    if refused:
        raise typer.Exit(3)


def _show_plan(plan: QuantizationPlan, *, as_json: bool) -> None:
    from nearfield.units import format_bytes

    if as_json:
        typer.echo(to_json(vars(plan)))
        return
    sizes = f"{format_bytes(plan.bytes_before)} in float32 -> about {format_bytes(plan.bytes_after)}"
    typer.echo(f"{quote_name(plan.model)} in {plan.precision}: weights {sizes}")
