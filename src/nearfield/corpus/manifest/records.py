"""The rows of a manifest: documents, chunks, near-duplicate chunks and vector tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nearfield.corpus.document import TEXT, Loss, embedded
from nearfield.stores.filters import Value

State = Literal["new", "writing", "done", "failed", "deleting", "stale"]


@dataclass(frozen=True)
class DocumentRecord:
    """A document. ``version`` is a digest of its content and of the settings by which it is split into chunks.

    ``digest`` is that of the content alone. ``stamp`` is the source's cheap sign of a change, such as a file's size and
    time; None if only reading shows a change. ``visible_words`` and ``kept_words`` are the words that a reader sees and
    those that searches can reach, None if they were not counted; ``partial`` says that too much is missing.
    """

    id: str
    source: str
    key: str
    name: str
    digest: str
    version: str
    stamp: str | None = None
    title: str = ""
    type: str = ""
    fields: Mapping[str, Value] = field(default_factory=dict)
    state: State = "done"
    error: str = ""
    chunks: int = 0
    tokens: int = 0
    visible_words: int | None = None
    kept_words: int | None = None
    losses: tuple[Loss, ...] = ()
    partial: bool = False


def kept_share(visible_words: int | None, kept_words: int | None) -> float | None:
    """Return the share of a document's visible words that searches can reach; None if they were not counted."""
    if visible_words is None or kept_words is None:
        return None
    return round(min(1.0, kept_words / visible_words), 4) if visible_words else 1.0


@dataclass(frozen=True)
class ChunkRecord:
    """A chunk of a document, with its text and its place in the document."""

    id: str
    document: str
    version: str
    ordinal: int
    text: str
    context: str
    fields: Mapping[str, Value]
    payload: Mapping[str, Any]
    tokens: int

    @property
    def embedded(self) -> str:
        """The text that the model reads."""
        return embedded(self.text, self.context)

    @property
    def kind(self) -> str:
        """What it is: text, image, page, audio or video. Chunks of media have no text."""
        return str(self.payload.get("kind", TEXT))


@dataclass(frozen=True)
class DuplicateChunk:
    """A chunk without vectors: it is a near-duplicate of the chunk whose id is ``original``."""

    original: str
    chunk: ChunkRecord


@dataclass(frozen=True)
class VectorTable:
    """A table of the store, and the feature whose vectors it has.

    ``described`` are the fields of its ``TableSpec``; ``space`` is the vector space (``Feature.space``). It is
    ``building`` until all documents are in it, then ``live``.
    """

    name: str
    feature: str
    described: Mapping[str, Any]
    space: Mapping[str, object]
    state: Literal["building", "live"]
