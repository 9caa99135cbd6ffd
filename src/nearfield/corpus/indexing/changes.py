"""Change detection: compare what the sources list with the manifest, and yield a task for each document to process."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from nearfield.corpus.document import TEXT, Document, MediaContent, SourceItem
from nearfield.corpus.extractors import SOUND, VIDEO, kind_of
from nearfield.corpus.extractors.media.kinds import FILES_WITHOUT_TEXT, KINDS_BY_TYPE, PICTURE, media_type
from nearfield.corpus.extractors.options import OcrMode, SpeechMode
from nearfield.corpus.extractors.reader import uses_ocr, uses_speech
from nearfield.corpus.indexing.context import UNREADABLE, IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask, ItemContent, document_version
from nearfield.corpus.indexing.stages.chunk_stage import detect_boilerplate
from nearfield.corpus.indexing.stages.media_segments import media_content, type_of
from nearfield.corpus.indexing.workers import IndexSession
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.sources import Source

#: Manifest key of the kinds of media that the collection has read at least once.
MEDIA_KEY = "media"
#: Documents of a source in the sample for boilerplate detection.
_SAMPLE_SIZE = 400
#: Bytes and characters of sampled documents that stay in memory, so that they are not read twice.
_MAX_SAMPLE_MEMORY = 2**26
#: Files that are larger are not sampled: reading them twice would take too long.
_MAX_SAMPLED_BYTES = 2**23
#: Maximum number of boilerplate lines of a source in the report.
_MAX_NAMED_LINES = 20
#: Documents that are removed together.
_REMOVED_PER_BATCH = 500
#: More than this share of a source's documents, and more than this number, are removed only if the user allows it: the
#: folder may be emptied by mistake, or not mounted. If all are gone, this number is enough.
_MAX_REMOVED_SHARE, _MAX_REMOVED, _MAX_ALL_REMOVED = 0.5, 5, 2


#: Why a document gets no vectors of a new feature.
_NOT_LISTED = "a new feature needs the file, which has changed or is not there any more: index all sources again."


class ChangeDetector:
    """Finds the new, changed, unchanged and removed documents of some sources, and counts them in the report."""

    def __init__(self, context: IndexContext, sources: Sequence[Source], session: IndexSession) -> None:
        self._context, self._manifest, self._report = context, context.manifest, context.report
        self._sources, self._session, self._options = sources, session, context.options
        self._chunking = context.chunk_stage.identity()
        self._reading = context.config.reading
        #: Whether documents may have segments, or had some with an earlier definition.
        self._has_media = bool(self._reading.kinds or self._manifest.get(MEDIA_KEY))
        #: Sources that were listed completely.
        self._complete: list[str] = []
        #: The number of listed documents that the manifest does not have, by source.
        self.unrecorded: Counter[str] = Counter()
        #: Documents that were read for the sample, and the memory that is left for them.
        self._sampled: dict[str, ItemContent] = {}
        self._memory = _MAX_SAMPLE_MEMORY
        #: Items of sources that were listed for documents whose media a new table lacks, by source and key.
        self._items: dict[str, dict[str, SourceItem]] = {}

    # -- preparation -------------------------------------------------------------------------------------------

    def prepare(self) -> int:
        """Count the listed documents, and detect the boilerplate of sources that have none recorded."""
        total = 0
        for source in self._sources:
            undecided = self._context.config.clean.boilerplate and self._manifest.boilerplate(source.name) is None
            sample: list[tuple[int, int, SourceItem]] = []
            try:
                for number, item in enumerate(source.items()):
                    total += 1
                    if undecided and not self._is_without_text(item.name):
                        _add_to_sample(sample, number, item)
            except UNREADABLE:  # reported by ``changed``
                continue
            if undecided:
                drawn = [item for _, _, item in sorted(sample, key=lambda entry: entry[1])]
                detect_boilerplate(self._manifest, source.name, self._sampled_documents(source, drawn))
        for source in self._sources:
            lines = self._manifest.boilerplate(source.name) or []
            self._report.dropped_lines += [(line, share) for line, share, _ in lines[:_MAX_NAMED_LINES]]
        return total

    def _is_without_text(self, name: str) -> bool:
        kind = media_type(name) if self._has_media else ""
        return kind in FILES_WITHOUT_TEXT or (kind == PICTURE and not self._context.config.ocr)

    def _sampled_documents(self, source: Source, items: Iterable[SourceItem]) -> Iterator[Document]:
        """Yield the documents of a sample. They stay in memory if there is space, so that each is read once."""
        contents = (content for item in items if (content := _read_sampled(item)) is not None)
        for content in self._session.extract(contents):
            assert content.extracted is not None
            document, data = content.extracted[0], content.data
            size = len(document.text) if isinstance(data, Document) else len(data) + len(document.text)
            if size <= self._memory:
                self._memory -= size
                self._sampled[f"{source.name}#{content.key}"] = content
            yield document

    # -- documents to process ----------------------------------------------------------------------------------

    def changed(self) -> Iterator[DocumentTask]:
        """Yield a task for each listed document that is new or changed, or has failed and is tried again."""
        self._manifest.begin_listing()
        for source in self._sources:
            listed = 0
            try:
                for item in source.items():
                    listed += 1
                    document = f"{source.name}#{item.key}"
                    self._manifest.add_listed(document)
                    task = self._compare(source, item, document)
                    if task is not None:
                        yield task
            except UNREADABLE as error:
                # Documents that were not listed may still exist: none of this source is removed.
                self._report.fail(source.name, str(error))
                self._report.unlisted.append(source.name)
                continue
            self._manifest.flush_listed()
            self._report.add_listing(source, listed)
            if source.whole:
                self._complete.append(source.name)

    def _compare(self, source: Source, item: SourceItem, document: str) -> DocumentTask | None:
        """Return the task for an item; None if nothing is to be done."""
        old = self._manifest.document(document)
        self.unrecorded[source.name] += old is None
        settled = old if old is not None and self._is_settled(old) else None
        if settled is not None and item.stamp is not None and settled.stamp == item.stamp and self._is_listed(settled):
            return self._same(source, item, settled)
        content = self._sampled.pop(document, None)
        try:
            content = (
                ItemContent.from_item(item) if content is None else replace(content, name=item.name, meta=item.meta)
            )
        except UNREADABLE as error:
            self._record_unreadable(document, source, item, old, error)
            return None
        digest = content_digest(content.data, item, **self._recognition(content.data, item.name))
        kind = type_of(content) if self._has_media else ""
        segments = self._reading.identity(kind)
        if settled is not None and settled.digest == digest and self._is_listed(settled):
            # It was read now, so that an earlier error of reading it is over.
            current = replace(settled, stamp=item.stamp, error=settled.error if settled.state == "failed" else "")
            if not self._report.dry_run and current != settled:
                self._manifest.save([current])
            return self._same(source, item, current)
        if settled is not None and settled.digest == digest and settled.state != "failed":
            return self._listed_again(settled, item, content, segments)
        self._count("new" if old is None or old.state == "new" else "changed")
        record = DocumentRecord(
            id=document,
            source=source.name,
            key=item.key,
            name=item.name,
            digest=digest,
            version=document_version(document, digest, self._chunking, segments),
            stamp=item.stamp,
            type=kind if segments else "",
            state="writing",
        )
        # An interrupted run may have left records in the store that the manifest does not know.
        return DocumentTask(record, True, self._context.table_names, old is not None, content)

    def _is_listed(self, record: DocumentRecord) -> bool:
        """Return whether a document has the segments of this definition."""
        if not self._has_media:
            return True
        kind = record.type if record.type in KINDS_BY_TYPE else media_type(record.name)
        if not kind:
            return True
        segments = self._reading.identity(kind)
        return record.version == document_version(record.id, record.digest, self._chunking, segments)

    def _listed_again(
        self, record: DocumentRecord, item: SourceItem, content: ItemContent, segments: str
    ) -> DocumentTask:
        """Return the task for a document whose text stays, and whose segments are listed again."""
        self._count("completed")
        version = document_version(record.id, record.digest, self._chunking, segments)
        renewed = replace(record, version=version, stamp=item.stamp)
        task = DocumentTask(renewed, True, self._context.table_names, True, content, keeps_text=True)
        task.chunks = [] if self._report.dry_run else self._manifest.all_chunks(record.id)
        return task

    def _same(self, source: Source, item: SourceItem, record: DocumentRecord) -> DocumentTask | None:
        """Count a document whose content did not change; return the task for segments that lack vectors."""
        tables = self._media_tables(record)
        if not tables or self._report.dry_run:
            self._count_same(record)
            return None
        try:
            media = media_content(ItemContent.from_item(item), self._reading)
        except UNREADABLE as error:
            self._record_unreadable(record.id, source, item, record, error)
            return None
        return self._completed(record, self._manifest.chunks(record.id), media)

    def _completed(self, record: DocumentRecord, chunks: list[ChunkRecord], media: MediaContent | None) -> DocumentTask:
        """Return the task for a document that some tables lack."""
        task = DocumentTask(record, False, tuple(self._missing_tables(record)), in_store=False)
        task.chunks, task.media = chunks, media
        self._count("completed")
        return task

    def _media_tables(self, record: DocumentRecord) -> list[str]:
        """Return the tables that lack segments of a document."""
        if not self._has_media or record.state != "done":
            return []
        tables = self._context.tables_by_name
        missing = [name for name in self._missing_tables(record) if tables[name].feature.reads_media]
        kinds = {chunk.kind for chunk in self._manifest.chunks(record.id)} - {TEXT} if missing else set()
        return [name for name in missing if kinds & set(tables[name].feature.reads)]

    def _recognition(self, data: bytes | Document, name: str) -> dict[str, Any]:
        """Return the modes of OCR and speech that a document is read with, without those that its extractor ignores."""
        config = self._context.config
        if isinstance(data, Document):
            return {}
        ocr = {"ocr": config.ocr} if config.ocr and uses_ocr(data, name) else {}
        return ocr | ({"speech": config.speech} if config.speech and uses_speech(data, name) else {})

    def _is_settled(self, record: DocumentRecord) -> bool:
        return record.state in ("done", "stale") or (record.state == "failed" and not self._options.retry_failed)

    def _count_same(self, record: DocumentRecord) -> None:
        """Count a document whose content did not change; ``incomplete`` yields those that a new table lacks."""
        if record.state == "done" and self._missing_tables(record):
            if self._report.dry_run:
                self._count("completed")
            return
        self._context.progress.advance(1, 0)
        self._report.add_unchanged(record)

    def _missing_tables(self, record: DocumentRecord) -> list[str]:
        return self._manifest.tables_without(self._context.table_names, record.id, record.version)

    def _record_unreadable(
        self, document: str, source: Source, item: SourceItem, old: DocumentRecord | None, error: Exception
    ) -> None:
        """Record that a document could not be read: its chunks stay, and the next run tries again."""
        self._report.fail(document, str(error))
        self._context.progress.advance(1, 0)
        if self._report.dry_run:
            return
        if old is not None and old.state != "failed":
            self._manifest.save([replace(old, error=str(error), stamp=None)])
            return
        failed = DocumentRecord(document, source.name, item.key, item.name, "", "", state="failed", error=str(error))
        self._manifest.save([failed])

    def _count(self, counter: Literal["new", "changed", "completed"]) -> None:
        setattr(self._report, counter, getattr(self._report, counter) + 1)

    def incomplete(self) -> Iterator[DocumentTask]:
        """Yield all documents that a table of a new feature lacks, also those that no source listed.

        Such a table replaces another one after the run, and must have the same documents.
        """
        last = ""
        while part := self._manifest.incomplete_documents(self._context.table_names, last):
            for record in part:
                if self._media_tables(record):
                    yield from self._completed_media(record)
                else:
                    yield self._completed(record, self._manifest.chunks(record.id), None)
            last = part[-1].id

    def _completed_media(self, record: DocumentRecord) -> Iterator[DocumentTask]:
        """Yield the task for a document whose media file must be read again, unless this run could not read it."""
        media = self._media_of(record)
        if media is not None:
            yield self._completed(record, self._manifest.chunks(record.id), media)
        elif not record.error:
            self._report.fail(record.id, _NOT_LISTED)
            self._manifest.save([replace(record, error=_NOT_LISTED, stamp=None)])

    def _media_of(self, record: DocumentRecord) -> MediaContent | None:
        """Return the media file of a document; None if no source has it any more, or another content."""
        item = self._find_item(record)
        if item is None or item.stamp is None or item.stamp != record.stamp:
            return None
        try:
            return media_content(ItemContent.from_item(item), self._reading)
        except UNREADABLE:
            return None

    def _find_item(self, record: DocumentRecord) -> SourceItem | None:
        """Return the item of a document, as any source of the collection lists it now."""
        if record.source not in self._items:
            sources = [source for source in self._context.open_sources() if source.name == record.source]
            try:
                items = {item.key: item for source in sources for item in source.items()}
            except UNREADABLE:
                items = {}
            self._items[record.source] = items
        return self._items[record.source].get(record.key)

    def stale(self, documents: Sequence[str]) -> Iterator[DocumentTask]:
        """Yield documents whose near-duplicates have lost their originals, with all their chunks."""
        for document in documents:
            record = self._manifest.document(document)
            if record is None:
                continue
            task = DocumentTask(record, True, self._context.table_names, in_store=True)
            task.chunks = self._manifest.all_chunks(document)
            if any(chunk.kind != TEXT for chunk in task.chunks):  # a table of a new feature may lack their vectors
                task.media = self._media_of(record)
            yield task

    def missing(self) -> Iterator[list[str]]:
        """Yield in batches the documents that their source no longer lists.

        If these are most documents of a source, the report names it, and nothing is removed from it unless the user
        allows that.
        """
        for source in self._complete:
            gone, total = self._manifest.count_not_listed(source)
            # A run has recorded new documents before it removes others.
            total += self.unrecorded[source] if self._report.dry_run else 0
            if not self._options.allow_removal and is_suspicious_removal(gone, total):
                self._report.held_removals.append((source, gone, total))
                continue
            while part := self._manifest.not_listed(source, _REMOVED_PER_BATCH):
                yield part
                if self._report.dry_run:
                    self._manifest.add_all_listed(part)


def is_suspicious_removal(gone: int, total: int) -> bool:
    """Return whether so many of a source's documents are gone that the user must confirm their removal."""
    if gone == total:
        return gone >= _MAX_ALL_REMOVED
    return gone > _MAX_REMOVED and gone > _MAX_REMOVED_SHARE * total


