"""Qdrant's inference hook: https://github.com/qdrant/qdrant/blob/master/src/common/inference/service.rs

With ``inference: {address: http://host/qdrant/infer}`` in its config, Qdrant itself sends the inputs of
points and queries.

Inputs of points are encoded as documents, those of searches as queries. Each gets the vector of the model's main
output, or of the output in its ``options``: ``Document(text=..., model=..., options={"output": "sparse"})``. Qdrant
sends its ``token`` in the body: it is used as the API key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError, NearfieldError
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, JsonValue, Route, message_of
from nearfield.server.dialects.schemas import Name, to_json_rows
from nearfield.server.exchange import CompositeExchange, Encode, EncodeOptions
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

_PURPOSE_ROLES = {"update": "document", "search": "query"}
#: Options of an input, and the encoder's keywords for them.
_OPTION_NAMES = {
    "output": "outputs",
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "adapter": "adapter",
    "mrl": "truncate_dim",
    "normalize": "normalize_embeddings",
    "truncate": "truncate",
}
#: A token in a body that is not decoded, and bytes at each end of the body in which it is searched.
_TOKEN = re.compile(rb'[{,]\s{0,8}"token"\s{0,8}:\s{0,8}("[^"\\]{1,1024}")')
_SEARCHED_BYTES = 32_768
_PARAM_NAMES = {keyword: option for option, keyword in _OPTION_NAMES.items()} | {
    "input": "inputs",
    "truncate_dim": "mrl",
}


class QdrantOptions(msgspec.Struct):
    """Options of an input.

    ``role`` overrides the purpose of the request; ``mrl`` is the number of dimensions to keep, as in Qdrant Cloud.
    """

    output: Literal["dense", "sparse", "multivector"] | None = None
    role: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    prompt: str | None = None
    instruction: str | None = None
    task: Name | None = None
    adapter: Name | None = None
    mrl: int | None = None
    normalize: bool | None = None
    truncate: Literal["report", "error", "left", "right", "chunk"] | None = None


class QdrantInput(msgspec.Struct):
    """One input: a text, or with ``data_type`` image a picture as base64, data URI or address; object is refused."""

    data: JsonValue
    model: Name
    data_type: str = "text"
    options: QdrantOptions | None = None


class QdrantRequest(msgspec.Struct):
    """Body of POST /qdrant/infer."""

    inputs: list[QdrantInput]
    inference: Literal["update", "search"] = "update"
    token: str | None = None


class QdrantSparseVector(msgspec.Struct):
    """A sparse vector."""

    indices: list[int]
    values: list[float]


class QdrantModelUsage(msgspec.Struct):
    """Number of tokens that a model read."""

    tokens: int


class QdrantUsage(msgspec.Struct):
    """Usage by model."""

    models: dict[str, QdrantModelUsage]


class QdrantReply(msgspec.Struct):
    """Response body of POST /qdrant/infer: a vector for each input, in order."""

    embeddings: list[list[float | list[float]] | QdrantSparseVector]
    usage: QdrantUsage


class QdrantError(msgspec.Struct):
    """Body of an error response."""

    error: str


def _read_infer(request: QdrantRequest, context: RequestContext) -> CompositeExchange:
    if not request.inputs:
        raise InputError("inputs is empty: send at least one.", param="inputs")
    groups: dict[tuple[str, bytes], list[int]] = {}
    for index, item in enumerate(request.inputs):
        groups.setdefault((item.model, msgspec.json.encode(item.options)), []).append(index)
    return CompositeExchange(
        parts=[_create_part(request, indices, context) for indices in groups.values()],
        reply_options={"count": len(request.inputs)},
        ignored=tuple(sorted(_unknown_options(context))),
    )


def _create_part(request: QdrantRequest, indices: Sequence[int], context: RequestContext) -> Encode:
    """Return one exchange for the inputs that have the same model and options."""
    first = request.inputs[indices[0]]
    fields = msgspec.structs.asdict(first.options or QdrantOptions())
    options: dict[str, Any] = {"role": _PURPOSE_ROLES[request.inference]}
    options |= {_OPTION_NAMES[name]: value for name, value in fields.items() if value is not None}
    return Encode(
        model=first.model,
        inputs=[_read_input(index, request.inputs[index], context) for index in indices],
        input_field="inputs",
        input_names=[f"Input {index}" for index in indices],
        options=EncodeOptions(**options),
        needs=(str(options["outputs"]),) if "outputs" in options else (),
        reply_options={"indices": indices},
    )


def _read_input(index: int, item: QdrantInput, context: RequestContext) -> str | Image:
    if item.data_type not in ("text", "image") or not isinstance(item.data, str):
        kind = item.data_type if item.data_type not in ("text", "image") else type(item.data).__name__
        raise InputError(
            f"Input {index} is {kind[:100]!r}; the models here read texts and pictures: send 'data_type': 'text' or "
            "'image', and a string.",
            param="inputs",
        )
    if item.data_type == "text":
        return item.data
    return picture_from_text(item.data, context.picture_limits, f"Input {index}", request_field="inputs")


def _unknown_options(context: RequestContext) -> set[str]:
    """Return the names of options that are ignored."""
    options = [item.get("options") or {} for item in context.body["inputs"]]
    return {f"options.{name}" for option in options for name in option.keys() - _OPTION_NAMES.keys()}


def _write_infer(exchange: CompositeExchange) -> JsonObject:
    """Return the vectors in the order of the inputs, and the tokens of each model."""
    rows: list[object] = [None] * exchange.reply_options["count"]
    models: dict[str, dict[str, int]] = {}
    for part in exchange.parts:
        assert isinstance(part, Encode)
        assert part.model is not None
        assert part.result is not None
        for index, row in zip(part.reply_options["indices"], _write_rows(part.result), strict=True):
            rows[index] = row
        usage = models.setdefault(part.model, {"tokens": 0})
        usage["tokens"] += part.tokens
    return {"embeddings": rows, "usage": {"models": models}}


def _write_rows(result: Vectors | SparseVectors | MultiVectors | Outputs) -> list[object]:
    vectors = next(iter(result.kinds.values())) if isinstance(result, Outputs) else result
    if isinstance(vectors, SparseVectors):
        return [{"indices": indices, "values": values} for indices, values in vectors]
    if isinstance(vectors, MultiVectors):
        return [np.ascontiguousarray(rows) for rows in vectors]
    return list(to_json_rows(vectors))


def _body_key(context: RequestContext) -> str | None:
    token = context.body.get("token")
    return token if isinstance(token, str) else None


def _find_key(data: bytes | bytearray) -> str | None:
    """Return the token at the beginning or end of a body. Qdrant writes it last.

    Inside a text, quotes are escaped: such a token is not found.
    """
    ends = (_TOKEN.findall(data, 0, _SEARCHED_BYTES), _TOKEN.findall(data, len(data) - _SEARCHED_BYTES))
    tokens = [token for end in ends for token in end]
    try:
        return str(msgspec.json.decode(tokens[-1], type=str)) if tokens else None
    except msgspec.DecodeError:
        return None


_INFER_EXAMPLE = {
    "inputs": [{"data": "How tall is Mont Blanc?", "data_type": "text", "model": "all-MiniLM-L6-v2"}],
    "inference": "search",
}


class QdrantDialect:
    """Qdrant's inference hook."""

    name = "qdrant"
    error_type = QdrantError
    routes = (
        Route(
            "/qdrant/infer",
            "Embed the inputs that Qdrant sends",
            _read_infer,
            _write_infer,
            QdrantRequest,
            QdrantReply,
            example=_INFER_EXAMPLE,
            body_key=_body_key,
            find_key=_find_key,
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return Qdrant's error body, whose only field Qdrant shows to its client."""
        param = getattr(error, "param", None)
        field = _PARAM_NAMES.get(param, param) if param else None
        message = message_of(error, dimensions="mrl")
        return {"error": message if field is None or field in message else f"{field}: {message}"}
