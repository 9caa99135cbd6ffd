"""Pieces: documents as they are searched: whole, or cut by a chunker, where a document scores as its best piece."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.chunkers import Chunker, open_chunker
from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Document
from nearfield.errors import InputError
from nearfield.evaluation.systems.local_model import LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.vectors.dense import normalize


@dataclass(frozen=True)
class DocumentChunk:
    """A part of a document, or all of it. ``run`` numbers pieces that are embedded together (late chunking)."""

    id: str
    document: str
    ordinal: int
    text: str
    run: int = -1


class DocumentChunker:
    """Cuts documents as a variant says.

    Raises:
        InputError: there is no such chunker, or its sizes do not fit the model.
    """

    def __init__(self, variant: Variant, local: LocalModel | None) -> None:
        self._local = local
        self._ruler: TokenCounter | None = None
        self._chunker: Chunker | None = None
        if variant.chunker is None:
            return
        if local is None:
            raise InputError("A chunker counts tokens by a model: name one, as in MODEL?output=bm25.", param="model")
        empty = local.encoder.tokenize([""], role="document")[0].ids
        self._ruler = TokenCounter(local.encoder.tokenizer, frame=len(empty))
        form: Literal["markdown", "prose"] = "markdown" if variant.chunker == "markdown" else "prose"
        options = {"embed": self._embed, "language": variant.language}
        self._chunker = open_chunker(
            variant.chunker, form, self._ruler, variant.chunk_tokens, variant.chunk_overlap, **options
        )

    @property
    def late(self) -> bool:
        """Whether pieces are embedded together."""
        return self._chunker is not None and self._chunker.late

    def cut(self, documents: Mapping[str, str]) -> list[DocumentChunk]:
        """Return the pieces of all documents, in order; a document without a token is one piece."""
        found: list[DocumentChunk] = []
        for key, text in documents.items():
            found += self._pieces(key, text, found[-1].run + 1 if found else 0)
        return found

    def _pieces(self, key: str, text: str, run: int) -> Iterable[DocumentChunk]:
        spans = self._chunker.split(Document(text)) if self._chunker else []
        texts, runs_of = [text[span.start : span.end] for span in spans] or [text], [-1] * max(len(spans), 1)
        if self.late and self._ruler and spans:
            made = group_runs(text, spans, self._ruler)
            texts = [part for each in made for part in each.texts]
            runs_of = [run + number for number, each in enumerate(made) for _ in each.texts]
        for ordinal, (part, number) in enumerate(zip(texts, runs_of, strict=True)):
            yield DocumentChunk(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{key}\0{ordinal}")), key, ordinal, part, number)

    def vectors(self, pieces: Sequence[DocumentChunk]) -> Any:
        """Encode pieces as documents, those of a run together."""
        if self._local is None:
            raise InputError("There is no model to encode with.", param="model")
        if not self.late:
            return self._local.encode([piece.text for piece in pieces], role="document")
        groups: dict[int, list[str]] = {}
        for at, piece in enumerate(pieces):
            # What has no token belongs to no run, and is one of its own.
            groups.setdefault(piece.run if piece.run >= 0 else -1 - at, []).append(piece.text)
        return self._local.late(list(groups.values()))

    def _embed(self, texts: Sequence[str]) -> Array:
        if self._local is None:
            raise InputError("There is no model to encode with.", param="model")
        return normalize(np.asarray(self._local.encode(list(texts), role="document"), np.float32))
