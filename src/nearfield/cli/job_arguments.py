"""Arguments of jobs that are texts, or names of files with texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from nearfield.errors import InputError
from nearfield.fileio.s3.path import refuse_object

if TYPE_CHECKING:
    from nearfield.jobs.job_items import JobItems

#: The argument for stdin.
_STDIN = "-"
_SECONDS_PER_DAY = 86_400


def read_job_items(
    arguments: Sequence[str], *, field: str = "text", id_field: str | None = None, columns: Sequence[str] = ()
) -> JobItems:
    """Return the texts of files and folders, or the arguments themselves if none of them is one.

    Raises:
        InputError: some arguments are files and others are not, one is on S3, or a file cannot be read.
    """
    from nearfield.jobs.job_items import JobItems, read_items

    for name in arguments:
        refuse_object(name, param="inputs")
    exist = [name == _STDIN or _is_path(name) for name in arguments]
    if all(exist):
        return read_items([Path(name) for name in arguments], field=field, id_field=id_field, columns=columns)
    missing = arguments[exist.index(False)]
    if any(exist) or _looks_like_path(missing):
        raise InputError(f"There is no file {missing!r}. Give files alone, or texts alone.", param="inputs")
    return JobItems.from_texts(list(arguments))


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
