"""fastembed's `TextCrossEncoder` over `Reranker`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np

from nearfield.compat.fastembed.lazy_model import FastembedModel, create_custom_model
from nearfield.compat.fastembed.models import FastembedDescription, ModelSource
from nearfield.compat.inputs import check_pairs, iterate_pairs, iterate_texts
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.reranker import Reranker
from nearfield.text_inputs import one_text

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
        text = one_text(query, "query")
        yield from self.rerank_pairs((text, document) for document in iterate_texts(documents, "documents"))

    def rerank_pairs(
        self,
        pairs: Iterable[tuple[str, str]],
        batch_size: int = 64,
        parallel: int | None = None,
        **kwargs: Any,
    ) -> Iterable[float]:
        """Yield the score of each pair of a query and a document."""
        reranker = cast(Reranker, self.model.load())
        for window in _windows(pairs):
            queries, documents = zip(*window, strict=True)
            scores = np.asarray(reranker.score(queries, documents, activation="identity"))
            yield from scores.reshape(len(window), -1)[:, 0].tolist()

    def token_count(self, pairs: Iterable[tuple[str, str]], batch_size: int = 1024, **kwargs: Any) -> int:
        """Return the number of tokens that the model reads of all pairs together."""
        tokenizer = self.model.load().tokenizer
        counts = (len(tokenizer.backend.encode(*pair).ids) for window in _windows(pairs) for pair in window)
        return sum(min(count, tokenizer.max_length) for count in counts)


def _windows(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield pairs, or one pair, in lists; each is checked before it is yielded.

    Raises:
        InputError: it is no list of pairs, or an item is no pair of texts.
    """
    items = iterate_pairs(pairs, "pairs")
    single = isinstance(items, tuple) and len(items) == 2 and all(isinstance(text, str) for text in items)
    stream, start = iter([items] if single else items), 0
    while window := list(islice(stream, _WINDOW)):
        check_pairs(window, "pairs", start)
        yield window
        start += len(window)
