"""nearfield map: texts as points in two dimensions, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfield.cli.job_arguments import (
    FORMAT_HELP,
    INPUTS_HELP,
    MODEL_HELP,
    choose_vectors,
    read_job_items,
    show_progress,
)
from nearfield.message_text import count_of, quote_name, to_json

EXAMPLES = """Examples:

nearfield map tickets.jsonl -o map.html

nearfield map tickets.jsonl -o map.html --colour-by team --colour-by month --title "Tickets of 2026"

The file opens in a browser without a network: move and zoom, search in the texts, colour by topic or by a field. It
has the texts in it: share it as you would share them. Near points have near meanings; distances between regions say
little. --json prints the place and the topic of each text."""


def map(  # noqa: A001 - the name of the command
    inputs: Annotated[list[str], typer.Argument(help=INPUTS_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    colour_by: Annotated[
        list[str] | None, typer.Option("--colour-by", help="Field or column to colour by; may be repeated.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Map",
    count: Annotated[int | None, typer.Option(help="Number of topics [the highest silhouette of 2 to 256].")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id [row number].")] = None,
    form: Annotated[str | None, typer.Option("--format", help=FORMAT_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Seed of places and topics.", min=0)] = 1,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Draw texts on a map with the names of their topics, as one HTML file."""
    from nearfield.jobs.map.text_map import draw_map

    items = read_job_items(inputs, field=field, id_field=id_field, columns=colour_by or (), form=form)
    result = draw_map(
        list(items.texts),
        output,
        fields=items.columns,
        title=title,
        count=count,
        seed=seed,
        accept_license=accept_license,
        progress=show_progress(quiet=quiet or as_json),
        **choose_vectors(items, model),
    )
    if not as_json:
        topics = count_of(len(result.topics.topics), "topic")
        typer.echo(f"{count_of(len(items), 'text')} of {topics} in {quote_name(str(output))}")
        return
    topic_of = result.topics.assignments.tolist()
    for key, place, topic in zip(items.ids, result.places.tolist(), topic_of, strict=True):
        typer.echo(to_json({"id": key, "x": round(place[0], 5), "y": round(place[1], 5), "topic": topic}))
