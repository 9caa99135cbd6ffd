"""LlamaIndex components that run models in the same process: embeddings, sparse embeddings, and a reranker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise MissingExtra(f"LlamaIndex's classes need {error.name!r}: pip install 'nearfield[llama-index]'") from error

#: Texts that LlamaIndex passes in one call. The engine builds the batches, so a large number costs nothing.
EMBED_BATCH_SIZE = 1024
_DISPATCHER = get_dispatcher(__name__)


class NearfieldEmbedding(BaseEmbedding):  # type: ignore[misc]
    """Dense embeddings for LlamaIndex: queries with the model's prompt for queries, texts with that for documents.

    The model is loaded at the first use. Several components can share an Encoder.

    Args:
        model_name: a model's name or folder, or an Encoder.
        truncate_dim: dimensions to keep.
        encode_options: keywords of ``Encoder.encode``, such as ``{"normalize_embeddings": True}``.
        query_options: keywords of ``Encoder.encode`` for queries only; they win over ``encode_options``.
        load_options: further keywords of ``Encoder``, as a dictionary.
        embed_batch_size: texts of one call and of one event.
        callback_manager, num_workers, embeddings_cache, rate_limiter: as for ``BaseEmbedding``.
        options: keywords of ``Encoder``, such as ``device``, ``max_length`` or ``precision``.

    Raises:
        InputError: an option is unknown.
    """

    model_name: str = Field(frozen=True)
    load_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    encode_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    query_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    _encoder: LazyEncoder = PrivateAttr()

    def __init__(
        self,
        model_name: str | Path | Encoder = DEFAULT_ENCODER,
        *,
        truncate_dim: int | None = None,
        encode_options: EncodeKeywordsWithoutRole | None = None,
        query_options: EncodeKeywordsWithoutRole | None = None,
        load_options: EncoderKeywords | None = None,
        embed_batch_size: int = EMBED_BATCH_SIZE,
        callback_manager: Any = None,
        num_workers: int | None = None,
        embeddings_cache: Any = None,
        rate_limiter: Any = None,
        **options: Unpack[EncoderKeywords],
    ) -> None:
        selected = merge_options(load_options, options, truncate_dim=truncate_dim)
        encoder = LazyEncoder(model_name, selected, encode_options=encode_options, query_options=query_options)
        fields = _fields_of(encoder, encode_options, query_options)
        base = {"callback_manager": callback_manager, "embeddings_cache": embeddings_cache}
        base |= {"num_workers": num_workers, "rate_limiter": rate_limiter}
        super().__init__(embed_batch_size=embed_batch_size, **fields, **_without_none(base))
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class in serialised components."""
        return "NearfieldEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return dense_rows(self._encoder.encode([query], "query"))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return dense_rows(await self._encoder.aencode([query], "query"))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return dense_rows(self._encoder.encode(texts, "document"))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return dense_rows(await self._encoder.aencode(texts, "document"))

    def close(self) -> None:
        """Unload the model, unless it was passed as an Encoder. The next use loads it again."""
        self._encoder.close()

    def __getstate__(self) -> dict[str, Any]:
        # The base class would drop what cannot be pickled, and load another model afterwards.
        self._encoder.check_portable()
        state: dict[str, Any] = super().__getstate__()
        return state


