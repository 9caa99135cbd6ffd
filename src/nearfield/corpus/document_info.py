"""Listing: what a collection tells of its documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nearfield.corpus.manifest.manifest import ChunkRecord, DocumentRecord


@dataclass(frozen=True)
class DocumentInfo:
    """A document of a collection: where it comes from, its state (done, failed, ...), and why it failed."""

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, entry: DocumentRecord) -> DocumentInfo:
        """Take what is of interest out of a manifest's entry."""
        state = "failed" if entry.error else {"stale": "done", "new": "writing"}.get(entry.state, entry.state)
        place = (entry.id, entry.source, entry.key, entry.title)
        return cls(*place, state, entry.error, entry.chunks, entry.tokens, entry.fields)


def join_chunks(chunks: Iterable[ChunkRecord]) -> str:
    """Return a document's text from its chunks, in order; what one ends and the next begins with is there once."""
    text, last = "", 0
    for chunk in sorted(chunks, key=lambda each: each.ordinal):
        start, end = int(chunk.payload["start"]), int(chunk.payload["end"])
        piece = chunk.text
        if text and start < last:
            shared = next((n for n in range(min(len(text), len(piece)), 0, -1) if text.endswith(piece[:n])), 0)
            text += piece[shared:]
        else:
            text += ("\n\n" if text else "") + piece
        last = end
    return text
