"""The copy stages of indexing: pictures and parts of videos that are in a collection already are stored once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.media.inputs import open_segment
from nearfield.corpus.features import Vector
from nearfield.corpus.indexing.context import UNREADABLE, IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.media_copies import COPIED_KINDS, MediaCopyIndex, MediaLook
from nearfield.corpus.indexing.near_duplicates import normal_form
from nearfield.corpus.manifest.records import ChunkRecord
from nearfield.media.copies.picture_hash import require_imagehash
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.stores import exact as scoring
from nearfield.stores.filters import one_of


class LookStage:
    """Computes what pictures and parts of videos look like.

    Raises:
        MissingExtra: ImageHash is not installed.
    """

    def __init__(self, context: IndexContext) -> None:
        require_imagehash()
        self._settings = context.config.segments

    def run(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Set the looks of the new chunks of documents."""
        for task in tasks:
            if task.new_chunks and not task.error:
                task.looks = [self._look(task, chunk) for chunk in task.chunks]
            yield task

    def _look(self, task: DocumentTask, chunk: ChunkRecord) -> MediaLook | None:
        """Return the look of a chunk; None if it is of another kind, or cannot be decoded."""
        if chunk.kind not in COPIED_KINDS or task.media is None:
            return None
        seconds = float(chunk.payload.get("end_time", 0)) - float(chunk.payload.get("start_time", 0))
        try:
            media = open_segment(task.media, chunk.payload, self._settings)
            return MediaLook.from_input(media, seconds) if isinstance(media, (Image, Video)) else None
        except UNREADABLE:
            return None


class CopyStage:
    """Sets copies aside, once their vectors are known, before they are written.

    Copies look the same, have the same text, the same fields for filters, and vectors whose cosine is at least that of
    the definition in each feature.
    """

    def __init__(self, context: IndexContext, min_cosine: float) -> None:
        self._context, self._min_cosine = context, min_cosine
        with context.manifest.writing():
            self._index = MediaCopyIndex(context.manifest.connection)
        #: Vectors by table of chunks of this batch, which the store may not have yet.
        self._written: dict[str, Mapping[str, Vector]] = {}
        #: By document, until its last part: chunks of earlier parts that were set aside.
        self._earlier: Counter[str] = Counter()

    def set_aside(self, tasks: Sequence[DocumentTask]) -> None:
        """Move copies among the chunks of documents to their duplicates."""
        changed = [task for task in tasks if task.new_chunks]
        self._written.clear()
        with self._context.manifest.writing():
            self.remove([task.document.id for task in changed if task.is_first])
            copies = [self._set_aside(task) for task in changed]
        for task, ids in zip(changed, copies, strict=True):
            # An interrupted run may have written them.
            for table in self._context.tables.values() if ids and task.in_store else ():
                self._context.retry(partial(self._context.store.delete, table.table, one_of("id", ids)))

    def remove(self, documents: Sequence[str]) -> None:
        """Remove documents, and mark documents stale that have copies of theirs; call it in a transaction."""
        self._context.mark_stale(self._index.remove(documents))

    def _set_aside(self, task: DocumentTask) -> list[str]:
        """Move the copies of one task; return their ids."""
        originals = {at: key for at in range(len(task.chunks)) if (key := self._original(task, at)) is not None}
        ids = [task.chunks[at].id for at in originals]
        task.set_aside(originals)
        self._context.report.duplicates += len(originals)
        task.earlier_chunks -= self._earlier[task.document.id]
        self._earlier[task.document.id] += len(originals)
        if task.is_last:
            del self._earlier[task.document.id]
        return ids

    def _original(self, task: DocumentTask, at: int) -> str | None:
        """Return the chunk that a chunk of a task is a copy of."""
        chunk, look = task.chunks[at], task.looks[at] if task.looks else None
        if look is None:
            return None
        vectors = {name: task.vectors[name][at] for name in self._tables(chunk.kind) if name in task.vectors}
        original = self._index.add(
            chunk.id, task.document.id, self._family(task), look, lambda key: self._are_near(vectors, key)
        )
        if original is None:
            self._written[chunk.id] = vectors
        return original

    def _tables(self, kind: str) -> list[str]:
        return [name for name, item in self._context.tables_by_name.items() if kind in item.feature.reads]

    def _family(self, task: DocumentTask) -> str:
        """Return a digest of what copies have in common: the fields of the definition, and the text."""
        texts = [*task.chunks, *(duplicate.chunk for duplicate in task.duplicates)]
        text = normal_form(" ".join(chunk.text for chunk in texts if chunk.kind == TEXT))
        fields = [task.document.fields.get(name) for name in sorted(self._context.config.fields)]
        return hashlib.sha256(json.dumps([fields, text]).encode()).hexdigest()[:16]

    def _are_near(self, vectors: Mapping[str, Vector], key: str) -> bool:
        others = self._written.get(key) or {name: self._stored(name, key) for name in vectors}
        return all(self._cosine(name, vector, others.get(name)) >= self._min_cosine for name, vector in vectors.items())

    def _stored(self, name: str, key: str) -> Vector:
        table = self._context.tables_by_name[name].table
        records = self._context.retry(lambda: self._context.store.fetch(table, [key], vectors=True))
        return records[0].vector if records else None

    def _cosine(self, name: str, vector: Vector, other: Vector) -> float:
        """Return how near vectors of a table are, 1 if they are the same; of multi-vectors by MaxSim. 0 without one."""
        if vector is None or other is None:
            return 0.0
        table = replace(self._context.tables_by_name[name].table, metric="cosine")
        itself, score = scoring.score(table, [vector], [vector, other])[0].tolist()
        return float(np.divide(score, itself)) if itself else 0.0
