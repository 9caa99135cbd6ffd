"""The extract stage of indexing: read new and changed documents, and split them into chunks, in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Document
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.corpus.features import Feature
from nearfield.corpus.indexing.accounting import WordCount, account
from nearfield.corpus.indexing.document_task import PART_CHUNKS, DocumentTask, ItemContent
from nearfield.corpus.indexing.stages.document_splitter import DocumentSplitter, SplitText
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.unread_letters import UnreadLetters
from nearfield.errors import MissingExtra, NearfieldError
from nearfield.fileio.disk_space import is_disk_full
from nearfield.stores.filters import FieldType, Value, typed

#: Chunks of a document whose script is looked at.
_SAMPLED_CHUNKS = 4
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
        encoder = next((feature.encoder for feature in features.values() if feature.kind == "dense"), None)
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
        content, task.content, task.is_extracted = task.content, None, True
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
            document, kind = self._reader.windows(content.data, content.name)
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
        for window in self._splitter.split(task.document, document):
            _count_left_out(task, words, window)
            pending += window.chunks
            sample = sample or " ".join(chunk.text for chunk in window.chunks[:_SAMPLED_CHUNKS])
            has_chunks = has_chunks or bool(window.chunks)
            while len(pending) > PART_CHUNKS:
                reached = pending[PART_CHUNKS].payload["start"] / length
                share = max(0.0, reached - done)
                yield task.part(pending[:PART_CHUNKS], is_first=is_first, is_last=False, share=share)
                pending, is_first, done = pending[PART_CHUNKS:], False, max(done, reached)
                task.tiny = task.boilerplate = 0
        task.document = account(task.document, document.document, words, has_chunks=has_chunks)
        task.unread_script = None if self._letters is None else self._letters.script(sample)
        yield task.part(pending, is_first=is_first, is_last=True, share=1.0 - done)

    def _fields(self, record: DocumentRecord, content: ItemContent, document: Document) -> dict[str, Value]:
        """Return the values for filters: the declared fields, and the built-in ones."""
        meta = {**document.meta, **content.meta}
        declared = {
            name: typed(name, _convert(meta[name], kind), kind)
            for name, kind in self._config.fields.items()
            if meta.get(name) is not None
        }
        return {**declared, "source": record.source, "path": record.key, "type": record.type}


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
