"""nearfield train run: fit a model to your data; measured before and after, and written only if it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nearfield.cli.report_storage import keep_report
from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import escape_controls, to_json

EXAMPLES = """Examples:

nearfield train all-MiniLM-L6-v2 --data pairs/ --test test/ -o tuned/

nearfield train all-MiniLM-L6-v2 --data intents.tsv --guard stsb.tsv -o tuned/

nearfield train all-MiniLM-L6-v2 --data pairs/ --adapter 16 -o adapter/

nearfield train all-MiniLM-L6-v2 --data pairs/ --teacher cross-encoder/ms-marco-MiniLM-L6-v2 -o tuned/

nearfield train all-MiniLM-L6-v2 --data pairs/ --dry-run

Data are a folder in BEIR's layout, pairs, triplets, texts with labels, or pairs with scores. Without --test, a part of
the data is held out. The same command continues after an interruption. The folder OUTPUT.run keeps the report. Exit
status 3: the trained model is not better, or a guard set fell, and nothing was written."""

#: The exit status of a run whose model is not better.
NOT_BETTER = 3


def run(
    model: Annotated[str, typer.Argument(help="Model to train: name, alias, Hub id or folder.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="File or folder of rows to learn from.")],
    shape: Annotated[
        str | None, typer.Option(help="Shape of rows without named columns: labels, ranking or scores.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write; it must not exist.")] = None,
    test: Annotated[Path | None, typer.Option(help="Data set that decides [a part of the data is held out].")] = None,
    guard: Annotated[
        list[Path] | None, typer.Option(help="Data set on which the model must not lose; may be repeated.")
    ] = None,
    max_loss_elsewhere: Annotated[
        float | None, typer.Option(help="Points of 100 that a guard set may lose [1].", min=0)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="File with settings (train.toml).")] = None,
    loss: Annotated[str | None, typer.Option(help="Loss [chosen by the shape of the data].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data [1].", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of a step [64].", min=2)] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate [by size and kind].")] = None,
    negatives: Annotated[int | None, typer.Option(help="Mined negatives of each query [3]; 0 for none.", min=0)] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Reranker or dense model that checks negatives, and whose scores are learnt.")
    ] = None,
    guide: Annotated[
        str | None, typer.Option(help="Dense model that masks false negatives in a batch (loss gist).")
    ] = None,
    flops_query: Annotated[
        float | None, typer.Option(help="Weight of SPLADE's FLOPS regulariser for queries [by the loss].", min=0)
    ] = None,
    flops_document: Annotated[float | None, typer.Option(help="The same for documents [by the loss].", min=0)] = None,
    adapter: Annotated[
        int | None, typer.Option(help="Rank of a LoRA adapter to write in place of a model, such as 16.", min=0)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random draws [1].", min=0)] = None,
    leak_vectors: Annotated[
        bool | None,
        typer.Option(
            "--leak-vectors/--no-leak-vectors",
            help="Find rewordings of test rows by vectors too [up to 4,000 texts].",
        ),
    ] = None,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out rows that the test or a guard set has too.")
    ] = False,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Train on them; every figure is then marked as leaked.")
    ] = False,
    accept_unproved: Annotated[
        bool, typer.Option("--accept-unproved", help="Write a model whose gain may be chance.")
    ] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show rows, loss, leaks, steps and minutes; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a model to your data: measured before and after, and written only if it is better."""
    from nearfield.errors import InputError
    from nearfield.training.fine_tuning.train import prepare_run
    from nearfield.training.fine_tuning.train import train as fit

    if drop_leaks and allow_leaks:
        raise InputError("Use --drop-leaks or --allow-leaks, not both.", param="leaks")
    options: dict[str, Any] = {
        "shape": shape,
        "test": test,
        "config": config,
        "leaks": "drop" if drop_leaks else "allow" if allow_leaks else "refuse",
        "accept_license": accept_license,
        "guard": [str(path) for path in guard] if guard else None,
        "max_fall": max_loss_elsewhere,
        "loss": loss,
        "epochs": epochs,
        "batch": batch,
        "rate": rate,
        "negatives": negatives,
        "teacher": teacher,
        "guide": guide,
        "flops_query": flops_query,
        "flops_document": flops_document,
        "leak_vectors": leak_vectors,
        "adapter": adapter,
        "seed": seed,
    }
    if dry_run:
        from nearfield.training.fine_tuning.estimate import estimate_run

        estimate = estimate_run(prepare_run(model, data, **options))
        typer.echo(to_json(estimate) if as_json else _format_estimate(estimate))
        return
    if output is None:
        raise InputError("Name the folder to write: -o tuned/. Or see what would be done: --dry-run.", param="output")
    result = fit(model, data, output, accept_unproved=accept_unproved, report=_show, **options)
    keep_report("train", result, quiet=as_json)
    typer.echo(to_json(result) if as_json else _format_result(result))
    if result["written"] is None:
        raise typer.Exit(NOT_BETTER)


def _show(line: str) -> None:
    typer.echo(escape_controls(line), err=True)


def _format_estimate(estimate: JsonObject) -> str:
    base, loss = estimate["base"], estimate["loss"]
    lines = [
        f"Base:   {base['name']} ({base['kind']}, licence {base['licence'] or 'not stated'})",
        f"Train:  {_sizes(estimate['data'])}: {estimate['rows']:,} rows",
        f"Dev:    {_format_set(estimate['dev'])}",
        f"Test:   {_format_set(estimate['test'])}",
        f"Guard:  {', '.join(estimate['guards']) or 'none'}",
        f"Loss:   {loss['name']} ({loss['reason']}), rate {estimate['rate']:g}",
        f"Steps:  {estimate['steps']:,}, about {estimate['tokens']:,} tokens and {estimate['minutes']:.1f} minutes",
        *(f"Left out: {count} {reason}" for reason, count in estimate["left_out"].items()),
        *(f"Note:   {note}" for note in estimate["notes"]),
    ]
    return "\n".join(map(escape_controls, lines))


def _format_set(data: JsonObject) -> str:
    counts = {name: value for name, value in data.items() if isinstance(value, int)}
    return f"{data['name']}, {data['task']}: {_sizes(counts)}"


def _sizes(counts: JsonObject) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _format_result(result: JsonObject) -> str:
    from nearfield.training.fine_tuning.report import pages

    lines = [pages.headline(result), *result["verdict"]["reasons"]]
    for name, metric, before, after, difference, interval, p in pages.comparison_rows(result):
        lines.append(f"  {name}: {metric} {before} → {after} ({difference}, 95% {interval}, p = {p})")
    lines += result["notes"]
    lines.append(f"Report: {result['run']}/report.html")
    if result["verdict"]["unproved"] and result["written"] is None:
        lines.append("To write it all the same, run the command again with --accept-unproved.")
    return "\n".join(map(escape_controls, lines))
