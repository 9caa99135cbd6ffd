"""Documents from stdin, one per line: text, JSON or delimited rows."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.table import column_mapping, row_items
from nearfield.errors import InputError, nearest
from nearfield.fileio import tabular

_FORMATS = ("txt", "jsonl", "csv", "tsv")


class StdinSource(Source):
    """Rows from stdin. The location is a name for it, usually ``-``.

    ``form`` is txt (blank lines are skipped), jsonl, csv or tsv; the other options are those of a table. The input is
    copied to a temporary file, so that this source can list it several times.
    """

    kind = "stdin"

    def __init__(
        self,
        location: str = "-",
        *,
        form: str = "txt",
        text: str = "text",
        title: str | None = None,
        id: str | None = None,  # noqa: A002 - the public name of the option
        meta: Mapping[str, str] | Sequence[str] = (),
        stream: BinaryIO | None = None,
    ) -> None:
        if form not in _FORMATS:
            raise InputError(f"stdin cannot be read as {form!r}. {nearest(form, _FORMATS)}", param="form")
        self._columns = column_mapping(text, title, id, meta)
        super().__init__(location, form=form, **self._columns.to_options())
        self._form = form
        self._stream = stream
        self._copy: BinaryIO | None = None

    def items(self) -> Iterator[SourceItem]:
        """Yield the rows."""
        if self._copy is None:
            copy = tempfile.TemporaryFile(prefix="nearfield-stdin-")  # noqa: SIM115 - closed with the source
            self._copy = cast(BinaryIO, copy)
            weakref.finalize(self, self._copy.close)
            shutil.copyfileobj(self._stream or sys.stdin.buffer, self._copy)
        self._copy.seek(0)
        names = None if self._form in ("txt", "jsonl") else self._columns.names()
        rows = tabular.read_stream(self._copy, "stdin", self._form, names)
        if self._form == "txt":
            rows = (row for row in rows if not (isinstance(row.value, str) and not row.value.strip()))
        yield from row_items(rows, self._columns, "stdin")
