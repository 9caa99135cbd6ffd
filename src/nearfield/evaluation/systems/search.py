"""Search pipelines as evaluation systems: BM25, hybrid, reranked and chunked search.

They run the search of collections (``corpus.search``) over a table in memory and a temporary keyword index.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from nearfield.attach import open_encoder, open_reranker
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.plan import MAX_RESULTS, RERANKED, RERANKED_SENTENCES, RERANKS
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict, Keywords
from nearfield.evaluation.systems.chunked import DocumentChunk, DocumentChunker
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.local_model import Embeddings, LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.reranker import Reranker
from nearfield.stores import Kind, Record, Store, TableSpec, connect
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: Records in one write to a store.
_BATCH_SIZE = 1024


#: Returns the scores of the k best documents for each query.
SearchFunction = Callable[[Sequence[str], int], list[dict[str, float]]]


class SearchPipeline:
    """Searches documents with the options of a variant.

    Args:
        variant: a variant that ``searches``.
        memo: cache of vectors, shared by variants.
        attach: as for ``open_system``.

    Raises:
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be loaded.
        InputError: the model lacks an output that the variant needs, or the chunker's sizes do not fit it.
    """

    def __init__(self, variant: Variant, memo: EmbeddingCache | None = None, *, attach: bool = False) -> None:
        self.variant = variant
        options: Keywords = {"precision": variant.precision} if variant.precision else {}
        open_model = open_encoder if attach else Encoder
        self._encoder = open_model(variant.model, **options) if variant.model else None
        self._reranker: Reranker | None = None
        self._locals: dict[str, LocalModel] = {}
        #: Number of chunks of the documents that were indexed last.
        self.chunk_count = 0
        try:
            if self._encoder is not None:
                for kind in _kinds(variant, self._encoder):
                    self._locals[kind] = LocalModel(_single_output(variant, kind), self._encoder, memo)
            if variant.rerank is not None and variant.rerank not in RERANKS:
                self._reranker = (open_reranker if attach else Reranker)(variant.rerank)
            self._chunker = DocumentChunker(variant, self._counting_model())
            self._check()
        except BaseException:
            self.close()
            raise

    def _counting_model(self) -> LocalModel | None:
        """Return the model that counts tokens and encodes chunks; chunked BM25 needs one too."""
        model = next(iter(self._locals.values()), None)
        if model is None and self._encoder is not None:
            model = LocalModel(_single_output(self.variant, self._encoder.recipe.outputs[0]), self._encoder)
        return model

    def _check(self) -> None:
        if self._chunker.late and any(kind != "dense" for kind in self._locals):
            raise InputError("Late chunking pools dense vectors: leave out other outputs.", param="chunker")
        if self.variant.rerank in RERANKS and not self._locals:
            raise InputError(f"Rerank {self.variant.rerank!r} needs a model: MODEL?output=bm25.", param="rerank")

    @property
    def name(self) -> str:
        """The name in results."""
        return str(self.variant)

    @property
    def identity(self) -> str:
        """A digest of the models and of every option."""
        parts = [model.identity for model in self._locals.values()]
        parts += [self._tokenizer_digest(), self._reranker.fingerprint if self._reranker else ""]
        return hashlib.sha256(json.dumps([*parts, str(self.variant)]).encode()).hexdigest()

    def _tokenizer_digest(self) -> str:
        return self._encoder.tokenizer.digest if self._encoder is not None else ""

    @property
    def max_results(self) -> int | None:
        """The number of results that are reranked; None without a reranker."""
        if self.variant.rerank is None:
            return None
        sentences = self._rerank() == "sentences"
        return self.variant.rerank_depth or (RERANKED_SENTENCES if sentences else RERANKED)

    @property
    def truncated(self) -> int:
        """Number of truncated texts."""
        return sum(model.truncated for model in self._locals.values())

    @property
    def unread(self) -> int:
        """Number of texts that a model cannot read."""
        return sum(model.unread for model in self._locals.values())

    def to_dict(self) -> JsonDict:
        """Return the facts about the models that results contain."""
        dense = self._locals.get("dense") or next(iter(self._locals.values()), None)
        return dense.to_dict() if dense else {}

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return the ``k`` best documents of each query; a document scores as its best chunk."""
        with self.open_index(documents) as search:
            return dict(zip(queries, search(list(queries.values()), k), strict=True))

    @contextmanager
    def open_index(
        self, documents: Mapping[str, str]
    ) -> Iterator[Callable[[Sequence[str], int], list[dict[str, float]]]]:
        """Index documents and yield a thread-safe function that returns the ``k`` best documents of each query."""
        chunks = self._chunker.split(documents)
        self.chunk_count = len(chunks)
        with (
            tempfile.TemporaryDirectory(prefix="nearfield-evaluate-") as folder,
            closing(connect("memory:")) as store,
        ):
            features = {kind: self._index_feature(store, kind, chunks) for kind in self._locals}
            manifest = Manifest(Path(folder) / "manifest.db", language=self.variant.language or "en")
            try:
                keywords, reranker = self._index_keywords(manifest, chunks), self._reranker
                searcher = Searcher(
                    store,
                    features,
                    keywords,
                    (lambda _: reranker) if reranker else None,
                    language=self.variant.language or "en",
                )

                def search(queries: Sequence[str], k: int) -> list[dict[str, float]]:
                    rankings = searcher.search_many(list(queries), self._chunk_depth(chunks, k), **self._options())
                    return [_best_documents(((hit.document, hit.score) for hit in hits), k) for hits in rankings]

                yield search
            finally:
                manifest.close()

    def _chunk_depth(self, chunks: Sequence[DocumentChunk], k: int) -> int:
        """Return how many chunks to search for, so that they are from at least ``k`` documents, up to the limit."""
        if self.max_results is not None:
            return max(1, min(MAX_RESULTS, max(k, self.max_results)))
        max_chunks = max((chunk.ordinal for chunk in chunks), default=0) + 1
        return min(MAX_RESULTS, k * max_chunks)

    def _options(self) -> JsonDict:
        variant = self.variant
        options = {"rerank": self._rerank(), "rerank_depth": variant.rerank_depth, "fuse": variant.fuse}
        return {
            "mode": variant.output,
            "exact": True,
            **{name: value for name, value in options.items() if value is not None},
        }

    def _rerank(self) -> str | None:
        if self.variant.rerank == "maxsim":
            return "multivector" if "multivector" in self._locals else "sentences"
        return self.variant.rerank

    def _index_feature(self, store: Store, kind: str, chunks: Sequence[DocumentChunk]) -> Searchable:
        local = self._locals[kind]
        vectors = self._chunker.vectors(chunks) if kind == "dense" else local.encode(_texts(chunks), role="document")
        metric = local.encoder.recipe.similarity if kind == "dense" else "dot"
        if metric not in ("cosine", "dot", "euclidean"):
            raise InputError(f"Search has no {metric} similarity; evaluate {self.variant.model} without search.")
        table = TableSpec(kind, cast(Kind, kind), _width(vectors), metric=cast(Any, metric))
        store.create(table)
        rows = zip(chunks, _rows(vectors), strict=True)
        records = [Record(chunk.id, chunk.document, "1", chunk.ordinal, chunk.text, vector=row) for chunk, row in rows]
        for start in range(0, len(records), _BATCH_SIZE):
            store.upsert(table, records[start : start + _BATCH_SIZE])
        return Searchable(table, _encode_function(local, "query"), encode_documents=_encode_function(local, "document"))

    def _index_keywords(self, manifest: Manifest, chunks: Sequence[DocumentChunk]) -> KeywordIndex | None:
        """Return the keyword index, or None if the variant does not search it."""
        if self.variant.output != "bm25" and not (self.variant.output == "hybrid" and "sparse" not in self._locals):
            return None
        by_document: dict[str, list[DocumentChunk]] = {}
        for chunk in chunks:
            by_document.setdefault(chunk.document, []).append(chunk)
        with manifest.writing():
            for key, parts in by_document.items():
                records = [ChunkRecord(chunk.id, key, "1", chunk.ordinal, chunk.text, "", {}, {}, 0) for chunk in parts]
                manifest.replace(DocumentRecord(key, "", key, key, "", "1"), records, [], [], new_chunks=True)
        manifest.keywords.rebuild()
        return manifest.keywords

    def close(self) -> None:
        """Release the models."""
        for model in (self._encoder, self._reranker):
            if model is not None:
                model.close()


