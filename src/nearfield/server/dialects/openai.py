"""OpenAI's embeddings and models API: https://platform.openai.com/docs/api-reference/embeddings

Beyond its own fields the body takes ours: input_type, prompt_name, instruction, truncate, embedding_dtype.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError
from nearfield.server.exchange import LONGEST_NAME, Exchange, Models
from nearfield.vectors import Vectors

Truncate = Literal["report", "error", "left", "right"]
Dtype = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
#: Arguments of the encoder that have another name in this API.
_PARAMS = {
    "precision": "embedding_dtype",
    "role": "input_type",
    "truncate_dim": "dimensions",
}
#: Characters of a complaint about a body: it may quote what it complains about.
_LONGEST_COMPLAINT = 500


class EmbeddingRequest(msgspec.Struct):
    """The body of POST /v1/embeddings."""

    input: str | list[str | int | list[int]]
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    instruction: str | None = None
    truncate: Truncate | None = None
    embedding_dtype: Dtype | None = None


class Embedding(msgspec.Struct):
    """One vector: numbers, or base64 of their bytes, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(msgspec.Struct, omit_defaults=True):
    """What was read, and what was cut off because inputs were too long."""

    prompt_tokens: int
    total_tokens: int
    truncated_tokens: int = 0


class EmbeddingReply(msgspec.Struct, omit_defaults=True):
    """The reply of POST /v1/embeddings: a vector for each input, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    #: Smallest and largest value that int8 and uint8 stand for.
    embedding_range: tuple[float, float] | None = None


class Model(msgspec.Struct):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    max_length: int
    prompts: list[str]
    fingerprint: str
    licence: str | None


class ModelList(msgspec.Struct):
    """The models that are served."""

    object: Literal["list"]
    data: list[Model]


class ErrorDetail(msgspec.Struct):
    """What was wrong, of which kind it is, and the field it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(msgspec.Struct):
    """Any reply that is no success."""

    error: ErrorDetail


_FIELDS = frozenset(EmbeddingRequest.__struct_fields__)
_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


class OpenAi:
    """The dialect."""

    name = "openai"
    encode_paths = ("/v1/embeddings", "/embeddings")
    models_path = "/v1/models"

    def read(self, body: Mapping[str, Any]) -> Exchange:
        try:
            request = msgspec.convert(body, EmbeddingRequest)
        except msgspec.ValidationError as error:
            raise _invalid(error) from error
        wanted = {
            "truncate_dim": request.dimensions,
            "role": request.input_type,
            "prompt_name": request.prompt_name,
            "instruction": request.instruction,
            "truncate": request.truncate or "report",
            "precision": request.embedding_dtype or "float32",
        }
        return Exchange(
            model=request.model,
            inputs=_inputs(request.input),
            wanted={name: value for name, value in wanted.items() if value is not None},
            reply={"base64": request.encoding_format == "base64"},
            ignored=tuple(sorted(body.keys() - _FIELDS)),
        )

    def write(self, exchange: Exchange) -> Any:
        vectors = exchange.vectors
        if vectors is None:
            raise ValueError("an Exchange without vectors cannot be written")
        rows = [_base64(row) for row in vectors.data] if exchange.reply["base64"] else _lists(vectors)
        usage = {"prompt_tokens": exchange.tokens, "total_tokens": exchange.tokens}
        if exchange.dropped:
            usage["truncated_tokens"] = exchange.dropped
        reply: dict[str, Any] = {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": exchange.model,
            "usage": usage,
        }
        if vectors.ranges is not None:
            reply["embedding_range"] = [float(vectors.ranges[0].min()), float(vectors.ranges[1].max())]
        return reply

    def refuse(self, error: NearfieldError) -> Any:
        kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
        param = getattr(error, "param", None)
        named = _PARAMS.get(param, param) if param else None
        return {"error": {"message": str(error), "type": kind, "param": named, "code": error.code}}

    def describe(self, models: Models, name: str | None) -> Any:
        if name is not None:
            return _model(models.find(name), models.started)
        return {"object": "list", "data": [_model(encoder, models.started) for encoder in models.encoders]}

    def openapi(self) -> tuple[dict[str, Any], dict[str, Any]]:
        (schema, reply, listed, model, refused), components = msgspec.json.schema_components(
            [EmbeddingRequest, EmbeddingReply, ModelList, Model, ErrorReply],
            ref_template="#/components/schemas/{name}",
        )
        refusals = {status: _told(text, refused) for status, text in _REFUSALS.items()}
        denied = {"401": refusals["401"]}
        post = {
            "summary": "Turn texts into vectors",
            "tags": ["openai"],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": _EXAMPLE}}},
            "responses": {"200": _told("A vector for each input, in order", reply), **refusals},
        }
        listing = {
            "summary": "List the models",
            "tags": ["openai"],
            "responses": {"200": _told("The models", listed), **denied},
        }
        name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        one = {
            "summary": "Describe a model",
            "tags": ["openai"],
            "parameters": [name],
            "responses": {"200": _told("The model", model), **denied, "404": refusals["404"]},
        }
        paths = {path: {"post": post} for path in self.encode_paths}
        return {**paths, self.models_path: {"get": listing}, self.models_path + "/{model}": {"get": one}}, components


_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "input_type": "query"}
_REFUSALS = {
    "400": "Something in the request is wrong; the message says what",
    "401": "No API key, or a wrong one",
    "404": "The model is not served here",
    "408": "The body did not arrive in time",
    "413": "Larger than the limits allow, or than could be done in time",
    "415": "The body is not JSON, or encoded in a way that is not read",
    "429": "Too busy; Retry-After says when to come back",
    "503": "The server is shutting down",
}


def _told(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _inputs(given: str | list[Any]) -> list[Any]:
    """Return a list of inputs: a list of integers is one input of token ids."""
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given}
    if kinds == {int}:
        return [given]
    if len(kinds) > 1:
        raise InputError("input mixes texts and token ids: send lists of one kind.", param="input")
    return given


def _invalid(error: msgspec.ValidationError) -> InputError:
    """Say which field is wrong, in the words of the API."""
    text = str(error)
    missing = re.search(r"missing required field `(\w+)`", text)
    path = re.search(r"`\$\.?(\w+)?", text)
    param = missing.group(1) if missing else path.group(1) if path else None
    shown = text if len(text) <= _LONGEST_COMPLAINT else f"{text[:200]} ... {text[-200:]}"
    return InputError(f"Invalid request: {shown}.", param=param)


def _base64(row: Any) -> str:
    return b2a_base64(np.ascontiguousarray(row).tobytes(), newline=False).decode("ascii")


def _lists(vectors: Vectors) -> Any:
    # The writer prints float32 at its shortest exact form; float16 has no form of its own there.
    return vectors.data.astype(np.float32) if vectors.precision == "float16" else np.ascontiguousarray(vectors.data)


def _model(encoder: Encoder, created: int) -> dict[str, Any]:
    owner = encoder.name.partition("/")[0] if "/" in encoder.name else "local"
    return {
        "id": encoder.name,
        "object": "model",
        "created": created,
        "owned_by": owner,
        "dimensions": encoder.dimensions,
        "max_length": encoder.max_length,
        "prompts": sorted(encoder.recipe.prompts),
        "fingerprint": encoder.fingerprint,
        "licence": encoder.recipe.licence,
    }
