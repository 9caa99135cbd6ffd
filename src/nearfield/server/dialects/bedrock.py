"""Amazon Titan's embedding models on Bedrock, as boto3's ``invoke_model`` calls them.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-mm.html
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html

A text and a picture together give the average of their two vectors, as Amazon documents; it is shorter than they are.
The signature of a request is not checked. A key is read as a bearer token, which boto3 sends if the variable
``AWS_BEARER_TOKEN_BEDROCK`` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError, NearfieldError
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, Reply, Route, message_of
from nearfield.server.exchange import Encode, EncodeOptions
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.vectors.dense import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bedrock's name of a status: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
_ERROR_NAMES = {
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


class TitanConfig(msgspec.Struct):
    """Number of dimensions of the vector."""

    outputEmbeddingLength: int | None = None  # noqa: N815 - its name in the API


class TitanRequest(msgspec.Struct):
    """Body of POST /model/{model}/invoke: a text, a picture as base64, or both.

    ``embeddingConfig`` is of the multimodal models; ``dimensions``, ``normalize`` and ``embeddingTypes`` are of the
    models of texts.
    """

    inputText: str | None = None  # noqa: N815 - its name in the API
    inputImage: str | None = None  # noqa: N815 - its name in the API
    embeddingConfig: TitanConfig | None = None  # noqa: N815 - its name in the API
    dimensions: int | None = None
    normalize: bool | None = None
    embeddingTypes: list[Literal["float", "binary"]] | None = None  # noqa: N815 - its name in the API


class TitanReply(msgspec.Struct, omit_defaults=True):
    """Response body. ``embeddingsByType`` is there if the request names types; binary has a 0 or 1 per dimension."""

    embedding: list[float]
    inputTextTokenCount: int  # noqa: N815 - its name in the API
    embeddingsByType: dict[str, list[float]] | None = None  # noqa: N815 - its name in the API


class BedrockError(msgspec.Struct):
    """Body of an error response; the header ``x-amzn-errortype`` names its kind."""

    message: str


def _read_invoke(request: TitanRequest, context: RequestContext) -> Encode:
    inputs: list[str | Image] = [] if request.inputText is None else [request.inputText]
    if request.inputImage is not None:
        limits = context.limits.pictures if context.limits is not None else None
        inputs.append(picture_from_text(request.inputImage, limits, "inputImage", request_field="inputImage"))
    if not inputs:
        raise InputError("inputText and inputImage are missing: send at least one.", param="inputText")
    size = request.embeddingConfig.outputEmbeddingLength if request.embeddingConfig is not None else None
    return Encode(
        model=context.path["model"],
        inputs=inputs,
        input_field="inputText" if request.inputImage is None else "inputImage",
        options=EncodeOptions(
            truncate_dim=size if size is not None else request.dimensions, normalize_embeddings=request.normalize
        ),
        reply_options={"types": tuple(request.embeddingTypes or ())},
    )


def _write_invoke(exchange: Encode) -> JsonObject:
    row = _mean_row(exchange.vectors)
    by_type: dict[str, Any] = {"float": row, "binary": (row > 0).astype(np.uint8)}
    types = {name: by_type[name] for name in exchange.reply_options["types"]}
    body: JsonObject = {
        "embedding": row,
        "inputTextTokenCount": exchange.tokens_of("text"),
    }
    return body | ({"embeddingsByType": types} if types else {})


def _mean_row(vectors: Vectors) -> NDArray[np.float32]:
    """Return the only row, or the average of the text's and the picture's."""
    data = np.asarray(vectors.data, np.float32)
    return np.ascontiguousarray(data[0] if len(data) == 1 else data.mean(axis=0))


class BedrockDialect:
    """Titan's models on Bedrock."""

    name = "bedrock"
    error_type = BedrockError
    routes = (
        Route(
            "/model/{model:path}/invoke",
            "Embed a text, a picture, or both",
            _read_invoke,
            _write_invoke,
            TitanRequest,
            TitanReply,
            example={"inputText": "How tall is Mont Blanc?"},
        ),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Return Bedrock's error body, with the header by which its clients choose a class."""
        name = _ERROR_NAMES.get(
            error.status, "InternalServerException" if error.status >= 500 else "ValidationException"
        )
        message = message_of(error, dimensions="embeddingConfig.outputEmbeddingLength")
        return Reply({"message": message}, error.status, headers={"x-amzn-errortype": name})
