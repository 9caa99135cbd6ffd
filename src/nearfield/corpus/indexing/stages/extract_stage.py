"""The extract stage of indexing: read new and changed documents, and split them into chunks, in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import TEXT, Document
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.corpus.features import Feature
from nearfield.corpus.indexing.accounting import WordCount, account, account_again
from nearfield.corpus.indexing.document_task import PART_CHUNKS, DocumentTask, ItemContent, split_task
from nearfield.corpus.indexing.stages.document_splitter import DocumentSplitter, SplitText
from nearfield.corpus.indexing.stages.media_segments import FileSegments, SegmentLister
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.unread_letters import UnreadLetters
from nearfield.errors import InputError, MissingExtra, NearfieldError
from nearfield.fileio.disk_space import is_disk_full
from nearfield.stores.filters import FieldType, Value, typed

#: Chunks of a document whose script is looked at.
_SAMPLED_CHUNKS = 4
_DURATION, _DATE = "duration", "date"
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ExtractStage:
    """Turns the content of documents into chunks without vectors. It needs neither manifest nor store.

    Args:
        config: the definition of the collection.
        splitter: splits its documents.
        reader: extracts them.
        features: its features; the model of the first dense one must be able to read the texts.
    """

    def __init__(
        self,
        config: CollectionConfig,
        splitter: DocumentSplitter,
        reader: DocumentReader,
        features: Mapping[str, Feature],
    ) -> None:
        self._config, self._splitter, self._reader = config, splitter, reader
        self._segments = SegmentLister(config)
        dense = (feature for feature in features.values() if feature.kind == "dense" and TEXT in feature.reads)
        encoder = next((feature.encoder for feature in dense), None)
        self._letters = None if encoder is None else UnreadLetters(encoder.tokenizer)

    def extract(self, content: ItemContent) -> ItemContent | None:
        """Return a content with its document, for the boilerplate sample; None if it cannot be read."""
        try:
            return replace(content, extracted=self._reader.document(content.data, content.name))
        except Exception:  # noqa: BLE001 - ``parts`` records it
            return None

    def parts(self, task: DocumentTask) -> Iterator[DocumentTask]:
        """Yield the parts of a new or changed document, in order; the last one has the error if it failed.

        Raises:
            OSError: the disk is full.
        """
        content, task.content, task.is_extracted = task.content, None, not task.keeps_text
        assert content is not None
        try:
            listed = self._segments.list(content)
            task.media = listed.media if listed.segments else None
            if task.keeps_text:
                yield from self._listed_again(task, listed)
                return
            document = self._read(task, content, listed)
            del content
            yield from self._parts(task, document, listed)
        except MissingExtra as error:
            # The document is not at fault: the next run tries again.
            task.document = replace(task.document, digest="", stamp=None)
            yield task.fail(error)
        except Exception as error:  # one document must not stop the others
            if is_disk_full(error):  # the document is not at fault, and the others would fail too
                raise
            yield task.fail(error if isinstance(error, NearfieldError) else _unforeseen(task, error))

    def _read(self, task: DocumentTask, content: ItemContent, listed: FileSegments) -> WindowedDocument:
        """Return the document of a task, and set the task's title, type and fields."""
        if listed.media is not None and not self._has_text(listed):
            document, kind = WindowedDocument.from_document(Document("")), listed.media.type
        elif content.extracted is None:
            document, kind = self._reader.windows(content.data, content.name)
        else:
            extracted, kind = content.extracted
            document = WindowedDocument.from_document(extracted)
        if listed.media is not None and not document.length:
            deque(document.windows, maxlen=0)  # its file is closed after the last one
        if listed.losses and not listed.segments and not document.length:
            raise InputError(f"{content.name}: not read: {'; '.join(loss.reason for loss in listed.losses)}.")
        facts = document.document
        if listed.date:
            facts = replace(facts, meta={_DATE: listed.date, **facts.meta})
        record = replace(task.document, title=facts.title, type=kind)
        task.document = replace(record, fields=self._fields(record, content, facts))
        return document

    def _has_text(self, listed: FileSegments) -> bool:
        """Return whether a text is read of a media file."""
        return listed.media is not None and listed.media.may_have_text(
            bool(self._config.ocr), bool(self._config.speech)
        )

    def _listed_again(self, task: DocumentTask, listed: FileSegments) -> Iterator[DocumentTask]:
        """Yield the parts of a document whose text is unchanged, with the segments that it has now."""
        pages = {segment.page for segment in listed.segments}
        task.document = account_again(task.document, listed.losses, pages)
        chunks = [replace(chunk, version=task.document.version) for chunk in task.chunks if chunk.kind == TEXT]
        ordinal = 1 + max((chunk.ordinal for chunk in chunks), default=-1)
        task.chunks = [*chunks, *self._segments.records(task.document, listed, ordinal)]
        yield from split_task(task)

    def _parts(self, task: DocumentTask, document: WindowedDocument, listed: FileSegments) -> Iterator[DocumentTask]:
        """Yield the parts of an extracted document. The last one has the account of all words."""
        words, pending = WordCount(), list[ChunkRecord]()
        count, is_first, done, length = 0, True, 0.0, max(document.length, 1)
        sample = ""
        for window in self._splitter.split(task.document, document):
            _count_left_out(task, words, window)
            pending += window.chunks
            sample = sample or " ".join(chunk.text for chunk in window.chunks[:_SAMPLED_CHUNKS])
            count += len(window.chunks)
            while len(pending) > PART_CHUNKS:
                reached = pending[PART_CHUNKS].payload["start"] / length
                share = max(0.0, reached - done)
                yield task.part(pending[:PART_CHUNKS], is_first=is_first, is_last=False, share=share)
                pending, is_first, done = pending[PART_CHUNKS:], False, max(done, reached)
                task.tiny = task.boilerplate = 0
        pending += self._segments.records(task.document, listed, count)
        losses = dict.fromkeys((*document.document.losses, *listed.losses))
        facts = replace(document.document, losses=tuple(losses))
        task.document = account(task.document, facts, words, has_chunks=bool(count or listed.segments))
        task.unread_script = None if self._letters is None else self._letters.script(sample)
        yield from _last_parts(task, pending, is_first, done)

    def _fields(self, record: DocumentRecord, content: ItemContent, document: Document) -> dict[str, Value]:
        """Return the values for filters: the declared fields, and the built-in ones."""
        meta = {**document.meta, **content.meta}
        declared = {
            name: typed(name, _convert(meta[name], kind), kind)
            for name, kind in self._config.fields.items()
            if meta.get(name) is not None
        }
        seconds = meta.get(_DURATION)
        if seconds is not None and _DURATION in self._config.all_fields:
            declared.setdefault(_DURATION, seconds)
        return {**declared, "source": record.source, "path": record.key, "type": record.type}


def _last_parts(task: DocumentTask, chunks: list[ChunkRecord], is_first: bool, done: float) -> Iterator[DocumentTask]:
    """Yield the parts with these chunks, the last one of the document among them."""
    while len(chunks) > PART_CHUNKS:
        share = (1.0 - done) * PART_CHUNKS / len(chunks)
        yield task.part(chunks[:PART_CHUNKS], is_first=is_first, is_last=False, share=share)
        chunks, is_first, done = chunks[PART_CHUNKS:], False, done + share
        task.tiny = task.boilerplate = 0
    yield task.part(chunks, is_first=is_first, is_last=True, share=1.0 - done)


def _count_left_out(task: DocumentTask, words: WordCount, window: SplitText) -> None:
    words.add(window.words)
    task.tiny += window.tiny
    task.boilerplate += window.boilerplate


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
