"""The form of Amazon Titan's embedding models.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-mm.html
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html

A text and a picture together give the average of their two vectors, as Amazon documents; it is shorter than they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject
from nearfield.server.exchange import Encode, EncodeOptions
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.vectors.dense import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def read_titan(request: TitanRequest, context: RequestContext) -> Encode:
    """Convert a body in Titan's form to an exchange."""
    inputs: list[str | Image] = [] if request.inputText is None else [request.inputText]
    if request.inputImage is not None:
        picture = picture_from_text(
            request.inputImage, context.picture_limits, "inputImage", request_field="inputImage"
        )
        inputs.append(picture)
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


def write_titan(exchange: Encode) -> JsonObject:
    """Return the vector, or the average of those of the text and the picture."""
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
