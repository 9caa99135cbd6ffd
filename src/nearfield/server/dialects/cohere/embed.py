"""Cohere's embed API: request bodies to exchanges, and vectors to response bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nearfield.errors import InputError
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.cohere.responses import reply_meta
from nearfield.server.dialects.cohere.schemas import CohereEmbedRequest, CohereEmbedV1Request, CohereInput
from nearfield.server.dialects.schemas import to_base64
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeOptions
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.dense import Vectors, quantize
from nearfield.vectors.quantization import unit_ranges

_TRUNCATE = {"NONE": "error", "START": "left", "END": "right"}
_ROLES = {"search_query": "query", "search_document": "document"}
#: Names of the tasks and prompts for an input type, in order of preference; Jina calls clustering ``separation``.
_TASK_NAMES: Mapping[str, tuple[str, ...]] = {
    "search_query": ("retrieval.query",),
    "search_document": ("retrieval.passage",),
    "classification": ("classification",),
    "clustering": ("clustering", "separation"),
}


def read_embed_v1(request: CohereEmbedV1Request, context: RequestContext) -> Encode:
    """Convert a body of POST /v1/embed to an exchange."""
    if request.texts is None and request.images is None:
        raise InputError("texts is missing: send a list of texts.", param="texts")
    kinds = tuple(dict.fromkeys(request.embedding_types or ()))
    return _create_encode(request, context, kinds or ("float",), {"version": "1", "by_type": bool(kinds)}, {})


def read_embed(request: CohereEmbedRequest, context: RequestContext) -> Encode:
    """Convert a body of POST /v2/embed to an exchange."""
    present = [name for name in ("texts", "images", "inputs") if getattr(request, name) is not None]
    if len(present) != 1:
        problem = f"{' and '.join(present)} are present" if present else "none is present"
        raise InputError(f"Exactly one of texts, images and inputs is needed, but {problem}.", param="texts")
    kinds = tuple(dict.fromkeys(request.embedding_types or ("float",)))
    options: EncodeKeywords = {"max_length": request.max_tokens, "truncate_dim": request.output_dimension}
    return _create_encode(request, context, kinds, {"version": "2", "by_type": True}, options)


def _create_encode(
    request: CohereEmbedV1Request | CohereEmbedRequest,
    context: RequestContext,
    kinds: tuple[str, ...],
    reply: Mapping[str, object],
    options: EncodeKeywords,
) -> Encode:
    if request.images is not None or request.input_type == "image":
        param = "images" if request.images is not None else "input_type"
        raise InputError("Images cannot be embedded here: the models read text only. Send texts.", param=param)
    texts = request.texts
    if texts is None and isinstance(request, CohereEmbedRequest):
        texts = [_join_parts(item, index) for index, item in enumerate(request.inputs or ())]
    options["truncate"] = _TRUNCATE[request.truncate or "END"]
    return Encode(
        model=request.model,
        inputs=texts or [],
        options=EncodeOptions(**options),
        options_for=_choose_options(request.input_type, kinds),
        reply_options={**reply, "id": context.request_id, "kinds": kinds},
    )


def _join_parts(item: CohereInput, index: int) -> str:
    """Return the texts of an input's parts, joined by line ends."""
    parts = []
    for part in item.content:
        if part.type == "image_url" or part.text is None:
            problem = "an image" if part.type == "image_url" else "a part of type text without text"
            raise InputError(f"inputs[{index}] contains {problem}: the models read text only.", param="inputs")
        parts.append(part.text)
    if not parts:
        raise InputError(f"inputs[{index}] has no content: send at least one part with text.", param="inputs")
    return "\n".join(parts)


def _choose_options(input_type: str | None, kinds: tuple[str, ...]) -> Callable[[ModelDescription], EncodeKeywords]:
    def choose(model: ModelDescription) -> EncodeKeywords:
        scaled = sorted({"int8", "uint8"} & set(kinds))
        if scaled and not model.normalized:
            raise InputError(
                f"The vectors of {model.name} are not of unit length, so that {' and '.join(scaled)} have no fixed "
                "scale. Request float, base64, binary or ubinary.",
                param="embedding_types",
            )
        return {} if input_type is None else _input_type_options(model, input_type)

    return choose


def _input_type_options(model: ModelDescription, input_type: str) -> EncodeKeywords:
    """Return the role whose prompt the model has, or the task or prompt with a name for the input type, or nothing."""
    role = _ROLES.get(input_type)
    # A model folder may list a role's prompt with an empty text, as sentence-transformers writes it.
    if role is not None and model.role_prompts.get(role):
        return {"role": role}
    names = {name.lower(): name for name in model.tasks}
    task = next((names[name] for name in _TASK_NAMES[input_type] if name in names), None)
    return {"role": role, "task": task}


def write_embed(exchange: Encode) -> JsonObject:
    """Return the response body: the vectors in each requested type."""
    reply, vectors = exchange.reply_options, exchange.vectors
    embeddings = {kind: _rows_of_type(vectors, kind) for kind in reply["kinds"]}
    meta = reply_meta(reply["version"], exchange.dropped, input_tokens=exchange.tokens)
    if {"int8", "uint8"} & set(embeddings):
        low, high = unit_ranges(vectors.dim)[:, 0].tolist()
        meta["embedding_range"] = [low, high]
    return {
        "response_type": "embeddings_by_type" if reply["by_type"] else "embeddings_floats",
        "id": reply["id"],
        "texts": list(exchange.inputs),
        "embeddings": embeddings if reply["by_type"] else embeddings["float"],
        "meta": meta,
    }


def _rows_of_type(vectors: Vectors, kind: str) -> list[object]:
    """Return float32 rows in a type of the API; int8 and uint8 have the scale of all unit vectors of that size."""
    if kind == "base64":
        return [to_base64(row) for row in vectors.data]
    return list(np.ascontiguousarray(vectors.data if kind == "float" else quantize(vectors, kind).data))
