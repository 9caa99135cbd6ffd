"""``DocumentInfo``: a document of a collection as ``Collection.documents`` returns it, and its text from chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nearfield.corpus.document import Loss
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, kept_share
from nearfield.stores.filters import Value

#: Internal states, by what users see.
_USER_STATES = {"stale": "done", "new": "writing"}


@dataclass(frozen=True)
class DocumentInfo:
    """A document of a collection: where it comes from, its state (done, partial, failed, ...), and why it failed.

    ``share`` is the part of its visible words that searches can reach, 0 to 1; None if they were not counted.
    ``losses`` is what is missing.
    """

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: Mapping[str, Value]
    visible_words: int | None = None
    kept_words: int | None = None
    share: float | None = None
    losses: tuple[Loss, ...] = ()

    @classmethod
    def from_record(cls, record: DocumentRecord) -> DocumentInfo:
        """Return the public form of a manifest's record."""
        return cls(
            id=record.id,
            source=record.source,
            key=record.key,
            title=record.title,
            state=_user_state(record),
            error=record.error,
            chunks=record.chunks,
            tokens=record.tokens,
            fields=record.fields,
            visible_words=record.visible_words,
            kept_words=record.kept_words,
            share=kept_share(record.visible_words, record.kept_words),
            losses=record.losses,
        )


def _user_state(record: DocumentRecord) -> str:
    if record.error:
        return "failed"
    state = _USER_STATES.get(record.state, record.state)
    return "partial" if state == "done" and record.partial else state


def join_chunks(chunks: Iterable[ChunkRecord]) -> str:
    """Return a document's text from its chunks; where chunks overlap, the shared text appears once.

    Text that the document shares with many others is a chunk alone, inside the range of the chunk around it.
    """
    outer: list[ChunkRecord] = []
    inner: list[ChunkRecord] = []
    reached = 0
    for chunk in sorted(chunks, key=lambda chunk: chunk.ordinal):
        _, end = _range(chunk)
        (inner if end <= reached else outer).append(chunk)
        reached = max(reached, end)
    text, last = "", 0
    for chunk in outer:
        start, end = _range(chunk)
        piece = _with_inner(chunk, inner)
        if text and start < last:
            shared = next((n for n in range(min(len(text), len(piece)), 0, -1) if text.endswith(piece[:n])), 0)
            text += piece[shared:]
        else:
            text += ("\n\n" if text else "") + piece
        last = end
    return text


def _range(chunk: ChunkRecord) -> tuple[int, int]:
    return int(chunk.payload["start"]), int(chunk.payload["end"])


def _with_inner(chunk: ChunkRecord, inner: Iterable[ChunkRecord]) -> str:
    """Return a chunk's text with the chunks inside its range, each at the end of a line near its position."""
    (start, end), text = _range(chunk), chunk.text
    for other in inner:
        low, high = _range(other)
        if start <= low and high <= end:
            ends = [at for at, sign in enumerate(text) if sign == "\n"] or [len(text)]
            at = min(ends, key=lambda position: abs(position - (low - start)))
            text = "\n\n".join(part for part in (text[:at].rstrip(), other.text, text[at:].lstrip()) if part)
    return text
