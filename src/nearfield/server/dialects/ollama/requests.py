"""Conversion of Ollama's request bodies to exchanges, and of its durations to seconds."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from nearfield.errors import InputError
from nearfield.server.dialects.ollama.schemas import (
    KeepAlive,
    OllamaEmbedRequest,
    OllamaModelRequest,
    OllamaPromptRequest,
    OllamaPullRequest,
)
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeOptions, Exchange, Tokenize
from nearfield.server.http.limits import RequestLimits
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription

#: Units of a duration as Go writes it (https://pkg.go.dev/time#ParseDuration), in seconds.
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h|)")
_DURATION = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+|\d+(?:\.\d*)?)")
#: Seconds from which on a duration means forever.
FOREVER = 100 * 365.25 * 86_400


@dataclass(kw_only=True)
class EncodeTimed(Encode):
    """Texts to vectors, with the times (ns) at which the request was read and at which its model was loaded."""

    read_at: int
    loaded_at: int = 0

    def check(self, limits: RequestLimits) -> None:
        self.loaded_at = time.perf_counter_ns()  # it is called as soon as the model is loaded
        super().check(limits)


def read_embed(request: OllamaEmbedRequest, _: RequestContext) -> Exchange:
    """Convert a body of POST /api/embed to an exchange."""
    name, texts, keep_alive = model_name(request), _list_texts(request.input), parse_keep_alive(request.keep_alive)
    if not texts:
        return Tokenize(model=name, keep_alive=keep_alive, reply_options={"model": name})
    return EncodeTimed(
        model=name,
        inputs=texts,
        options=EncodeOptions(normalize_embeddings=True, truncate="error" if request.truncate is False else "report"),
        options_for=lambda model: _dimension_options(model, request.dimensions),
        keep_alive=keep_alive,
        reply_options={"model": name},
        read_at=time.perf_counter_ns(),
    )


def read_prompt(request: OllamaPromptRequest, _: RequestContext) -> Exchange:
    """Convert a body of POST /api/embeddings to an exchange."""
    name, keep_alive = model_name(request), parse_keep_alive(request.keep_alive)
    if not request.prompt:
        return Tokenize(model=name, keep_alive=keep_alive)
    return Encode(model=name, inputs=[request.prompt], keep_alive=keep_alive)


def model_name(request: OllamaEmbedRequest | OllamaPromptRequest | OllamaModelRequest | OllamaPullRequest) -> str:
    """Return the model that a body names in ``model``, or in the older field ``name``."""
    name = request.model or request.name
    if not name:
        raise InputError("model is required", param="model")
    return name


def _list_texts(value: object) -> list[str]:
    """Return the texts; an empty or missing input only loads the model."""
    if value is None or isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list):
        raise InputError(
            f"invalid input type: input must be a text or a list of texts, not {_json_type(value)}", param="input"
        )
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise InputError(f"invalid input type: input {index} must be a text, not {_json_type(item)}", param="input")
    return value


def _json_type(value: object) -> str:
    kind = type(value).__name__
    return "null" if value is None else {"int": "number", "float": "number"}.get(kind, kind)


def _dimension_options(model: ModelDescription, dimensions: int | None) -> EncodeKeywords:
    """Return the dimensions to truncate to; 0, or a number as large as the vector, leaves it whole."""
    return {"truncate_dim": dimensions} if dimensions and dimensions < model.dimensions else {}


def parse_keep_alive(value: KeepAlive | None) -> float | None:
    """Return the seconds of a number or a Go duration for which the model stays loaded; negative means forever."""
    if value is None or isinstance(value, (int, float)):
        seconds = value
    else:
        if not _DURATION.fullmatch(value):
            raise InputError(
                f"invalid keep_alive {value!r}: use seconds, or a duration such as 5m or 1h30m", param="keep_alive"
            )
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
        seconds = -seconds if value.startswith("-") else seconds
    return seconds if seconds is None or seconds < FOREVER else -1.0
