"""Stdin: one document a line, as text or JSON."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.table import columns_of, listed
from nearfield.errors import InputError, nearest
from nearfield.fileio import tabular

_FORMS = ("txt", "jsonl", "csv", "tsv")


class StdinSource(Source):
    """What is piped in. The location is a name for it, ``-`` by itself; ``form`` is txt (lines without text are left
    out), jsonl, csv or tsv, and the other options are those of a table.

    It is kept in a temporary file, so that it can be listed again, by this source only.
    """

    kind = "stdin"

    def __init__(
        self,
        location: str = "-",
        *,
        form: str = "txt",
        text: str = "text",
        title: str | None = None,
        id: str | None = None,  # noqa: A002 - the word that people write
        meta: Mapping[str, str] | Sequence[str] = (),
        stream: BinaryIO | None = None,
    ) -> None:
        if form not in _FORMS:
            raise InputError(f"stdin cannot be read as {form!r}. {nearest(form, _FORMS)}", param="form")
        self._columns = columns_of(text, title, id, meta)
        super().__init__(location, form=form, **self._columns.told())
        self._form = form
        self._stream = stream
        self._kept: BinaryIO | None = None

    def items(self) -> Iterator[SourceItem]:
        """Yield what was piped in."""
        if self._kept is None:
            kept = tempfile.TemporaryFile(prefix="nearfield-stdin-")  # noqa: SIM115 - it lives as long as the source
            self._kept = cast(BinaryIO, kept)
            weakref.finalize(self, self._kept.close)
            shutil.copyfileobj(self._stream or sys.stdin.buffer, self._kept)
        self._kept.seek(0)
        names = None if self._form in ("txt", "jsonl") else self._columns.names()
        found = tabular.read_stream(self._kept, "stdin", self._form, names)
        if self._form == "txt":
            found = (
                row for row in found if row.value != "" and not (isinstance(row.value, str) and row.value.isspace())
            )
        yield from listed(found, self._columns, "stdin")
