"""Haystack components that run models in the same process: dense and sparse embedders, and a ranker.

``Pipeline.loads`` needs ``allowed_modules=["nearfield.integrations.haystack"]``: by default Haystack loads no classes
of other packages from YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    LazyModel,
    LazyReranker,
    dense_rows,
    merge_options,
    sparse_rows,
)
from nearfield.reranker import Ranked, Reranker

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import SparseEmbedding
except ImportError as error:
    raise MissingExtra(f"Haystack's classes need {error.name!r}: pip install 'nearfield[haystack]'") from error


class _Component:
    """A component with a model: loading, closing, and its form in a file."""

    def __init__(self, model: LazyModel[Any], parameters: Mapping[str, Any]) -> None:
        self._model = model
        self._parameters = {"model": model.name, **parameters, **model.options}

    def warm_up(self) -> None:
        """Load the model. Without it, the first run does."""
        self._model.load()

    async def warm_up_async(self) -> None:
        """Load the model without blocking the event loop."""
        await self._model.aload()

    def close(self) -> None:
        """Unload the model, unless it was passed loaded. The next use loads it again."""
        self._model.close()

    def to_dict(self) -> dict[str, Any]:
        """Return the component as a dictionary.

        Raises:
            InputError: it was created with a loaded model.
        """
        self._model.check_portable()
        return default_to_dict(self, **self._parameters)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Return a component from the dictionary that ``to_dict`` returned."""
        return default_from_dict(cls, data)


class _TextEmbedder(_Component):
    """Encodes one text, a query."""

    _output = "dense"

    def __init__(
        self,
        model: str | Path | Encoder = DEFAULT_ENCODER,
        *,
        prefix: str = "",
        suffix: str = "",
        truncate_dim: int | None = None,
        encode_options: EncodeKeywordsWithoutRole | None = None,
        **options: Unpack[EncoderKeywords],
    ) -> None:
        selected = merge_options(options, truncate_dim=truncate_dim)
        self._encoder = LazyEncoder(model, selected, output=self._output, encode_options=encode_options)
        self._prefix, self._suffix = prefix, suffix
        parameters = {"prefix": prefix, "suffix": suffix, "encode_options": _plain_options(encode_options)}
        super().__init__(self._encoder, parameters)

    def _text(self, text: str) -> list[str]:
        if not isinstance(text, str):
            name = type(self).__name__
            raise TypeError(f"{name} takes one text, not {type(text).__name__}. A document embedder takes documents.")
        return [self._prefix + text + self._suffix]

    def _encode(self, text: str) -> Any:
        return self._encoder.encode(self._text(text), "query")

    async def _encode_async(self, text: str) -> Any:
        return await self._encoder.aencode(self._text(text), "query")


class _DocumentEmbedder(_Component):
    """Encodes the contents of documents, with fields of their metadata before them."""

    _output = "dense"

    def __init__(
        self,
        model: str | Path | Encoder = DEFAULT_ENCODER,
        *,
        prefix: str = "",
        suffix: str = "",
        progress_bar: bool | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        truncate_dim: int | None = None,
        encode_options: EncodeKeywordsWithoutRole | None = None,
        **options: Unpack[EncoderKeywords],
    ) -> None:
        selected = merge_options(options, truncate_dim=truncate_dim)
        self._encoder = LazyEncoder(model, selected, output=self._output, encode_options=encode_options)
        self._prefix, self._suffix, self._progress = prefix, suffix, progress_bar
        self._fields, self._separator = list(meta_fields_to_embed or []), embedding_separator
        parameters = {
            "prefix": prefix,
            "suffix": suffix,
            "progress_bar": progress_bar,
            "meta_fields_to_embed": self._fields,
            "embedding_separator": embedding_separator,
            "encode_options": _plain_options(encode_options),
        }
        super().__init__(self._encoder, parameters)

    def _texts(self, documents: list[Document]) -> list[str]:
        _check_documents(self, documents)
        texts = _joined_texts(documents, self._fields, self._separator)
        return [self._prefix + text + self._suffix for text in texts]

    def _encode(self, documents: list[Document]) -> Any:
        return self._encoder.encode(self._texts(documents), "document", progress=self._progress)

    async def _encode_async(self, documents: list[Document]) -> Any:
        return await self._encoder.aencode(self._texts(documents), "document", progress=self._progress)


