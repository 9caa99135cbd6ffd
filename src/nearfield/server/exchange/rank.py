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
from nearfield.inference.preparation.media_inputs import listed
from nearfield.inference.preparation.tokenizer_threads import tokenize_in_parts
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.reranker import Ranked, Reranker, Scores
from nearfield.server.exchange.content_parts import describe_parts, pictures_of
from nearfield.server.exchange.exchange import Bounds, check_addresses, check_inputs, check_texts, fetch_pictures
from nearfield.server.exchange.scored import ScoredExchange
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs


@dataclass(kw_only=True)
class Rank(ScoredExchange):
    """Rank documents by their score for a query, highest first."""

    query: str | Image | MixedContent
    documents: Sequence[str | Image | MixedContent]
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
        ranks = "multivector" in model.outputs if model.is_encoder else model.is_reranker
        return ranks and self._unread(model) is None

    def _unread(self, model: ModelDescription) -> str | None:
        """Return what a query or document has that the model does not read, or None."""
        items = [self.query, *self.documents]
        if pictures_of(items) and "image" not in model.modalities:
            return "a picture"
        mixed = next((item for item in items if isinstance(item, MixedContent)), None)
        return None if mixed is None or model.fuses else f"{describe_parts(mixed)} in one"

    def misfit(self, model: ModelDescription) -> InputError:
        unread = self._unread(model)
        if unread is not None and (model.is_reranker or "multivector" in model.outputs):
            return InputError(
                f"{model.name} reads {listed(model.modalities)}, and the query or a document has {unread}.",
                param=self.field_name,
            )
        return InputError(
            f"{model.name} is no reranker: serve a cross-encoder, or a model of multi-vectors (late interaction).",
            param="model",
        )

    def check(self, limits: RequestLimits) -> None:
        check_inputs(self.documents, limits, self.field_name)
        check_texts([self.query], "query")
        check_texts(self.documents, self.field_name)
        check_addresses([self.query, *self.documents], limits)

    async def _shorten(self, model: Reranker | Encoder, max_tokens: int, seconds: float) -> None:
        """Cut texts among the documents after ``max_tokens`` tokens; those with pictures stay whole."""
        model.engine.check_room()
        places = [place for place, document in enumerate(self.documents) if isinstance(document, str)]
        texts = [str(self.documents[place]) for place in places]
        shortened = await tokenize_in_parts(
            lambda part: [model.tokenizer.shorten(texts[part], max_tokens)],
            model.tokenizer,
            list(map(len, texts)),
            NO_LIMITS,
            time.monotonic() + seconds,
            lambda _: 0,
        )
        documents = list(self.documents)
        for place, text in zip(places, (text for texts, _ in shortened for text in texts), strict=True):
            documents[place] = text
        self.documents = documents
        self.shortened = sum(dropped for _, dropped in shortened)

    async def run(self, model: Reranker | Encoder, bounds: Bounds) -> None:
        if self.max_document_tokens is not None and self.max_document_tokens < model.max_length:
            await self._shorten(model, self.max_document_tokens, bounds.seconds)
        items, bounds = await fetch_pictures([self.query, *self.documents], bounds, self.stage_seconds)
        self.query, self.documents = items[0], items[1:]
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
