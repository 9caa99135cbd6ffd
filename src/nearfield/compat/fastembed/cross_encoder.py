"""fastembed's `TextCrossEncoder` over `Reranker`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np

from nearfield.compat.fastembed.lazy_model import FastembedModel, create_custom_model
from nearfield.compat.fastembed.models import FastembedDescription, ModelSource
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.preparation.inputs import parse_inputs
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.reranker import Reranker

#: Pairs that are scored in one call.
_WINDOW = 1024


class TextCrossEncoder(FastembedModel):
    """Scores of pairs, as logits."""

    kind = "scores"
    _custom: ClassVar[list[FastembedDescription]] = []

    @classmethod
    def _load(cls, options: Mapping[str, Any], model: UncompiledModel) -> LoadedModel:
        return Reranker(model, **options)

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        sources: ModelSource,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
    ) -> None:
        """Add a model to the list: a repository on the Hub with weights."""
        cls._register(
            create_custom_model(model, sources, model_file, description, license, size_in_gb, additional_files)
        )

    def rerank(self, query: str, documents: Iterable[str], batch_size: int = 64, **kwargs: Any) -> Iterable[float]:
        """Yield the score of each document for a query."""
        texts = cast("Iterable[str]", parse_inputs(documents)[1])
        yield from self.rerank_pairs((query, text) for text in texts)

    def rerank_pairs(
        self,
        pairs: Iterable[tuple[str, str]],
        batch_size: int = 64,
        parallel: int | None = None,
        **kwargs: Any,
    ) -> Iterable[float]:
        """Yield the score of each pair of a query and a document."""
        reranker = cast(Reranker, self.model.load())
        stream = iter([pairs] if isinstance(pairs, tuple) else pairs)
        while window := list(islice(stream, _WINDOW)):
            queries, documents = zip(*window, strict=True)
            scores = np.asarray(reranker.score(queries, documents, activation="identity"))
            yield from scores.reshape(len(window), -1)[:, 0].tolist()

    def token_count(self, pairs: Iterable[tuple[str, str]], batch_size: int = 1024, **kwargs: Any) -> int:
        """Return the number of tokens that the model reads of all pairs together."""
        tokenizer = self.model.load().tokenizer
        counts = (len(tokenizer.backend.encode(query, document).ids) for query, document in pairs)
        return sum(min(count, tokenizer.max_length) for count in counts)
