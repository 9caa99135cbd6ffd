"""The exchange that ranks documents for a query, with a cross-encoder or by late interaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.calls.limits import NO_LIMITS
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.postprocess import Result
from nearfield.inference.preparation.tokenizer_threads import tokenize_in_parts
from nearfield.reranker import Ranked, Reranker, Scores
from nearfield.server.exchange.exchange import Bounds, check_inputs, check_texts
from nearfield.server.exchange.scored import ScoredExchange
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs


@dataclass(kw_only=True)
class Rank(ScoredExchange):
    """Rank documents by their score for a query, highest first."""

    query: str
    documents: Sequence[str]
    top_k: int | None = None
    #: Name of the documents' field in the API, for messages.
    field_name: str = "documents"
    #: Maximum number of tokens read of each document; None: as many as the model reads.
    max_document_tokens: int | None = None
    #: Number of tokens truncated because of ``max_document_tokens``.
    shortened: int = 0
    #: Number of vectors whose similarities each score sums up: those of the query in late interaction.
    summed: int = 1
    ranked: list[Ranked] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.documents)

    @property
    def dropped(self) -> int:
        return self.shortened + super().dropped

    @property
    def number_count(self) -> int:
        return len(self.ranked)

    def fits(self, model: ModelDescription) -> bool:
        return "multivector" in model.outputs if model.is_encoder else model.is_reranker

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(
            f"{model.name} is no reranker: serve a cross-encoder, or a model of multi-vectors (late interaction).",
            param="model",
        )

    def check(self, limits: RequestLimits) -> None:
        check_inputs(self.documents, limits, self.field_name)
        check_texts([self.query], "query")
        check_texts(self.documents, self.field_name)

    async def run(self, model: Reranker | Encoder, bounds: Bounds) -> None:
        max_document_tokens = self.max_document_tokens
        if max_document_tokens is not None and max_document_tokens < model.max_length:
            model.engine.check_room()
            shortened = await tokenize_in_parts(
                lambda part: [model.tokenizer.shorten(self.documents[part], max_document_tokens)],
                model.tokenizer,
                list(map(len, self.documents)),
                NO_LIMITS,
                time.monotonic() + bounds.seconds,
                lambda _: 0,
            )
            self.documents = [document for documents, _ in shortened for document in documents]
            self.shortened = sum(dropped for _, dropped in shortened)
        if isinstance(model, Encoder):
            await self._run_late_interaction(model, bounds)
            return
        options = self.options
        if self.bounded and model.activation == "identity" and options.activation is None:
            options = replace(options, activation="sigmoid")
        limits = bounds.call_limits(model, self.size)
        run = await model.run_rank(self.query, self.documents, self.top_k, options, limits)
        self.ranked, self.scores = run.result
        self.stage_seconds.update(run.timings)

    async def _run_late_interaction(self, model: Encoder, bounds: Bounds) -> None:
        """Rank by MaxSim (Khattab and Zaharia 2020, arXiv:2004.12832), a sum of cosines without an activation."""
        limits = bounds.call_limits(model, self.size)
        options = EncodeOptions(
            role="query", outputs="multivector", adapter=self.options.adapter, truncate=self.options.truncate
        )
        query, documents = await asyncio.gather(
            model.run_encode([self.query], options, limits),
            model.run_encode(list(self.documents), replace(options, role="document"), limits),
        )
        vectors, others = _multivectors(query.result), _multivectors(documents.result)
        similarities = (await asyncio.to_thread(vectors.similarity, others))[0]
        order = np.argsort(-similarities, kind="stable")[: self.top_k]
        self.ranked = [Ranked(int(index), float(similarities[index])) for index in order]
        self.scores = Scores(
            similarities,
            _counts(others.tokens) + int(_counts(vectors.tokens).sum()),
            _counts(others.dropped),
            _counts(others.unknown) + int(_counts(vectors.unknown).sum()),
        )
        self.summed = 1 if vectors.average else len(vectors.data)


def _multivectors(result: Result) -> MultiVectors:
    if not isinstance(result, Outputs) or result.multivector is None:
        raise TypeError("an encoder returns the outputs that are named")
    return result.multivector


def _counts(counts: Array | None) -> Array:
    if counts is None:
        raise TypeError("an encoder counts the tokens of its inputs")
    return counts
