"""The form of Amazon Nova's multimodal embeddings: one text, picture or sound in each request.

https://docs.aws.amazon.com/nova/latest/userguide/embeddings-schema.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, JsonValue
from nearfield.server.dialects.schemas import to_json_rows
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeOptions
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.exchange.sound_inputs import sound_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription

Purpose = Literal[
    "GENERIC_INDEX",
    "GENERIC_RETRIEVAL",
    "TEXT_RETRIEVAL",
    "IMAGE_RETRIEVAL",
    "VIDEO_RETRIEVAL",
    "DOCUMENT_RETRIEVAL",
    "AUDIO_RETRIEVAL",
    "CLASSIFICATION",
    "CLUSTERING",
]
_TRUNCATE = {"NONE": "error", "START": "left", "END": "right"}
#: Names of the tasks and prompts for a purpose, in order of preference; Jina calls clustering ``separation``.
_TASK_NAMES = {"CLASSIFICATION": ("classification",), "CLUSTERING": ("clustering", "separation")}


class NovaSource(msgspec.Struct, forbid_unknown_fields=True):
    """The file of a picture or sound in base64. ``s3Location`` is known but refused: nothing is fetched from S3."""

    bytes: str | None = None
    s3Location: JsonValue = None  # noqa: N815 - its name in the API


class NovaText(msgspec.Struct, forbid_unknown_fields=True):
    """A text, and which end of it is left out if it is too long. ``source`` is known but refused."""

    truncationMode: Literal["START", "END", "NONE"]  # noqa: N815 - its name in the API
    value: str | None = None
    source: JsonValue = None


class NovaFile(msgspec.Struct, forbid_unknown_fields=True):
    """A picture or a sound. Its format is found in the bytes."""

    source: NovaSource
    format: str | None = None
    detailLevel: Literal["STANDARD_IMAGE", "DOCUMENT_IMAGE"] | None = None  # noqa: N815 - its name in the API


class NovaParameters(msgspec.Struct, forbid_unknown_fields=True):
    """The input, what its vector is for, and the number of dimensions. Videos are known but refused."""

    embeddingPurpose: Purpose  # noqa: N815 - its name in the API
    embeddingDimension: int | None = None  # noqa: N815 - its name in the API
    text: NovaText | None = None
    image: NovaFile | None = None
    audio: NovaFile | None = None
    video: JsonValue = None


class NovaRequest(msgspec.Struct):
    """Body of POST /model/{model}/invoke in Nova's form."""

    taskType: Literal["SINGLE_EMBEDDING"]  # noqa: N815 - its name in the API
    singleEmbeddingParams: NovaParameters  # noqa: N815 - its name in the API
    schemaVersion: str | None = None  # noqa: N815 - its name in the API


class NovaEmbedding(msgspec.Struct):
    """The vector of the input, and which kind of input it was."""

    embeddingType: Literal["TEXT", "IMAGE", "AUDIO"]  # noqa: N815 - its name in the API
    embedding: list[float]


class NovaReply(msgspec.Struct):
    """Response body: a list of the one vector."""

    embeddings: list[NovaEmbedding]


def is_nova_request(context: RequestContext) -> bool:
    """Return whether a body is in Nova's form, which Titan's has no field of."""
    return "taskType" in context.fields


def read_nova(request: NovaRequest, context: RequestContext) -> Encode:
    """Convert a body in Nova's form to an exchange."""
    parameters = request.singleEmbeddingParams
    names = [name for name in ("text", "image", "audio", "video") if getattr(parameters, name) is not None]
    if len(names) != 1 or names == ["video"]:
        problem = f"has {' and '.join(names)}" if names else "has no input"
        raise InputError(
            f"singleEmbeddingParams {problem}: send one of text, image and audio.", param="singleEmbeddingParams"
        )
    (name,) = names
    field = f"singleEmbeddingParams.{name}"
    mode = parameters.text.truncationMode if parameters.text is not None else "END"
    return Encode(
        model=context.path["model"],
        inputs=[_read_input(parameters, field, context)],
        input_field=field,
        options=EncodeOptions(truncate_dim=parameters.embeddingDimension, truncate=_TRUNCATE[mode]),
        options_for=_choose_options(parameters.embeddingPurpose),
        reply_options={"type": name.upper()},
    )


def _read_input(parameters: NovaParameters, field: str, context: RequestContext) -> str | Image | Audio:
    if parameters.text is not None:
        if parameters.text.value is None:
            raise InputError(f"{field} has no value: nothing is fetched from a source. Send the text.", param=field)
        return parameters.text.value
    file = parameters.image or parameters.audio
    data = file.source.bytes if file is not None else None
    if data is None:
        raise InputError(f"{field}.source has no bytes: send the file as base64. S3 is not read.", param=field)
    if parameters.image is not None:
        return picture_from_text(data, context.picture_limits, field, request_field=field)
    return sound_from_text(data, context.sound_limits, field, request_field=field)


def _choose_options(purpose: Purpose) -> Callable[[ModelDescription], EncodeKeywords]:
    """Return a function that returns the role, or the model's own task, for a purpose."""

    def choose(model: ModelDescription) -> EncodeKeywords:
        if purpose not in _TASK_NAMES:
            return {"role": "document" if purpose == "GENERIC_INDEX" else "query"}
        names = {name.lower(): name for name in model.tasks}
        task = next((names[name] for name in _TASK_NAMES[purpose] if name in names), None)
        return {} if task is None else {"task": task}

    return choose


def write_nova(exchange: Encode) -> JsonObject:
    """Return the vector in a list."""
    row = to_json_rows(exchange.vectors)[0]
    return {"embeddings": [{"embeddingType": exchange.reply_options["type"], "embedding": row}]}
