"""One index run: changed documents are extracted, split, embedded and written in a pipeline of threads.

A run may be killed at any moment; the next run finishes its work. A document is ``writing`` in the manifest before the
store gets its records, ids of records are derived from their content, and records of earlier versions are removed
before the document is ``done``.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from nearfield.corpus.document import TEXT
from nearfield.corpus.indexing.changes import ChangeDetector
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.pipeline import run_pipeline
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.stages.copy_stage import LookStage
from nearfield.corpus.indexing.stages.embed_stage import ReuseStage
from nearfield.corpus.indexing.stages.write_stage import WriteStage
from nearfield.corpus.indexing.workers import IndexSession, Stage
from nearfield.corpus.manifest.index_progress import SharedProgress
from nearfield.corpus.sources import Source

#: Seconds after which finished documents are written, even if they are few.
_FLUSH_SECONDS = 5.0


class IndexRun:
    """One run over some sources. Each run needs a new instance."""

    def __init__(self, context: IndexContext, sources: Sequence[Source], session: IndexSession) -> None:
        self._context, self._manifest, self._session = context, context.manifest, session
        self.report = context.report
        context.status = session.status
        self._changes = ChangeDetector(context, sources, session)
        features = [item.feature for item in context.tables.values() if TEXT in item.feature.reads]
        #: The model of the first dense feature, for texts that it cannot read.
        self._model = next((feature.encoder.name for feature in features if feature.kind == "dense"), "")
        self._writer = WriteStage(context)

    def run(self) -> IndexReport:
        """Update the collection from its sources.

        Raises:
            StoreFailed: the database failed several times in a row; the next run continues.
        """
        started = time.perf_counter()
        self._writer.recover()
        label, shown = f"{self._context.name}: listing", self._context.options.shown
        with SharedProgress(self._manifest.path.parent, label=label, shown=shown) as progress:
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
        self.report.cluster = self._session.counts()
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
        *first, split = self._session.split_stages()
        stages: list[Stage] = [*first, lambda items: self._set_up_chunks(split(items)), ReuseStage(self._context).run]
        stages += self._session.embed_stages(self._context)
        if self._context.config.clean.copies is not None:
            stages.append(LookStage(self._context).run)
        batch: list[DocumentTask] = []
        last = time.monotonic()
        # Closed, so that its threads end if the store fails.
        with closing(self._run(tasks, stages)) as done:
            for task in done:
                batch.append(task)
                full = sum(task.weight for task in batch) >= self._context.store.batch
                if full or time.monotonic() - last > _FLUSH_SECONDS:
                    self._writer.write(batch)
                    batch, last = [], time.monotonic()
        self._writer.write(batch)

    def _run(self, tasks: Iterator[DocumentTask], stages: Sequence[Stage]) -> Generator[DocumentTask, None, None]:
        return run_pipeline(
            tasks, stages, capacity=self._session.capacity, weight=lambda task: task.weight,
            on_stop=self._session.cancel,
        )  # fmt: skip

    # -- chunks ------------------------------------------------------------------------------------------------

    def _set_up_chunks(self, parts: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Set near-duplicates aside, and count what the extraction left out."""
        chunks = tokens = 0
        for part in parts:
            if part.is_first:
                chunks = tokens = 0
            part.earlier_chunks, part.earlier_tokens = chunks, tokens
            self._count_left_out(part)
            if part.new_chunks and not part.error:
                self._set_duplicates_aside(part)
            chunks += len(part.chunks)
            tokens += sum(chunk.tokens for chunk in part.chunks)
            yield part

    def _count_left_out(self, task: DocumentTask) -> None:
        self.report.tiny += task.tiny
        self.report.boilerplate += task.boilerplate
        if task.unread_script is not None and not task.error:
            self.report.add_unread(task.unread_script, self._model)

    def _set_duplicates_aside(self, task: DocumentTask) -> None:
        with self._manifest.writing():
            if task.is_extracted and task.is_first:
                self._context.remove_from_duplicates([task.document.id])
            self._manifest.begin(task.document)
            task.chunks, task.duplicates = self._context.chunk_stage.set_duplicates_aside(task.document, task.chunks)
        self.report.duplicates += len(task.duplicates) if task.is_extracted else 0
