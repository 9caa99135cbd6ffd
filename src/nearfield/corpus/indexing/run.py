"""One index run: changed documents are extracted, split, embedded and written in a pipeline of threads.

A run may be killed at any moment; the next run finishes its work. A document is ``writing`` in the manifest before the
store gets its records, ids of records are derived from their content, and records of earlier versions are removed
before the document is ``done``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.corpus.features import group_passes
from nearfield.corpus.indexing.accounting import WordCount, account
from nearfield.corpus.indexing.changes import ChangeDetector
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import PART_CHUNKS, DocumentTask, ItemContent, split_task
from nearfield.corpus.indexing.embed_stage import EmbedStage, ReuseStage
from nearfield.corpus.indexing.pipeline import run_pipeline
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.write_stage import WriteStage
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.unread_letters import UnreadLetters
from nearfield.corpus.sources import Source
from nearfield.errors import MissingExtra, NearfieldError
from nearfield.fileio.disk_space import is_disk_full
from nearfield.progress import Progress
from nearfield.stores.filters import FieldType, Value, typed

#: Documents and chunks that may wait between two stages.
_QUEUE_CAPACITY = 2048
#: Seconds after which finished documents are written, even if they are few.
_FLUSH_SECONDS = 5.0
#: Chunks of a document whose script is looked at.
_SAMPLED_CHUNKS = 4
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Stage = Callable[[Iterator[DocumentTask]], Iterator[DocumentTask]]


class IndexRun:
    """One run over some sources. Each run needs a new instance."""

    def __init__(self, context: IndexContext, sources: Sequence[Source], *, reader: DocumentReader) -> None:
        self._context, self._manifest, self._reader = context, context.manifest, reader
        self.report = context.report
        self._changes = ChangeDetector(context, sources, reader)
        features = [item.feature for item in context.tables.values()]
        self._encoder = next((feature.encoder for feature in features if feature.kind == "dense"), None)
        self._writer = WriteStage(context)

    def run(self) -> IndexReport:
        """Update the collection from its sources.

        Raises:
            StoreFailed: the database failed several times in a row; the next run continues.
        """
        started = time.perf_counter()
        self._writer.recover()
        label, shown = f"{self._context.name}: listing", self._context.options.shown
        with Progress(None, label=label, unit="documents", shown=shown) as progress:
            self._context.progress = progress
            progress.set_total(self._changes.prepare())
            progress.relabel(self._context.name)
            self._process(self._changes.changed())
            for documents in self._changes.missing():
                self._writer.remove(documents)
                self.report.removed += len(documents)
            self._process_stale()
            self._process(self._changes.incomplete())
        self.report.seconds = self.report.run_seconds = time.perf_counter() - started
        return self.report

    def plan(self) -> IndexReport:
        """Report what a run would do: read all changed documents, and write nothing."""
        self.report.dry_run = True
        for _ in self._changes.changed():
            pass
        self.report.removed = sum(len(documents) for documents in self._changes.missing())
        return self.report

    def count_unrecorded(self) -> dict[str, int]:
        """Return by source the number of listed documents that the manifest did not have."""
        return dict(self._changes.unrecorded)

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids, and index their near-duplicates; return the number of removed documents."""
        known = [key for key in documents if self._manifest.document(key) is not None]
        self._writer.recover()
        self._writer.remove(known)
        self._process_stale()
        return len(known)

    def _process_stale(self) -> None:
        if self.report.failed:
            self._manifest.mark_orphans()
        while stale := self._manifest.in_state("stale"):
            self._process(self._changes.stale(stale))

    def _process(self, tasks: Iterator[DocumentTask]) -> None:
        """Run tasks through all stages, and write finished documents in batches."""
        stages: list[Stage] = [self._chunk, ReuseStage(self._context).run]
        features = [item.feature for item in self._context.tables.values()]
        stages += [EmbedStage(self._context, encode_pass, group).run for encode_pass, group in group_passes(features)]
        batch: list[DocumentTask] = []
        last = time.monotonic()
        # Closed, so that its threads end if the store fails.
        with closing(run_pipeline(tasks, stages, capacity=_QUEUE_CAPACITY, weight=lambda task: task.weight)) as done:
            for task in done:
                batch.append(task)
                full = sum(task.weight for task in batch) >= self._context.store.batch
                if full or time.monotonic() - last > _FLUSH_SECONDS:
                    self._writer.write(batch)
                    batch, last = [], time.monotonic()
        self._writer.write(batch)

    # -- extraction and chunks ---------------------------------------------------------------------------------

    def _chunk(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Extract documents, split them into chunks, and set near-duplicates aside."""
        for task in tasks:
            is_new = task.content is not None
            chunks = tokens = 0
            for part in self._extract(task) if is_new else split_task(task):
                part.earlier_chunks, part.earlier_tokens = chunks, tokens
                if part.new_chunks and not part.error:
                    self._set_duplicates_aside(part, is_new=is_new)
                chunks += len(part.chunks)
                tokens += sum(chunk.tokens for chunk in part.chunks)
                yield part

    def _extract(self, task: DocumentTask) -> Iterator[DocumentTask]:
        """Yield the parts of a new or changed document, in order; the last one has the error if it failed."""
        content, task.content = task.content, None
        assert content is not None
        try:
            document = self._read(task, content)
            del content
            yield from self._parts(task, document)
        except MissingExtra as error:
            # The document is not at fault: the next run tries again.
            task.document = replace(task.document, digest="", stamp=None)
            yield task.fail(error)
        except Exception as error:  # one document must not stop the others
            if is_disk_full(error):  # the document is not at fault, and the others would fail too
                raise
            yield task.fail(error if isinstance(error, NearfieldError) else _unforeseen(task, error))

    def _read(self, task: DocumentTask, content: ItemContent) -> WindowedDocument:
        """Return the document of a task, and set the task's title, type and fields."""
        if content.extracted is None:
            document, kind = self._reader.windows(content.data, content.item.name)
        else:
            extracted, kind = content.extracted
            document = WindowedDocument.from_document(extracted)
        facts = document.document
        record = replace(task.document, title=facts.title, type=kind)
        task.document = replace(record, fields=self._fields(record, content, facts))
        return document

    def _parts(self, task: DocumentTask, document: WindowedDocument) -> Iterator[DocumentTask]:
        """Yield the parts of an extracted document. The last one has the account of all words."""
        words, pending = WordCount(), list[ChunkRecord]()
        has_chunks, is_first, done, length = False, True, 0.0, max(document.length, 1)
        sample = ""
        for window in self._context.chunk_stage.split(task.document, document):
            words.add(window.words)
            self.report.tiny += window.tiny
            self.report.boilerplate += window.boilerplate
            pending += window.chunks
            sample = sample or " ".join(chunk.text for chunk in window.chunks[:_SAMPLED_CHUNKS])
            has_chunks = has_chunks or bool(window.chunks)
            while len(pending) > PART_CHUNKS:
                reached = pending[PART_CHUNKS].payload["start"] / length
                share = max(0.0, reached - done)
                yield task.part(pending[:PART_CHUNKS], is_first=is_first, is_last=False, share=share)
                pending, is_first, done = pending[PART_CHUNKS:], False, max(done, reached)
        task.document = account(task.document, document.document, words, has_chunks=has_chunks)
        self._check_script(sample)
        yield task.part(pending, is_first=is_first, is_last=True, share=1.0 - done)

    def _check_script(self, text: str) -> None:
        """Report a text that the model of the first dense feature cannot read."""
        if self._encoder is not None and (script := UnreadLetters(self._encoder.tokenizer).script(text)):
            self.report.add_unread(script, self._encoder.name)

    def _fields(self, record: DocumentRecord, content: ItemContent, document: Document) -> dict[str, Value]:
        """Return the values for filters: the declared fields, and the built-in ones."""
        meta = {**document.meta, **content.item.meta}
        declared = {
            name: typed(name, _convert(meta[name], kind), kind)
            for name, kind in self._context.config.fields.items()
            if meta.get(name) is not None
        }
        return {**declared, "source": record.source, "path": record.key, "type": record.type}

    def _set_duplicates_aside(self, task: DocumentTask, *, is_new: bool) -> None:
        with self._manifest.writing():
            if is_new and task.is_first:
                self._context.remove_from_duplicates([task.document.id])
            self._manifest.begin(task.document)
            task.chunks, task.duplicates = self._context.chunk_stage.set_duplicates_aside(task.document, task.chunks)
        self.report.duplicates += len(task.duplicates) if is_new else 0


def _unforeseen(task: DocumentTask, error: Exception) -> str:
    """Return the reason of a failure that is a fault of Nearfield, or of a plug-in."""
    return (
        f"{task.document.name}: could not be processed, by a fault of Nearfield or of a plug-in: please report it "
        f"({type(error).__name__}: {error})"
    )


def _convert(value: Value, kind: FieldType) -> Value:
    """Return a text as a number or truth value if the field has that type: CSV files have texts only."""
    if not isinstance(value, str) or kind == "str":
        return value
    text = value.strip().lower()
    if kind == "bool":
        return _BOOLEANS.get(text, value)
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        return value
