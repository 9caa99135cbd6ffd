"""LangChain components that run models in the same process: embeddings, sparse embeddings, and a reranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.encoder import Encoder
from nearfield.errors import InputError, MissingExtra
from nearfield.inference.calls.rerank_options import RerankKeywords
from nearfield.inference.encode_options import EncodeKeywordsWithoutRole, Unpack
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.integrations.lazy_model import (
    DEFAULT_ENCODER,
    DEFAULT_RERANKER,
    EncoderKeywords,
    LazyEncoder,
    LazyReranker,
    dense_rows,
    merge_options,
    sparse_rows,
)
from nearfield.reranker import Ranked, Reranker

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict, Field, PrivateAttr
except ImportError as error:
    raise MissingExtra(f"LangChain's classes need {error.name!r}: pip install 'nearfield[langchain]'") from error

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

#: The field of a document's metadata that has its score.
SCORE_FIELD = "relevance_score"


class _EncoderComponent:
    """Loads the encoder of embeddings, and closes it."""

    _output = "dense"

    def __init__(
        self,
        model: str | Path | Encoder = DEFAULT_ENCODER,
        *,
        model_name: str | Path | Encoder | None = None,
        show_progress_bar: bool | None = None,
        truncate_dim: int | None = None,
        encode_options: EncodeKeywordsWithoutRole | None = None,
        query_options: EncodeKeywordsWithoutRole | None = None,
        **options: Unpack[EncoderKeywords],
    ) -> None:
        if model_name is not None and model not in (DEFAULT_ENCODER, model_name):
            raise InputError(f"model is {model!r} and model_name is {model_name!r}: pass one.", param="model_name")
        self._progress = show_progress_bar
        self._encoder = LazyEncoder(
            model if model_name is None else model_name,
            merge_options(options, truncate_dim=truncate_dim),
            output=self._output,
            encode_options=encode_options,
            query_options=query_options,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._encoder.name!r})"

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._encoder.name

    def close(self) -> None:
        """Unload the model, unless it was passed as an Encoder. The next use loads it again."""
        self._encoder.close()


class NearfieldEmbeddings(_EncoderComponent, Embeddings):
    """Dense embeddings for LangChain: queries with the model's prompt for queries, documents with that for documents.

    The model is loaded at the first use. Several components can share an Encoder.

    Args:
        model: a model's name or folder, or an Encoder.
        model_name: another name of ``model``, as in ``HuggingFaceEmbeddings``.
        show_progress_bar: as for ``Encoder.encode``, for documents.
        truncate_dim: dimensions to keep.
        encode_options: keywords of ``Encoder.encode``, such as ``{"normalize_embeddings": True}``.
        query_options: keywords of ``Encoder.encode`` for queries only; they win over ``encode_options``.
        options: keywords of ``Encoder``, such as ``device``, ``max_length`` or ``precision``.

    Raises:
        InputError: an option is unknown.
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents."""
        return dense_rows(self._encoder.encode(texts, "document", progress=self._progress))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return dense_rows(self._encoder.encode([text], "query"))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents without blocking the event loop."""
        return dense_rows(await self._encoder.aencode(texts, "document", progress=self._progress))

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of a query without blocking the event loop."""
        return dense_rows(await self._encoder.aencode([text], "query"))[0]


@dataclass(frozen=True, slots=True)
class LangChainSparseVector:
    """Indices and values of one text, as the vector stores of LangChain read them."""

    indices: list[int]
    values: list[float]


class NearfieldSparseEmbeddings(_EncoderComponent):
    """Sparse embeddings with the methods of ``langchain_qdrant.SparseEmbeddings``, for hybrid searches.

    Pass it as ``sparse_embedding`` of ``QdrantVectorStore``. Arguments are those of ``NearfieldEmbeddings``; the model
    must give sparse vectors.
    """

    _output = "sparse"

    def embed_documents(self, texts: list[str]) -> list[LangChainSparseVector]:
        """Return the sparse vectors of documents."""
        return _sparse_vectors(self._encoder.encode(texts, "document", progress=self._progress))

    def embed_query(self, text: str) -> LangChainSparseVector:
        """Return the sparse vector of a query."""
        return _sparse_vectors(self._encoder.encode([text], "query"))[0]

    async def aembed_documents(self, texts: list[str]) -> list[LangChainSparseVector]:
        """Return the sparse vectors of documents without blocking the event loop."""
        return _sparse_vectors(await self._encoder.aencode(texts, "document", progress=self._progress))

    async def aembed_query(self, text: str) -> LangChainSparseVector:
        """Return the sparse vector of a query without blocking the event loop."""
        return _sparse_vectors(await self._encoder.aencode([text], "query"))[0]


class NearfieldRerank(BaseDocumentCompressor):
    """Sorts documents by how well they answer the query, for ``ContextualCompressionRetriever``.

    Each document that is returned has its score in ``metadata["relevance_score"]``. The documents that are passed stay
    unchanged.

    Args:
        model: a reranker's name or folder, or a Reranker.
        top_n: documents to return; None for all.
        instruction: the definition of relevance, for language models that rerank.
        rerank_options: keywords of ``Reranker.score``, such as ``{"activation": "sigmoid"}``.
        load_options: further keywords of ``Reranker``, as a dictionary.
        options: keywords of ``Reranker``, such as ``device``.

    Raises:
        InputError: an option is unknown.
    """

    model: str = Field(frozen=True)
    top_n: int | None = Field(default=3, ge=1)
    load_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    rerank_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    _reranker: LazyReranker = PrivateAttr()

    model_config = ConfigDict(protected_namespaces=(), extra="forbid")

    def __init__(
        self,
        model: str | Path | Reranker = DEFAULT_RERANKER,
        *,
        top_n: int | None = 3,
        instruction: str | None = None,
        rerank_options: RerankKeywords | None = None,
        load_options: LoadKeywords | None = None,
        **options: Unpack[LoadKeywords],
    ) -> None:
        selected = merge_options(load_options, options, instruction=instruction)
        reranker = LazyReranker(model, selected, rerank_options)
        fields: dict[str, Any] = {"model": reranker.name, "top_n": top_n}
        fields |= {"load_options": reranker.options, "rerank_options": rerank_options or {}}
        super().__init__(**fields)
        self._reranker = reranker

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return the best documents, by falling score."""
        return _scored(documents, self._reranker.rank(query, _texts(documents), self.top_n))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return the best documents without blocking the event loop."""
        return _scored(documents, await self._reranker.arank(query, _texts(documents), self.top_n))

    def close(self) -> None:
        """Unload the model, unless it was passed as a Reranker. The next use loads it again."""
        self._reranker.close()


def _sparse_vectors(vectors: Any) -> list[LangChainSparseVector]:
    return [LangChainSparseVector(indices, values) for indices, values in sparse_rows(vectors)]


def _texts(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]


def _scored(documents: Sequence[Document], ranking: Sequence[Ranked]) -> list[Document]:
    """Return copies of documents in the order of a ranking, with their scores."""
    return [_with_score(documents[ranked.index], ranked.score) for ranked in ranking]


def _with_score(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, SCORE_FIELD: score}})
