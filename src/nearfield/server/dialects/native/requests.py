"""Conversion of native request bodies to exchanges, and the choice of the response's media type."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from nearfield.errors import InputError, NotAcceptable
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.native.arrow import ARROW_TYPE
from nearfield.server.dialects.native.schemas import (
    Kind,
    NativeClassifyRequest,
    NativeContent,
    NativeEncodeRequest,
    NativePart,
    NativeRankRequest,
)
from nearfield.server.dialects.schemas import list_inputs
from nearfield.server.exchange import Encode, EncodeLateChunks, EncodeOptions, Predict, Rank, RerankOptions
from nearfield.server.exchange.content_parts import Content, join_parts
from nearfield.server.exchange.picture_inputs import picture_from_value
from nearfield.server.exchange.sound_inputs import sound_from_value
from nearfield.server.exchange.video_inputs import video_from_value
from nearfield.server.files.form_body import FormPart
from nearfield.server.http.limits import RequestLimits
from nearfield.server.http.request_body import JSON, MSGPACK
from nearfield.server.http.request_context import RequestContext

#: Names in an Accept header, and the media type that each stands for.
_MEDIA_TYPES = {
    "*/*": JSON,
    "application/*": JSON,
    JSON: JSON,
    MSGPACK: MSGPACK,
    "application/x-msgpack": MSGPACK,
    ARROW_TYPE: ARROW_TYPE,
}
#: Fields of the body, and the encoder's keywords for them.
_ENCODE_OPTIONS = {
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "adapter": "adapter",
    "dimensions": "truncate_dim",
    "force_dimensions": "force_truncate_dim",
    "normalize": "normalize_embeddings",
    "dtype": "precision",
    "truncate": "truncate",
    "max_length": "max_length",
}
#: The encoder's parameters, and the fields of the body for them.
PARAM_NAMES = {keyword: field for field, keyword in _ENCODE_OPTIONS.items()} | {"inputs": "input"}


class NativeRank(Rank):
    """A ranking that refuses the options which late-interaction models do not have."""

    def check(self, limits: RequestLimits) -> None:
        super().check(limits)
        names = ("activation", "adapter", "prompt", "max_length")
        option = next((name for name in names if getattr(self.options, name) is not None), None)
        if option is not None and self.description is not None and self.description.is_encoder:
            raise InputError(
                f"{option} does not apply to {self.description.name}: it ranks by late interaction.", param=option
            )


def read_encode(request: NativeEncodeRequest, context: RequestContext) -> Encode:
    """Convert a body of POST /encode to an exchange."""
    media_type = _choose_media_type(context, (JSON, MSGPACK, ARROW_TYPE))
    if (request.input is None) == (request.documents is None):
        raise InputError("Send either input, or documents for late chunking.", param="input")
    kinds = [request.outputs] if isinstance(request.outputs, str) else request.outputs
    if media_type == ARROW_TYPE and kinds not in (None, ["dense"]):
        raise InputError(
            f"An Arrow stream contains dense vectors only: request 'outputs': ['dense'], or accept {MSGPACK}.",
            param="outputs",
        )
    options: dict[str, Any] = {
        keyword: value for field, keyword in _ENCODE_OPTIONS.items() if (value := getattr(request, field)) is not None
    }
    reply = {"media_type": media_type, "base64": request.encoding == "base64"}
    if request.input is None:
        return _read_late_chunks(request, kinds, options, reply)
    items = [request.input] if isinstance(request.input, NativePart) else request.input
    if kinds not in (None, ["dense"]):
        options["outputs"] = kinds
    return Encode(
        model=request.model,
        inputs=[items] if isinstance(items, str) else _read_parts(items, context),
        options=EncodeOptions(**options),
        needs=("dense",) if media_type == ARROW_TYPE else tuple(kinds or ()),
        reply_options=reply,
    )


def _read_parts(
    items: Sequence[str | int | list[int] | NativePart], context: RequestContext
) -> Sequence[list[int] | Content]:
    """Return inputs with the texts and media of parts in their place."""
    if not any(isinstance(item, NativePart) for item in items):
        return list_inputs([item for item in items if not isinstance(item, NativePart)])
    return [_read_item(item, f"Input {index}", context) for index, item in enumerate(items)]


def _read_item(item: str | int | list[int] | NativePart, field: str, context: RequestContext) -> list[int] | Content:
    if isinstance(item, int):
        raise InputError(f"{field} is a number, and others are not: send token ids as a list.", param="input")
    return _read_part(item, field, context) if isinstance(item, NativePart) else item


def _read_part(part: NativePart, field: str, context: RequestContext) -> Content:
    parts = _members(part, field, context)
    if part.content is not None and parts:
        raise InputError(f"{field} has 'content' and other parts: put all of them into 'content'.", param="input")
    for number, member in enumerate(part.content or ()):
        parts += _members(member, f"{field}, part {number}", context)
    if not parts:
        known = ", ".join(map(repr, part.__struct_fields__))
        raise InputError(f"{field} has none of {known}: send one of them, or several together.", param="input")
    return join_parts(parts, field, "input")


def _members(part: NativeContent, field: str, context: RequestContext) -> list[str | Image | Audio | Video]:
    parts: list[str | Image | Audio | Video] = [] if part.text is None else [part.text]
    parts += [picture_from_value(image, context.picture_limits, field) for image in _several(part.image)]
    parts += [sound_from_value(sound, context.sound_limits, field) for sound in _several(part.audio)]
    parts += [video_from_value(video, context.video_limits, field) for video in _several(part.video)]
    return parts


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def read_encode_form(parts: Sequence[FormPart]) -> dict[str, Any]:
    """Return the body that a form stands for: its texts and files are the inputs, in their order.

    Raises:
        InputError: a field has several values, or a text is not UTF-8.
    """
    body: dict[str, Any] = {}
    known = ", ".join(map(repr, NativeContent.__struct_fields__))
    for part in parts:
        if part.name in NativeContent.__struct_fields__:
            content = part.text if part.name == "text" else part.data
            body.setdefault("input", []).append({part.name: content})
        elif part.name == "outputs":
            body.setdefault("outputs", []).append(part.text)
        elif part.name in ("input", "documents"):
            raise InputError(f"A form has no {part.name}: call its parts {known}.", param=part.name)
        elif part.name in body:
            raise InputError(f"The form has {part.name!r:.100} twice.", param=part.name)
        else:
            body[part.name] = _field_of(part, known)
    return body


def _field_of(part: FormPart, known: str) -> str:
    try:
        return part.text
    except InputError as error:
        raise InputError(
            f"The part {part.name!r:.100} of the form is not UTF-8. The parts of an input are called {known}.",
            param=part.name,
        ) from error


def _read_late_chunks(
    request: NativeEncodeRequest, kinds: Sequence[Kind] | None, options: dict[str, Any], reply: JsonObject
) -> EncodeLateChunks:
    documents = request.documents or []
    if kinds not in (None, ["dense"]):
        raise InputError(
            "Late chunking computes dense vectors only: leave outputs out, or request ['dense'].", param="outputs"
        )
    if request.truncate not in (None, "error"):
        raise InputError(
            "Late chunking reads whole documents and refuses one that is too long: leave truncate out.",
            param="truncate",
        )
    if request.max_length is not None:
        raise InputError("Late chunking reads whole documents: leave max_length out.", param="max_length")
    empty = next((index for index, chunks in enumerate(documents) if not chunks), None)
    if empty is not None or not documents:
        raise InputError(
            "documents is empty." if empty is None else f"Document {empty} has no chunks: send at least one text.",
            param="documents",
        )
    return EncodeLateChunks(
        model=request.model, inputs=documents, options=EncodeOptions(**options), needs=("dense",), reply_options=reply
    )


def read_rank(request: NativeRankRequest, context: RequestContext) -> Rank:
    """Convert a body of POST /rank to an exchange."""
    return NativeRank(
        model=request.model,
        query=_read_ranked(request.query, "query", context),
        documents=[
            _read_ranked(document, f"Document {index}", context) for index, document in enumerate(request.documents)
        ],
        top_k=request.top_k,
        options=_rerank_options(request),
        reply_options={
            "media_type": _choose_media_type(context, (JSON, MSGPACK)),
            "documents": request.return_documents,
        },
    )


def _read_ranked(item: str | NativePart, field: str, context: RequestContext) -> str | Image | MixedContent:
    ranked = item if isinstance(item, str) else _read_part(item, field, context)
    if isinstance(ranked, (Audio, Video)):
        raise InputError(f"{field} is a sound or a video, and no model here ranks these.", param="documents")
    return ranked


def read_classify(request: NativeClassifyRequest, context: RequestContext) -> Predict:
    """Convert a body of POST /classify to an exchange."""
    return Predict(
        model=request.model,
        inputs=[request.input] if isinstance(request.input, str) else request.input,
        options=_rerank_options(request),
        reply_options={"media_type": _choose_media_type(context, (JSON, MSGPACK))},
    )


def _rerank_options(request: NativeRankRequest | NativeClassifyRequest) -> RerankOptions:
    truncate = request.truncate or "report"
    return RerankOptions(request.activation, truncate, request.adapter, request.prompt, request.max_length)


def _choose_media_type(context: RequestContext, supported: Sequence[str]) -> str:
    """Return the supported media type that Accept prefers; JSON without an Accept header.

    Raises:
        NotAcceptable: Accept names no supported media type.
    """
    accepted = [
        _parse_accept_part(part) for part in context.headers.get("accept", "").lower().split(",") if part.strip()
    ]
    if not accepted:
        return JSON
    preferred = sorted(accepted, key=lambda part: -part[0])
    types = [_MEDIA_TYPES.get(name, "") for weight, name in preferred if weight > 0]
    possible = [name for name in types if name in supported]
    if ARROW_TYPE in possible and find_spec("pyarrow") is None:
        possible = [name for name in possible if name != ARROW_TYPE]
        if not possible:
            raise NotAcceptable("Arrow streams need pyarrow, which is not installed: pip install 'nearfield[parquet]'.")
    if not possible:
        raise NotAcceptable(f"Accept names none of the supported media types: {', '.join(supported)}.")
    return possible[0]


def _parse_accept_part(part: str) -> tuple[float, str]:
    """Return weight (RFC 9110, 12.4.2) and media type of one part of an Accept header."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return float(weight), name
    except ValueError:
        return 1.0, name
