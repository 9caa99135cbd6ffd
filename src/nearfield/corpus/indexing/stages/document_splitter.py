"""``DocumentSplitter``: clean a document and split it into chunks, in this process or in a worker elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nearfield.corpus import chunkers
from nearfield.corpus.chunkers import Chunker, Embed
from nearfield.corpus.chunkers.chunker import section_paths
from nearfield.corpus.chunkers.time_spans import times_between
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Chunk, Document, Form, MissingText, Span
from nearfield.corpus.extractors.windows import DocumentWindow, WindowedDocument
from nearfield.corpus.indexing.accounting import MissingTexts, WordCount
from nearfield.corpus.indexing.cleaning import document_cleaner
from nearfield.corpus.indexing.cleaning.boilerplate import Boilerplate
from nearfield.corpus.indexing.cleaning.text_edits import EditedText
from nearfield.corpus.indexing.document_task import chunk_records
from nearfield.corpus.manifest.reading_text import SharedPassage, add_lines, append_window, place_chunks
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.errors import InputError

#: Maximum number of tokens of title and headings before a chunk.
_MAX_CONTEXT = 48
#: Characters at the start of a chunk that may have its headings.
_START = 200

#: A line of boilerplate: its text, its share of the source's documents, and its digest.
BoilerplateRow = tuple[str, float, str]
BoilerplateOf = Callable[[str], Sequence[BoilerplateRow]]


@dataclass(frozen=True)
class SplitText:
    """The chunks of a document or of a window of it, up to the position ``end``.

    ``tiny`` and ``boilerplate`` are the numbers of chunks that were too small and of boilerplate lines.
    """

    chunks: list[ChunkRecord]
    tiny: int
    boilerplate: int
    words: WordCount
    end: int


class DocumentSplitter:
    """Splits the documents of one collection.

    Args:
        config: the definition of the collection.
        counter: counts the tokens of the first feature's model.
        embed: encodes the sentences of the semantic chunker.
        boilerplate_of: returns the rows of a source's boilerplate.

    Raises:
        InputError: chunks of the configured size do not fit the model.
    """

    def __init__(
        self, config: CollectionConfig, counter: TokenCounter, embed: Embed, boilerplate_of: BoilerplateOf
    ) -> None:
        self._config = config
        self._counter = counter
        self._embed = embed
        self._boilerplate_of = boilerplate_of
        self._chunkers: dict[Form, Chunker] = {}
        self._boilerplate: dict[str, Boilerplate] = {}
        self._places = [
            name for name in ("page", "start_time", "end_time") if name in {*config.all_fields} - {*config.fields}
        ]
        self._set_sizes()

    def _set_sizes(self) -> None:
        chunks, length = self._config.chunks, self._counter.length
        #: Tokens for title and headings.
        self._context = min(_MAX_CONTEXT, length // 4) if chunks.context and chunks.by != "late" else 0
        self.size = min(chunks.tokens or chunkers.DEFAULT_SIZE, length - self._context - 1)
        if chunks.tokens is not None and chunks.tokens > self.size:
            raise InputError(
                f"Chunks of {chunks.tokens} tokens do not fit the model, which reads {length}, {self._context} of them "
                f"for title and headings. The maximum is {self.size}.",
                param="chunks",
            )
        half = self.size // 2
        self.overlap = min(chunkers.DEFAULT_OVERLAP, half) if chunks.overlap is None else chunks.overlap
        if self.overlap > half:
            raise InputError(
                f"An overlap of {self.overlap} tokens is more than half of a chunk of {self.size}.", param="chunks"
            )

    @property
    def late(self) -> bool:
        """Whether chunks are embedded by late chunking."""
        return self._config.chunks.by == "late"

    def boilerplate_rows(self, source: str) -> Sequence[BoilerplateRow]:
        """Return the rows of a source's boilerplate."""
        return self._boilerplate_of(source)

    def identity(self) -> str:
        """Return a digest of all settings that change chunks."""
        settings = [self._config.chunking_digest(), self._counter.digest, self.size, self.overlap, self._context]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    def split(self, record: DocumentRecord, document: WindowedDocument) -> Iterator[SplitText]:
        """Yield a document's chunks and what was left out, window by window."""
        seen: Counter[bytes] = Counter()
        ordinal = length = 0
        for window in document.windows:
            chunks, result = self._split_window(record, window)
            chunks = append_window(chunks, length)
            length = max((chunk.place[1] for chunk in chunks if chunk.place), default=length)
            chunks = [replace(chunk, ordinal=number) for number, chunk in enumerate(chunks, ordinal)]
            ordinal += len(chunks)
            salt = record.digest if self.late else ""
            yield replace(result, chunks=chunk_records(record, chunks, salt, seen, self._places))

    def _split_window(self, record: DocumentRecord, window: DocumentWindow) -> tuple[list[Chunk], SplitText]:
        """Return a window's chunks with their places in the whole document, and what was left out."""
        cleaned = document_cleaner.clean(window.document, self._source_boilerplate(record.source))
        text = cleaned.document.text
        spans = self._chunker(cleaned.document.form).split(cleaned.document)
        if window.paths is not None:
            path_at = section_paths(window.document, window.paths)
            spans = [replace(span, headings=path_at(*cleaned.origin(span.start, span.end))) for span in spans]
        meaningful = document_cleaner.drop_tiny(text, spans)
        chunks = [self._chunk(span, [record.title, *span.headings], cleaned) for span in meaningful]
        passages: list[SharedPassage] = []
        if cleaned.before is not None:
            # Boilerplate is in no chunk of the text around it. As a chunk alone it is a near-duplicate of the same text
            # in other documents: the first document stores it, and the places in the others are recorded.
            edits = cleaned.steps[len(cleaned.before.steps) :]
            passages = list(self._passages(record, cleaned.passages, cleaned.before, edits))
        chunks = place_chunks(text, meaningful, chunks, passages)
        chunks.sort(key=lambda chunk: (chunk.start, chunk.end))
        if window.document.has_lines:
            chunks = add_lines(window.document.text, chunks, window.line)
        if window.start:
            shift = window.start
            chunks = [replace(chunk, start=chunk.start + shift, end=chunk.end + shift) for chunk in chunks]
        chosen = set(meaningful)
        tiny = [MissingText(text[span.start : span.end], span.page) for span in spans if span not in chosen]
        # A heading alone is not lost if it is searched with the chunks below it.
        starts = "\n".join({f"{chunk.context} {' '.join(chunk.text[:_START].split())}" for chunk in chunks})
        lost = [piece for piece in tiny if " ".join(piece.text.strip("#=-* \n").split()) not in starts]
        words = WordCount(cleaned.words, MissingTexts.from_texts(lost))
        return chunks, SplitText([], len(tiny), sum(cleaned.dropped.values()), words, window.end)

    def _passages(
        self,
        record: DocumentRecord,
        places: Sequence[tuple[int, int]],
        cleaned: document_cleaner.CleanedText,
        edits: Sequence[EditedText],
    ) -> Iterator[SharedPassage]:
        """Yield the chunks of boilerplate. They are embedded without the title, which is that of one place of many."""
        document = cleaned.document
        path_at, times = section_paths(document), times_between(document)
        for start, end in places:
            headings = path_at(start, end)
            page = next((block.page for block in document.blocks if block.start <= start < block.end), None)
            inner = [heading for heading in headings if heading != record.title]
            for span in self._chunker(document.form).split(Document(document.text[start:end], form=document.form)):
                low, high = start + span.start, start + span.end
                place = Span(low, high, headings, page, span.tokens, page, *times(low, high))
                position = place.start
                for edit in edits:
                    position, _ = edit.to_new(position, position)
                yield SharedPassage(position, self._chunk(place, inner, cleaned))

    def _source_boilerplate(self, source: str) -> Boilerplate:
        if source not in self._boilerplate:
            self._boilerplate[source] = Boilerplate.from_rows(self._boilerplate_of(source))
        return self._boilerplate[source]

    def _chunk(self, span: Span, context: Sequence[str], cleaned: document_cleaner.CleanedText) -> Chunk:
        text = cleaned.document.text[span.start : span.end]
        start, end = cleaned.origin(span.start, span.end)
        line = self._context_line(context, text[:_START])
        return Chunk(
            0,
            text,
            start,
            end,
            line,
            tuple(span.headings),
            span.page,
            span.tokens,
            last_page=span.last_page,
            page_unit=cleaned.document.page_unit,
            start_time=span.start_time,
            end_time=span.end_time,
        )

    def _context_line(self, context: Sequence[str], start: str) -> str:
        """Return title and headings as one line; if it is too long, the outermost ones are dropped.

        Headings at the start of the chunk itself are not repeated.
        """
        if not self._context:
            return ""
        parts = [part for part in dict.fromkeys(context) if part.strip() and part not in start]
        while parts and self._counter.count(" > ".join(parts)) > self._context - 1:
            parts = parts[1:]
        return " > ".join(parts)

    def _chunker(self, form: Form) -> Chunker:
        if form not in self._chunkers:
            self._chunkers[form] = chunkers.open_chunker(
                self._config.chunks.by,
                form,
                self._counter,
                self.size,
                self.overlap,
                embed=self._embed,
                language=self._config.language,
            )
        return self._chunkers[form]
