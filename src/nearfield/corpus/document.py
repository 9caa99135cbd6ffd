"""Documents and their blocks, as extractors return them; the spans and chunks that they are split into."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from nearfield.errors import InputError
from nearfield.stores.filters import Value

Form = Literal["prose", "markdown", "table", "code"]
BlockKind = Literal["heading", "paragraph", "list", "table", "code", "quote"]
#: The kind of chunks that are no pictures, pages, sounds or videos.
TEXT: Final = "text"
#: Characters of a heading: the rest is dropped.
_MAX_HEADING = 200
#: Bytes of a file that are hashed at a time.
_HASHED_BYTES = 2**20
_HEADING_MARKS = re.compile(r"^\s*#{1,6}\s+|\s+#+\s*$|\n\s*(?:=+|-+)\s*$")


@dataclass(frozen=True, slots=True)  # a text of 100 MB has hundreds of thousands
class Block:
    """A piece of a document's text, from ``start`` up to ``end`` in characters.

    ``level`` is that of a heading, 1 to 6. ``page`` counts pages, slides or sheets from 1; None without them.
    ``start_time`` and ``end_time`` are the seconds of the recording in which it is said; None without a recording.
    Blocks are in order and do not overlap; between them are only white space and markup.
    """

    start: int
    end: int
    kind: BlockKind = "paragraph"
    level: int = 0
    page: int | None = None
    start_time: float | None = None
    end_time: float | None = None


@dataclass(frozen=True)
class Loss:
    """Content that a reader of the file would see, and that is missing from its text.

    ``reason`` completes "not read: ...", as in "2 pictures without a description". ``words`` is an estimate of the
    missing words, 0 if it is unknown. ``pages`` are the pages, slides or sheets that are concerned, from 1. ``advice``
    is what the user can do, as a sentence; empty if nothing can be done.
    """

    reason: str
    words: int = 0
    pages: tuple[int, ...] = ()
    advice: str = ""

    @property
    def may_be_decoration(self) -> bool:
        """Whether it concerns pictures without a description only."""
        return not self.words and "without a description" in self.reason


@dataclass(frozen=True)
class MissingText:
    """A piece of a file that searches cannot reach, and its page, slide or sheet."""

    text: str
    page: int | None = None


@dataclass(frozen=True)
class MediaContent:
    """The content of a media file: its bytes, or its path, from which it is read when it is decoded.

    ``name`` is that of the item. ``type`` is picture, pdf, sound or video, ``digest`` the SHA-256 of the bytes in
    hexadecimal digits, and ``stamp`` what ``file_stamp`` returned before they were hashed.
    """

    name: str
    type: str
    digest: str
    data: bytes = b""
    path: str = ""
    stamp: str = ""

    def may_have_text(self, ocr: bool, speech: bool) -> bool:
        """Return whether a text is read of it too: whether texts in pictures, or what is said, are recognised."""
        if self.type in ("picture", "pdf"):
            return ocr or self.type == "pdf"
        return speech

    def is_there(self) -> bool:
        """Return whether it can be read, and is as it was listed."""
        try:
            self.source()
        except InputError:
            return False
        return True

    def source(self) -> Path | bytes:
        """Return what it is read from.

        Raises:
            InputError: the file has changed, or does not exist any more.
        """
        if not self.path:
            return self.data
        try:
            stamp = file_stamp(Path(self.path))
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error}).") from error
        if stamp != self.stamp:
            raise InputError(f"{self.name}: changed while it was indexed. The next run reads it again.")
        return Path(self.path)


def file_stamp(path: Path) -> str:
    """Return the size and time of a file; raises OSError if it cannot be read."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True)
