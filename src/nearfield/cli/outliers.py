"""nearfield outliers: texts that are unlike all others, or a stream that is unlike a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfield.cli.job_arguments import (
    FORMAT_HELP,
    INPUTS_HELP,
    MODEL_HELP,
    choose_vectors,
    read_job_items,
    show_progress,
)
from nearfield.message_text import escape_controls, to_json

if TYPE_CHECKING:
    from nearfield.jobs.sources.job_items import JobItems

EXAMPLES = """Examples:

nearfield outliers tickets.jsonl

nearfield outliers tickets.jsonl --count 20 --json

nearfield outliers this-week.jsonl --reference last-year.jsonl

A score is the mean cosine distance to the ten nearest texts. With --reference: how well a classifier separates
the texts from it (separability: 0.5 if they are alike), what share of them is new, and which those are."""

#: Characters of a text that are shown.
_SHOWN = 100


def outliers(
    inputs: Annotated[list[str], typer.Argument(help=INPUTS_HELP)],
    reference: Annotated[
        list[str] | None, typer.Option(help="What to compare with: as the inputs; may be repeated.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Texts to list [those beyond Tukey's fence; with --reference 10].", min=1)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id [row number].")] = None,
    form: Annotated[str | None, typer.Option("--format", help=FORMAT_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Seed of samples.", min=0)] = 1,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """List texts that are unlike all others, or say how texts differ from a reference."""
    from nearfield.jobs.outliers import find_drift, find_outliers

    items = read_job_items(inputs, field=field, id_field=id_field, form=form)
    shown = show_progress(quiet=quiet or as_json)
    if reference is None:
        chosen = choose_vectors(items, model)
        results = find_outliers(
            list(items.texts), count=count, seed=seed, accept_license=accept_license, progress=shown, **chosen
        )
        for outlier in results:
            row = {"id": items.ids[outlier.number], "score": round(outlier.score, 6), "far": outlier.is_far}
            typer.echo(to_json(row) if as_json else f"{outlier.score:.4f}  {_describe(items, outlier.number)}")
        return
    old = read_job_items(reference, field=field, id_field=id_field, form=form)
    report = find_drift(
        list(old.texts),
        list(items.texts),
        count=count or 10,
        seed=seed,
        accept_license=accept_license,
        progress=shown,
        **_both_sides(old, items, model),
    )
    if as_json:
        typer.echo(to_json({**report.to_dict(), "newest": [items.ids[number] for number in report.newest]}))
        return
    typer.echo(report.to_text())
    typer.echo("\n".join(f"  {_describe(items, number)}" for number in report.newest))


def _both_sides(old: JobItems, new: JobItems, model: str | None) -> dict[str, Any]:
    """Return the vectors of both sides and the model of the sides that have none."""
    name = model or old.model or new.model or None
    sides = [choose_vectors(items, name) for items in (old, new)]
    return {"vectors": tuple(side["vectors"] for side in sides), "model": sides[0]["model"]}


def _describe(items: JobItems, number: int) -> str:
    return f"{escape_controls(str(items.ids[number]))}  {escape_controls(items.texts[number][:_SHOWN])}"
