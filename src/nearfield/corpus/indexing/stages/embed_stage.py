"""The embed stage of indexing: reuse vectors that the store has for unchanged chunks, and compute the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from nearfield.corpus.document import TEXT
from nearfield.corpus.features import EncodePass, Feature, Vector
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.stages.chunk_encoder import INPUT_ERRORS, ChunkEncoder, ChunkVectors
from nearfield.corpus.search.hit import frames_of
from nearfield.stores import TableSpec


class ReuseStage:
    """Reuses stored vectors."""

    def __init__(self, context: IndexContext) -> None:
        self._context = context

    def run(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Reuse vectors that the store already has for unchanged chunks."""
        for task in tasks:
            for name in () if task.error else task.tables:
                task.vectors[name] = [None] * len(task.chunks)
                if task.in_store and task.chunks:
                    task.vectors[name] = self._fetch(task, self._context.tables_by_name[name].table, name)
                elif (full := self._full_table(name)) is not None and full not in task.tables:
                    self._derive(task, name, full)
                self._take_previous(task, name)
            yield task

    def _take_previous(self, task: DocumentTask, name: str) -> None:
        """Take the vectors of chunks that an earlier manifest has too; those of late chunking depend on all chunks."""
        feature = self._context.tables_by_name[name].feature
        table = self._context.previous.get(feature.name)
        if table is None or all(vector is not None for vector in task.vectors[name]):
            return
        known = self._fetch(task, table, name)
        for at, chunk in enumerate(task.chunks):
            if task.vectors[name][at] is None and not (self._context.chunk_stage.late and chunk.kind == TEXT):
                task.vectors[name][at] = known[at]

    def _full_table(self, name: str) -> str | None:
        """Return the table whose vectors those of a derived feature are computed from."""
        feature = self._context.tables_by_name[name].feature
        full = self._context.config.features[feature.name].of
        # With centring, truncated vectors must be computed from the model's own output.
        return self._context.tables[full].table.name if full and not feature.encoder.recipe.centre else None

    def _derive(self, task: DocumentTask, name: str, full: str) -> None:
        """Compute the vectors of a derived feature from stored full ones, if the store has all of them."""
        feature = self._context.tables_by_name[name].feature
        places = [at for at, chunk in enumerate(task.chunks) if chunk.kind in feature.reads]
        vectors = self._fetch(task, self._context.tables_by_name[full].table, name)
        known = [vectors[at] for at in places]
        if known and not any(vector is None for vector in known):
            for at, vector in zip(places, feature.shape(np.stack(known)), strict=True):
                task.vectors[name][at] = vector

    def _fetch(self, task: DocumentTask, table: TableSpec, name: str) -> list[Vector]:
        """Return a table's vectors of a document's chunks; None for those that it lacks.

        The frames that they come from are those of the table ``name``, too.
        """
        ids = [chunk.id for chunk in task.chunks]
        records = self._context.retry(lambda: self._context.store.fetch(table, ids, vectors=True))
        vectors = {record.id: record.vector for record in records}
        frames = {record.id: frames_of(record.payload) for record in records}
        task.frames.setdefault(name, {}).update({key: places for key, places in frames.items() if places})
        return [vectors.get(key) for key in ids]


class EmbedStage:
    """Computes the missing vectors of some features that read text, and share a forward pass."""

    def __init__(self, context: IndexContext, encode_pass: EncodePass, features: Sequence[Feature]) -> None:
        self.features = features
        self.late = context.chunk_stage.late
        self._encoder = ChunkEncoder(encode_pass, features, late=self.late)
        self._tables = [context.tables[feature.name].table.name for feature in features]
        self._reads = features[0].reads

    def run(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Compute the missing vectors of documents. A document with an input that the model refuses fails alone."""
        if self.late:
            yield from map(self._embed_alone, tasks)
            return
        while True:
            pending: deque[tuple[DocumentTask, list[int]]] = deque()
            try:
                yield from self._stream(tasks, pending)
                return
            except INPUT_ERRORS:
                # One of the pending documents has an input that fails: encode each document separately.
                yield from (self._embed_alone(task) for task, _ in pending)

    def _stream(
        self, tasks: Iterator[DocumentTask], pending: deque[tuple[DocumentTask, list[int]]]
    ) -> Iterator[DocumentTask]:
        def texts() -> Iterator[str]:
            for task in tasks:
                missing = self._missing(task)
                pending.append((task, missing))
                yield from (task.chunks[at].embedded for at in missing)

        rows: deque[ChunkVectors] = deque()
        for window in self._encoder.stream(texts()):
            rows.extend(window)
            while pending and len(pending[0][1]) <= len(rows):
                task, missing = pending.popleft()
                yield self._fill(task, missing, [rows.popleft() for _ in missing])
        while pending:  # documents without missing vectors
            yield self._fill(pending.popleft()[0], [], [])

    def _embed_alone(self, task: DocumentTask) -> DocumentTask:
        texts = self.texts(task)
        try:
            return self.fill(task, self._encoder.document(texts) if texts else [])
        except INPUT_ERRORS as error:
            return task.fail(error)

    def texts(self, task: DocumentTask) -> list[str]:
        """Return the texts to encode for a document: all of its chunks in late chunking, unless none lacks vectors."""
        missing = self._missing(task)
        chunks = self._read_places(task) if self.late and missing else missing
        return [task.chunks[at].embedded for at in chunks]

    def _read_places(self, task: DocumentTask) -> list[int]:
        """Return the indices of chunks of the kinds that the features read."""
        return [at for at, chunk in enumerate(task.chunks) if chunk.kind in self._reads]

    def fill(self, task: DocumentTask, rows: Sequence[ChunkVectors]) -> DocumentTask:
        """Set the missing vectors of a document from those of its ``texts``."""
        missing = self._missing(task)
        if not self.late:
            return self._fill(task, missing, rows)
        encoded = dict(zip(self._read_places(task), rows, strict=False))
        return self._fill(task, missing, [encoded[at] for at in missing])

    def _missing(self, task: DocumentTask) -> list[int]:
        """Return the indices of chunks that lack a vector in one of the tables."""
        columns = [task.vectors[name] for name in self._tables if name in task.vectors]
        return [at for at in self._read_places(task) if any(vectors[at] is None for vectors in columns)]

    def _fill(self, task: DocumentTask, missing: Sequence[int], rows: Sequence[ChunkVectors]) -> DocumentTask:
        for at, (vectors, tokens, dropped) in zip(missing, rows, strict=True):
            for table, vector in zip(self._tables, vectors, strict=True):
                if table in task.vectors:
                    task.vectors[table][at] = vector
            task.tokens += tokens
            task.truncated += dropped > 0
        task.embedded += len(missing)
        task.reused += len(self._read_places(task)) - len(missing)
        return task
