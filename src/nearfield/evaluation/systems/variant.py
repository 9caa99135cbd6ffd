"""A variant: a model with the options under which it is evaluated, and its text form."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, quote

from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import Keywords
from nearfield.vectors.quantization import PRECISIONS

OUTPUTS = ("dense", "sparse", "multivector", "bm25", "hybrid")
_INTEGER_OPTIONS = ("dimensions", "chunk_tokens", "chunk_overlap", "rerank_depth", "max_length")
#: Characters that the text form does not escape, for legibility.
_PLAIN = "/:.,-_ @"


@dataclass(frozen=True)
class Variant:
    """A model with options. The text form is ``MODEL?dimensions=256&dtype=binary&rerank=maxsim``.

    Args:
        model: as for ``nearfield.Encoder``; with ``url``, its name on the server; ``bm25`` for BM25 without a model.
        output: dense, sparse, multivector, bm25 (keywords only), or hybrid (dense and sparse, or dense and BM25).
        dimensions: dimensions to truncate dense vectors to, even if the model was not trained for it.
        dtype: float32, float16, int8, uint8, binary or ubinary: dense vectors are quantised to it.
        prompt: for queries, and for texts that are neither query nor document: the name of a prompt, the text of one,
            or ``none`` for no prompt; the model's own if left out.
        document_prompt: the same for documents.
        task: a task of the model by name (its prompt and adapter), for both sides.
        rerank: ``maxsim``, ``sentences``, ``multivector``, or the name of a cross-encoder, to rerank the results.
        rerank_depth: candidates that are reranked [50; by sentences 20].
        chunker: splits documents, which score as their best chunk: a chunker's name, or ``auto``.
        chunk_tokens: maximum tokens of a chunk [128].
        chunk_overlap: tokens that a chunk shares with the one before [19].
        fuse: how hybrid search merges two rankings: ``weighted`` or ``rrf`` [weighted].
        language: of the texts, such as ``de``, for BM25's stemming and for sentences [en].
        precision: of the computation, as for ``nearfield.Encoder`` [auto].
        max_length: maximum tokens of a text [that of the model].
        url: of a Nearfield server or OpenAI-compatible endpoint, with ``/v1``, where the model runs.
        key_env: the environment variable with the API key.

    Raises:
        InputError: a value is unknown, or two options exclude each other.
    """

    model: str = ""
    output: str = "dense"
    dimensions: int | None = None
    dtype: str = "float32"
    prompt: str | None = None
    document_prompt: str | None = None
    task: str | None = None
    rerank: str | None = None
    rerank_depth: int | None = None
    chunker: str | None = None
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None
    fuse: str | None = None
    language: str | None = None
    precision: str | None = None
    max_length: int | None = None
    url: str | None = None
    key_env: str | None = None

    def __post_init__(self) -> None:
        _require_known("output", self.output, OUTPUTS)
        _require_known("dtype", self.dtype, PRECISIONS)
        for name in _INTEGER_OPTIONS:
            value, minimum = getattr(self, name), 0 if name == "chunk_overlap" else 1
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
                raise InputError(f"{name} must be a whole number of {minimum} or more, not {value!r}.", param=name)
        if not self.model and self.output != "bm25":
            raise InputError("A variant needs a model, such as 'all-MiniLM-L6-v2?dimensions=256'.", param="model")
        self._check_combination()

    def _check_combination(self) -> None:
        """Raise InputError for options that would have no effect."""
        quantised = self.dtype != "float32" or self.dimensions is not None
        if quantised and self.output not in ("dense", "hybrid"):
            raise InputError(
                f"dimensions and dtype apply to dense vectors, and the output is {self.output}.", param="dtype"
            )
        for name, needs in (
            ("chunk_tokens", "chunker"),
            ("chunk_overlap", "chunker"),
            ("rerank_depth", "rerank"),
            ("key_env", "url"),
        ):
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise InputError(f"{name} has no effect without {needs}.", param=name)
        if self.fuse is not None and self.output != "hybrid":
            raise InputError("fuse has no effect unless the output is hybrid.", param="fuse")
        local = next((name for name in ("task", "chunker", "precision", "max_length") if getattr(self, name)), None)
        if self.url and local:
            raise InputError(f"{local} is for local models, not for {self.url}.", param=local)
        if self.url and (self.output != "dense" or self.rerank):
            raise InputError("An endpoint returns dense vectors: url excludes output and rerank.", param="url")

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Parse the text form.

        Raises:
            InputError: an option is unknown, repeated, or has an invalid value.
        """
        model, _, query = text.partition("?")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise InputError(f"{text!r}: options are written name=value, joined by &.", param="model") from None
        options: Keywords = {}
        known = [option.name for option in fields(cls) if option.name != "model"]
        for name, value in pairs:
            _require_known("option of a variant", name, known)
            if name in options:
                raise InputError(f"{text!r} says {name} twice.", param=name)
            options[name] = _parse_integer(name, value) if name in _INTEGER_OPTIONS else value
        if model == "bm25" and "output" not in options:
            model, options["output"] = "", "bm25"
        return cls(model, **options)

    def __str__(self) -> str:
        options = [
            f"{option.name}={quote(str(getattr(self, option.name)), safe=_PLAIN).replace(' ', '+')}"
            for option in fields(self)
            if option.name != "model" and getattr(self, option.name) != option.default
        ]
        if not self.model and self.output == "bm25":
            options.remove("output=bm25")
            return "?".join(["bm25", *(["&".join(options)] if options else [])])
        return "?".join([self.model, *(["&".join(options)] if options else [])])

    def with_(self, **changes: Any) -> Variant:
        """Return a copy with some options changed."""
        return replace(self, **changes)

    @property
    def searches(self) -> bool:
        """Whether the variant only searches, without vectors that could be compared one by one."""
        return bool(self.output in ("bm25", "hybrid") or self.rerank or self.chunker)


def _require_known(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise InputError(f"Unknown {what} {value!r}. {nearest(value, known)}", param=what)


def _parse_integer(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise InputError(f"{name} must be a whole number, not {value!r}.", param=name)
    return int(value)