class NearfieldSparseEmbedding(BaseSparseEmbedding):  # type: ignore[misc]
    """Sparse embeddings for LlamaIndex.

    ``QdrantVectorStore`` takes the methods ``sparse_doc_fn`` and ``sparse_query_fn`` as arguments of these names.

    Args:
        model_name: a model's name or folder, or an Encoder; it must give sparse vectors.
        encode_options, query_options, load_options, options: as for ``NearfieldEmbedding``.
        embed_batch_size: texts of one call and of one event.
        num_workers: as for ``BaseSparseEmbedding``.
    """

    model_name: str = Field(frozen=True)
    load_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    encode_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    query_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    _encoder: LazyEncoder = PrivateAttr()

    def __init__(
        self,
        model_name: str | Path | Encoder,
        *,
        encode_options: EncodeKeywordsWithoutRole | None = None,
        query_options: EncodeKeywordsWithoutRole | None = None,
        load_options: EncoderKeywords | None = None,
        embed_batch_size: int = EMBED_BATCH_SIZE,
        num_workers: int | None = None,
        **options: Unpack[EncoderKeywords],
    ) -> None:
        encoder = LazyEncoder(
            model_name,
            merge_options(load_options, options),
            output="sparse",
            encode_options=encode_options,
            query_options=query_options,
        )
        fields = _fields_of(encoder, encode_options, query_options)
        super().__init__(embed_batch_size=embed_batch_size, num_workers=num_workers, **fields)
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class in serialised components."""
        return "NearfieldSparseEmbedding"

    def sparse_doc_fn(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """Return indices and values of documents."""
        return _columns(self._encoder.encode(texts, "document"))

    def sparse_query_fn(self, texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
        """Return indices and values of queries."""
        return _columns(self._encoder.encode(texts, "query"))

    def _get_query_embedding(self, query: str) -> dict[int, float]:
        return self._encoder.encode([query], "query").to_dicts()[0]

    async def _aget_query_embedding(self, query: str) -> dict[int, float]:
        return (await self._encoder.aencode([query], "query")).to_dicts()[0]

    def _get_text_embedding(self, text: str) -> dict[int, float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> dict[int, float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return self._encoder.encode(texts, "document").to_dicts()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return (await self._encoder.aencode(texts, "document")).to_dicts()

    def close(self) -> None:
        """Unload the model, unless it was passed as an Encoder. The next use loads it again."""
        self._encoder.close()


class NearfieldRerank(BaseNodePostprocessor):  # type: ignore[misc]
    """Sorts nodes by how well they answer the query; the score of each node is the reranker's.

    Args:
        model: a reranker's name or folder, or a Reranker.
        top_n: nodes to return; None for all.
        keep_retrieval_score: store the score before in ``metadata["retrieval_score"]``.
        instruction: the definition of relevance, for language models that rerank.
        rerank_options: keywords of ``Reranker.score``, such as ``{"activation": "sigmoid"}``.
        load_options: further keywords of ``Reranker``, as a dictionary.
        callback_manager: as for ``BaseNodePostprocessor``.
        options: keywords of ``Reranker``, such as ``device``.

    Raises:
        InputError: an option is unknown.
    """

    model: str = Field(frozen=True)
    top_n: int | None = Field(default=2, ge=1)
    keep_retrieval_score: bool = False
    load_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    rerank_options: dict[str, Any] = Field(default_factory=dict, frozen=True)
    _reranker: LazyReranker = PrivateAttr()

    def __init__(
        self,
        model: str | Path | Reranker = DEFAULT_RERANKER,
        *,
        top_n: int | None = 2,
        keep_retrieval_score: bool = False,
        instruction: str | None = None,
        rerank_options: RerankKeywords | None = None,
        load_options: LoadKeywords | None = None,
        callback_manager: Any = None,
        **options: Unpack[LoadKeywords],
    ) -> None:
        selected = merge_options(load_options, options, instruction=instruction)
        reranker = LazyReranker(model, selected, rerank_options)
        super().__init__(
            model=reranker.name,
            top_n=top_n,
            keep_retrieval_score=keep_retrieval_score,
            load_options=reranker.options,
            rerank_options=dict(rerank_options or {}),
            **_without_none({"callback_manager": callback_manager}),
        )
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class in serialised components."""
        return "NearfieldRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        with self._rerank_event(nodes, query) as event:
            ranking = self._reranker.rank(query, _texts(nodes), self.top_n)
            return self._finish(event, nodes, ranking)

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query_of(query_bundle)
        with self._rerank_event(nodes, query) as event:
            ranking = await self._reranker.arank(query, _texts(nodes), self.top_n)
            return self._finish(event, nodes, ranking)

    def _rerank_event(self, nodes: list[NodeWithScore], query: str) -> Any:
        """Report the start; return the event that spans the call."""
        start = ReRankStartEvent(query=query, nodes=nodes, top_n=self.top_n or len(nodes), model_name=self.model)
        _DISPATCHER.event(start)
        payload: dict[Any, Any] = {EventPayload.NODES: nodes, EventPayload.QUERY_STR: query}
        payload |= {EventPayload.MODEL_NAME: self.model, EventPayload.TOP_K: self.top_n}
        return self.callback_manager.event(CBEventType.RERANKING, payload=payload)

    def _finish(self, event: Any, nodes: list[NodeWithScore], ranking: Sequence[Ranked]) -> list[NodeWithScore]:
        """Report the end; return the nodes of a ranking with their scores."""
        ranked_nodes = [self._scored(nodes[ranked.index], ranked.score) for ranked in ranking]
        event.on_end(payload={EventPayload.NODES: ranked_nodes})
        _DISPATCHER.event(ReRankEndEvent(nodes=ranked_nodes))
        return ranked_nodes

    def _scored(self, node: NodeWithScore, score: float) -> NodeWithScore:
        """Return a node with its new score. The node that was passed stays unchanged."""
        inner = node.node
        if self.keep_retrieval_score:
            inner = inner.model_copy(update={"metadata": {**inner.metadata, "retrieval_score": node.score}})
        return NodeWithScore(node=inner, score=score)

    def close(self) -> None:
        """Unload the model, unless it was passed as a Reranker. The next use loads it again."""
        self._reranker.close()

    def __getstate__(self) -> dict[str, Any]:
        self._reranker.check_portable()
        state: dict[str, Any] = super().__getstate__()
        return state


def _fields_of(
    encoder: LazyEncoder,
    encode_options: EncodeKeywordsWithoutRole | None,
    query_options: EncodeKeywordsWithoutRole | None,
) -> dict[str, Any]:
    """Return the fields from which a component is created again."""
    return {
        "model_name": encoder.name,
        "load_options": encoder.options,
        "encode_options": dict(encode_options or {}),
        "query_options": dict(query_options or {}),
    }


def _without_none(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _columns(vectors: Any) -> tuple[list[list[int]], list[list[float]]]:
    """Return the indices and the values of sparse vectors."""
    rows = sparse_rows(vectors)
    return [indices for indices, _ in rows], [values for _, values in rows]


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _query_of(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise InputError("Reranking needs the query: pass query_str or query_bundle.", param="query_bundle")
    return str(query_bundle.query_str)
