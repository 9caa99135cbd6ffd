"""Extractor for JSON: names and values on lines, with texts as they read, without quotes and escapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nearfield.corpus.document import BlockKind, Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.code import CodeExtractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text_encoding import decode

#: Characters of a list of short values that is written on one line.
_MAX_LINE = 120
#: Characters of a text above which its block is split by sentences, and not by lines.
_LONG_TEXT = 200


class _Object(list[tuple[str, Any]]):
    """The members of an object in order; names may repeat."""


class JsonExtractor(Extractor):
    """JSON; other files with this suffix, such as JSON with comments, are read as source code."""

    suffixes = dict.fromkeys((".json", ".jsonld", ".geojson"), "application/json")
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the names and values."""
        try:
            value = json.loads(decode(data, name), object_pairs_hook=_Object, parse_float=str, parse_int=str)
            return _document(value)
        except (ValueError, RecursionError):
            return CodeExtractor().parse(data, f"{name}.json5")


def _document(value: Any) -> Document:
    """Return a document with one block for each member or item of the outermost value."""
    builder = DocumentBuilder()
    parts: list[Any] = [value]
    if isinstance(value, _Object):
        parts = [_Object([member]) for member in value]
    elif isinstance(value, list) and any(isinstance(item, list) for item in value):
        parts = list(value)
    short: list[str] = []
    for part in parts:
        text = "\n".join(_lines(part))
        if isinstance(value, _Object) and "\n" not in text and len(text) <= _LONG_TEXT:
            short.append(text)
            continue
        _add(builder, "\n".join(short))
        short.clear()
        _add(builder, text)
    _add(builder, "\n".join(short))
    return builder.document("prose", _title(value))


def _add(builder: DocumentBuilder, text: str) -> None:
    max_length = max(map(len, text.split("\n")))
    kind: BlockKind = "paragraph" if max_length > _LONG_TEXT else "table"
    builder.add(text.rstrip(), kind)


def _title(value: Any) -> str:
    """Return the title that the outermost object states."""
    members = dict(value) if isinstance(value, _Object) else {}
    return next((members[name] for name in ("title", "name") if isinstance(members.get(name), str)), "")


def _lines(value: Any) -> Iterator[str]:
    """Yield the lines of a value."""
    if isinstance(value, _Object):
        for name, member in value:
            yield from _member(name, member)
    elif isinstance(value, list):
        if _is_short(value):
            yield ", ".join(map(_scalar, value))
            return
        for item in value:
            lines = list(_lines(item))
            yield from (("- " if not number else "  ") + line for number, line in enumerate(lines))
    else:
        yield from _scalar(value).split("\n")


def _member(name: str, value: Any) -> Iterator[str]:
    lines = list(_lines(value))
    if not isinstance(value, list) or _is_short(value):
        yield f"{name}: {lines[0] if lines else ''}".rstrip()
        yield from (f"  {line}" for line in lines[1:])
    else:
        yield f"{name}:"
        yield from (f"  {line}" for line in lines)


def _is_short(value: list[Any]) -> bool:
    if isinstance(value, _Object) or any(isinstance(item, list) for item in value):
        return not value
    return sum(len(_scalar(item)) + 2 for item in value) <= _MAX_LINE and not any(
        "\n" in _scalar(item) for item in value
    )


def _scalar(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )
