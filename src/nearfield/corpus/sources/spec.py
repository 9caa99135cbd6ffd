"""Parse sources of the command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.corpus.config import SourceSpec
from nearfield.corpus.sources import TABLES, Source, open_source
from nearfield.errors import InputError
from nearfield.fileio.s3.path import refuse_object
from nearfield.hub import existing_path
from nearfield.message_text import quote_name
from nearfield.text_inputs import describe

#: Options of sources that have a flag of the same name.
_FLAGS = ("text", "title", "id", "meta", "include", "exclude", "encoding")

#: Kinds of sources, as messages call them.
_KINDS = {"table": "a table", "files": "a file or folder"}


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
        InputError: there is no such file or folder, or it is on S3.
    """
    refuse_object(text, param="source")
    if text == "-":
        return open_source("stdin", "-")
    if text.startswith(("http://", "https://")):
        return open_source("urls", text)
    if text.startswith("urls:"):
        return open_source("urls", str(_absolute(text.removeprefix("urls:"))))
    path = _absolute(text)
    stated = {"encoding": encoding} if encoding else {}
    if path.suffix.lower() in TABLES and existing_path(str(path)) is not None and path.is_file():
        return open_source("table", str(path), **(columns or ColumnSpec()).options(), **stated)
    if existing_path(str(path)) is None and not any(mark in str(path) for mark in "*?["):
        raise InputError(f"There is no file or folder {quote_name(str(path))}.", param="source")
    options = {name: list(value) for name, value in (("include", include), ("exclude", exclude)) if value}
    return open_source("files", str(path), **options, **stated)


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        message = f"There is no file or folder {quote_name(text)}: there is no user of that name."
        raise InputError(message, param="source") from error


def check_stated(
    sources: Sequence[Source],
    *,
    columns: ColumnSpec,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    encoding: str | None = None,
) -> None:
    """Refuse options that apply to none of the sources.

    Raises:
        InputError: the first of them.
    """
    kinds = {source.kind for source in sources}
    named = {"text": columns.text, "title": columns.title, "id": columns.id}
    for name, value, allowed in (
        *((name, value, ("table",)) for name, value in named.items()),
        *((name, value, ("files",)) for name, value in (("include", include), ("exclude", exclude))),
        ("encoding", encoding, ("files", "table")),
    ):
        if value and kinds.isdisjoint(allowed):
            what = " or ".join(_KINDS[kind] for kind in allowed)
            raise InputError(
                f"--{name} says how {what} is read, and this command names none. Name it as a source too.",
                param=name,
            )


def split_piped(
    sources: Sequence[Source], recorded: Sequence[SourceSpec] = ()
) -> tuple[list[Source], list[dict[str, Any]]]:
    """Return the sources that can be read only once, and the others in the form of a definition.

    A source that is recorded already has its recorded options, unless ``open_source`` got others.
    """
    for source in sources if isinstance(sources, (list, tuple)) else [sources]:
        if not isinstance(source, Source):
            raise InputError(f"sources must be sources of open_source, and has {describe(source)}.", param="sources")
    known = {_open(spec).name: spec for spec in recorded}
    piped = [source for source in sources if source.kind == "stdin"]
    specs = [_spec(source, known.get(source.name)) for source in sources if source.kind != "stdin"]
    return piped, specs


def recorded_flags(sources: Sequence[Source], recorded: Sequence[SourceSpec]) -> dict[str, str]:
    """Return the flags of the command line that recorded options stand for, by the location of their source.

    Only options count that are no defaults, and that the new source does not state.
    """
    known = {_open(spec).name: spec for spec in recorded}
    flags = {}
    for source in sources:
        spec = known.get(source.name)
        if spec is None or source.stated is None:
            continue
        usual, options = open_source(spec.kind, spec.location).options, _open(spec).options
        names = (name for name in _FLAGS if name not in source.stated and options.get(name) != usual.get(name))
        flags[source.location] = " ".join(part for name in names for part in _flag(name, options[name]))
    return {location: text for location, text in flags.items() if text}


def _open(spec: SourceSpec) -> Source:
    return open_source(spec.kind, spec.location, **spec.options)


def _spec(source: Source, recorded: SourceSpec | None) -> dict[str, Any]:
    if recorded is None or source.stated is None:
        location = source.location if recorded is None else recorded.location
        return {"kind": source.kind, "location": location, "options": source.options}
    merged = open_source(source.kind, source.location, **{**recorded.options, **source.stated})
    return {"kind": source.kind, "location": recorded.location, "options": merged.options}


def _flag(name: str, value: object) -> Iterator[str]:
    values = list(value) if isinstance(value, Mapping | list | tuple) else [value]
    yield from (f"--{name} {shlex.quote(str(item))}" for item in values)