def _kinds(variant: Variant, encoder: Encoder) -> list[str]:
    """Return the outputs that a search needs, with the searched one first."""
    own = encoder.recipe.outputs
    kinds = {"bm25": [], "hybrid": ["dense", *(["sparse"] if "sparse" in own else [])]}.get(
        variant.output, [variant.output]
    )
    if variant.rerank in ("maxsim", "multivector", "sentences"):
        second = "multivector" if variant.rerank != "sentences" and "multivector" in own else "dense"
        kinds = [*kinds, *([second] if second not in kinds else [])]
    return kinds


def _single_output(variant: Variant, kind: str) -> Variant:
    """Return the variant with one output only, which encodes the vectors."""
    names: tuple[str, ...] = ("model", "prompt", "document_prompt", "task", "precision", "max_length")
    names += ("dimensions", "dtype") if kind == "dense" else ()
    return Variant(output=kind, **{name: getattr(variant, name) for name in names})


def _texts(chunks: Sequence[DocumentChunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


def _width(vectors: Embeddings) -> int:
    if isinstance(vectors, SparseVectors):
        return vectors.size
    return vectors.dim if isinstance(vectors, MultiVectors) else int(vectors.shape[1])


def _rows(vectors: Embeddings) -> list[Any]:
    """Return the vectors in the form of ``Record.vector``."""
    if isinstance(vectors, SparseVectors):
        return [(np.asarray(ids, np.int64), np.asarray(values, np.float32)) for ids, values in vectors]
    return [np.ascontiguousarray(row, np.float32) for row in vectors]


def _encode_function(local: LocalModel, role: str) -> Callable[[Sequence[str]], list[Any]]:
    return lambda texts: _rows(local.encode(list(texts), role=role))


def _best_documents(hits: Iterable[tuple[str, float]], k: int) -> dict[str, float]:
    """Return the ``k`` best documents from chunks in falling order of score."""
    best: dict[str, float] = {}
    for document, score in hits:
        best.setdefault(document, float(score))
    return dict(list(best.items())[:k])
