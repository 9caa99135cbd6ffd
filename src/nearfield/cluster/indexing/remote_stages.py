"""Embed stages whose vectors workers compute: of texts, and of segments of media."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, cast

from nearfield.cluster.indexing.job_pool import JobPool
from nearfield.cluster.indexing.job_queue import DocumentSetAside, WorkJob, WorkUnit, group_items
from nearfield.cluster.indexing.messages import EmbedReply, MediaReply, with_bytes
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.stages.embed_stage import EmbedStage
from nearfield.corpus.indexing.stages.media_encoder import MediaInput, SegmentResult
from nearfield.corpus.indexing.stages.media_stage import MediaEmbedStage
from nearfield.errors import InputError

#: Texts, segments, and bytes of files with segments, of one job.
_TEXTS_PER_JOB, _SEGMENTS_PER_JOB, _BYTES_PER_JOB = 256, 32, 2**24
#: The share of a job that a document is for which there is nothing to compute.
_LEAST_WEIGHT = 1e-3


class RemoteStage(ABC):
    """Computes missing vectors on workers, as two stages: one queues documents, and one receives their vectors.

    Args:
        pool: the workers.
        names: the features that share the forward pass.
        is_counted: whether its chunks are counted: those of another pass may be the same.

    Attributes:
        method: of a worker.
    """

    method: ClassVar[str]

    def __init__(self, pool: JobPool, names: tuple[str, ...], *, is_counted: bool) -> None:
        self._pool, self._names, self._is_counted = pool, names, is_counted

    def submit(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Queue documents, several in a job; of one that is larger than a job its parts."""
        with_units = ((task, [WorkUnit(request) for request in self._requests(task)]) for task in tasks)
        for group in group_items(with_units, self._document_weight, 1.0):
            self._queue([unit for _, units in group for unit in units])
            for task, units in group:
                task.pending = units
                yield task

    def _document_weight(self, document: tuple[DocumentTask, Sequence[WorkUnit]]) -> float:
        return _LEAST_WEIGHT + sum(self._weight(unit.request) for unit in document[1])

    def _queue(self, units: Sequence[WorkUnit]) -> None:
        for part in group_items(iter(units), lambda unit: self._weight(unit.request), 1.0):
            job = WorkJob(self.method, part, (self._names,), is_urgent=True, is_counted=self._is_counted)
            self._pool.submit(job)

    def receive(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Yield documents with their vectors, in the same order."""
        for task in tasks:
            units, task.pending = task.pending, None
            try:
                yield self._fill(task, _replies(units))
            except DocumentSetAside as error:
                yield task.fail(set_aside_reason(task, error))

    @abstractmethod
    def _requests(self, task: DocumentTask) -> list[Any]:
        """Return what workers get of a document, in parts; nothing if no vector is missing."""

    @abstractmethod
    def _weight(self, request: Any) -> float:
        """Return the share of a job that a part is."""

    @abstractmethod
    def _fill(self, task: DocumentTask, replies: Sequence[Any]) -> DocumentTask:
        """Set the vectors of a document from the replies to its parts."""


class RemoteTextStage(RemoteStage):
    """Computes vectors of texts. A document that the model refuses fails alone."""

    method = "embed"

    def __init__(self, pool: JobPool, stage: EmbedStage, *, is_counted: bool) -> None:
        super().__init__(pool, _names(stage), is_counted=is_counted)
        self._stage = stage

    def _requests(self, task: DocumentTask) -> list[list[str]]:
        texts = self._stage.texts(task)
        return [texts] if texts else []

    def _weight(self, request: Sequence[str]) -> float:
        return len(request) / _TEXTS_PER_JOB

    def _fill(self, task: DocumentTask, replies: Sequence[EmbedReply]) -> DocumentTask:
        error = next((reply.error for reply in replies if reply.error), "")
        return task.fail(error) if error else self._stage.fill(task, [row for reply in replies for row in reply.rows])


class RemoteMediaStage(RemoteStage):
    """Computes vectors of segments of files that workers see, or that are sent to them.

    Those of larger files that no worker sees are computed in this process.
    """

    method = "embed_media"

    def __init__(self, pool: JobPool, stage: MediaEmbedStage, *, is_counted: bool) -> None:
        super().__init__(pool, _names(stage), is_counted=is_counted)
        self._stage = stage
        #: Whether a worker did not see a file: others are then sent at once.
        self._sends_files = False

    def _requests(self, task: DocumentTask) -> list[list[MediaInput]]:
        if self._sends_files:
            self._load(task)
        return self._parts(task)

    def _parts(self, task: DocumentTask) -> list[list[MediaInput]]:
        return list(group_items(iter(self._stage.inputs(task)), lambda _: 1.0, _SEGMENTS_PER_JOB))

    def _weight(self, request: Sequence[MediaInput]) -> float:
        media = request[0].media
        return max(len(request) / _SEGMENTS_PER_JOB, 0.0 if media is None else len(media.data) / _BYTES_PER_JOB)

    def _fill(self, task: DocumentTask, replies: Sequence[MediaReply]) -> DocumentTask:
        results: list[SegmentResult] = []
        for inputs, reply in zip(self._parts(task), replies, strict=True):
            results += self._sent(task, inputs) if reply.lacks_content else reply.rows
        return self._stage.finish(task, results)

    def _sent(self, task: DocumentTask, inputs: Sequence[MediaInput]) -> Sequence[SegmentResult]:
        """Return the vectors of segments of a file that their worker did not see."""
        self._sends_files = True
        self._load(task)
        if task.media is None or task.media.path:
            return self._stage.encode(inputs)
        unit = WorkUnit([replace(item, media=task.media) for item in inputs])
        self._queue([unit])
        return cast(MediaReply, unit.future.result().value).rows

    def _load(self, task: DocumentTask) -> None:
        """Read the file of a document into memory, if it is as it was listed and not too large."""
        with suppress(InputError):
            task.media = None if task.media is None else with_bytes(task.media)


def remote_stages(pool: JobPool, stages: Sequence[EmbedStage]) -> Iterator[RemoteStage]:
    """Yield the stages on workers that compute what stages in this process would.

    Chunks of each kind are counted by the first stage that reads it alone.
    """
    counted: set[str] = set()
    for stage in stages:
        reads = stage.features[0].reads
        yield _remote_stage(pool, stage, is_counted=counted.isdisjoint(reads))
        counted.update(reads)


def _remote_stage(pool: JobPool, stage: EmbedStage, *, is_counted: bool) -> RemoteStage:
    if isinstance(stage, MediaEmbedStage):
        return RemoteMediaStage(pool, stage, is_counted=is_counted)
    return RemoteTextStage(pool, stage, is_counted=is_counted)


def _names(stage: EmbedStage) -> tuple[str, ...]:
    return tuple(feature.name for feature in stage.features)


def set_aside_reason(task: DocumentTask, error: DocumentSetAside) -> str:
    """Return why a document failed whose workers stopped."""
    return (
        f"{task.document.name}: {error}, twice: its content may end the process, or take more memory than there is. "
        "Other documents are not affected. To try again: --retry-failed"
    )


def _replies(units: Sequence[WorkUnit]) -> list[Any]:
    """Wait for the replies of workers.

    Raises:
        DocumentSetAside: the workers of one of them stopped again and again.
    """
    return [unit.future.result().value for unit in units]
