"""Exchanges that compute vectors: of texts and pictures, and of the chunks of documents (late chunking)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.inference.encode_options import EncodeKeywords, EncodeOptions
from nearfield.inference.postprocess import concatenate_results
from nearfield.inference.preparation.media_inputs import NOUNS, listed, modality_of
from nearfield.media.content import MixedContent
from nearfield.server.exchange.content_parts import describe_parts
from nearfield.server.exchange.exchange import Bounds, Exchange, check_addresses, check_inputs, fetch_pictures
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

_NO_OPTIONS = EncodeOptions()
#: How messages begin that name an input by its number.
_NUMBERED = re.compile(r"input (\d+)\b", re.IGNORECASE)


@dataclass(kw_only=True)
class Encode(Exchange):
    """Compute the vectors of texts, lists of token ids, pictures, videos or sounds."""

    inputs: Sequence[Any]
    options: EncodeOptions = _NO_OPTIONS
    #: Returns the options that depend on the model.
    options_for: Callable[[ModelDescription], EncodeKeywords] | None = None
    #: Name of the API's field with the inputs, for errors.
    input_field: str = "input"
    #: What errors call each input, where its number here is another than in the request; empty for numbers.
    input_names: Sequence[str] = ()
    #: Outputs that the response needs.
    needs: tuple[str, ...] = ("dense",)
    result: Vectors | SparseVectors | MultiVectors | Outputs | None = None
    _token_counts: tuple[int, int, int] | None = None

    @property
    def size(self) -> int:
        return len(self.inputs)

    @property
    def vectors(self) -> Vectors:
        """The dense vectors of the result."""
        vectors = self.result.dense if isinstance(self.result, Outputs) else self.result
        if not isinstance(vectors, Vectors):
            raise ValueError("the exchange has no dense vectors")
        return vectors

    @property
    def tokens(self) -> int:
        return self._count_tokens()[0]

    @property
    def dropped(self) -> int:
        return self._count_tokens()[1]

    @property
    def unknown(self) -> int:
        return self._count_tokens()[2]

    def _count_tokens(self) -> tuple[int, int, int]:
        """Return the tokens read, dropped and unknown, summed up once: metrics, headers, logs and bodies need them."""
        if self._token_counts is None:
            if self.result is None:
                return 0, 0, 0
            self._token_counts = _sum(self.result.tokens), _sum(self.result.dropped), _sum(self.result.unknown)
        return self._token_counts

    def tokens_of(self, modality: str) -> int:
        """Return the number of tokens that the model read of the inputs of one modality; patches of pictures count.

        Inputs of several parts count as texts.
        """
        counts = None if self.result is None else self.result.tokens
        if counts is None:
            return 0
        kinds = ["text" if isinstance(item, MixedContent) else modality_of(item) for item in self.inputs]
        return sum(int(count) for kind, count in zip(kinds, counts, strict=True) if kind == modality)

    @property
    def number_count(self) -> int:
        results = [self.result] if not isinstance(self.result, Outputs) else list(self.result.kinds.values())
        arrays = [getattr(part, "values" if isinstance(part, SparseVectors) else "data", None) for part in results]
        return sum(int(array.size) for array in arrays if array is not None)

    @property
    def fingerprint(self) -> str | None:
        return getattr(self.result, "fingerprint", None)

    def fits(self, model: ModelDescription) -> bool:
        if not model.is_encoder or not set(self.needs) <= set(model.outputs) or self._unread(model):
            return False
        return model.fuses or not any(isinstance(item, MixedContent) for item in self.inputs)

    def misfit(self, model: ModelDescription) -> InputError:
        if not model.is_encoder:
            return InputError(f"{model.name} scores texts and gives no vectors.", param="model")
        if unread := self._unread(model):
            reads = listed(model.modalities)
            return InputError(f"{model.name} reads {reads}, and an input is {NOUNS[unread]}.", param=self.input_field)
        for index, item in enumerate(self.inputs):
            if isinstance(item, MixedContent) and not model.fuses:
                name = self.input_names[index] if self.input_names else f"Input {index}"
                return InputError(
                    f"{name} has {describe_parts(item)}, and {model.name} computes no vector of them together: "
                    "send each in a separate input.",
                    param=self.input_field,
                )
        missing = next((name for name in self.needs if name not in model.outputs), None)
        if missing is None:
            return super().misfit(model)
        return InputError(
            f"{model.name} gives no {missing!r} output. {nearest(missing, model.outputs)}", param="outputs"
        )

    def _unread(self, model: ModelDescription) -> str | None:
        """Return a modality of the inputs, or of their parts, that a model does not read, or None."""
        parts = (part for item in self.inputs for part in (item.parts if isinstance(item, MixedContent) else (item,)))
        return next((name for name in map(modality_of, parts) if name not in model.modalities), None)

    def check(self, limits: RequestLimits) -> None:
        check_inputs(self.inputs, limits)
        check_addresses(self.inputs, limits)

    def _named(self, error: InputError) -> InputError | None:
        """Return the error with the input's name in the request in place of its number here, or None."""
        match = _NUMBERED.match(str(error))
        if match is None or int(match.group(1)) >= len(self.input_names):
            return None
        name = self.input_names[int(match.group(1))]
        return type(error)(f"{name}{str(error)[match.end() :]}", param=error.param)

    def resolve_options(self) -> EncodeOptions:
        """Return the options, with those that depend on the model."""
        if self.options_for is None or self.description is None:
            return self.options
        return replace(self.options, **self.options_for(self.description))

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        self.inputs, bounds = await fetch_pictures(self.inputs, bounds, self.stage_seconds)
        limits = bounds.call_limits(model, self.size)
        try:
            run = await model.run_encode(list(self.inputs), self.resolve_options(), limits)
        except InputError as error:
            error.param = self.input_field if error.param == "input" else error.param
            if (named := self._named(error)) is not None:
                raise named from error
            raise
        self.result = run.result
        self.stage_seconds.update(run.timings)


def _sum(counts: Array | None) -> int:
    return 0 if counts is None else int(counts.sum())


@dataclass(kw_only=True)
class EncodeLateChunks(Encode):
    """Compute the vectors of chunks by late chunking; each input is a document as a list of consecutive chunks."""

    @property
    def size(self) -> int:
        return sum(map(len, self.inputs))

    def check(self, limits: RequestLimits) -> None:
        check_inputs([chunk for chunks in self.inputs for chunk in chunks], limits)
        empty = next((index for index, chunks in enumerate(self.inputs) if not chunks), None)
        if empty is not None:
            raise InputError(f"Document {empty} has no chunks: give at least one text.", param="input")

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        limits = bounds.call_limits(model, self.size)
        run = await model.run_encode_late(self.inputs, self.resolve_options(), limits)
        self.result = concatenate_results(run.result, single=False)
        self.stage_seconds.update(run.timings)
