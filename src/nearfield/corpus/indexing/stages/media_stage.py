"""The embed stage of features that read media: pictures, pages, parts of sounds and of videos."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence

from nearfield.corpus.document import TEXT, Loss
from nearfield.corpus.features import EncodePass, Feature
from nearfield.corpus.indexing.accounting import undecoded, with_undecoded
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.stages.chunk_encoder import INPUT_ERRORS
from nearfield.corpus.indexing.stages.embed_stage import EmbedStage
from nearfield.corpus.indexing.stages.media_encoder import EncodedSegment, MediaEncoder, MediaInput
from nearfield.errors import InputError

#: The vectors of a chunk, or the reason why it has none.
_Result = EncodedSegment | str


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
            pending: deque[tuple[DocumentTask, list[int]]] = deque()
            try:
                yield from self._stream_media(tasks, pending)
                return
            except INPUT_ERRORS:  # an input that the model refuses, or that was not there any more
                for task, missing in pending:
                    yield self._finish(task, missing, [self._embed_chunk(task, at) for at in missing])

    def _stream_media(
        self, tasks: Iterator[DocumentTask], pending: deque[tuple[DocumentTask, list[int]]]
    ) -> Iterator[DocumentTask]:
        def inputs() -> Iterator[MediaInput]:
            for task in tasks:
                missing = self._missing(task)
                pending.append((task, missing))
                yield from (self._input(task, at) for at in missing)

        results: deque[_Result] = deque()
        for window in self._media.stream_media(inputs()):
            results.extend(window)
            yield from self._finished(pending, results)
        yield from self._finished(pending, results)

    def _finished(
        self, pending: deque[tuple[DocumentTask, list[int]]], results: deque[_Result]
    ) -> Iterator[DocumentTask]:
        """Yield the documents all of whose missing vectors are there."""
        while pending and len(pending[0][1]) <= len(results):
            task, missing = pending.popleft()
            yield self._finish(task, missing, [results.popleft() for _ in missing])

    def _input(self, task: DocumentTask, at: int) -> MediaInput:
        chunk = task.chunks[at]
        return MediaInput(chunk.embedded if chunk.kind == TEXT else "", chunk.payload, task.media, self._settings)

    def _embed_chunk(self, task: DocumentTask, at: int) -> _Result:
        try:
            return next(
                result for window in self._media.stream_media(iter([self._input(task, at)])) for result in window
            )
        except INPUT_ERRORS as error:
            return str(error)

    def _finish(self, task: DocumentTask, missing: Sequence[int], results: Sequence[_Result]) -> DocumentTask:
        """Set the vectors of a document, and leave out the segments that have none."""
        if task.error:
            return task
        errors = {at: result for at, result in zip(missing, results, strict=True) if isinstance(result, str)}
        good = {at: result for at, result in zip(missing, results, strict=True) if not isinstance(result, str)}
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
            return task.fail(InputError(f"{task.document.name}: {error or losses[0].reason}"))
        return task
