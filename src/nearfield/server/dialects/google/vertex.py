"""Vertex AI's embedding API: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/multimodal-embeddings-api

Project and location in the path may be any. Instances with ``text`` and ``image`` are those of the multimodal models,
instances with ``content`` those of the models of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, JsonValue, Route
from nearfield.server.dialects.google.shared import GoogleError, TaskType, choose_options, error_body, read_picture
from nearfield.server.dialects.schemas import to_json_rows
from nearfield.server.exchange import CompositeExchange, Encode, EncodeOptions
from nearfield.server.http.request_context import RequestContext

_PATH = "/projects/{project}/locations/{location}/publishers/google/models/{model:path}:predict"


class VertexImage(msgspec.Struct, forbid_unknown_fields=True):
    """The file of a picture in base64. ``gcsUri`` is known but refused: nothing is fetched from Google's storage."""

    bytesBase64Encoded: str | None = None  # noqa: N815 - its name in the API
    gcsUri: str | None = None  # noqa: N815 - its name in the API
    mimeType: str | None = None  # noqa: N815 - its name in the API


class VertexInstance(msgspec.Struct):
    """One input: ``text`` and ``image``, each of which gets a vector; or ``content``, a text."""

    text: str | None = None
    image: VertexImage | None = None
    video: JsonValue = None
    content: str | None = None
    task_type: TaskType | None = None
    title: str | None = None


class VertexParameters(msgspec.Struct):
    """Number of dimensions by both names, and whether texts that are too long are truncated."""

    dimension: int | None = None
    outputDimensionality: int | None = None  # noqa: N815 - its name in the API
    autoTruncate: bool = True  # noqa: N815 - its name in the API


class VertexRequest(msgspec.Struct):
    """Body of POST .../models/{model}:predict."""

    instances: list[VertexInstance]
    parameters: VertexParameters | None = None


class VertexStatistics(msgspec.Struct):
    """Tokens that the model read of a text, and whether it was truncated."""

    token_count: int
    truncated: bool


class VertexTextEmbedding(msgspec.Struct):
    """Vector of a ``content``."""

    values: list[float]
    statistics: VertexStatistics


class VertexPrediction(msgspec.Struct, omit_defaults=True):
    """Vectors of an instance."""

    textEmbedding: list[float] | None = None  # noqa: N815 - its name in the API
    imageEmbedding: list[float] | None = None  # noqa: N815 - its name in the API
    embeddings: VertexTextEmbedding | None = None


class VertexReply(msgspec.Struct):
    """Response body, in the order of the instances."""

    predictions: list[VertexPrediction]


def _read_predict(request: VertexRequest, context: RequestContext) -> CompositeExchange:
    if not request.instances:
        raise InputError("instances is empty: send at least one.", param="instances")
    inputs: dict[str | None, list[tuple[int, str, str | Image]]] = {}
    for index, instance in enumerate(request.instances):
        for key, value in _read_instance(instance, f"instances[{index}]", context).items():
            inputs.setdefault(instance.task_type, []).append((index, key, value))
    parameters = request.parameters or VertexParameters()
    return CompositeExchange(
        parts=[_create_encode(task, items, parameters, context) for task, items in inputs.items()],
        reply_options={"count": len(request.instances)},
    )


def _read_instance(instance: VertexInstance, name: str, context: RequestContext) -> dict[str, str | Image]:
    """Return the inputs of an instance by the names that their vectors have in the response."""
    if instance.video is not None:
        raise InputError(f"{name} has a video, which is not read in this form: send it to /encode.", param="instances")
    inputs: dict[str, str | Image] = {}
    if instance.content is not None:
        inputs["embeddings"] = instance.content
    if instance.text is not None:
        inputs["textEmbedding"] = instance.text
    if instance.image is not None:
        if instance.image.bytesBase64Encoded is None:
            raise InputError(
                f"{name}.image has no bytesBase64Encoded: send the picture as base64. gcsUri is not fetched.",
                param="instances",
            )
        inputs["imageEmbedding"] = read_picture(
            instance.image.bytesBase64Encoded, context, f"{name}.image", "instances"
        )
    if not inputs:
        raise InputError(f"{name} has none of text, image and content: send at least one.", param="instances")
    return inputs


def _create_encode(
    task: str | None,
    items: Sequence[tuple[int, str, str | Image]],
    parameters: VertexParameters,
    context: RequestContext,
) -> Encode:
    """Return one exchange for the inputs of one task type."""
    size = parameters.dimension if parameters.dimension is not None else parameters.outputDimensionality
    return Encode(
        model=context.path["model"],
        inputs=[value for *_, value in items],
        input_field="instances",
        input_names=[f"instances[{index}]" for index, *_ in items],
        options=EncodeOptions(truncate_dim=size, truncate="report" if parameters.autoTruncate else "error"),
        options_for=choose_options(task),
        reply_options={"places": [(index, key) for index, key, _ in items]},
    )


def _write_predict(exchange: CompositeExchange) -> JsonObject:
    predictions: list[JsonObject] = [{} for _ in range(exchange.reply_options["count"])]
    for part in exchange.parts:
        assert isinstance(part, Encode)
        vectors = part.vectors
        for row, (values, (index, key)) in enumerate(
            zip(to_json_rows(vectors), part.reply_options["places"], strict=True)
        ):
            predictions[index][key] = values
            if key == "embeddings":
                statistics = {"token_count": _count(vectors.tokens, row), "truncated": _count(vectors.dropped, row) > 0}
                predictions[index][key] = {"values": values, "statistics": statistics}
    return {"predictions": predictions}


def _count(counts: object, row: int) -> int:
    return 0 if counts is None else int(counts[row])  # type: ignore[index]


class VertexDialect:
    """Vertex AI's embedding API."""

    name = "vertex"
    error_type = GoogleError
    routes = tuple(
        Route(
            f"/{version}{_PATH}",
            "Embed instances",
            _read_predict,
            _write_predict,
            VertexRequest,
            VertexReply,
            example={"instances": [{"text": "How tall is Mont Blanc?"}]},
        )
        for version in ("v1", "v1beta1")
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return Google's error body."""
        return error_body(error, "dimension")