def _read_sampled(item: SourceItem) -> ItemContent | None:
    """Read an item of the sample; None if it is too large, a recording, or unreadable, which ``changed`` reports."""
    if kind_of(item.name) in (SOUND, VIDEO):  # it takes long, and has no boilerplate
        return None
    try:
        content = ItemContent.from_item(item)
    except UNREADABLE:
        return None
    return content if isinstance(content.data, Document) or len(content.data) <= _MAX_SAMPLED_BYTES else None


def _add_to_sample(sample: list[tuple[int, int, SourceItem]], number: int, item: SourceItem) -> None:
    """Add an item to a sample, which has those with the smallest digests: the same ones in each run."""
    rank = -int.from_bytes(hashlib.sha256(item.key.encode("utf-8", "replace")).digest()[:8], "big")
    (heapq.heappush if len(sample) < _SAMPLE_SIZE else heapq.heappushpop)(sample, (rank, number, item))


def content_digest(
    data: bytes | Document, item: SourceItem, *, ocr: OcrMode = False, speech: SpeechMode = False
) -> str:
    """Return the digest of an item's content, name, values for filters, and modes of OCR and speech."""
    content = data.digest() if isinstance(data, Document) else hashlib.sha256(data).hexdigest()
    meta = json.dumps(sorted(item.meta.items()), default=str)
    modes = f"{f' ocr={ocr}' if ocr else ''}{f' speech={speech}' if speech else ''}"
    return hashlib.sha256(f"{content} {meta} {item.name}{modes}".encode("utf-8", "replace")).hexdigest()
