"""The part of nearfield dedupe for texts: the inputs, the report, the list of copies, and questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nearfield.cli.job_arguments import choose_vectors, read_dates
from nearfield.message_text import count_of, escape_controls, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.jobs.duplicates.text_duplicates import TextDuplicates

#: Characters of a text that a question shows.
_SHOWN = 400


@dataclass(frozen=True)
class TextTables:
    """Files of tables, folders of vectors or a collection, and the columns of text, id and date."""

    paths: tuple[Path, ...]
    field: str
    id_field: str | None
    date: str | None


def is_table(path: Path) -> bool:
    """Return whether an input has texts: stdin, a collection, a folder of vectors, or a file of a table."""
    from nearfield.bulk.input_table import suffixes_of
    from nearfield.bulk.row_files.shard_vectors import is_shard_folder
    from nearfield.jobs.sources.job_items import COLLECTION

    if str(path) == "-" or str(path).startswith(COLLECTION) or is_shard_folder(path):
        return True
    return path.is_file() and path.name.lower().endswith((*suffixes_of(None), *suffixes_of("txt")))


def dedupe_texts(
    tables: TextTables, options: dict[str, Any], form: str, output: Path | None, question_count: int | None
) -> None:
    """Find copies among texts, print the report, write the list of copies, and ask about some."""
    from nearfield.jobs.duplicates.find_duplicates import find_duplicate_texts
    from nearfield.jobs.sources.job_items import read_job_items

    columns = () if tables.date is None else (tables.date,)
    items = read_job_items(tables.paths, field=tables.field, id_field=tables.id_field, columns=columns)
    items.require_texts("A search for duplicates")
    if options["model"] is not None:
        options |= choose_vectors(items, options["model"])
    if tables.date is not None:
        options["dates"] = read_dates(items.columns[tables.date])
    report = find_duplicate_texts(list(items.texts), ids=items.ids, **options)
    typer.echo(to_json({**report.to_dict(), "links": list(report.rows())}) if form == "json" else report.to_text())
    if output is not None:
        _write(report, output)
    if question_count is not None:
        _estimate(report, question_count)


def _write(report: TextDuplicates, output: Path) -> None:
    from nearfield.fileio.atomic import atomic_text_file

    with atomic_text_file(output) as file:
        file.writelines(to_json(row) + "\n" for row in report.rows())
    typer.echo(f"the list of copies is in {quote_name(str(output))}", err=True)


def _estimate(report: TextDuplicates, count: int) -> None:
    """Ask whether pairs are copies, and print how many are, with a 95% interval."""
    from nearfield.jobs.libraries import library

    answers = []
    for copy, link in report.sample(count):
        for number in (link.original, copy):
            typer.echo(escape_controls(report.texts[number][:_SHOWN]), err=True)
        answers.append(typer.confirm(f"{link.value:.3f} ({link.measure}): the same?", err=True))
    if not answers:
        typer.echo("There is no pair to ask about: all copies are equal.", err=True)
        return
    right = sum(answers)
    low, high = library("scipy.stats").binomtest(right, len(answers)).proportion_ci(method="exact")
    share = 100 * right / len(answers)
    pairs = count_of(len(answers), "pair")
    typer.echo(f"precision: {share:.0f}% (95% {100 * low:.0f} to {100 * high:.0f}) of {pairs}", err=True)