class Document:
    """A text and its structure.

    ``text`` of a text file is the decoded file itself, so that positions in it are positions in the file; of other
    files it is the extracted text. ``language`` is the programming language of source code, in lower case. ``meta`` has
    further facts, such as an author. ``visible_words`` is the number of words that a reader would see, counted by other
    means than the extraction; None if the text is all that there is. ``missing`` are some of those that the text lacks,
    if the extractor can name them. ``losses`` is what the extractor could not read.
    ``page_unit`` is what ``Block.page`` counts: "page", "slide" or "sheet". ``markup`` has the edits that leave what a
    reader sees of a text file: start, end and replacement, in order, without overlap. They are applied before the text
    is split, so that positions stay those in the file. ``has_lines`` says whether its lines are those of the file.
    ``media`` is the sound or video that it is, without a text.
    """

    text: str
    blocks: tuple[Block, ...] = ()
    title: str = ""
    form: Form = "prose"
    language: str = ""
    meta: Mapping[str, Value] = field(default_factory=dict)
    visible_words: int | None = None
    missing: tuple[MissingText, ...] = ()
    losses: tuple[Loss, ...] = ()
    page_unit: str = "page"
    markup: tuple[tuple[int, int, str], ...] = ()
    has_lines: bool = False
    media: MediaContent | None = None

    def digest(self) -> str:
        """Return a digest of its content."""
        parts = [self.text, self.title, sorted(self.meta.items()), *([self.media.digest] if self.media else [])]
        content = json.dumps(parts, ensure_ascii=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def headings(self) -> list[tuple[int, tuple[str, ...]]]:
        """Return the start of each heading, and the path to it from the highest one."""
        paths: list[tuple[int, tuple[str, ...]]] = []
        above: list[tuple[int, str]] = []
        for block in self.blocks:
            if block.kind != "heading":
                continue
            name = " ".join(_HEADING_MARKS.sub("", self.text[block.start : block.end]).split())[:_MAX_HEADING]
            above = [(level, title) for level, title in above if level < block.level] + [(block.level, name)]
            paths.append((block.start, tuple(title for _, title in above if title)))
        return paths


class NamedBytes(bytes):
    """The bytes of a file, with a name that was unknown before it was read; the suffix gives the type."""

    name: str

    def __new__(cls, data: bytes, name: str) -> NamedBytes:
        instance = super().__new__(cls, data)
        instance.name = name
        return instance


class StoredFile(bytes):
    """Stands for a file that may be too large for memory: these bytes are a digest, and ``path`` has the content.

    ``state`` is the size and the time of change that the file had (nanoseconds); None if that is not known.
    """

    path: Path
    state: tuple[int, int] | None

    def __new__(cls, digest: bytes, path: Path, state: tuple[int, int] | None = None) -> StoredFile:
        instance = super().__new__(cls, digest)
        instance.path, instance.state = path, state
        return instance

    def __getnewargs__(self) -> tuple[bytes, Path, tuple[int, int] | None]:  # type: ignore[override]
        return bytes(self), self.path, self.state

    @classmethod
    def from_path(cls, path: Path) -> StoredFile:
        """Return a file with the SHA-256 of its bytes; an empty one has no bytes here either.

        Raises:
            OSError: it cannot be read.
        """
        digest = hashlib.sha256()
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            while part := file.read(_HASHED_BYTES):
                digest.update(part)
        return cls(digest.digest() if status.st_size else b"", path, (status.st_size, status.st_mtime_ns))

    def is_there(self) -> bool:
        """Return whether the file exists, as large as it was."""
        try:
            return self.state is None or self.path.stat().st_size == self.state[0]
        except OSError:
            return False

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file.

        Raises:
            OSError: it cannot be opened, or has changed since it was hashed.
        """
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if self.state not in (None, (status.st_size, status.st_mtime_ns)):
                raise OSError(errno.ESTALE, "it has changed while it was indexed")
            yield file


@dataclass(frozen=True)
class SourceItem:
    """One document that a source lists.

    ``key`` identifies it within the source and never changes: a relative path, a row's id, a URL. ``name`` is shown to
    users; its suffix gives the type. ``stamp`` changes whenever the content may have changed; None if only reading
    shows that. ``read`` returns the bytes (``NamedBytes`` if the type is known only then, ``StoredFile`` if they may be
    too large for memory), or the document if the source can build it (a row of a table); it raises ``NearfieldError``
    or ``OSError``. ``meta`` has values for filters. ``path`` is the file whose bytes ``read`` returns unchanged; None
    if there is none.
    """

    key: str
    name: str
    read: Callable[[], bytes | Document]
    stamp: str | None = None
    meta: Mapping[str, Value] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class DocumentFile:
    """The file of an indexed document, as it was indexed.

    ``name`` is its key, whose suffix gives the type; ``digest`` is that of the content. ``item`` is the file as its
    source has it now.
    """

    name: str
    digest: str
    item: SourceItem

    def source(self) -> Path | bytes:
        """Return its path; the bytes of a file in an archive.

        Raises:
            InputError, OSError: the archive cannot be read.
        """
        data = self.item.path or self.item.read()
        if isinstance(data, Document):
            raise InputError(f"{self.name} is no file.")
        return data


@dataclass(frozen=True)
class Span:
    """A part of a document's text that becomes a chunk: from ``start`` up to ``end``, under ``headings``.

    ``page`` and ``last_page`` are those of its first and last character. ``tokens`` is the number of tokens of the
    part, by the collection's tokenizer. ``start_time`` and ``end_time`` are the seconds in which it is said; within a
    block they are estimated by the share of its characters.
    """

    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0
    last_page: int | None = None
    start_time: float | None = None
    end_time: float | None = None


def embedded(text: str, context: str) -> str:
    """Return the text that a model reads for a chunk: its context, if it has one, then its text."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True)
class Chunk:
    """A chunk of a document.

    ``text`` is the cleaned text. ``start`` and ``end`` are its place in ``Document.text`` before cleaning. ``place`` is
    its start and end in the text that is read from a collection (``reading_text``), and ``gap`` the text before it
    that is in no chunk. ``cuts`` are the positions in ``text`` where passages that the document shares with others are
    read, and the length of what is read there. ``lines`` are its first and last line in the file, from 1. ``context``
    (title, headings) comes before the text when it is embedded, and nowhere else. ``tokens`` counts the text by the
    collection's tokenizer, without context and special tokens. ``start_time`` and ``end_time`` are those of its span.
    """

    ordinal: int
    text: str
    start: int
    end: int
    context: str = ""
    headings: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0
    last_page: int | None = None
    page_unit: str = "page"
    lines: tuple[int, int] | None = None
    place: tuple[int, int] | None = None
    gap: str = ""
    cuts: tuple[tuple[int, int], ...] = ()
    start_time: float | None = None
    end_time: float | None = None

    @property
    def embedded(self) -> str:
        """The text that the model reads."""
        return embedded(self.text, self.context)

    def payload(self) -> dict[str, Any]:
        """Return its place in the document, as JSON data."""
        place: dict[str, Any] = {"start": self.start, "end": self.end}
        optional: dict[str, Any] = {
            "headings": list(self.headings) or None,
            "page": self.page,
            "last_page": None if self.last_page == self.page else self.last_page,
            "page_unit": None if self.page is None or self.page_unit == "page" else self.page_unit,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "lines": self.lines and list(self.lines),
            "place": self.place and list(self.place),
            "gap": self.gap or None,
            "cuts": [list(cut) for cut in self.cuts] or None,
        }
        return place | {name: value for name, value in optional.items() if value is not None}