@component
class NearfieldTextEmbedder(_TextEmbedder):
    """Computes the dense vector of a query, with the model's prompt for queries.

    Args:
        model: a model's name or folder, or an Encoder. A pipeline with an Encoder cannot be written to a file.
        prefix, suffix: texts before and after the query.
        truncate_dim: dimensions to keep.
        encode_options: keywords of ``Encoder.encode``, such as ``{"normalize_embeddings": True}``.
        options: keywords of ``Encoder``, such as ``device``, ``max_length`` or ``precision``.

    Raises:
        InputError: an option is unknown.
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return the vector of a query as ``embedding``."""
        return {"embedding": dense_rows(self._encode(text))[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Return the vector of a query without blocking the event loop."""
        return {"embedding": dense_rows(await self._encode_async(text))[0]}


@component
class NearfieldDocumentEmbedder(_DocumentEmbedder):
    """Computes the dense vectors of documents, with the model's prompt for documents.

    Args:
        model: a model's name or folder, or an Encoder. A pipeline with an Encoder cannot be written to a file.
        prefix, suffix: texts before and after each text.
        progress_bar: True or False; None shows one on a terminal for many documents.
        meta_fields_to_embed: fields of the metadata to put before the content.
        embedding_separator: what separates these fields and the content.
        truncate_dim: dimensions to keep.
        encode_options: keywords of ``Encoder.encode``, such as ``{"normalize_embeddings": True}``.
        options: keywords of ``Encoder``, such as ``device``, ``max_length`` or ``precision``.

    Raises:
        InputError: an option is unknown.
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of documents with ``embedding``."""
        return _with_dense(documents, self._encode(documents))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of documents with ``embedding``, without blocking the event loop."""
        return _with_dense(documents, await self._encode_async(documents))


@component
class NearfieldSparseTextEmbedder(_TextEmbedder):
    """Computes the sparse vector of a query. Arguments are those of ``NearfieldTextEmbedder``.

    The model must give sparse vectors.
    """

    _output = "sparse"

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """Return the vector of a query as ``sparse_embedding``."""
        return {"sparse_embedding": _sparse_embeddings(self._encode(text))[0]}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, Any]:
        """Return the vector of a query without blocking the event loop."""
        return {"sparse_embedding": _sparse_embeddings(await self._encode_async(text))[0]}


@component
class NearfieldSparseDocumentEmbedder(_DocumentEmbedder):
    """Computes the sparse vectors of documents. Arguments are those of ``NearfieldDocumentEmbedder``.

    The model must give sparse vectors.
    """

    _output = "sparse"

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of documents with ``sparse_embedding``."""
        return _with_sparse(documents, self._encode(documents))

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Return copies of documents with ``sparse_embedding``, without blocking the event loop."""
        return _with_sparse(documents, await self._encode_async(documents))


@component
class NearfieldRanker(_Component):
    """Sorts documents by how well they answer the query.

    Args:
        model: a reranker's name or folder, or a Reranker. A pipeline with a Reranker cannot be written to a file.
        top_k: documents to return.
        query_prefix, query_suffix: texts before and after the query.
        document_prefix, document_suffix: texts before and after each text.
        meta_fields_to_embed: fields of the metadata to put before the content.
        embedding_separator: what separates these fields and the content.
        score_threshold: documents with a lower score are left out.
        instruction: the definition of relevance, for language models that rerank.
        rerank_options: keywords of ``Reranker.score``, such as ``{"activation": "sigmoid"}``.
        options: keywords of ``Reranker``, such as ``device``.

    Raises:
        InputError: an option is unknown, or ``top_k`` is not positive.
    """

    def __init__(
        self,
        model: str | Path | Reranker = DEFAULT_RERANKER,
        *,
        top_k: int = 10,
        query_prefix: str = "",
        query_suffix: str = "",
        document_prefix: str = "",
        document_suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        score_threshold: float | None = None,
        instruction: str | None = None,
        rerank_options: RerankKeywords | None = None,
        **options: Unpack[LoadKeywords],
    ) -> None:
        selected = merge_options(options, instruction=instruction)
        self._reranker = LazyReranker(model, selected, rerank_options)
        self._top_k, self._threshold = _positive(top_k), score_threshold
        self._query_affixes = query_prefix, query_suffix
        self._document_affixes = document_prefix, document_suffix
        self._fields, self._separator = list(meta_fields_to_embed or []), embedding_separator
        parameters = {
            "top_k": top_k,
            "query_prefix": query_prefix,
            "query_suffix": query_suffix,
            "document_prefix": document_prefix,
            "document_suffix": document_suffix,
            "meta_fields_to_embed": self._fields,
            "embedding_separator": embedding_separator,
            "score_threshold": score_threshold,
            "rerank_options": _plain_options(rerank_options),
        }
        _Component.__init__(self, self._reranker, parameters)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Return copies of the best documents with ``score``, by falling score.

        ``top_k`` and ``score_threshold`` win over those of the component.
        """
        query, texts, count = self._prepare(query, documents, top_k)
        return self._result(documents, self._reranker.rank(query, texts, count), score_threshold)

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """Return copies of the best documents without blocking the event loop."""
        query, texts, count = self._prepare(query, documents, top_k)
        return self._result(documents, await self._reranker.arank(query, texts, count), score_threshold)

    def _prepare(self, query: str, documents: list[Document], top_k: int | None) -> tuple[str, list[str], int]:
        """Return the query and the texts to score, and how many documents to return."""
        _check_documents(self, documents)
        texts = _joined_texts(documents, self._fields, self._separator)
        count = self._top_k if top_k is None else _positive(top_k)
        return _wrap(query, self._query_affixes), [_wrap(text, self._document_affixes) for text in texts], count

    def _result(self, documents: list[Document], ranking: Sequence[Ranked], threshold: float | None) -> dict[str, Any]:
        lowest = self._threshold if threshold is None else threshold
        selected = [ranked for ranked in ranking if lowest is None or ranked.score >= lowest]
        return {"documents": [replace(documents[ranked.index], score=ranked.score) for ranked in selected]}


def _wrap(text: str, affixes: tuple[str, str]) -> str:
    before, after = affixes
    return before + text + after


def _check_documents(owner: object, documents: Any) -> None:
    """Raise TypeError for anything but a list of documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        name = type(owner).__name__
        raise TypeError(
            f"{name} takes a list of documents, not {type(documents).__name__}. A text embedder takes texts."
        )


def _joined_texts(documents: Sequence[Document], fields: Sequence[str], separator: str) -> list[str]:
    """Return the text of each document: fields of its metadata that it has, and its content."""
    return [separator.join([*_meta_texts(document, fields), document.content or ""]) for document in documents]


def _meta_texts(document: Document, fields: Sequence[str]) -> list[str]:
    return [str(document.meta[name]) for name in fields if document.meta.get(name) is not None]


def _with_dense(documents: Sequence[Document], vectors: Any) -> dict[str, Any]:
    rows = dense_rows(vectors)
    return {"documents": [replace(doc, embedding=row) for doc, row in zip(documents, rows, strict=True)]}


def _with_sparse(documents: Sequence[Document], vectors: Any) -> dict[str, Any]:
    rows = _sparse_embeddings(vectors)
    return {"documents": [replace(doc, sparse_embedding=row) for doc, row in zip(documents, rows, strict=True)]}


def _sparse_embeddings(vectors: Any) -> list[SparseEmbedding]:
    return [SparseEmbedding(indices, values) for indices, values in sparse_rows(vectors)]


def _plain_options(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if options is None else dict(options)


def _positive(top_k: int) -> int:
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, and is {top_k}.", param="top_k")
    return top_k
