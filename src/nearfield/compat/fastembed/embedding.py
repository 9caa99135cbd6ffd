"""fastembed's `TextEmbedding`, `SparseTextEmbedding` and `LateInteractionTextEmbedding` over `Encoder`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np

from nearfield import families
from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.compat.fastembed.lazy_model import PASSAGE_TASK, Device, FastembedModel, create_custom_model
from nearfield.compat.fastembed.models import (
    POOLINGS,
    FastembedDescription,
    ModelLocation,
    ModelSource,
    PoolingType,
    read_dense,
)
from nearfield.compat.inputs import iterate_texts
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.preparation.sparse_static import SparseStaticEmbedding
from nearfield.inference.processors import load_tokenizer
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.recipe import Splade

#: Tasks of jina-embeddings-v3, by fastembed's number.
_TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
_QUERY_TASK = 0
_WITH_TASKS = "jinaai/jina-embeddings-v3"
#: The output of an ONNX file that is read.
_STATES = "last_hidden_state"


@dataclass
class SparseEmbedding:
    """A sparse vector: ``values`` at ``indices``, which ascend."""

    values: Array
    indices: Array

    def as_object(self) -> dict[str, Array]:
        """Return both arrays by name."""
        return {"values": self.values, "indices": self.indices}

    def as_dict(self) -> dict[int, float]:
        """Return the values by index."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))

    @classmethod
    def from_dict(cls, data: Mapping[int, float]) -> SparseEmbedding:
        """Create a vector from values by index."""
        return cls(np.array(list(data.values())), np.array(list(data)))


class _EmbeddingModel(FastembedModel):
    """What the three classes share."""

    @property
    def _encoder(self) -> Encoder:
        return cast(Encoder, self.model.load())

    def _stream(self, documents: str | Iterable[str], **options: Any) -> Iterator[Any]:
        items = iterate_texts(documents, "documents")
        # The side that is cut is the one that the tokenizer's file says.
        side = self._encoder.tokenizer.side
        yield from self._encoder.stream(items, prompt="", truncate=side, **options)

    def token_count(self, texts: str | Iterable[str], batch_size: int = 1024, **kwargs: Any) -> int:
        """Return the number of tokens that the model reads of all texts together."""
        items = iterate_texts(texts, "texts")
        return sum(len(tokens.ids) for tokens in self._encoder.tokenize(items, prompt="", truncate="right"))


class _SizedModel(_EmbeddingModel):
    """What the classes share whose vectors have a number of dimensions."""

    @classmethod
    def get_embedding_size(cls, model_name: str) -> int:
        """Return the dimensions of a model's vectors."""
        return cast(int, cls._describe(model_name).dim)

    @property
    def embedding_size(self) -> int:
        """The dimensions of this model's vectors."""
        return self.get_embedding_size(self.model_name)


class TextEmbedding(_SizedModel):
    """Dense vectors. Arguments that fastembed does not know either are reported and ignored."""

    kind = "dense"
    _custom: ClassVar[list[FastembedDescription]] = []

    def __init__(
        self,
        model_name: str = "BAAI/bge-small-en-v1.5",
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        cuda: bool | Device = Device.AUTO,
        device_ids: list[int] | None = None,
        lazy_load: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name, cache_dir, threads, providers, cuda, device_ids, lazy_load, **kwargs)

    @classmethod
    def _read(cls, description: FastembedDescription, location: ModelLocation) -> UncompiledModel:
        return read_dense(description, location)

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        pooling: PoolingType,
        normalization: bool,
        sources: ModelSource,
        dim: int,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
        output_name: str | None = None,
    ) -> None:
        """Add a model to the list: an ONNX file in a repository on the Hub, with a pooling.

        Raises:
            InputError: the model is in the list already, or its output is one that is not read.
        """
        if pooling != PoolingType.DISABLED and output_name not in (None, _STATES):
            raise InputError(
                f"output_name={output_name!r} is not supported: of an ONNX file {_STATES} is read, or the first one. "
                "DISABLED pooling runs the model's own modules.",
                param="output_name",
            )
        mode = POOLINGS[PoolingType(pooling)]
        facts = {"dim": dim, "pooling": mode, "normalize": normalization, "graph": mode != "own"}
        cls._register(
            create_custom_model(model, sources, model_file, description, license, size_in_gb, additional_files, **facts)
        )

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None, **kwargs: Any
    ) -> Iterable[Array]:
        """Yield the vector of each document, as float32 [dim]."""
        for vectors in self._stream(documents, **self._task(kwargs.get("task_id"))):
            yield from np.asarray(vectors)

    def query_embed(self, query: str | Iterable[str], **kwargs: Any) -> Iterable[Array]:
        """Yield the vector of each query; only jina-embeddings-v3 has a task for queries."""
        yield from self.embed(query, **{**kwargs, "task_id": _QUERY_TASK})

    def passage_embed(self, texts: Iterable[str], **kwargs: Any) -> Iterable[Array]:
        """Yield the vector of each passage; only jina-embeddings-v3 has a task for passages."""
        yield from self.embed(texts, **{**kwargs, "task_id": PASSAGE_TASK})

    def _task(self, number: int | None) -> dict[str, str]:
        if self.model.model_description.model != _WITH_TASKS:
            return {}
        chosen = self._task_id if number is None else int(number)
        if not 0 <= chosen < len(_TASKS):
            raise InputError(f"task_id must be from 0 to {len(_TASKS) - 1}, not {number!r}.", param="task_id")
        return {"task": _TASKS[chosen]}


