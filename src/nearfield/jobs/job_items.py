"""`JobItems`: the texts that a job reads, with their ids and the columns that it needs, from files or from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nearfield.argument_checks import require_list
from nearfield.bulk.input_table import InputTable, expand_paths
from nearfield.bulk.text_source import STDIN, TextSource
from nearfield.errors import InputError
from nearfield.message_text import count_of
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import many_texts


@dataclass(frozen=True)
class JobItems:
    """Texts; the id of each, by default its number from 0 on; and columns by name, each with a value for each text."""

    texts: Sequence[str]
    ids: Sequence[object]
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)

    @classmethod
    def from_texts(cls, texts: object, ids: Sequence[object] | None = None) -> JobItems:
        """Return texts that a caller passes.

        Raises:
            InputError: they are no texts, or the ids are not one for each, or one is there twice.
        """
        listed = many_texts(texts, "texts")
        if ids is None:
            return cls(listed, range(len(listed)))
        names = require_list("ids", ids)
        if len(names) != len(listed):
            raise InputError(f"There are {len(listed):,} texts and {len(names):,} ids: give one for each.", param="ids")
        _require_distinct(names)
        return cls(listed, names)

    def __len__(self) -> int:
        return len(self.texts)


def read_items(
    paths: Sequence[Path],
    *,
    field: str = "text",
    id_field: str | None = None,
    columns: Sequence[str] = (),
    form: str | None = None,
) -> JobItems:
    """Read the texts of files, folders or stdin, in any format that ``nearfield embed`` reads.

    Raises:
        InputError: there is no such file, column or format, a row cannot be read, or an id is there twice.
    """
    if columns and STDIN not in paths:
        return _read_columns(InputTable(_expand(paths, form), form, field, id_field, tuple(dict.fromkeys(columns))))
    rows = list(TextSource(_expand(paths, form), form, field, id_field).rows())
    ids = range(len(rows)) if id_field is None else [key for key, _ in rows]
    _require_distinct(ids if id_field is not None else ())
    return JobItems([text for _, text in rows], ids)


def require_items(items: Sequence[object], minimum: int, job: str) -> None:
    """Raise InputError if there are too few texts for a job."""
    if len(items) < minimum:
        needed = count_of(minimum, "text")
        raise InputError(f"{job} needs at least {needed}, and there are {len(items):,}.", param="texts")


def _expand(paths: Sequence[Path], form: str | None) -> tuple[Path, ...]:
    return expand_paths(paths, form, Path(os.devnull))


def _read_columns(table: InputTable) -> JobItems:
    rows = list(table.full_rows())
    table.check_keep()
    ids = [row.key for row in rows] if table.id_field is not None else range(len(rows))
    _require_distinct(ids if table.id_field is not None else ())
    return JobItems([row.text for row in rows], ids, {name: [row.columns[name] for row in rows] for name in table.keep})


def _require_distinct(ids: Sequence[object]) -> None:
    repeated = find_repeated(map(str, ids))
    if repeated is not None:
        raise InputError(f"The id {repeated!r} is there twice.", param="ids")
