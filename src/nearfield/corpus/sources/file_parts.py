"""Documents that are parts of a file: the messages of a mailbox, and groups of rows of a large table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from nearfield.corpus.document import NamedBytes, SourceItem
from nearfield.corpus.extractors.messages.mailbox import message_places, unescape_message
from nearfield.corpus.sources.archives.archive_listing import SEPARATOR
from nearfield.errors import InputError

#: Suffixes of mailboxes, and of tables in text.
MAILBOXES, TEXT_TABLES = (".mbox", ".mbx"), (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
#: Bytes of a table above which it is split, of a group of rows, and of a row whose quote may be left open.
_WHOLE_BYTES, _GROUP_BYTES, _MAX_ROW_BYTES = 2**22, 2**20, 2**23
#: Starts of JSON that has several lines for each value.
_OVER_LINES = (b"{\n", b"{\r", b"[\n", b"[\r", b"[{")


@dataclass(frozen=True)
class FilePart:
    """A part of a file in bytes, and its name within the file. ``head`` is the end of the table's first line."""

    name: str
    start: int
    end: int
    head: int = 0


def split_file(path: Path, size: int) -> list[FilePart] | None:
    """Return the parts of a mailbox or of a large table; None for a file that is one document.

    Raises:
        OSError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in MAILBOXES:
        with path.open("rb") as file:
            return list(_messages(file)) or None
    if suffix in TEXT_TABLES and size > _WHOLE_BYTES:
        with path.open("rb") as file:
            # In UTF-16 a byte of a line end does not end a line.
            start = file.read(2**10)
            file.seek(0)
            is_json = suffix in (".jsonl", ".ndjson")
            if b"\0" in start or (is_json and start.lstrip()[:2] in _OVER_LINES):
                return None
            return list(_row_groups(file, has_head=not is_json))
    return None


def part_item(path: Path, key: str, stamp: str, part: FilePart, max_bytes: int) -> SourceItem:
    """Return the item of a part."""
    name = f"{key}{SEPARATOR}{part.name}"
    return SourceItem(name, name, partial(_read_part, path, name, part, max_bytes), stamp)


def _read_part(path: Path, name: str, part: FilePart, max_bytes: int) -> NamedBytes:
    if part.end - part.start > max_bytes:
        raise InputError(f"{name}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    with path.open("rb") as file:
        head = file.read(part.head)
        file.seek(part.start)
        data = file.read(part.end - part.start)
    suffix = path.suffix.lower()
    if suffix in MAILBOXES:
        return NamedBytes(unescape_message(data), f"{name}.eml")
    return NamedBytes(head + data, f"{name}{suffix}")


def _messages(file: BinaryIO) -> Iterator[FilePart]:
    """Yield the messages of a mailbox, named by their ids."""
    seen: Counter[str] = Counter()
    for number, place in enumerate(message_places(file), 1):
        name = place.message_id or f"message {number}"
        seen[name] += 1
        yield FilePart(name if seen[name] == 1 else f"{name} ({seen[name]})", place.start, place.end)


def _row_groups(file: BinaryIO, *, has_head: bool) -> Iterator[FilePart]:
    """Yield groups of whole rows, named by their numbers; a row in quotes may have several lines."""
    head = len(file.readline(_MAX_ROW_BYTES)) if has_head else 0
    position = start = row_start = head
    first, row, is_open = 1, 0, False
    while line := file.readline(_MAX_ROW_BYTES):
        position += len(line)
        is_open ^= has_head and bool(line.count(b'"') % 2)
        if is_open and position - row_start < _MAX_ROW_BYTES:
            continue
        row, row_start, is_open = row + 1, position, False
        if position - start >= _GROUP_BYTES:
            yield FilePart(f"rows {first}-{row}", start, position, head)
            start, first = position, row + 1
    if position > start:
        yield FilePart(f"rows {first}-{max(row, first)}", start, position, head)
