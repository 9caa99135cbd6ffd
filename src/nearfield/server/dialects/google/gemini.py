"""Gemini's embedding API: https://ai.google.dev/api/embeddings

The official client (google-genai) sends its key as ``x-goog-api-key``. Fields may have their names in JSON
(``inlineData``) or those of the protocol (``inline_data``), as in all APIs of Google.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects import JsonObject, JsonValue, Route
from nearfield.server.dialects.google.shared import GoogleError, TaskType, choose_options, error_body, read_picture
from nearfield.server.dialects.schemas import to_json_rows
from nearfield.server.exchange import CompositeExchange, Encode, EncodeOptions
from nearfield.server.exchange.content_parts import Content, join_parts
from nearfield.server.exchange.sound_inputs import sound_from_text
from nearfield.server.exchange.video_inputs import video_from_text
from nearfield.server.http.request_context import RequestContext


class GeminiData(msgspec.Struct, forbid_unknown_fields=True):
    """The file of a picture, or with a media type of audio or video that of one, in base64.

    The format is found in the bytes.
    """

    data: str
    mime_type: str | None = None
    mimeType: str | None = None  # noqa: N815 - its name in JSON
    #: A name for people, without effect.
    display_name: str | None = None
    displayName: str | None = None  # noqa: N815 - its name in JSON


class GeminiPart(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a content: text, picture, sound or video. Files at addresses are known but refused."""

    text: str | None = None
    inline_data: GeminiData | None = None
    inlineData: GeminiData | None = None  # noqa: N815 - its name in JSON
    file_data: JsonValue = None
    fileData: JsonValue = None  # noqa: N815 - its name in JSON


class GeminiContent(msgspec.Struct):
    """One input: texts, which are joined by line ends, or one picture."""

    parts: list[GeminiPart]
    role: str | None = None


class GeminiConfig(msgspec.Struct):
    """Options as newer clients send them, in a separate object."""

    task_type: TaskType | None = None
    taskType: TaskType | None = None  # noqa: N815 - its name in JSON
    output_dimensionality: int | None = None
    outputDimensionality: int | None = None  # noqa: N815 - its name in JSON
    auto_truncate: bool | None = None
    autoTruncate: bool | None = None  # noqa: N815 - its name in JSON
    title: str | None = None


class GeminiRequest(GeminiConfig):
    """Body of POST /v1beta/models/{model}:embedContent. The path names the model."""

    content: GeminiContent = msgspec.field(default_factory=lambda: GeminiContent([]))
    model: str | None = None
    embed_content_config: GeminiConfig | None = None
    embedContentConfig: GeminiConfig | None = None  # noqa: N815 - its name in JSON


class GeminiBatchRequest(msgspec.Struct):
    """Body of POST /v1beta/models/{model}:batchEmbedContents."""

    requests: list[GeminiRequest]


class GeminiEmbedding(msgspec.Struct):
    """A vector."""

    values: list[float]


class GeminiReply(msgspec.Struct):
    """Response body of ``:embedContent``."""

    embedding: GeminiEmbedding


class GeminiBatchReply(msgspec.Struct):
    """Response body of ``:batchEmbedContents``, in the order of the requests."""

    embeddings: list[GeminiEmbedding]


def _read_one(request: GeminiRequest, context: RequestContext) -> Encode:
    return _create_encode([request], [0], "content", context)


def _read_batch(request: GeminiBatchRequest, context: RequestContext) -> CompositeExchange:
    if not request.requests:
        raise InputError("requests is empty: send at least one.", param="requests")
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, item in enumerate(request.requests):
        groups.setdefault(_options_of(item), []).append(index)
    return CompositeExchange(
        parts=[_create_encode(request.requests, indices, "requests", context) for indices in groups.values()],
        reply_options={"count": len(request.requests)},
    )


