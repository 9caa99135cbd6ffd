"""``DocumentTask``: one document in the indexing pipeline; each stage fills in its part."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nearfield.corpus.document import Chunk, Document, SourceItem
from nearfield.corpus.features import Vector
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, DuplicateChunk
from nearfield.stores import Record

#: Namespace of the ids of chunks, which must never change.
_NAMESPACE = uuid.UUID("6f0a3c1e-2b5d-5a87-9c41-0d6e5b7f8a92")


@dataclass(frozen=True)
class ItemContent:
    """A source's item with its bytes, or with the document of a row.

    ``extracted`` has the document and its type, if it was extracted already for the boilerplate sample.
    """

    item: SourceItem
    data: bytes | Document
    extracted: tuple[Document, str] | None = None


@dataclass
class DocumentTask:
    """A document, and what is to be done with it. ``error`` is the reason why it failed."""

    #: The document as the manifest will have it.
    document: DocumentRecord
    #: Whether it gets new chunks, and the vector tables that lack it.
    new_chunks: bool
    tables: tuple[str, ...]
    #: Whether the store may have chunks of an earlier version.
    in_store: bool
    #: What to extract; None if there are chunks already.
    content: ItemContent | None = None
    #: Set by the chunk stage.
    chunks: list[ChunkRecord] = field(default_factory=list)
    duplicates: list[DuplicateChunk] = field(default_factory=list)
    #: Set by the embed stage: vectors by table, in the order of ``chunks``; None for a vector still to be computed.
    vectors: dict[str, list[Vector]] = field(default_factory=dict)
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    truncated: int = 0
    error: str = ""

    @property
    def weight(self) -> int:
        """Its size in a queue of the pipeline."""
        return 1 + len(self.chunks)

    def fail(self, error: BaseException | str) -> DocumentTask:
        """Mark the document as failed and drop its chunks; the manifest will have the reason."""
        self.error = str(error) or type(error).__name__
        self.chunks, self.duplicates, self.vectors = [], [], {}
        return self

    def finished(self) -> DocumentRecord:
        """Return the document's record for the state ``done``."""
        tokens = sum(chunk.tokens for chunk in self.chunks)
        error = "" if self.new_chunks else self.document.error
        return replace(self.document, state="done", error=error, chunks=len(self.chunks), tokens=tokens)

    def records(self, table: str) -> list[Record]:
        """Return the chunks as records of a vector table."""
        return [
            Record(
                c.id, c.document, c.version, c.ordinal, c.text, c.fields, {**c.payload, "context": c.context}, vector
            )
            for c, vector in zip(self.chunks, self.vectors[table], strict=True)
        ]


def document_version(document: str, digest: str, chunking: str) -> str:
    """Return the version of a document: a digest of its id, its content and the chunking settings."""
    return hashlib.sha256(f"{document}\0{digest}\0{chunking}".encode()).hexdigest()[:24]


def chunk_records(document: DocumentRecord, chunks: Sequence[Chunk], salt: str = "") -> list[ChunkRecord]:
    """Return the manifest's records of chunks.

    A chunk's id is derived from its document and its embedded text, so that an unchanged chunk keeps its vectors.
    ``salt`` has whatever else its vectors depend on.
    """
    seen: Counter[str] = Counter()
    records = []
    for chunk in chunks:
        text = chunk.embedded
        seen[text] += 1
        page = {"page": chunk.page} if chunk.page is not None else {}
        records.append(
            ChunkRecord(
                id=str(uuid.uuid5(_NAMESPACE, f"{document.id}\0{text}\0{seen[text]}\0{salt}")),
                document=document.id,
                version=document.version,
                ordinal=chunk.ordinal,
                text=chunk.text,
                context=chunk.context,
                fields={**document.fields, **page},
                payload={"title": document.title, **chunk.payload()},
                tokens=chunk.tokens,
            )
        )
    return records
