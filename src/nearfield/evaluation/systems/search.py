"""Searching: what finds documents itself, as a subject: BM25, hybrids, reranked and chunked search, as collections do.

Each is the search of a collection (``corpus.search``), over a table in memory and a keyword index in a file that goes
with it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.plan import MAX_RESULTS, RERANKED, RERANKED_SENTENCES, RERANKS
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.systems.chunked import DocumentChunk, DocumentChunker
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.local_model import LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.reranker import Reranker
from nearfield.stores import Kind, Record, Store, TableSpec, connect
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: Records written to a store at once.
_BATCH = 1024


class SearchPipeline:
    """Searches documents as a variant says.

    Args:
        variant: one that ``searches``.
        memo: vectors that were encoded before, shared by variants.

    Raises:
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be had, or not loaded exactly.
        InputError: the model lacks an output that the variant needs, or the chunker's sizes do not fit it.
    """

    def __init__(self, variant: Variant, memo: EmbeddingCache | None = None) -> None:
        self.variant = variant
        options: dict[str, Any] = {"precision": variant.precision} if variant.precision else {}
        self._encoder = Encoder(variant.model, **options) if variant.model else None
        self._reranker: Reranker | None = None
        self._locals: dict[str, LocalModel] = {}
        #: Pieces that the documents which were indexed last were cut into.
        self.pieces = 0
        try:
            if self._encoder is not None:
                for kind in _kinds(variant, self._encoder):
                    self._locals[kind] = LocalModel(_plain(variant, kind), self._encoder, memo)
            if variant.rerank is not None and variant.rerank not in RERANKS:
                self._reranker = Reranker(variant.rerank)
            self._cutter = DocumentChunker(variant, self._cutting())
            self._refuse()
        except BaseException:
            self.close()
            raise

    def _cutting(self) -> LocalModel | None:
        """Return the model that counts tokens and encodes pieces: BM25 too needs one where documents are cut."""
        found = next(iter(self._locals.values()), None)
        if found is None and self._encoder is not None:
            found = LocalModel(_plain(self.variant, self._encoder.recipe.outputs[0]), self._encoder)
        return found

    def _refuse(self) -> None:
        if self._cutter.late and any(kind != "dense" for kind in self._locals):
            raise InputError("Late chunking pools dense vectors: leave out other outputs.", param="chunker")
        if self.variant.rerank in RERANKS and not self._locals:
            raise InputError(f"Rerank {self.variant.rerank!r} needs a model: MODEL?output=bm25.", param="rerank")

    @property
    def name(self) -> str:
        """As shown."""
        return str(self.variant)

    @property
    def identity(self) -> str:
        """A digest of the models and of every option."""
        told = [each.identity for each in self._locals.values()]
        told += [self._cutting_identity(), self._reranker.fingerprint if self._reranker else ""]
        return hashlib.sha256(json.dumps([*told, str(self.variant)]).encode()).hexdigest()

    def _cutting_identity(self) -> str:
        return self._encoder.tokenizer.digest if self._encoder is not None else ""

    @property
    def most(self) -> int | None:
        """Results that are worth asking for: as many as are reranked."""
        if self.variant.rerank is None:
            return None
        sentences = self._rerank() == "sentences"
        return self.variant.rerank_depth or (RERANKED_SENTENCES if sentences else RERANKED)

    @property
    def truncated(self) -> int:
        """Texts that were cut."""
        return sum(each.truncated for each in self._locals.values())

    def told(self) -> dict[str, Any]:
        """Return what a result says of the models."""
        dense = self._locals.get("dense") or next(iter(self._locals.values()), None)
        return dense.told() if dense else {}

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return for each query the ``k`` best documents; a document that was cut scores as its best piece."""
        with self.ready(documents) as find:
            return dict(zip(queries, find(list(queries.values()), k), strict=True))

    @contextmanager
    def ready(self, documents: Mapping[str, str]) -> Iterator[Callable[[Sequence[str], int], list[dict[str, float]]]]:
        """Index documents, and yield what finds the ``k`` best of them for some queries; threads may share it."""
        pieces = self._cutter.cut(documents)
        self.pieces = len(pieces)
        with tempfile.TemporaryDirectory(prefix="nearfield-evaluate-") as place, closing(connect("memory:")) as store:
            features = {kind: self._feature(store, kind, pieces) for kind in self._locals}
            manifest = Manifest(Path(place) / "manifest.db", language=self.variant.language or "en")
            try:
                words, reranker = self._words(manifest, pieces), self._reranker
                searcher = Searcher(
                    store,
                    features,
                    words,
                    (lambda _: reranker) if reranker else None,
                    language=self.variant.language or "en",
                )

                def find(queries: Sequence[str], k: int) -> list[dict[str, float]]:
                    found = searcher.search_many(list(queries), self._asked(pieces, k), **self._options())
                    return [_best(((each.document, each.score) for each in row), k) for row in found]

                yield find
            finally:
                manifest.close()

    def _asked(self, pieces: Sequence[DocumentChunk], k: int) -> int:
        """Return how many pieces to ask for: as many as may hide ``k`` documents, as far as a search goes."""
        if self.most is not None:
            return max(1, min(MAX_RESULTS, max(k, self.most)))
        most = max((piece.ordinal for piece in pieces), default=0) + 1
        return min(MAX_RESULTS, k * most)

    def _options(self) -> dict[str, Any]:
        variant = self.variant
        told = {"rerank": self._rerank(), "rerank_depth": variant.rerank_depth, "fuse": variant.fuse}
        return {
            "mode": variant.output,
            "exact": True,
            **{name: each for name, each in told.items() if each is not None},
        }

    def _rerank(self) -> str | None:
        if self.variant.rerank == "maxsim":
            return "multivector" if "multivector" in self._locals else "sentences"
        return self.variant.rerank

    def _feature(self, store: Store, kind: str, pieces: Sequence[DocumentChunk]) -> Searchable:
        local = self._locals[kind]
        vectors = self._cutter.vectors(pieces) if kind == "dense" else local.encode(_texts(pieces), role="document")
        metric = local.encoder.recipe.similarity if kind == "dense" else "dot"
        if metric not in ("cosine", "dot", "euclidean"):
            raise InputError(f"Search by {metric} similarity is not offered; measure {self.variant.model} alone.")
        table = TableSpec(kind, cast(Kind, kind), _width(vectors), metric=cast(Any, metric))
        store.create(table)
        rows = zip(pieces, _rows(vectors), strict=True)
        records = [Record(each.id, each.document, "1", each.ordinal, each.text, vector=row) for each, row in rows]
        for start in range(0, len(records), _BATCH):
            store.upsert(table, records[start : start + _BATCH])
        return Searchable(table, _encoding(local, "query"), encode_documents=_encoding(local, "document"))

    def _words(self, manifest: Manifest, pieces: Sequence[DocumentChunk]) -> Any:
        """Return the keyword index, where it is searched."""
        if self.variant.output != "bm25" and not (self.variant.output == "hybrid" and "sparse" not in self._locals):
            return None
        by_document: dict[str, list[DocumentChunk]] = {}
        for piece in pieces:
            by_document.setdefault(piece.document, []).append(piece)
        with manifest.writing():
            for key, own in by_document.items():
                chunks = [ChunkRecord(each.id, key, "1", each.ordinal, each.text, "", {}, {}, 0) for each in own]
                manifest.replace(DocumentRecord(key, "", key, key, "", "1"), chunks, [], [], new_chunks=True)
        manifest.keywords.rebuild()
        return manifest.keywords

    def close(self) -> None:
        """Let go of the models."""
        for model in (self._encoder, self._reranker):
            if model is not None:
                model.close()


