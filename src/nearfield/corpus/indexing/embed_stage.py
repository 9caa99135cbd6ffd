"""The embed stage of indexing: reuse vectors that the store has for unchanged chunks, and compute the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.document import Span
from nearfield.corpus.features import EncodePass, Feature, Vector, token_counter
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.errors import ExecutionFailed, InputError
from nearfield.inference.preparation.unread_inputs import unread_unlogged
from nearfield.vectors.outputs import Outputs

#: Texts that are tokenised together.
_WINDOW = 512
#: Errors of the model about one input. All other errors (no memory, shutting down) end the run.
_INPUT_ERRORS = (InputError, ExecutionFailed)

#: The vectors of one chunk by feature, the number of its tokens, and that of truncated ones.
ChunkVectors = tuple[list[Vector], int, int]


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
                    task.vectors[name] = self._fetch(task, name)
                elif (full := self._full_table(name)) is not None and full not in task.tables:
                    self._derive(task, name, full)
            yield task

    def _full_table(self, name: str) -> str | None:
        """Return the table whose vectors those of a derived feature are computed from."""
        feature = self._context.tables_by_name[name].feature
        full = self._context.config.features[feature.name].of
        # With centring, truncated vectors must be computed from the model's own output.
        return self._context.tables[full].table.name if full and not feature.encoder.recipe.centre else None

    def _derive(self, task: DocumentTask, name: str, full: str) -> None:
        """Compute the vectors of a derived feature from stored full ones, if the store has all of them."""
        vectors = self._fetch(task, full)
        if vectors and not any(vector is None for vector in vectors):
            task.vectors[name] = list(self._context.tables_by_name[name].feature.shape(np.stack(vectors)))

    def _fetch(self, task: DocumentTask, name: str) -> list[Vector]:
        """Return a table's vectors of a document's chunks; None for those that it lacks."""
        ids = [chunk.id for chunk in task.chunks]
        table = self._context.tables_by_name[name].table
        records = self._context.retry(lambda: self._context.store.fetch(table, ids, vectors=True))
        vectors = {record.id: record.vector for record in records}
        return [vectors.get(key) for key in ids]


class EmbedStage:
    """Computes the missing vectors of some features that share a forward pass."""

    def __init__(self, context: IndexContext, encode_pass: EncodePass, features: Sequence[Feature]) -> None:
        self._features = features
        self._encoder = features[0].encoder
        self._late = context.chunk_stage.late
        self._pass = encode_pass
        self._options = encode_pass.encode_options()
        self._tables = [context.tables[feature.name].table.name for feature in features]

    def run(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Compute the missing vectors of documents. A document with an input that the model refuses fails alone."""
        if self._late:
            yield from map(self._embed_late, tasks)
            return
        while True:
            pending: deque[tuple[DocumentTask, list[int]]] = deque()
            try:
                yield from self._stream(tasks, pending)
                return
            except _INPUT_ERRORS:
                # One of the pending documents has an input that fails: encode each document separately.
                yield from (self._embed_alone(task, missing) for task, missing in pending)

    def _stream(
        self, tasks: Iterator[DocumentTask], pending: deque[tuple[DocumentTask, list[int]]]
    ) -> Iterator[DocumentTask]:
        def texts() -> Iterator[str]:
            for task in tasks:
                missing = self._missing(task)
                pending.append((task, missing))
                yield from (task.chunks[at].embedded for at in missing)

        rows: deque[ChunkVectors] = deque()
        for outputs in self._encoder.stream(texts(), window=_WINDOW, role="document", **self._options):
            rows.extend(self._rows(outputs))
            while pending and len(pending[0][1]) <= len(rows):
                task, missing = pending.popleft()
                yield self._fill(task, missing, [rows.popleft() for _ in missing])
        while pending:  # documents without missing vectors
            yield pending.popleft()[0]

    def _embed_alone(self, task: DocumentTask, missing: Sequence[int]) -> DocumentTask:
        texts = [task.chunks[at].embedded for at in missing]
        try:
            with unread_unlogged():
                outputs = self._encoder.encode(texts, role="document", show_progress_bar=False, **self._options)
        except _INPUT_ERRORS as error:
            return task.fail(error)
        return self._fill(task, missing, list(self._rows(outputs)))

    def _embed_late(self, task: DocumentTask) -> DocumentTask:
        missing = self._missing(task)
        if not missing:
            return task
        try:
            rows = encode_late(self._pass, self._features, [chunk.embedded for chunk in task.chunks])
        except _INPUT_ERRORS as error:
            return task.fail(error)
        return self._fill(task, missing, [rows[at] for at in missing])

    def _missing(self, task: DocumentTask) -> list[int]:
        """Return the indices of chunks that lack a vector in one of the tables."""
        columns = [task.vectors[name] for name in self._tables if name in task.vectors]
        return [at for at in range(len(task.chunks)) if any(vectors[at] is None for vectors in columns)]

    def _rows(self, outputs: Outputs) -> Iterator[ChunkVectors]:
        """Yield for each input the vectors of all features, the number of tokens, and that of truncated ones."""
        assert outputs.tokens is not None  # both are set in all results of an encoder
        assert outputs.dropped is not None
        columns = [feature.vectors(outputs) for feature in self._features]
        for number, vectors in enumerate(zip(*columns, strict=True)):
            yield list(vectors), int(outputs.tokens[number]), int(outputs.dropped[number])

    def _fill(self, task: DocumentTask, missing: Sequence[int], rows: Sequence[ChunkVectors]) -> DocumentTask:
        for at, (vectors, tokens, dropped) in zip(missing, rows, strict=True):
            for table, vector in zip(self._tables, vectors, strict=True):
                if table in task.vectors:
                    task.vectors[table][at] = vector
            task.tokens += tokens
            task.truncated += dropped > 0
        task.embedded += len(missing)
        task.reused += len(task.chunks) - len(missing)
        return task


def encode_late(encode_pass: EncodePass, features: Sequence[Feature], chunks: Sequence[str]) -> list[ChunkVectors]:
    """Embed the chunks of a document together, so that each has its context (late chunking, arXiv:2409.04701).

    Raises:
        InputError: a feature is not dense: late chunking pools dense vectors.
    """
    other = next((feature for feature in features if feature.kind != "dense"), None)
    if other is not None:
        raise InputError(f"Late chunking pools dense vectors, and feature {other.name!r} is {other.kind}.")
    options = {name: value for name, value in encode_pass.encode_options().items() if name != "outputs"}
    rows: list[ChunkVectors] = []
    for vectors in features[0].encoder.encode_late(_runs(features[0], chunks), role="document", **options):
        columns = [feature.shape(vectors.data) for feature in features]
        tokens = vectors.tokens if vectors.tokens is not None else [0] * len(vectors)
        for number in range(len(vectors)):
            rows.append(([column[number] for column in columns], int(tokens[number]), 0))
    return rows


def _runs(feature: Feature, chunks: Sequence[str]) -> list[tuple[str, ...]]:
    """Group consecutive chunks into runs that fit into the model's maximum length; a line break separates chunks."""
    counter = token_counter(feature)
    spans, at = [], 0
    for chunk in chunks:
        spans.append(Span(at, at + len(chunk), tokens=counter.count(chunk)))
        at += len(chunk) + 1
    return [run.texts for run in group_runs("\n".join(chunks), spans, counter)]
