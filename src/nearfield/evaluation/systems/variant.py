"""Variant: what a user asks to be measured, and its text form: a model and everything that may differ between two."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, quote

from nearfield.errors import InputError, nearest
from nearfield.vectors.quantization import PRECISIONS

OUTPUTS = ("dense", "sparse", "multivector", "bm25", "hybrid")
_WHOLE = ("dimensions", "chunk_tokens", "chunk_overlap", "rerank_depth", "max_length")
#: What may stay as it is in the text form, so that it reads well.
_PLAIN = "/:.,-_ @"


@dataclass(frozen=True)
class Variant:
    """What is measured: a model and its options. The text form is ``MODEL?dimensions=256&dtype=binary&rerank=maxsim``.

    Args:
        model: as ``nearfield.Encoder`` takes it; with ``url``, its name there; ``bm25`` where no model is.
        output: dense, sparse, multivector, bm25 (words alone), or hybrid (dense and sparse, or dense and BM25).
        dimensions: dimensions to keep of dense vectors, also where the model was not trained for it.
        dtype: float32, float16, int8, uint8, binary or ubinary: dense vectors are quantised to it.
        prompt: for queries, and for texts that are neither query nor document: the name of a prompt, the text of one,
            or ``none`` for no prompt; the model's own where left out.
        document_prompt: the same for documents.
        task: a task of the model by name (its prompt and adapter), for both sides.
        rerank: ``maxsim``, ``sentences``, ``multivector``, or the name of a cross-encoder, for what was found.
        rerank_depth: candidates that are reranked [50; by sentences 20].
        chunker: cuts documents, of which the best chunk counts: a chunker's name, or ``auto``.
        chunk_tokens: tokens of a chunk at most [128].
        chunk_overlap: tokens that a chunk repeats of the one before [19].
        fuse: how hybrid search joins two rankings: ``weighted`` or ``rrf`` [weighted].
        language: of the texts, such as ``de``, for BM25's words and for sentences [en].
        precision: of the computation, as ``nearfield.Encoder`` takes it [auto].
        max_length: tokens to read of each text [what the model reads].
        url: of an OpenAI-compatible endpoint, up to and with ``/v1``; the model then runs there.
        key_env: the environment variable that holds its key.

    Raises:
        InputError: a value is not known, or two do not go together.
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
        _known("output", self.output, OUTPUTS)
        _known("dtype", self.dtype, PRECISIONS)
        for name in _WHOLE:
            value, least = getattr(self, name), 0 if name == "chunk_overlap" else 1
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(f"{name} is a whole number of {least} or more, and not {value!r}.", param=name)
        if not self.model and self.output != "bm25":
            raise InputError("A variant needs a model, such as 'all-MiniLM-L6-v2?dimensions=256'.", param="model")
        self._together()

    def _together(self) -> None:
        """Refuse options that would be passed over."""
        quantised = self.dtype != "float32" or self.dimensions is not None
        if quantised and self.output not in ("dense", "hybrid"):
            raise InputError(
                f"dimensions and dtype are of dense vectors, and the output is {self.output}.", param="dtype"
            )
        for name, needs in (
            ("chunk_tokens", "chunker"),
            ("chunk_overlap", "chunker"),
            ("rerank_depth", "rerank"),
            ("key_env", "url"),
        ):
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise InputError(f"{name} means nothing without {needs}.", param=name)
        if self.fuse is not None and self.output != "hybrid":
            raise InputError("fuse means nothing where the output is not hybrid.", param="fuse")
        local = next((name for name in ("task", "chunker", "precision", "max_length") if getattr(self, name)), None)
        if self.url and local:
            raise InputError(f"{local} is for models that run here, not for {self.url}.", param=local)
        if self.url and (self.output != "dense" or self.rerank):
            raise InputError("An endpoint gives dense vectors: neither output nor rerank go with url.", param="url")

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read the text form.

        Raises:
            InputError: an option is unknown, given twice, or has a value that it cannot have.
        """
        model, _, query = text.partition("?")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise InputError(f"{text!r}: options are written name=value, joined by &.", param="model") from None
        told: dict[str, Any] = {}
        known = [each.name for each in fields(cls) if each.name != "model"]
        for name, value in pairs:
            _known("option of a variant", name, known)
            if name in told:
                raise InputError(f"{text!r} says {name} twice.", param=name)
            told[name] = _number(name, value) if name in _WHOLE else value
        if model == "bm25" and "output" not in told:
            model, told["output"] = "", "bm25"
        return cls(model, **told)

    def __str__(self) -> str:
        told = [
            f"{each.name}={quote(str(getattr(self, each.name)), safe=_PLAIN).replace(' ', '+')}"
            for each in fields(self)
            if each.name != "model" and getattr(self, each.name) != each.default
        ]
        if not self.model and self.output == "bm25":
            told.remove("output=bm25")
            return "?".join(["bm25", *(["&".join(told)] if told else [])])
        return "?".join([self.model, *(["&".join(told)] if told else [])])

    def with_(self, **changes: Any) -> Variant:
        """Return the same with some options changed."""
        return replace(self, **changes)

    @property
    def searches(self) -> bool:
        """Whether it can only search: there are no vectors to compare one by one."""
        return bool(self.output in ("bm25", "hybrid") or self.rerank or self.chunker)


def _known(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise InputError(f"Unknown {what} {value!r}. {nearest(value, known)}", param=what)


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise InputError(f"{name} is a whole number, and not {value!r}.", param=name)
    return int(value)
