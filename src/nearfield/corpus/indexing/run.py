"""Ingest: one index run: what changed in the sources is read, cut, embedded and written, side by side.

Whatever moment the process dies at, the next run finishes the work: a document is ``writing`` in the manifest before
the store learns of it, its records have ids of their own content, and what an earlier version left is removed before it
is ``done``.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Document, SourceItem
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.features import EncodePass, Feature, FeatureTable, passes
from nearfield.corpus.indexing import pipeline as line
from nearfield.corpus.indexing.chunk_stage import ChunkStage, decide
from nearfield.corpus.indexing.document_task import DocumentTask, settled, version_of
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.manifest.manifest import DocumentRecord, Manifest
from nearfield.corpus.sources import Source
from nearfield.errors import ExecutionFailed, InputError, MissingExtra, NearfieldError, StoreFailed
from nearfield.progress import Progress
from nearfield.stores import Store
from nearfield.stores.filters import All, Filter, Not, one_of, typed

#: Chunks that may wait between two steps, and texts that are tokenised at once.
_ROOM, _WINDOW = 2048, 512
#: Documents of a source from which it is decided what repeats over all of them.
_SAMPLE = 400
#: Seconds after which finished documents are written, however few; and between tries where a store fails.
_FLUSH_SECONDS, _PAUSES = 5.0, (0.5, 2.0, 5.0)
#: Bytes and characters of documents that are kept from when the sample was drawn.
_AHEAD = 2**26
#: Repeated lines of a source that a report names.
_NAMED = 20
_UNREADABLE = (NearfieldError, OSError)
#: What a model says of an input; all else (no room, shutting down) is no document's fault, and ends the run.
_ITS_OWN_FAULT = (InputError, ExecutionFailed)


@dataclass(frozen=True)
class IndexContext:
    """What a run works with."""

    name: str
    config: CollectionConfig
    manifest: Manifest
    store: Store
    cutter: ChunkStage
    placed: dict[str, FeatureTable]


class IndexRun:
    """One run over some sources. Make a new one for each."""

    def __init__(
        self, parts: IndexContext, sources: Sequence[Source], *, reader: DocumentReader, retry_failed: bool = False
    ) -> None:
        self._parts = parts
        self._manifest, self._store, self._cutter = parts.manifest, parts.store, parts.cutter
        self._tables = {placed.table.name: placed for placed in parts.placed.values()}
        self._passes = passes([placed.feature for placed in parts.placed.values()])
        self._sources = sources
        self._reader = reader
        self._retry = retry_failed
        self._identity = self._cutter.identity()
        self.report = IndexReport(parts.name)
        self._progress = Progress(None, shown=False)
        #: Sources that were listed to their end.
        self._complete: list[str] = []
        #: Documents that were read ahead of their turn, and the bytes that there is room for.
        self._ahead: dict[str, tuple[bytes | Document, Document, str]] = {}
        self._spare = _AHEAD

    # -- the run -----------------------------------------------------------------------------------------------

    def run(self, *, shown: bool = False) -> IndexReport:
        """Bring the collection to the state of its sources.

        Raises:
            StoreFailed: the database failed several times in a row; the next run goes on.
            InputError: a source cannot be listed; what was read of it is kept.
        """
        started = time.perf_counter()
        self._recover()
        total = self._prepare()
        with Progress(total, label=self._parts.name, unit="documents", shown=shown) as progress:
            self._progress = progress
            self._drive(self._changed())
            self._remove_missing()
            while stale := self._manifest.in_state("stale"):
                self._drive(self._stale(stale))
            self._drive(self._lacking())
        self.report.seconds = time.perf_counter() - started
        return self.report

    def plan(self) -> IndexReport:
        """Tell what a run would do, by reading what it would read and writing nothing."""
        self.report.dry_run = True
        for _ in self._changed(dry=True):
            pass
        self.report.removed = sum(len(part) for part in self._missing())
        return self.report

    def _drive(self, works: Iterator[DocumentTask]) -> None:
        steps: list[line.Step] = [self._cut, self._recall]
        steps += [partial(self._embed, made, features) for made, features in self._passes]
        batch: list[DocumentTask] = []
        last = time.monotonic()
        # Closed, so that its threads end where the store fails.
        with closing(line.run_pipeline(works, steps, room=_ROOM, weight=lambda each: each.weight)) as done:
            for work in done:
                batch.append(work)
                full = sum(each.weight for each in batch) >= self._store.batch
                if full or time.monotonic() - last > _FLUSH_SECONDS:
                    self._write(batch)
                    batch, last = [], time.monotonic()
        self._write(batch)

    def _recover(self) -> None:
        """Forget what an earlier run began and did not finish, and finish what it was removing."""
        unfinished = self._manifest.in_state("new", "writing")
        with self._manifest.writing():
            self._forget(unfinished)
        self._remove(self._manifest.in_state("deleting"))

    # -- reading -----------------------------------------------------------------------------------------------

    def _prepare(self) -> int:
        """Count what the sources list, and decide from a sample what repeats over each."""
        total = 0
        for source in self._sources:
            undecided = self._parts.config.clean.boilerplate and self._manifest.boilerplate(source.name) is None
            sample: list[tuple[int, int, SourceItem]] = []
            try:
                for number, item in enumerate(source.items()):
                    total += 1
                    if undecided:
                        _draw(sample, number, item)
            except _UNREADABLE:  # told when its turn comes
                continue
            if undecided:
                drawn = [item for _, _, item in sorted(sample, key=lambda each: each[1])]
                documents = [found for item in drawn for found in self._try(source, item)]
                decide(self._manifest, source.name, documents)
            self._tell_skipped(source)
        for source in self._sources:
            told = self._manifest.boilerplate(source.name) or []
            self.report.dropped_lines += [(str(line), float(share)) for line, share, _ in told[:_NAMED]]
        return total

    def _tell_skipped(self, source: Source) -> None:
        for name, reason in getattr(source, "skipped", ()):
            self.report.skip(name, reason)

    def _try(self, source: Source, item: SourceItem) -> list[Document]:
        """Read an item ahead of its turn; what fits is kept, so that no page is fetched twice."""
        try:
            data = item.read()
            document, kind = self._reader.document(data, item.name)
        except _UNREADABLE:  # told when its turn comes
            return []
        size = len(document.text) if isinstance(data, Document) else len(data) + len(document.text)
        if size <= self._spare:
            self._spare -= size
            self._ahead[f"{source.name}#{item.key}"] = (data, document, kind)
        return [document]

    def _changed(self, *, dry: bool = False) -> Iterator[DocumentTask]:
        """Yield a Work for each document that is not as it should be."""
        self._manifest.begin_seen()
        for source in self._sources:
            try:
                for item in source.items():
                    document = f"{source.name}#{item.key}"
                    self._manifest.see(document)
                    work = self._look(source, item, document, dry=dry)
                    if work is not None and not dry:
                        yield work
            except _UNREADABLE as error:
                # What it did not list may still be there: nothing of it is removed.
                self.report.fail(source.name, str(error))
                self.report.unlisted.append(source.name)
                continue
            self._manifest.end_seen()
            if source.whole:
                self._complete.append(source.name)

    def _look(self, source: Source, item: SourceItem, document: str, *, dry: bool) -> DocumentTask | None:
        """Return what is to be done for one item; None where nothing is."""
        old = self._manifest.entry(document)
        settled_ = old is not None and (old.state in ("done", "stale") or (old.state == "failed" and not self._retry))
        if settled_ and old is not None and item.stamp is not None and old.stamp == item.stamp:
            self._same(old)
            return None
        ahead = self._ahead.pop(document, None)
        try:
            data = item.read() if ahead is None else ahead[0]
        except _UNREADABLE as error:
            self._unread(document, source, item, old, error, dry=dry)
            return None
        digest = _digest(data, item)
        if settled_ and old is not None and old.digest == digest:
            # That it could not be read a while ago is over.
            found = replace(old, stamp=item.stamp, error=old.error if old.state == "failed" else "")
            if not dry and found != old:
                self._manifest.save([found])
            self._same(found)
            return None
        self._count("new" if old is None or old.state == "new" else "changed")
        entry = DocumentRecord(
            id=document,
            source=source.name,
            key=item.key,
            name=item.name,
            digest=digest,
            version=version_of(document, digest, self._identity),
            stamp=item.stamp,
            state="writing",
        )
        # What was begun may have left records, whatever the manifest says of its chunks.
        return DocumentTask(entry, True, tuple(self._tables), old is not None, (item, data, ahead))

    def _same(self, old: DocumentRecord) -> None:
        """Count a document whose content did not change; what some table lacks is brought there at the end."""
        if old.state == "done" and self._manifest.missing_from(list(self._tables), old.id, old.version):
            if self.report.dry_run:
                self._count("completed")
            return
        self._count("unchanged")
        self._progress.advance(1, 0)

    def _lacking(self) -> Iterator[DocumentTask]:
        """Yield all that tables of new features still lack, also what no source was asked for, or could not list.

        Such a table takes the place of another once the run is over, and must hold as much.
        """
        last = ""
        while part := self._manifest.lacking(list(self._tables), last):
            for entry in part:
                places = self._manifest.missing_from(list(self._tables), entry.id, entry.version)
                work = DocumentTask(entry, False, tuple(places), known=False)
                work.chunks = self._manifest.chunks(entry.id)
                self._count("completed")
                yield work
            last = part[-1].id

    def _unread(
        self,
        document: str,
        source: Source,
        item: SourceItem,
        old: DocumentRecord | None,
        error: Exception,
        *,
        dry: bool,
    ) -> None:
        """Note that a document could not be read: what is there of it stays, and the next run tries again."""
        self.report.fail(document, str(error))
        self._progress.advance(1, 0)
        if dry:
            return
        if old is not None and old.state != "failed":
            self._manifest.save([replace(old, error=str(error), stamp=None)])
            return
        blank = DocumentRecord(document, source.name, item.key, item.name, "", "", state="failed", error=str(error))
        self._manifest.save([blank])

    def _count(self, what: str) -> None:
        setattr(self.report, what, getattr(self.report, what) + 1)

    def _stale(self, documents: Sequence[str]) -> Iterator[DocumentTask]:
        """Yield documents whose chunks repeated others that are gone, with all their chunks."""
        for document in documents:
            entry = self._manifest.entry(document)
            if entry is None:
                continue
            work = DocumentTask(entry, True, tuple(self._tables), known=True)
            twins = [twin.chunk for twin in self._manifest.twins(document)]
            work.chunks = sorted([*self._manifest.chunks(document), *twins], key=lambda each: each.ordinal)
            yield work

    # -- cutting -----------------------------------------------------------------------------------------------

    def _cut(self, works: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        for work in works:
            if work.item is not None:
                self._read(work)
            if work.recut and not work.error:
                fresh = work.item is not None
                work.item = None
                self._sort_out(work, fresh=fresh)
            yield work

    def _read(self, work: DocumentTask) -> None:
        """Extract, clean and cut."""
        item, data, ahead = work.item
        try:
            document, kind = ahead[1:] if ahead else self._reader.document(data, item.name)
            work.entry = replace(work.entry, title=document.title, type=kind)
            work.entry = replace(work.entry, fields=self._fields(work.entry, item, document))
            work.chunks, tiny, dropped = self._cutter.cut(work.entry, document)
        except MissingExtra as error:
            # Not the document's fault: the next run looks at it again.
            work.entry = replace(work.entry, digest="", stamp=None)
            work.fail(error)
        except NearfieldError as error:
            work.fail(error)
        except Exception as error:  # noqa: BLE001 - one document must not cost the others
            work.fail(f"{type(error).__name__}: {error}")
        else:
            self.report.tiny += tiny
            self.report.boilerplate += dropped

    def _fields(self, entry: DocumentRecord, item: SourceItem, document: Document) -> dict[str, Any]:
        given = {**document.meta, **item.meta}
        own = {"source": entry.source, "path": entry.key, "type": entry.type}
        declared = {
            name: typed(name, _read_as(given[name], kind), kind)
            for name, kind in self._parts.config.fields.items()
            if given.get(name) is not None
        }
        return {**declared, **own}

    def _sort_out(self, work: DocumentTask, *, fresh: bool) -> None:
        with self._manifest.writing():
            if fresh:
                self._forget([work.entry.id])
            self._manifest.begin(work.entry)
            work.chunks, work.twins = self._cutter.sort_out(work.entry, work.chunks)
        self.report.duplicates += len(work.twins) if fresh else 0

    def _forget(self, documents: Sequence[str]) -> None:
        """Forget documents' chunks, and have those looked at again of which one was left out because they have it."""
        done = [each for each in self._cutter.forget(documents) if self._is_done(each)]
        self._manifest.mark(done, "stale")

    def _is_done(self, document: str) -> bool:
        entry = self._manifest.entry(document)
        return entry is not None and entry.state == "done"

    # -- embedding ---------------------------------------------------------------------------------------------

    def _recall(self, works: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        """Take the vectors of chunks that are in the store already."""
        for work in works:
            for name in () if work.error else work.places:
                work.vectors[name] = [None] * len(work.chunks)
                if work.known and work.chunks:
                    work.vectors[name] = self._held(work, name)
                elif self._whole(name) not in (None, *work.places):
                    self._take_whole(work, name)
            yield work

    def _whole(self, name: str) -> str | None:
        """Return the table of the vectors that those of another are cut from."""
        feature = self._tables[name].feature
        of = self._parts.config.features[feature.name].of
        # Those that are centred before they are cut must come from the model's own.
        return self._parts.placed[of].table.name if of and not feature.encoder.recipe.centre else None

    def _take_whole(self, work: DocumentTask, name: str) -> None:
        """Cut vectors from whole ones that the store has already."""
        held = self._held(work, self._whole(name) or name)
        if any(vector is None for vector in held) or not held:
            return
        work.vectors[name] = list(self._tables[name].feature.shape(np.stack(held)))

    def _held(self, work: DocumentTask, name: str) -> list[Any]:
        """Return the vectors of a document's chunks that a table has; None for those it lacks."""
        ids = [chunk.id for chunk in work.chunks]
        table = self._tables[name].table
        found = self._patiently(lambda: self._store.fetch(table, ids, vectors=True))
        held = {record.id: record.vector for record in found}
        return [held.get(key) for key in ids]

    def _embed(
        self, made: EncodePass, features: Sequence[Feature], works: Iterator[DocumentTask]
    ) -> Iterator[DocumentTask]:
        """Fill in the vectors that one pass of one model gives."""
        todo = partial(_todo, [p.table.name for p in self._parts.placed.values() if p.feature in features])
        if self._cutter.late:
            yield from self._embed_late(made, features, works, todo)
            return
        while True:
            pending: deque[tuple[DocumentTask, list[int]]] = deque()
            try:
                yield from self._stream(made, features, works, pending, todo)
                return
            except _ITS_OWN_FAULT:
                # Some input among them fails: each document by itself, so that it costs no other.
                for work, missing in pending:
                    yield self._alone(made, features, work, missing)

    def _stream(
        self,
        made: EncodePass,
        features: Sequence[Feature],
        works: Iterator[DocumentTask],
        pending: deque[tuple[DocumentTask, list[int]]],
        todo: Callable[[DocumentTask], list[int]],
    ) -> Iterator[DocumentTask]:
        def texts() -> Iterator[str]:
            for work in works:
                missing = todo(work)
                pending.append((work, missing))
                yield from (work.chunks[at].embedded for at in missing)

        rows: deque[tuple[list[Any], int, int]] = deque()
        for part in features[0].encoder.stream(texts(), window=_WINDOW, role="document", **made.wanted()):
            rows.extend(_rows(features, part))
            while pending and len(pending[0][1]) <= len(rows):
                work, missing = pending.popleft()
                self._fill(work, features, missing, [rows.popleft() for _ in missing])
                yield work
        while pending:  # those that had nothing to embed
            yield pending.popleft()[0]

    def _alone(
        self, made: EncodePass, features: Sequence[Feature], work: DocumentTask, missing: Sequence[int]
    ) -> DocumentTask:
        texts = [work.chunks[at].embedded for at in missing]
        try:
            found = features[0].encoder.encode(texts, role="document", show_progress_bar=False, **made.wanted())
        except _ITS_OWN_FAULT as error:
            return work.fail(error)
        self._fill(work, features, missing, list(_rows(features, found)))
        return work

    def _embed_late(
        self,
        made: EncodePass,
        features: Sequence[Feature],
        works: Iterator[DocumentTask],
        todo: Callable[[DocumentTask], list[int]],
    ) -> Iterator[DocumentTask]:
        from nearfield.corpus.indexing.late_chunking import encode

        for work in works:
            missing = todo(work)
            if missing:
                try:
                    rows = encode(made, features, [chunk.embedded for chunk in work.chunks])
                except _ITS_OWN_FAULT as error:
                    yield work.fail(error)
                    continue
                self._fill(work, features, missing, [rows[at] for at in missing])
            yield work

    def _fill(
        self, work: DocumentTask, features: Sequence[Feature], missing: Sequence[int], rows: Sequence[Any]
    ) -> None:
        for at, (vectors, tokens, dropped) in zip(missing, rows, strict=True):
            for feature, vector in zip(features, vectors, strict=True):
                table = self._parts.placed[feature.name].table.name
                if table in work.vectors:
                    work.vectors[table][at] = vector
            work.tokens += tokens
            work.truncated += dropped > 0
        work.embedded += len(missing)
        work.reused += len(work.chunks) - len(missing)

    # -- writing -----------------------------------------------------------------------------------------------

    def _write(self, batch: Sequence[DocumentTask]) -> None:
        """Write finished documents: to the store first, then to the manifest."""
        good = [work for work in batch if not work.error]
        for name, placed in self._tables.items():
            here = [work for work in good if name in work.places]
            records = [record for work in here for record in work.records(name)]
            for start in range(0, len(records), self._store.batch):
                part = records[start : start + self._store.batch]
                self._patiently(partial(self._store.upsert, placed.table, part))
            outdated = [work for work in here if work.known and work.recut]
            if outdated:
                self._patiently(partial(self._store.delete, placed.table, _outdated(outdated)))
        with self._manifest.writing():
            for work in good:
                self._manifest.replace(settled(work), work.chunks, work.twins, work.places, recut=work.recut)
        self._quarantine([work for work in batch if work.error])
        for work in batch:
            self._tell(work)

    def _quarantine(self, works: Sequence[DocumentTask]) -> None:
        """Keep failed documents' names and reasons; what earlier versions left of them goes."""
        if not works:
            return
        documents = [work.entry.id for work in works]
        for placed in self._tables.values():
            self._patiently(partial(self._store.delete, placed.table, one_of("document", documents)))
        with self._manifest.writing():
            self._forget(documents)
            self._manifest.empty(documents)
            self._manifest.save(
                replace(work.entry, state="failed", error=work.error, chunks=0, tokens=0) for work in works
            )

    def _tell(self, work: DocumentTask) -> None:
        if work.error:
            self.report.fail(work.entry.id, work.error)
        self.report.chunks += len(work.chunks)
        self.report.embedded += work.embedded
        self.report.reused += work.reused
        self.report.tokens += work.tokens
        self.report.truncated += work.truncated
        self._progress.advance(1, work.tokens)

    # -- removing ----------------------------------------------------------------------------------------------

    def _remove_missing(self) -> None:
        for part in self._missing():
            self._remove(part)
            self.report.removed += len(part)

    def _missing(self) -> Iterator[list[str]]:
        """Yield documents that their source no longer lists, some at a time."""
        for source in self._complete:
            while part := self._manifest.unseen(source, 500):
                yield part
                if self.report.dry_run:
                    self._manifest.see_all(part)

    def _remove(self, documents: Sequence[str]) -> None:
        if not documents:
            return
        self._manifest.mark(documents, "deleting")
        for placed in self._tables.values():
            self._patiently(partial(self._store.delete, placed.table, one_of("document", list(documents))))
        with self._manifest.writing():
            self._forget(documents)
            self._manifest.remove(documents)

    def remove(self, documents: Sequence[str]) -> int:
        """Remove documents by their ids, and look again at those that repeated them; returns how many there were."""
        known = [each for each in documents if self._manifest.entry(each) is not None]
        self._recover()
        self._remove(known)
        while stale := self._manifest.in_state("stale"):
            self._drive(self._stale(stale))
        return len(known)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask the store, again after a while where it fails."""
        for pause in _PAUSES:
            try:
                return ask()
            except StoreFailed:
                time.sleep(pause)
        return ask()


def _read_as(value: Any, kind: str) -> Any:
    """Return a text as the number or truth that it says, where a field holds such: CSV knows only texts."""
    if not isinstance(value, str) or kind == "str":
        return value
    told = value.strip().lower()
    if kind == "bool":
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(told, value)
    try:
        return int(told) if kind == "int" else float(told)
    except ValueError:
        return value


def _draw(sample: list[tuple[int, int, SourceItem]], number: int, item: SourceItem) -> None:
    """Take an item into a sample, which has room for those of the smallest digests, the same ones each time."""
    rank = -int.from_bytes(hashlib.sha256(item.key.encode("utf-8", "replace")).digest()[:8], "big")
    (heapq.heappush if len(sample) < _SAMPLE else heapq.heappushpop)(sample, (rank, number, item))


def _digest(data: bytes | Document, item: SourceItem) -> str:
    """Return what tells an item's content from another: its bytes, and what it may be filtered by."""
    content = data.digest() if isinstance(data, Document) else hashlib.sha256(data).hexdigest()
    meta = json.dumps(sorted(item.meta.items()), default=str)
    return hashlib.sha256(f"{content} {meta} {item.name}".encode("utf-8", "replace")).hexdigest()


def _todo(tables: Iterable[str], work: DocumentTask) -> list[int]:
    """Return the places of the chunks that lack a vector in one of these tables."""
    wanted = [work.vectors[name] for name in tables if name in work.vectors]
    return [at for at in range(len(work.chunks)) if any(vectors[at] is None for vectors in wanted)]


def _rows(features: Sequence[Feature], outputs: Any) -> Iterator[tuple[list[Any], int, int]]:
    """Yield for each input the vectors of all features, the tokens read, and those cut off."""
    columns = [feature.vectors(outputs) for feature in features]
    for number, vectors in enumerate(zip(*columns, strict=True)):
        yield list(vectors), int(outputs.tokens[number]), int(outputs.dropped[number])


def _outdated(works: Sequence[DocumentTask]) -> Filter:
    """Return the filter for records of these documents' earlier versions."""
    documents = [work.entry.id for work in works]
    return All((one_of("document", documents), Not(one_of("version", [work.entry.version for work in works]))))