class SparseTextEmbedding(_EmbeddingModel):
    """Sparse vectors: SPLADE, and inference-free SPLADE."""

    kind = "sparse"

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None, **kwargs: Any
    ) -> Iterable[SparseEmbedding]:
        """Yield the vector of each document."""
        special = self._special_tokens
        for vectors in self._stream(documents, role="document"):
            for indices, values in vectors:
                yield _without_tokens(indices, values, special)

    def query_embed(self, query: str | Iterable[str], **kwargs: Any) -> Iterable[SparseEmbedding]:
        """Yield the vector of each query; for inference-free models the weights are not loaded."""
        if self._query_weights is None:
            yield from self.embed(query, **kwargs)
            return
        tokenizer, weights = self._query_weights
        for text in iterate_texts(query, "query"):
            rows = weights.rows(tokenizer.encode([text]))
            yield _without_tokens(*rows[0]["sparse"], self._special_tokens)

    def passage_embed(self, texts: Iterable[str], **kwargs: Any) -> Iterable[SparseEmbedding]:
        """Yield the vector of each passage."""
        yield from self.embed(texts, **kwargs)

    @cached_property
    def _query_weights(self) -> tuple[Tokenizer, SparseStaticEmbedding] | None:
        """The tokenizer and the weights of queries of an inference-free model."""
        recipe = self.model.uncompiled.recipe
        head = recipe.head("sparse")
        if not isinstance(head, Splade) or head.query_weights is None:
            return None
        tokenizer = load_tokenizer(recipe, families.resolve(recipe.config))
        return tokenizer, SparseStaticEmbedding(head.query_weights, tokenizer, int(recipe.config["vocab_size"]))

    @cached_property
    def _special_tokens(self) -> list[int]:
        """The tokens that inference-free models give no weight."""
        if self._query_weights is None:
            return []
        added = self._query_weights[0].backend.get_added_tokens_decoder()
        return [number for number, token in added.items() if token.special]


def _without_tokens(indices: Array, values: Array, tokens: list[int]) -> SparseEmbedding:
    shown = np.isin(indices, tokens, invert=True)
    return SparseEmbedding(values[shown], indices[shown].astype(np.int64))


class LateInteractionTextEmbedding(_SizedModel):
    """A vector for each token, for late interaction (ColBERT)."""

    kind = "multivector"

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None, **kwargs: Any
    ) -> Iterable[Array]:
        """Yield the vectors of each document, as float32 [tokens, dim]; punctuation has none."""
        for vectors in self._stream(documents, role="document"):
            yield from vectors

    def query_embed(self, query: str | Iterable[str], **kwargs: Any) -> Iterable[Array]:
        """Yield the vectors of each query, at least 32."""
        for vectors in self._stream(query, role="query"):
            yield from vectors

    def passage_embed(self, texts: Iterable[str], **kwargs: Any) -> Iterable[Array]:
        """Yield the vectors of each passage."""
        yield from self.embed(texts, **kwargs)

    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        is_doc: bool = True,
        include_extension: bool = False,
        **kwargs: Any,
    ) -> int:
        """Return the number of tokens of all texts; with ``include_extension`` also those that fastembed adds."""
        tokenizer = self._encoder.tokenizer
        items = list(iterate_texts(texts, "texts"))
        tokens = tokenizer.encode(items, max_length=tokenizer.max_length - 1)
        length = self.model.model_description.input_format.query_length or 1
        minimum = 0 if is_doc or not include_extension else length - 1
        return sum(max(len(item.ids), minimum) + include_extension for item in tokens)
