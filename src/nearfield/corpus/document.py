"""Document: what an extractor makes of a file; its blocks, and the spans and chunks that are cut from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nearfield.stores.filters import Value

Form = Literal["prose", "markdown", "table", "code"]
BlockKind = Literal["heading", "paragraph", "list", "table", "code", "quote"]


@dataclass(frozen=True)
class Block:
    """A piece of a document's text, from ``start`` up to ``end`` in characters.

    ``level`` is that of a heading, 1 to 6; ``page`` counts from 1, where there are pages. Blocks are in order, do not
    overlap, and what lies between them is white space or markup.
    """

    start: int
    end: int
    kind: BlockKind = "paragraph"
    level: int = 0
    page: int | None = None


@dataclass(frozen=True)
class Document:
    """A text and its structure.

    ``text`` is the file's own where the file is text (so that positions in it are positions in the file, after
    decoding), else what was extracted. ``language`` is that of source code, by its usual name in lower case. ``meta``
    are further facts, such as an author.
    """

    text: str
    blocks: tuple[Block, ...] = ()
    title: str = ""
    form: Form = "prose"
    language: str = ""
    meta: Mapping[str, Value] = field(default_factory=dict)

    def digest(self) -> str:
        """Return what tells its content from another's."""
        told = json.dumps([self.text, self.title, sorted(self.meta.items())], ensure_ascii=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()


class NamedBytes(bytes):
    """A file's bytes under a name that only reading them told: its suffix says the type, as that of an item does."""

    name: str

    def __new__(cls, data: bytes, name: str) -> NamedBytes:
        made = super().__new__(cls, data)
        made.name = name
        return made


@dataclass(frozen=True)
class SourceItem:
    """What a source lists: one document to be.

    ``key`` tells it from the source's others for good: a path relative to the source, a row's id, a URL. ``name`` is
    for people, and its suffix tells the type. ``stamp`` changes whenever the content may have (None: only reading
    tells). ``read`` gives the bytes (``Named`` where their type shows only then), or the document itself where the
    source knows it (a row of a table), and raises ``NearfieldError`` or ``OSError`` where it cannot. ``meta`` are
    values to filter by.
    """

    key: str
    name: str
    read: Callable[[], bytes | Document]
    stamp: str | None = None
    meta: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A part of a document's text that becomes a chunk: from ``start`` up to ``end``, under these headings.

    ``tokens`` are those of that part alone, as the collection's tokenizer counts them.
    """

    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0


def embedded(text: str, context: str) -> str:
    """Return a chunk as models read it: its context, where it has one, then its text."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True)
class Chunk:
    """A chunk as it is embedded and found.

    ``text`` is what was cut out and cleaned. ``start`` and ``end`` are its place in ``Document.text`` before cleaning.
    ``context`` (title, headings) is put before the text where it is embedded, and nowhere else. ``tokens`` are those of
    the text by the collection's tokenizer, without context and special tokens.
    """

    ordinal: int
    text: str
    start: int
    end: int
    context: str = ""
    headings: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0

    @property
    def embedded(self) -> str:
        """The text that the model reads."""
        return embedded(self.text, self.context)

    def payload(self) -> dict[str, Any]:
        """Return its place as JSON can say it."""
        told: dict[str, Any] = {"start": self.start, "end": self.end}
        told |= {"headings": list(self.headings)} if self.headings else {}
        return told | ({"page": self.page} if self.page is not None else {})
