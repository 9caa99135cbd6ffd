"""nearfield recommend: more like some items, less like others, of a file of items."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.job_arguments import (
    FORMAT_HELP,
    INPUTS_HELP,
    MODEL_HELP,
    choose_vectors,
    read_dates,
    read_job_items,
    show_progress,
)
from nearfield.errors import InputError
from nearfield.message_text import count_of, escape_controls, to_json

if TYPE_CHECKING:
    from nearfield.jobs.recommendation import Recommendation
    from nearfield.jobs.sources.job_items import JobItems

EXAMPLES = """Examples:

nearfield recommend articles.jsonl --id-field id --like a17 --like a4 --unlike b2

nearfield recommend articles.jsonl --id-field id --history reads.tsv --json > recommended.jsonl

nearfield recommend articles.jsonl --id-field id --history reads.tsv --date published --age-half-life 30

A history is a table of the columns user and item, the oldest first; each user gets a list. Liked items are never
recommended, nor are those of --seen. --diversity 0 lists the best, 1 those that are unlike each other."""

#: Characters of a text that are shown.
_SHOWN = 80


def recommend(
    inputs: Annotated[list[str], typer.Argument(help=INPUTS_HELP)],
    like: Annotated[list[str] | None, typer.Option("--like", help="Id of a liked item; may be repeated.")] = None,
    unlike: Annotated[
        list[str] | None, typer.Option("--unlike", help="Id of an item of which there should be less.")
    ] = None,
    seen: Annotated[list[str] | None, typer.Option("--seen", help="Id of an item not to recommend.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Table of what users liked: the columns user and item, the oldest first.")
    ] = None,
    count: Annotated[int, typer.Option(help="Items to recommend.", min=1)] = 10,
    diversity: Annotated[float, typer.Option(help="How unlike each other items are.", min=0, max=1)] = 0.3,
    half_life: Annotated[
        float | None, typer.Option(help="Later liked items after which one counts half [all count the same].")
    ] = None,
    date: Annotated[str | None, typer.Option(help="Column with the date of an item, such as 2026-01-31.")] = None,
    age_half_life: Annotated[
        float | None, typer.Option(help="Days after which the score of an item is half; needs --date.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP)] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id [row number].")] = None,
    form: Annotated[str | None, typer.Option("--format", help=FORMAT_HELP)] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each user.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Recommend items by what somebody liked."""
    from nearfield.jobs.job_vectors import vectors_of
    from nearfield.jobs.recommendation import Recommender, Taste

    if (history is None) == (like is None):
        raise InputError("Give either --like or --history.", param="like")
    if (date is None) != (age_half_life is None):
        raise InputError("--date and --age-half-life go together.", param="date")
    columns = () if date is None else (date,)
    items = read_job_items(inputs, field=field, id_field=id_field, columns=columns, form=form)
    liked: Mapping[str, Sequence[object]] = {"": like or ()} if history is None else _read_history(history, items.ids)
    shown = show_progress(quiet=quiet or as_json)
    chosen = choose_vectors(items, model)
    vectors = vectors_of(items.texts, **chosen, purpose="clustering", accept_license=accept_license, progress=shown)
    recommender = Recommender(items.ids, vectors.rows, ages=None if date is None else _ages(items.columns[date]))
    for user, ids in liked.items():
        taste = Taste(ids, unlike or (), seen or (), half_life)
        results = recommender.recommend(taste, count, diversity=diversity, age_half_life=age_half_life) if ids else []
        _print(user, results, items, as_json=as_json)


def _read_history(path: Path, ids: Sequence[object]) -> dict[str, list[str]]:
    """Return the items of each user that are among the inputs, in the order of the file."""
    from nearfield.evaluation.datasets.rows import read_rows

    known, rows = set(map(str, ids)), [(row.text("user"), row.text("item")) for row in read_rows(path)]
    gone = sum(item not in known for _, item in rows)
    if gone == len(rows):
        raise InputError(f"No item of {path} is among the inputs: --id-field names the column of their ids.")
    if gone:
        typer.echo(f"left out: {count_of(gone, 'row')} of {path} with items that are not among the inputs.", err=True)
    items_of: dict[str, list[str]] = {user: [] for user, _ in rows}
    for user, item in rows:
        if item in known:
            items_of[user].append(item)
    return items_of


def _ages(dates: Sequence[object]) -> list[float]:
    """Return the age of each date in days."""
    today = time.time() / 86_400
    return [today - day for day in read_dates(dates)]


def _print(user: str, results: Sequence[Recommendation], items: JobItems, *, as_json: bool) -> None:
    if as_json:
        listed = [
            {"id": result.id, "score": round(result.score, 6), "because_of": result.because_of} for result in results
        ]
        typer.echo(to_json({"user": user or None, "items": listed}))
        return
    if user:
        typer.echo(escape_controls(user))
    for result in results:
        text = escape_controls(items.texts[result.number][:_SHOWN])
        typer.echo(f"{result.score:8.4f}  {escape_controls(str(result.id))}  {text}")
