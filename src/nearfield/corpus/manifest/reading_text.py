"""The text of a document that is read from a collection, and the places of its chunks in it.

It is the cleaned text, with the passages that the document shares with others at their places: they are chunks alone,
and in no chunk around them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nearfield.corpus.document import TEXT, Chunk, Span
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import ChunkRecord

_PARAGRAPH = "\n\n"


@dataclass(frozen=True)
class ReadingText:
    """A document's text, and the start and end of its chunks by their ids."""

    text: str
    places: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class SharedPassage:
    """Text that the document shares with others, as a chunk, and its position in the text without such passages."""

    position: int
    chunk: Chunk


@dataclass(frozen=True)
class _Insertion:
    """A passage put into the text: its position, the text before it, and the length of all that is inserted."""

    position: int
    chunk: Chunk
    before: str
    length: int


def place_chunks(
    text: str, spans: Sequence[Span], chunks: Sequence[Chunk], passages: Sequence[SharedPassage]
) -> list[Chunk]:
    """Return all chunks with their places in the text that is read.

    Args:
        text: the cleaned text without the passages.
        spans: the places of ``chunks`` in it.
        chunks: the chunks of the text.
        passages: the chunks of text that the document shares with others.
    """
    insertions = [_insert(text, passage) for passage in sorted(passages, key=lambda passage: passage.position)]
    waiting = deque(insertions)
    placed: list[Chunk] = []
    covered = 0
    inserted = 0
    for span, chunk in zip(spans, chunks, strict=True):
        while waiting and waiting[0].position <= span.start:
            insertion = waiting.popleft()
            placed.append(_place_passage(text, insertion, covered, inserted))
            covered, inserted = max(covered, insertion.position), inserted + insertion.length
        placed.append(_place_chunk(chunk, span, text[covered : span.start], insertions))
        covered = max(covered, span.end)
    for insertion in waiting:
        placed.append(_place_passage(text, insertion, covered, inserted))
        covered, inserted = max(covered, insertion.position), inserted + insertion.length
    return placed


def _insert(text: str, passage: SharedPassage) -> _Insertion:
    """Return the insertion of a passage, as a paragraph."""
    position = passage.position
    before = "" if not text[:position].strip() or text[:position].endswith(_PARAGRAPH) else _PARAGRAPH
    after = "" if text[position:].startswith(_PARAGRAPH) else _PARAGRAPH
    return _Insertion(position, passage.chunk, before, len(before) + len(passage.chunk.text) + len(after))


def _place_passage(text: str, insertion: _Insertion, covered: int, inserted: int) -> Chunk:
    gap = text[covered : insertion.position] + insertion.before
    start = insertion.position + inserted + len(insertion.before)
    return replace(insertion.chunk, place=(start, start + len(insertion.chunk.text)), gap=gap)


def _place_chunk(chunk: Chunk, span: Span, gap: str, insertions: Sequence[_Insertion]) -> Chunk:
    before = sum(insertion.length for insertion in insertions if insertion.position <= span.start)
    inside = [insertion for insertion in insertions if span.start < insertion.position < span.end]
    cuts = tuple((insertion.position - span.start, insertion.length) for insertion in inside)
    end = span.end + before + sum(length for _, length in cuts)
    return replace(chunk, place=(span.start + before, end), gap=gap, cuts=cuts)


def append_window(chunks: Sequence[Chunk], length: int) -> list[Chunk]:
    """Return the chunks of a part of a document with their places after earlier parts of this length."""
    shift = length + len(_PARAGRAPH) if length else 0
    return [
        replace(chunk, place=(chunk.place[0] + shift, chunk.place[1] + shift)) if chunk.place else chunk
        for chunk in chunks
    ]


def add_lines(text: str, chunks: Iterable[Chunk], line: int = 1) -> list[Chunk]:
    """Return chunks, in the order of their starts, with their lines in a file's text; ``line`` is the first one."""
    numbered = []
    position = 0
    for chunk in chunks:
        line += text.count("\n", position, chunk.start)
        position = chunk.start
        numbered.append(replace(chunk, lines=(line, line + text.count("\n", chunk.start, chunk.end))))
    return numbered


def read_text(manifest: Manifest, document: str) -> ReadingText:
    """Return the text of a document in a manifest, near-duplicates included."""
    return join_chunks(chunk for chunk in manifest.all_chunks(document) if chunk.kind == TEXT)


