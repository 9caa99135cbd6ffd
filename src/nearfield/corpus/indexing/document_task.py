"""Work: one document on its way through the pipeline; each step fills in its part."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.corpus.document import Chunk
from nearfield.corpus.manifest.manifest import ChunkRecord, DocumentRecord, DuplicateChunk
from nearfield.stores import Record

_SPACE = uuid.UUID("6f0a3c1e-2b5d-5a87-9c41-0d6e5b7f8a92")


@dataclass
class DocumentTask:
    """A document and what is to be done with it. ``error`` says why nothing more is done."""

    #: Reading: the document as it will stand in the manifest, whether it is cut anew, and the tables that lack it.
    entry: DocumentRecord
    recut: bool
    places: tuple[str, ...]
    #: Whether the store may hold chunks of an earlier version.
    known: bool
    item: Any = None
    #: Cutting.
    chunks: list[ChunkRecord] = field(default_factory=list)
    twins: list[DuplicateChunk] = field(default_factory=list)
    #: Embedding: vectors by table, in the order of ``chunks``; None where one is still to be made.
    vectors: dict[str, list[Any]] = field(default_factory=dict)
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    truncated: int = 0
    error: str = ""

    @property
    def weight(self) -> int:
        """What it takes of a queue's room."""
        return 1 + len(self.chunks)

    def fail(self, error: BaseException | str) -> DocumentTask:
        """Give the document up; it is kept in the manifest with the reason."""
        self.error = str(error) or type(error).__name__
        self.chunks, self.twins, self.vectors = [], [], {}
        return self

    def records(self, table: str) -> list[Record]:
        """Return the chunks as a table takes them."""
        return [
            Record(
                c.id, c.document, c.version, c.ordinal, c.text, c.fields, {**c.payload, "context": c.context}, vector
            )
            for c, vector in zip(self.chunks, self.vectors[table], strict=True)
        ]


def version_of(document: str, digest: str, cutting: str) -> str:
    """Return what tells a document's content, cut in one way, from any other."""
    return hashlib.sha256(f"{document}\0{digest}\0{cutting}".encode()).hexdigest()[:24]


def stored(entry: DocumentRecord, chunks: Sequence[Chunk], salt: str = "") -> list[ChunkRecord]:
    """Return chunks as the manifest keeps them.

    A chunk's id comes from its document and what is embedded of it, so that one which did not change keeps its vectors;
    ``salt`` is what else its vector depends on.
    """
    seen: Counter[str] = Counter()
    made = []
    for chunk in chunks:
        text = chunk.embedded
        seen[text] += 1
        key = uuid.uuid5(_SPACE, f"{entry.id}\0{text}\0{seen[text]}\0{salt}")
        fields = dict(entry.fields) | ({"page": chunk.page} if chunk.page is not None else {})
        payload = {"title": entry.title, **chunk.payload()}
        place = (entry.id, entry.version, chunk.ordinal, chunk.text, chunk.context)
        made.append(ChunkRecord(str(key), *place, fields, payload, chunk.tokens))
    return made


def settled(work: DocumentTask) -> DocumentRecord:
    """Return the entry of a document that is done."""
    tokens = sum(chunk.tokens for chunk in work.chunks)
    error = "" if work.recut else work.entry.error
    return replace(work.entry, state="done", error=error, chunks=len(work.chunks), tokens=tokens)
