"""``DocumentTask``: one document in the indexing pipeline; each stage fills in its part."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.corpus.document import Chunk, Document, MediaContent, SourceItem, file_stamp
from nearfield.corpus.extractors.media.segments import Segment
from nearfield.corpus.features import Vector
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, DuplicateChunk
from nearfield.media.video.time_ranges import FramePlace
from nearfield.stores import Record
from nearfield.stores.filters import Value

if TYPE_CHECKING:
    from nearfield.corpus.indexing.media_copies import MediaLook

#: Chunks of a long document that are embedded and written together: a killed run loses no more than these.
PART_CHUNKS = 512
#: Bytes of a file to extract that weigh as much as one chunk.
BYTES_PER_WEIGHT = 2**15
#: Bytes of the digest of a text, for comparisons within a document.
_KEY_BYTES = 16
#: Namespace of the ids of chunks, which must never change.
_NAMESPACE = uuid.UUID("6f0a3c1e-2b5d-5a87-9c41-0d6e5b7f8a92")


@dataclass(frozen=True)
class ItemContent:
    """What a source's item contains: its bytes, or the document of a row; it can be pickled.

    ``key``, ``name``, ``meta`` and ``path`` are those of the item. ``extracted`` has the document and its type, if it
    was extracted already for the boilerplate sample. ``stamp`` is that of the file at ``path`` before it was read.
    """

    key: str
    name: str
    meta: Mapping[str, Value]
    data: bytes | Document
    path: Path | None = None
    extracted: tuple[Document, str] | None = None
    stamp: str = ""

    @classmethod
    def from_item(cls, item: SourceItem) -> ItemContent:
        """Read an item.

        Raises:
            NearfieldError, OSError: it cannot be read.
        """
        stamp = "" if item.path is None else file_stamp(item.path)
        return cls(item.key, item.name, item.meta, item.read(), item.path, stamp=stamp)


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
    #: Whether the text stays that of ``chunks``: only segments of the content are listed again.
    keeps_text: bool = False
    #: The media file whose segments are among the chunks; None if all of them are text.
    media: MediaContent | None = None
    #: Set by the extract stage: whether the chunks come from an extraction of this run; of the part, the numbers of
    #: chunks that were too small and of boilerplate lines; and the script of a text that the model cannot read.
    is_extracted: bool = False
    tiny: int = 0
    boilerplate: int = 0
    unread_script: str | None = None
    #: Set by the chunk stage.
    chunks: list[ChunkRecord] = field(default_factory=list)
    duplicates: list[DuplicateChunk] = field(default_factory=list)
    #: Set by ``LookStage`` in collections that store copies once: what each chunk looks like, or None.
    looks: list[MediaLook | None] = field(default_factory=list)
    #: Set by the embed stage: vectors by table, in the order of ``chunks``; None for a vector still to be computed.
    vectors: dict[str, list[Vector]] = field(default_factory=dict)
    #: Set by the embed stage: by table and id of a chunk, the frames of a video that its vector comes from.
    frames: dict[str, dict[str, Sequence[FramePlace]]] = field(default_factory=dict)
    embedded: int = 0
    reused: int = 0
    tokens: int = 0
    truncated: int = 0
    error: str = ""
    #: A long document is written in parts, each of which is a task. The document is done with the last one.
    is_first: bool = True
    is_last: bool = True
    #: Chunks and tokens of the parts before this one, and the share of the document that this part is.
    earlier_chunks: int = 0
    earlier_tokens: int = 0
    share: float = 1.0
    #: What workers elsewhere compute for it, while they do.
    pending: Any = None

    @property
    def weight(self) -> int:
        """Its size in a queue of the pipeline: its chunks, and the bytes that are still to be extracted."""
        data = self.content.data if self.content is not None else b""
        size = 0 if isinstance(data, Document) else len(data)
        size += 0 if self.media is None else len(self.media.data)
        return 1 + len(self.chunks) + size // BYTES_PER_WEIGHT

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole document."""
        return self.is_first and self.is_last

    def part(self, chunks: list[ChunkRecord], *, is_first: bool, is_last: bool, share: float) -> DocumentTask:
        """Return the task of a part of the document."""
        filled: dict[str, Any] = {"chunks": chunks, "duplicates": [], "vectors": {}, "frames": {}}
        return replace(self, **filled, is_first=is_first, is_last=is_last, share=share)

    def fail(self, error: BaseException | str) -> DocumentTask:
        """Mark the document as failed and drop its chunks; the manifest will have the reason."""
        self.error = str(error) or type(error).__name__
        self.chunks, self.duplicates, self.vectors = [], [], {}
        return self

    def leave_out(self, places: Collection[int]) -> None:
        """Remove the chunks with these indices."""
        self.chunks = [chunk for at, chunk in enumerate(self.chunks) if at not in places]
        for name, vectors in self.vectors.items():
            self.vectors[name] = [vector for at, vector in enumerate(vectors) if at not in places]

    def set_aside(self, originals: Mapping[int, str]) -> None:
        """Move the chunks with these indices to the duplicates, as copies of the chunks with these ids."""
        self.duplicates += [DuplicateChunk(original, self.chunks[at]) for at, original in originals.items()]
        self.leave_out(originals)

    def finished(self) -> DocumentRecord:
        """Return the document's record for the state ``done``."""
        tokens = self.earlier_tokens + sum(chunk.tokens for chunk in self.chunks)
        error = "" if self.new_chunks else self.document.error
        chunks = self.earlier_chunks + len(self.chunks)
        return replace(self.document, state="done", error=error, chunks=chunks, tokens=tokens)

    def records(self, table: str, reads: Sequence[str]) -> list[Record]:
        """Return the chunks of the kinds that a table's feature reads as records of the table."""
        frames = self.frames.get(table, {})
        return [
            _table_record(chunk, vector, frames.get(chunk.id, ()))
            for chunk, vector in zip(self.chunks, self.vectors[table], strict=True)
            if chunk.kind in reads
        ]