def _kinds(variant: Variant, encoder: Encoder) -> list[str]:
    """Return the outputs that a search needs, the searched one first."""
    own = encoder.recipe.outputs
    kinds = {"bm25": [], "hybrid": ["dense", *(["sparse"] if "sparse" in own else [])]}.get(
        variant.output, [variant.output]
    )
    if variant.rerank in ("maxsim", "multivector", "sentences"):
        second = "multivector" if variant.rerank != "sentences" and "multivector" in own else "dense"
        kinds = [*kinds, *([second] if second not in kinds else [])]
    return kinds


def _plain(variant: Variant, kind: str) -> Variant:
    """Return the variant of one output alone, as vectors are made for it."""
    names: tuple[str, ...] = ("model", "prompt", "document_prompt", "task", "precision", "max_length")
    names += ("dimensions", "dtype") if kind == "dense" else ()
    told: dict[str, Any] = {name: getattr(variant, name) for name in names}
    return Variant(output=kind, **told)


def _texts(pieces: Sequence[DocumentChunk]) -> list[str]:
    return [piece.text for piece in pieces]


def _width(vectors: Any) -> int:
    if isinstance(vectors, SparseVectors):
        return vectors.size
    return vectors.dim if isinstance(vectors, MultiVectors) else int(vectors.shape[1])


def _rows(vectors: Any) -> list[Any]:
    """Return vectors one by one, in the form of ``Record.vector``."""
    if isinstance(vectors, SparseVectors):
        return [(np.asarray(ids, np.int64), np.asarray(values, np.float32)) for ids, values in vectors]
    return [np.ascontiguousarray(row, np.float32) for row in vectors]


def _encoding(local: LocalModel, role: str) -> Callable[[Sequence[str]], list[Any]]:
    return lambda texts: _rows(local.encode(list(texts), role=role))


def _best(found: Any, k: int) -> dict[str, float]:
    """Return the ``k`` best documents of pieces that come the best first."""
    best: dict[str, float] = {}
    for document, score in found:
        best.setdefault(document, float(score))
    return dict(list(best.items())[:k])
