"""The write stage of indexing: write finished documents to the store and then to the manifest, and remove old ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask
from nearfield.corpus.indexing.stages.copy_stage import CopyStage
from nearfield.message_text import count_of, quote_name
from nearfield.stores.filters import All, Filter, Not, one_of


class WriteStage:
    """Writes to the store first and to the manifest second, so that an interrupted run is repeated, not lost."""

    def __init__(self, context: IndexContext) -> None:
        self._context = context
        self._manifest, self._store = context.manifest, context.store
        #: Documents of which a part failed: later parts are not written.
        self._failed: set[str] = set()
        copies = context.config.clean.copies
        self._copies = None if copies is None else CopyStage(context, copies)

    def write(self, batch: Sequence[DocumentTask]) -> None:
        """Write finished documents and parts of long ones, and record failed ones.

        A document is ``writing`` until its last part is written; chunks of its earlier version stay until then.
        """
        batch = self._without_failed(batch)
        finished = [task for task in batch if not task.error]
        if self._copies is not None:
            self._copies.set_aside(finished)
        for name, item in self._context.tables_by_name.items():
            tasks = [task for task in finished if name in task.tables]
            records = [record for task in tasks for record in task.records(name, item.feature.reads)]
            for start in range(0, len(records), self._store.batch):
                part = records[start : start + self._store.batch]
                self._context.retry(partial(self._store.upsert, item.table, part))
            outdated = [task for task in tasks if task.in_store and task.new_chunks and task.is_last]
            if outdated:
                self._context.retry(partial(self._store.delete, item.table, _earlier_versions(outdated)))
        self._remove_outdated([task for task in finished if task.in_store and task.new_chunks and task.is_last])
        with self._manifest.writing():
            for task in finished:
                self._commit(task)
        self._quarantine([task for task in batch if task.error])
        for task in batch:
            self._count(task)

    def _remove_outdated(self, tasks: Sequence[DocumentTask]) -> None:
        """Remove earlier versions of documents from tables that are being replaced: these get no new version."""
        for table in self._context.replaced_tables if tasks else ():
            self._context.retry(partial(self._store.delete, table, _earlier_versions(tasks)))

    def _without_failed(self, batch: Sequence[DocumentTask]) -> list[DocumentTask]:
        """Return the tasks without the other parts of documents of which one part failed."""
        known = frozenset(self._failed)
        ended = [task.document.id for task in batch if task.document.id in known and task.is_last]
        if ended:  # the chunk stage has added the later parts to the index of near-duplicates
            with self._manifest.writing():
                self._remove_from_duplicates(ended)
        self._failed |= {task.document.id for task in batch if task.error and not task.is_whole}
        parts = [task for task in batch if task.document.id not in known]
        return [task for task in parts if task.error or task.document.id not in self._failed]

    def _commit(self, task: DocumentTask) -> None:
        """Write a document, or a part of it, to the manifest."""
        if task.is_whole:
            self._manifest.replace(
                task.finished(), task.chunks, task.duplicates, task.tables, new_chunks=task.new_chunks
            )
            return
        if task.new_chunks:
            self._manifest.add_part(task.document.id, task.chunks, task.duplicates, is_first=task.is_first)
        if task.is_last:
            self._manifest.finish_parts(task.finished(), task.tables, new_chunks=task.new_chunks)

    def _quarantine(self, tasks: Sequence[DocumentTask]) -> None:
        """Record failed documents with their errors, and remove the chunks of their earlier versions."""
        if not tasks:
            return
        documents = [task.document.id for task in tasks]
        self._delete_from_store(documents)
        with self._manifest.writing():
            self._remove_from_duplicates(documents)
            self._manifest.remove_chunks(documents)
            self._manifest.save(
                replace(task.document, state="failed", error=task.error, chunks=0, tokens=0) for task in tasks
            )

    def _remove_from_duplicates(self, documents: Sequence[str]) -> None:
        """Remove documents from the indexes of near-duplicates and copies; call it in the manifest's transaction."""
        self._context.remove_from_duplicates(documents)
        if self._copies is not None:
            self._copies.remove(documents)

    def _delete_from_store(self, documents: Sequence[str]) -> None:
        current = (item.table for item in self._context.tables.values())
        for table in (*current, *self._context.replaced_tables):
            self._context.retry(partial(self._store.delete, table, one_of("document", list(documents))))

    def _count(self, task: DocumentTask) -> None:
        report = self._context.report
        if task.error:
            report.fail(task.document.id, task.error)
        elif task.is_last and task.document.state != "stale":
            report.add_account(task.document)
        report.chunks += len(task.chunks)
        report.embedded += task.embedded
        report.reused += task.reused
        report.tokens += task.tokens
        report.truncated += task.truncated
        progress, label = self._context.progress, self._context.name
        if not task.is_last:
            chunks = task.earlier_chunks + len(task.chunks)
            label = f"{label}: {quote_name(task.document.name)[-40:]}, {count_of(chunks, 'chunk')}"
        progress.relabel(f"{label}{self._context.status()}")
        progress.advance(task.share, task.tokens)

    def remove(self, documents: Sequence[str]) -> None:
        """Remove documents from the store and then from the manifest."""
        if not documents:
            return
        self._manifest.set_state(documents, "deleting")
        self._delete_from_store(documents)
        with self._manifest.writing():
            self._remove_from_duplicates(documents)
            self._manifest.remove(documents)

    def recover(self) -> None:
        """Finish the removals of an interrupted run, drop what it had begun to write, and recheck old duplicates."""
        unfinished = self._manifest.in_state("new", "writing")
        with self._manifest.writing():
            self._remove_from_duplicates(unfinished)
        self.remove(self._manifest.in_state("deleting"))
        self._context.recheck_duplicates()


def _earlier_versions(tasks: Sequence[DocumentTask]) -> Filter:
    """Return the filter for records of earlier versions of documents."""
    documents = [task.document.id for task in tasks]
    return All((one_of("document", documents), Not(one_of("version", [task.document.version for task in tasks]))))