def _table_record(chunk: ChunkRecord, vector: Vector, frames: Sequence[FramePlace]) -> Record:
    payload = {**chunk.payload, "context": chunk.context}
    if frames:
        payload["frames"] = [[frame.number, frame.seconds] for frame in frames]
    return Record(chunk.id, chunk.document, chunk.version, chunk.ordinal, chunk.text, chunk.fields, payload, vector)


def split_task(task: DocumentTask) -> Iterator[DocumentTask]:
    """Yield the parts of a document whose chunks are known."""
    total = len(task.chunks)
    if total <= PART_CHUNKS:
        yield task
        return
    for start in range(0, total, PART_CHUNKS):
        chunks = task.chunks[start : start + PART_CHUNKS]
        is_last = start + PART_CHUNKS >= total
        yield task.part(chunks, is_first=start == 0, is_last=is_last, share=len(chunks) / total)


def document_version(document: str, digest: str, chunking: str, segments: str = "") -> str:
    """Return the version of a document: a digest of its id, its content, and the settings of chunks and segments."""
    parts = [document, digest, chunking, *([segments] if segments else [])]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def segment_records(
    document: DocumentRecord, media: MediaContent, segments: Sequence[Segment], ordinal: int, salts: Mapping[str, str]
) -> list[ChunkRecord]:
    """Return the manifest's records of segments.

    A chunk's id is derived from its document, the file's bytes and its place in it, so that an unchanged segment keeps
    its vectors. ``salts`` has by kind whatever else these depend on; ``ordinal`` is that of the first one.
    """
    records = []
    for number, segment in enumerate(segments, ordinal):
        salt = salts.get(segment.kind, "")
        name = f"{document.id}\0{media.digest}\0{segment.key}\0{salt}"
        records.append(
            ChunkRecord(
                id=str(uuid.uuid5(_NAMESPACE, name)),
                document=document.id,
                version=document.version,
                ordinal=number,
                text="",
                context="",
                fields={**document.fields, **segment.fields()},
                payload={"title": document.title, "start": 0, "end": 0, **segment.payload()},
                tokens=0,
            )
        )
    return records


def chunk_records(
    document: DocumentRecord,
    chunks: Sequence[Chunk],
    salt: str = "",
    seen: Counter[bytes] | None = None,
    places: Collection[str] = ("page",),
) -> list[ChunkRecord]:
    """Return the manifest's records of chunks.

    A chunk's id is derived from its document and its embedded text, so that an unchanged chunk keeps its vectors.
    ``salt`` has whatever else its vectors depend on; ``seen`` counts the texts of the document's earlier chunks.
    ``places`` are the parts of its place that filters may use.
    """
    seen = Counter() if seen is None else seen
    records = []
    for chunk in chunks:
        text = chunk.embedded
        # A digest, since the texts of a very long document would fill the memory.
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]
        seen[key] += 1
        payload = chunk.payload()
        records.append(
            ChunkRecord(
                id=str(uuid.uuid5(_NAMESPACE, f"{document.id}\0{text}\0{seen[key]}\0{salt}")),
                document=document.id,
                version=document.version,
                ordinal=chunk.ordinal,
                text=chunk.text,
                context=chunk.context,
                fields={**document.fields, **{name: payload[name] for name in places if name in payload}},
                payload={"title": document.title, **payload},
                tokens=chunk.tokens,
            )
        )
    return records
