"""Chunking of documents for search: a document scores as its best chunk."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.chunkers import Chunker, open_chunker
from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Document
from nearfield.errors import InputError
from nearfield.evaluation.systems.local_model import Embeddings, LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.vectors.dense import normalize


@dataclass(frozen=True)
class DocumentChunk:
    """A chunk of a document, or all of it; ``run`` numbers chunks that are encoded together (late chunking)."""

    id: str
    document: str
    ordinal: int
    text: str
    run: int = -1


class DocumentChunker:
    """Splits documents with the chunker of a variant.

    Raises:
        InputError: the chunker is unknown, or its sizes do not fit the model.
    """

    def __init__(self, variant: Variant, local: LocalModel | None) -> None:
        self._local = local
        self._counter: TokenCounter | None = None
        self._chunker: Chunker | None = None
        if variant.chunker is None:
            return
        if local is None:
            raise InputError("A chunker counts tokens with a model: name one, as in MODEL?output=bm25.", param="model")
        empty = local.encoder.tokenize([""], role="document")[0].ids
        self._counter = TokenCounter(local.encoder.tokenizer, frame=len(empty))
        form: Literal["markdown", "prose"] = "markdown" if variant.chunker == "markdown" else "prose"
        options = {"embed": self._embed, "language": variant.language}
        self._chunker = open_chunker(
            variant.chunker, form, self._counter, variant.chunk_tokens, variant.chunk_overlap, **options
        )

    @property
    def late(self) -> bool:
        """Whether chunks are encoded together."""
        return self._chunker is not None and self._chunker.late

    def split(self, documents: Mapping[str, str]) -> list[DocumentChunk]:
        """Return the chunks of all documents, in order; a document without tokens is one chunk."""
        chunks: list[DocumentChunk] = []
        for key, text in documents.items():
            chunks += self._split_document(key, text, chunks[-1].run + 1 if chunks else 0)
        return chunks

    def _split_document(self, key: str, text: str, run: int) -> Iterable[DocumentChunk]:
        spans = self._chunker.split(Document(text)) if self._chunker else []
        texts, runs_of = [text[span.start : span.end] for span in spans] or [text], [-1] * max(len(spans), 1)
        if self.late and self._counter and spans:
            late_runs = group_runs(text, spans, self._counter)
            texts = [part for late_run in late_runs for part in late_run.texts]
            runs_of = [run + number for number, late_run in enumerate(late_runs) for _ in late_run.texts]
        for ordinal, (part, number) in enumerate(zip(texts, runs_of, strict=True)):
            yield DocumentChunk(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{key}\0{ordinal}")), key, ordinal, part, number)

    def vectors(self, chunks: Sequence[DocumentChunk]) -> Embeddings:
        """Encode chunks as documents, those of a run together."""
        if self._local is None:
            raise InputError("This variant has no model to encode with.", param="model")
        if not self.late:
            return self._local.encode([chunk.text for chunk in chunks], role="document")
        groups: dict[int, list[str]] = {}
        for index, chunk in enumerate(chunks):
            # A chunk without tokens belongs to no run, and is encoded alone.
            groups.setdefault(chunk.run if chunk.run >= 0 else -1 - index, []).append(chunk.text)
        return self._local.encode_late(list(groups.values()))

    def _embed(self, texts: Sequence[str]) -> Array:
        if self._local is None:
            raise InputError("This variant has no model to encode with.", param="model")
        return normalize(np.asarray(self._local.encode(list(texts), role="document"), np.float32))
