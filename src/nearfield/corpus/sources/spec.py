"""Parse sources of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.corpus.sources import TABLES, Source, open_source
from nearfield.errors import InputError


@dataclass(frozen=True)
class ColumnSpec:
    """The columns of tables. None means the default of the source."""

    text: str | None = None
    title: str | None = None
    id: str | None = None
    meta: tuple[str, ...] = ()

    def options(self) -> dict[str, object]:
        """Return them as options of a table source."""
        columns = {"text": self.text, "title": self.title, "id": self.id, "meta": list(self.meta) or None}
        return {name: value for name, value in columns.items() if value is not None}


def parse_source(
    text: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    columns: ColumnSpec | None = None,
    encoding: str | None = None,
) -> Source:
    """Return the source for an argument: ``-`` is stdin, http(s) a URL, a table file its rows; all else is files.

    ``encoding`` is that of files and tables that are not UTF-8.

    Raises:
        InputError: there is no such file or folder.
    """
    if text == "-":
        return open_source("stdin", "-")
    if text.startswith(("http://", "https://")):
        return open_source("urls", text)
    if text.startswith("urls:"):
        return open_source("urls", str(Path(text.removeprefix("urls:")).expanduser().absolute()))
    path = Path(text).expanduser().absolute()
    stated = {"encoding": encoding} if encoding else {}
    if path.suffix.lower() in TABLES and path.is_file():
        return open_source("table", str(path), **(columns or ColumnSpec()).options(), **stated)
    if not path.exists() and not any(mark in str(path) for mark in "*?["):
        raise InputError(f"There is no file or folder {path}.", param="source")
    options = {name: list(value) for name, value in (("include", include), ("exclude", exclude)) if value}
    return open_source("files", str(path), **options, **stated)


def split_piped(sources: Sequence[Source]) -> tuple[list[Source], list[dict[str, Any]]]:
    """Return the sources that can be read only once, and the others in the form of a definition."""
    piped = [source for source in sources if source.kind == "stdin"]
    specs = [
        {"kind": source.kind, "location": source.location, "options": source.options}
        for source in sources
        if source.kind != "stdin"
    ]
    return piped, specs
