"""`JobItems`: what a job reads: texts or vectors, with their ids and the columns that it needs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from nearfield.argument_checks import require_list, require_optional_texts, require_path, require_texts
from nearfield.bulk.input_table import InputTable, expand_paths
from nearfield.bulk.row_files.shard_vectors import StoredVectors, is_shard_folder, read_shard_vectors
from nearfield.bulk.text_source import STDIN, TextSource
from nearfield.errors import InputError, nearest
from nearfield.message_text import count_of
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import many_texts
from nearfield.vectors.dense import Vectors
from nearfield.vectors.fingerprint import require_same_space

#: Bytes of a line by which the format of stdin is recognised.
_PEEKED_BYTES = 4096
#: How the name of a collection begins, in place of a file.
COLLECTION = "collection:"


@dataclass(frozen=True)
class JobItems:
    """What a job reads.

    Attributes:
        texts: the texts; empty ones where a folder of vectors has none.
        ids: the id of each, by default its number from 0 on.
        columns: by name, a value for each text.
        vectors: of a collection or a folder of vectors: those that exist.
        model: the name of the model that computed them.
    """

    texts: Sequence[str]
    ids: Sequence[object]
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    vectors: Vectors | None = None
    model: str = ""

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

    def require_texts(self, job: str) -> JobItems:
        """Return these items; raise InputError if they are vectors without texts."""
        if self.vectors is not None and len(self) and not any(self.texts):
            raise InputError(f"{job} reads texts, and this folder has vectors alone: embed with --keep text.")
        return self


def read_job_items(
    inputs: str | Path | Sequence[str | Path],
    *,
    field: str = "text",
    id_field: str | None = None,
    columns: Sequence[str] = (),
    form: str | None = None,
) -> JobItems:
    """Read what a job works on: files of texts, folders of vectors, or a collection.

    Texts, ids and vectors then go to any job: ``find_topics(items.texts, vectors=items.vectors)``.

    Args:
        inputs: files or folders of texts in any format of ``nearfield embed``; folders of vectors that it wrote, whose
            vectors are used; or ``collection:NAME``, whose documents are read with the mean of their vectors.
        field: the column of the text. A folder of vectors has it if it was written with ``--keep``.
        id_field: the column of the id; by default numbers, and the ids of a folder of vectors or a collection.
        columns: further columns to read.
        form: the format of files, where their names do not say it.

    Raises:
        InputError: there is no such input, column or format, a row cannot be read, or an id is there twice.
        SpaceMismatch: folders have vectors of several spaces.
    """
    names = [inputs] if isinstance(inputs, (str, Path)) else require_list("inputs", inputs)
    paths = [require_path("inputs", name) for name in names]
    if not paths:
        raise InputError("inputs is empty: name a file, a folder or a collection.", param="inputs")
    require_texts(field=field)
    require_optional_texts(id_field=id_field, form=form)
    columns = many_texts(columns, "columns")
    if any(str(name).startswith(COLLECTION) for name in names):
        return _read_collection(names, columns)
    return read_items(paths, field=field, id_field=id_field, columns=columns, form=form)


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
    if any(map(is_shard_folder, paths)):
        return _read_vectors(paths, field, id_field, columns)
    if STDIN in paths:
        form = form or _stdin_format(field)
    if columns and STDIN in paths:
        raise InputError(f"{columns[0]!r} cannot be read from stdin beside the text: save the rows to a file first.")
    if columns:
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


def _read_collection(names: Sequence[object], columns: Sequence[str]) -> JobItems:
    from nearfield.jobs.sources.collection_items import read_collection

    if len(names) > 1:
        raise InputError("Give one collection, or files: they cannot be mixed.", param="inputs")
    return read_collection(str(names[0]).removeprefix(COLLECTION), columns)


def _read_vectors(paths: Sequence[Path], field: str, id_field: str | None, columns: Sequence[str]) -> JobItems:
    other = next((path for path in paths if not is_shard_folder(path)), None)
    if other is not None:
        raise InputError(f"{other} is no folder of vectors, and other inputs are: read them in two runs.")
    parts = [read_shard_vectors(path) for path in paths]
    for part in parts[1:]:
        require_same_space(parts[0].vectors.fingerprint, part.vectors.fingerprint)
    vectors = parts[0].vectors if len(parts) == 1 else cast(Vectors, np.concatenate([part.vectors for part in parts]))
    ids = [key for part in parts for key in _shard_column(part, id_field or "id")]
    _require_distinct(ids)
    texts = [text for part in parts for text in _shard_texts(part, field)]
    values = {name: [value for part in parts for value in _shard_column(part, name)] for name in columns}
    return JobItems(texts, ids, values, vectors, parts[0].model)


def _shard_column(part: StoredVectors, name: str) -> Sequence[object]:
    if name not in part.columns:
        hint = nearest(name, part.columns)
        raise InputError(f"The folder of vectors has no column {name!r}: embed with --keep {name}. {hint}")
    return part.columns[name]


def _shard_texts(part: StoredVectors, field: str) -> list[str]:
    if field not in part.columns:
        return [""] * len(part.vectors)
    return ["" if text is None else str(text) for text in part.columns[field]]


def _stdin_format(field: str) -> str:
    """Return the format of what stdin begins with: JSON lines, a table with a header that has the field, or text."""
    line = _first_line(sys.stdin.buffer).decode("utf-8-sig", "replace").strip()
    if line.startswith("{"):
        return "jsonl"
    tables = {"tsv": "\t", "csv": ","}
    return next((form for form, mark in tables.items() if mark in line and field in line.split(mark)), "txt")


def _first_line(stream: BinaryIO) -> bytes:
    """Return the first line, or the beginning of a long one, and leave it to be read."""
    if isinstance(stream, io.BufferedReader):
        return stream.peek(1).lstrip().partition(b"\n")[0]
    start = stream.tell()
    line = stream.readline(_PEEKED_BYTES)
    stream.seek(start)
    return line


def _require_distinct(ids: Sequence[object]) -> None:
    repeated = find_repeated(map(str, ids))
    if repeated is not None:
        raise InputError(f"The id {repeated!r} is there twice.", param="ids")
