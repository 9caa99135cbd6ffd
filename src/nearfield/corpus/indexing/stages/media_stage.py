"""The embed stage of features that read media: pictures, pages, parts of sounds and of videos."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence

from nearfield.corpus.document import TEXT, Loss
from nearfield.corpus.extractors.media.segments import with_name
from nearfield.corpus.features import EncodePass, Feature
from nearfield.corpus.indexing.accounting import undecoded, with_undecoded
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.stages.chunk_encoder import INPUT_ERRORS
from nearfield.corpus.indexing.stages.embed_stage import EmbedStage
from nearfield.corpus.indexing.stages.media_encoder import MediaEncoder, MediaInput, SegmentResult
from nearfield.errors import InputError


class MediaEmbedStage(EmbedStage):
    """Computes missing vectors of segments. One that cannot be decoded is left out, and a loss of its document.

    Segments are decoded when the model reads them, some at a time, so that memory is bounded.
    """

    def __init__(self, context: IndexContext, encode_pass: EncodePass, features: Sequence[Feature]) -> None:
        super().__init__(context, encode_pass, features)
        self._media = MediaEncoder(encode_pass, features)
        self._settings = context.config.segments
        #: By document, until its last part: what was left out, and the number of chunks that earlier parts lack.
        self._losses: dict[str, list[Loss]] = defaultdict(list)
        self._left_out: Counter[str] = Counter()

    def run(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Compute the missing vectors of documents."""
        while True:
            pending: deque[tuple[DocumentTask, int]] = deque()
            try:
                yield from self._stream_media(tasks, pending)
                return
            except INPUT_ERRORS:  # an input that the model refuses, or that was not there any more
                yield from (self.finish(task, self.encode(self.inputs(task))) for task, _ in pending)

    def _stream_media(
        self, tasks: Iterator[DocumentTask], pending: deque[tuple[DocumentTask, int]]
    ) -> Iterator[DocumentTask]:
        def inputs() -> Iterator[MediaInput]:
            for task in tasks:
                missing = self.inputs(task)
                pending.append((task, len(missing)))
                yield from missing

        results: deque[SegmentResult] = deque()
        for window in self._media.stream_media(inputs()):
            results.extend(window)
            yield from self._finished(pending, results)
        yield from self._finished(pending, results)

    def _finished(
        self, pending: deque[tuple[DocumentTask, int]], results: deque[SegmentResult]
    ) -> Iterator[DocumentTask]:
        """Yield the documents all of whose missing vectors are there."""
        while pending and pending[0][1] <= len(results):
            task, count = pending.popleft()
            yield self.finish(task, [results.popleft() for _ in range(count)])

    def inputs(self, task: DocumentTask) -> list[MediaInput]:
        """Return what is to be encoded of a document: its chunks that lack a vector."""
        return [self._input(task, at) for at in self._missing(task)]

    def _input(self, task: DocumentTask, at: int) -> MediaInput:
        chunk = task.chunks[at]
        return MediaInput(chunk.embedded if chunk.kind == TEXT else "", chunk.payload, task.media, self._settings)

    def encode(self, inputs: Sequence[MediaInput]) -> list[SegmentResult]:
        """Return the vectors of inputs, or the reason why one has none."""
        return self._media.results(inputs)

    def finish(self, task: DocumentTask, results: Sequence[SegmentResult]) -> DocumentTask:
        """Set the vectors of a document from those of its ``inputs``, and leave out the segments that have none."""
        if task.error:
            return task
        missing = self._missing(task)
        pairs = list(zip(missing, results, strict=True))
        errors = {at: _named(task, result) for at, result in pairs if isinstance(result, str)}
        good = {at: result for at, result in pairs if not isinstance(result, str)}
        task = self._fill(task, list(good), [result.vectors for result in good.values()])
        frames = {task.chunks[at].id: result.frames for at, result in good.items() if result.frames}
        for table in self._tables:
            task.frames.setdefault(table, {}).update(frames)
        if errors and not task.new_chunks:  # another feature has decoded it
            return task.fail(next(iter(errors.values())))
        if errors:
            self._losses[task.document.id] += [undecoded(task.chunks[at], error) for at, error in errors.items()]
            task.reused -= len(errors)
            task.leave_out(errors)
            self._left_out[task.document.id] += 0 if task.is_last else len(errors)
        return self._end(task, next(iter(errors.values()), "")) if task.is_last else task

    def _end(self, task: DocumentTask, error: str) -> DocumentTask:
        """Complete the account of a document with its last part. Without any chunk, it fails."""
        losses = self._losses.pop(task.document.id, [])
        if not losses:
            return task
        task.earlier_chunks -= self._left_out.pop(task.document.id, 0)
        task.document = with_undecoded(task.document, losses)
        if not task.chunks and not task.duplicates and not task.earlier_chunks:
            return task.fail(InputError(with_name(error or losses[0].reason, task.document.name)))
        return task


def _named(task: DocumentTask, error: str) -> str:
    """Return an error with the name of the document: the path of its file is for those who may read its folder."""
    return error if task.media is None else with_name(error, task.document.name, task.media.path)
