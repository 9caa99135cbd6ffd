"""Arguments of jobs: texts, names of files, folders of vectors and collections, and the model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.errors import InputError
from nearfield.fileio.s3.path import refuse_object

if TYPE_CHECKING:
    from nearfield.jobs.sources.job_items import JobItems
    from nearfield.vectors.dense import Vectors

#: The argument for stdin.
_STDIN = "-"
_SECONDS_PER_DAY = 86_400
INPUTS_HELP = "Files or folders of texts, folders of vectors, collection:NAME, - for stdin, or some texts."
MODEL_HELP = "Model of the vectors [that of a folder of vectors or a collection, whose vectors are used; "
MODEL_HELP += "otherwise all-MiniLM-L6-v2]."
FORMAT_HELP = "Format of the inputs: jsonl, csv, tsv, parquet or txt [by name; stdin by its first line]."


def read_job_items(
    arguments: Sequence[str],
    *,
    field: str = "text",
    id_field: str | None = None,
    columns: Sequence[str] = (),
    form: str | None = None,
) -> JobItems:
    """Return what files, folders or a collection hold, or the arguments themselves if none of them is one.

    Raises:
        InputError: some arguments are files and others are not, one is on S3, or a file cannot be read.
    """
    from nearfield.jobs.sources.job_items import COLLECTION, JobItems
    from nearfield.jobs.sources.job_items import read_job_items as read

    for name in arguments:
        refuse_object(name, param="inputs")
    exist = [name == _STDIN or name.startswith(COLLECTION) or _is_path(name) for name in arguments]
    if all(exist):
        return read(arguments, field=field, id_field=id_field, columns=columns, form=form)
    missing = arguments[exist.index(False)]
    if any(exist) or _looks_like_path(missing):
        raise InputError(f"There is no file {missing!r}. Give files alone, or texts alone.", param="inputs")
    return JobItems.from_texts(list(arguments))


def choose_vectors(items: JobItems, model: str | None) -> dict[str, Any]:
    """Return the arguments ``vectors`` and ``model`` of a job: vectors that exist, and otherwise the model's."""
    from nearfield.jobs.job_vectors import DEFAULT_MODEL

    stored = stored_vectors(items, model)
    if stored is None:
        items.require_texts(f"The model {model}")
    return {"vectors": stored, "model": model or items.model or DEFAULT_MODEL}


def stored_vectors(items: JobItems, model: str | None) -> Vectors | None:
    """Return the vectors that exist; None if there are none, or if the user names another model."""
    is_same = model is None or items.model == model or items.model.endswith(f"/{model}")
    return items.vectors if is_same else None


def show_progress(*, quiet: bool) -> bool:
    """Return whether a job shows progress: on a terminal, unless the user wants none."""
    return not quiet and sys.stderr.isatty()


def read_dates(values: Sequence[object]) -> list[float]:
    """Return dates such as 2026-01-31, with a time or without, or numbers, as days since 1970.

    Raises:
        InputError: a value is neither.
    """
    return [_days(value) for value in values]


def _days(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"{value!r} is no date: write 2026-01-31, or with a time.", param="date") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp() / _SECONDS_PER_DAY


def _is_path(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a text that is longer than names of files
        return False


def _looks_like_path(name: str) -> bool:
    from nearfield.bulk.input_table import suffixes_of

    return " " not in name and name.lower().endswith((*suffixes_of(None), *suffixes_of("txt")))