def _options_of(request: GeminiRequest) -> tuple[str | None, int | None, bool | None]:
    """Return task type, dimensions, and whether texts are truncated: of the request, else of its configuration."""
    config = request.embedContentConfig or request.embed_content_config or GeminiConfig()
    task = request.taskType or request.task_type or config.taskType or config.task_type
    sizes = (
        request.outputDimensionality,
        request.output_dimensionality,
        config.outputDimensionality,
        config.output_dimensionality,
    )
    truncates = (request.autoTruncate, request.auto_truncate, config.autoTruncate, config.auto_truncate)
    return (
        task,
        next((size for size in sizes if size is not None), None),
        next((value for value in truncates if value is not None), None),
    )


def _create_encode(
    requests: Sequence[GeminiRequest], indices: Sequence[int], field: str, context: RequestContext
) -> Encode:
    """Return one exchange for the requests that have the same options."""
    task, dimensions, truncate = _options_of(requests[indices[0]])
    names = [field if field == "content" else f"{field}[{index}].content" for index in indices]
    return Encode(
        model=context.path["model"],
        inputs=[
            _read_content(requests[index].content, name, field, context)
            for index, name in zip(indices, names, strict=True)
        ],
        input_field=field,
        input_names=names,
        options=EncodeOptions(truncate_dim=dimensions, truncate="error" if truncate is False else "report"),
        options_for=choose_options(task),
        reply_options={"indices": indices},
    )


def _read_content(content: GeminiContent, name: str, field: str, context: RequestContext) -> Content:
    parts: list[str | Image | Audio | Video] = []
    for part in content.parts:
        if part.fileData or part.file_data:
            raise InputError(f"{name} has fileData, which is not fetched: send the file as inlineData.", param=field)
        if part.inlineData and part.inline_data:
            raise InputError(f"{name} has a part with inlineData and inline_data: send one of them.", param=field)
        file = part.inlineData or part.inline_data
        parts += [] if part.text is None else [part.text]
        parts += [] if file is None else [_read_file(file, name, field, context)]
        if part.text is None and file is None:
            raise InputError(f"{name} needs parts with text or inlineData.", param=field)
    if not parts:
        raise InputError(f"{name} needs parts with text or inlineData.", param=field)
    return join_parts(parts, name, field, "\n")


def _read_file(file: GeminiData, name: str, field: str, context: RequestContext) -> Image | Audio | Video:
    kind = (file.mimeType or file.mime_type or "").lower().partition("/")[0]
    if kind == "audio":
        return sound_from_text(file.data, context.sound_limits, name, request_field=field)
    if kind == "video":
        return video_from_text(file.data, context.video_limits, name, request_field=field)
    return read_picture(file.data, context, name, field)


def _write_one(exchange: Encode) -> JsonObject:
    return {"embedding": {"values": to_json_rows(exchange.vectors)[0]}}


def _write_batch(exchange: CompositeExchange) -> JsonObject:
    rows: list[JsonObject] = [{} for _ in range(exchange.reply_options["count"])]
    for part in exchange.parts:
        assert isinstance(part, Encode)
        for index, row in zip(part.reply_options["indices"], to_json_rows(part.vectors), strict=True):
            rows[index]["values"] = row
    return {"embeddings": rows}


_CONTENT = {"parts": [{"text": "How tall is Mont Blanc?"}]}


def _create_routes(version: str) -> tuple[Route, Route]:
    """Return the routes of a version of the API; the official client uses either, depending on its release."""
    return (
        Route(
            f"/{version}/models/{{model:path}}:embedContent",
            "Embed a content",
            _read_one,
            _write_one,
            GeminiRequest,
            GeminiReply,
            example={"content": _CONTENT, "taskType": "RETRIEVAL_QUERY"},
        ),
        Route(
            f"/{version}/models/{{model:path}}:batchEmbedContents",
            "Embed several contents",
            _read_batch,
            _write_batch,
            GeminiBatchRequest,
            GeminiBatchReply,
            example={"requests": [{"content": _CONTENT}]},
        ),
    )


class GeminiDialect:
    """Gemini's embedding API."""

    name = "gemini"
    error_type = GoogleError
    routes = tuple(route for version in ("v1beta", "v1") for route in _create_routes(version))

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return Google's error body."""
        return error_body(error, "outputDimensionality")