def join_chunks(chunks: Iterable[ChunkRecord], start: int = 0) -> ReadingText:
    """Return a document's text from its chunks; where chunks overlap, the shared text appears once.

    ``start`` is the character at which the text begins, if chunks before it are left out.
    """
    records = sorted(chunks, key=lambda chunk: chunk.ordinal)
    if not all("place" in chunk.payload for chunk in records):
        return _join_unplaced(records)
    places = {chunk.id: (int(chunk.payload["place"][0]), int(chunk.payload["place"][1])) for chunk in records}
    parts: list[str] = []
    length = start
    for place, text, gap in sorted(piece for chunk in records for piece in _pieces(chunk, places[chunk.id][0])):
        if place > length:
            parts.append(gap[length - place :].rjust(place - length, "\n"))
            length = place
        if place + len(text) > length:
            parts.append(text[length - place :])
            length = place + len(text)
    return ReadingText("".join(parts), places)


def _pieces(chunk: ChunkRecord, start: int) -> Iterator[tuple[int, str, str]]:
    """Yield the parts of a chunk between the passages inside of it: start, text, and the gap before the first part."""
    position, gap = 0, str(chunk.payload.get("gap", ""))
    for offset, inserted in chunk.payload.get("cuts", ()):
        yield start + position, chunk.text[position:offset], gap
        start, position, gap = start + inserted, offset, ""
    yield start + position, chunk.text[position:], gap


def shift_highlights(
    highlights: Iterable[tuple[int, int]], cuts: Iterable[Sequence[int]]
) -> tuple[tuple[int, int], ...]:
    """Return positions in a chunk's text as positions in the text that is read, outside of shared passages."""
    cuts = list(cuts)
    shared = shared_ranges(cuts)
    shifted = (
        (
            start + sum(length for offset, length in cuts if offset <= start),
            end + sum(length for offset, length in cuts if offset < end),
        )
        for start, end in highlights
    )
    return tuple(part for start, end in shifted for part in _outside(start, end, shared))


def shared_ranges(cuts: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Return the places of shared passages in the text that is read at a chunk's place."""
    ranges: list[tuple[int, int]] = []
    inserted = 0
    for offset, length in cuts:
        start = offset + inserted
        inserted += length
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + length)
        else:
            ranges.append((start, start + length))
    return tuple(ranges)


def _outside(start: int, end: int, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range that are in none of the others, which are in order."""
    for low, high in ranges:
        if low < end and high > start:
            if start < low:
                yield start, low
            start = high
    if start < end:
        yield start, end


def _join_unplaced(records: Sequence[ChunkRecord]) -> ReadingText:
    """Return the text of chunks that have their places in the text as extracted only, from version 0.1."""
    shared = _shared_chunks(records)
    text, reached = "", 0
    places: dict[str, tuple[int, int]] = {}
    for chunk in records:
        if chunk.id in shared:
            continue
        start, end = _range(chunk)
        common = 0
        if text and start < reached:
            max_length = min(len(text), len(chunk.text))
            common = next((size for size in range(max_length, 0, -1) if text.endswith(chunk.text[:size])), 0)
        else:
            ready = [key for key, record in shared.items() if key not in places and _range(record)[0] <= start]
            for key in ready:
                text = _append(text, shared[key], places)
            text += _PARAGRAPH if text else ""
        places[chunk.id] = (len(text) - common, len(text) - common + len(chunk.text))
        text += chunk.text[common:]
        reached = end
    for key, record in shared.items():
        if key not in places:
            text = _append(text, record, places)
    return ReadingText(text, places)


def _shared_chunks(records: Sequence[ChunkRecord]) -> dict[str, ChunkRecord]:
    """Return by id the chunks inside the range of an earlier one: text that the document shares with others."""
    shared: dict[str, ChunkRecord] = {}
    reached = 0
    for chunk in records:
        _, end = _range(chunk)
        if end <= reached:
            shared[chunk.id] = chunk
        reached = max(reached, end)
    return shared


def _append(text: str, chunk: ChunkRecord, places: dict[str, tuple[int, int]]) -> str:
    text += _PARAGRAPH if text else ""
    places[chunk.id] = (len(text), len(text) + len(chunk.text))
    return text + chunk.text


def _range(chunk: ChunkRecord) -> tuple[int, int]:
    return int(chunk.payload["start"]), int(chunk.payload["end"])
