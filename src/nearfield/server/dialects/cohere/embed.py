"""Cohere's embed API: request bodies to exchanges, and vectors to response bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nearfield.errors import InputError
from nearfield.media.content import MixedContent
from nearfield.media.decoding import PictureHeader
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.cohere.responses import reply_meta
from nearfield.server.dialects.cohere.schemas import (
    CohereContent,
    CohereEmbedRequest,
    CohereEmbedV1Request,
    CohereInput,
)
from nearfield.server.dialects.schemas import to_base64
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeOptions
from nearfield.server.exchange.content_parts import join_parts, pictures_of
from nearfield.server.exchange.picture_inputs import picture_from_text
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
    if (request.texts is None) == (request.images is None):
        problem = "is missing: send a list of texts, or images" if request.texts is None else "and images are present"
        raise InputError(f"texts {problem}.", param="texts")
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
    field = next((name for name in ("texts", "images") if getattr(request, name) is not None), "inputs")
    inputs = _read_inputs(request, context)
    if request.input_type == "image" and any(isinstance(item, str) for item in inputs):
        raise InputError(
            "input_type is 'image', and the request has texts. Send images, or another input_type.", param="input_type"
        )
    options["truncate"] = _TRUNCATE[request.truncate or "END"]
    return Encode(
        model=request.model,
        inputs=inputs,
        input_field=field,
        options=EncodeOptions(**options),
        options_for=_choose_options(request.input_type, kinds),
        reply_options={**reply, "id": context.request_id, "kinds": kinds},
    )


def _read_inputs(
    request: CohereEmbedV1Request | CohereEmbedRequest, context: RequestContext
) -> Sequence[str | Image | MixedContent]:
    if request.texts is not None:
        return request.texts
    if request.images is not None:
        return [_read_picture(uri, context, f"images[{index}]", "images") for index, uri in enumerate(request.images)]
    inputs = request.inputs if isinstance(request, CohereEmbedRequest) else None
    return [_read_parts(item, index, context) for index, item in enumerate(inputs or ())]


def _read_parts(item: CohereInput, index: int, context: RequestContext) -> str | Image | MixedContent:
    """Return the input that the parts make: texts that follow one another are joined by line ends."""
    name = f"inputs[{index}]"
    if not item.content:
        raise InputError(f"{name} has no content: send at least one part with text or a picture.", param="inputs")
    return join_parts([_read_part(part, name, context) for part in item.content], name, "inputs", "\n")


def _read_part(part: CohereContent, name: str, context: RequestContext) -> str | Image:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "image_url" and part.image_url is not None:
        return _read_picture(part.image_url.url, context, name, "inputs")
    raise InputError(f"{name} has a part without its {part.type}.", param="inputs")


def _read_picture(uri: str, context: RequestContext, name: str, field: str) -> Image:
    return picture_from_text(uri, context.picture_limits, name, bare_base64=False, request_field=field)


def _choose_options(input_type: str | None, kinds: tuple[str, ...]) -> Callable[[ModelDescription], EncodeKeywords]:
    def choose(model: ModelDescription) -> EncodeKeywords:
        scaled = sorted({"int8", "uint8"} & set(kinds))
        if scaled and not model.normalized:
            raise InputError(
                f"The vectors of {model.name} are not of unit length, so that {' and '.join(scaled)} have no fixed "
                "scale. Request float, base64, binary or ubinary.",
                param="embedding_types",
            )
        return {} if input_type in (None, "image") else _input_type_options(model, input_type)

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
    pictures = [picture.header() for picture in pictures_of(exchange.inputs)]
    meta = reply_meta(reply["version"], exchange.dropped, **_billed_units(exchange, len(pictures)))
    if {"int8", "uint8"} & set(embeddings):
        low, high = unit_ranges(vectors.dim)[:, 0].tolist()
        meta["embedding_range"] = [low, high]
    body: JsonObject = {
        "response_type": "embeddings_by_type" if reply["by_type"] else "embeddings_floats",
        "id": reply["id"],
        "texts": [item for item in exchange.inputs if isinstance(item, str)],
        "embeddings": embeddings if reply["by_type"] else embeddings["float"],
        "meta": meta,
    }
    return body | ({"images": [_describe_picture(header) for header in pictures]} if pictures else {})


def _billed_units(exchange: Encode, pictures: int) -> dict[str, int]:
    """Return the tokens of the texts, and if there are pictures their number and patches."""
    if not pictures:
        return {"input_tokens": exchange.tokens}
    image_tokens = exchange.tokens_of("image")
    return {"images": pictures, "input_tokens": exchange.tokens - image_tokens, "image_tokens": image_tokens}


def _describe_picture(header: PictureHeader) -> JsonObject:
    return {
        "width": header.width,
        "height": header.height,
        "format": header.format.lower(),
        "bit_depth": header.bits,
    }


def _rows_of_type(vectors: Vectors, kind: str) -> list[object]:
    """Return float32 rows in a type of the API; int8 and uint8 have the scale of all unit vectors of that size."""
    if kind == "base64":
        return [to_base64(row) for row in vectors.data]
    return list(np.ascontiguousarray(vectors.data if kind == "float" else quantize(vectors, kind).data))
