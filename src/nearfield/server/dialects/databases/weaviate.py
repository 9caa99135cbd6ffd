"""The inference container of Weaviate's module multi2vec-clip: https://github.com/weaviate/multi2vec-clip-inference

With ``CLIP_INFERENCE_API=http://host:port``, Weaviate itself sends the texts and pictures of objects and queries. The
first loaded model that reads both serves them; ``http://host:port/weaviate/MODEL`` names one. Weaviate sends no key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.server.dialects import JsonObject, Reply, Route, message_of
from nearfield.server.dialects.schemas import to_json_rows
from nearfield.server.exchange import Encode
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription

#: Where the paths begin: without a name, and with that of a model.
_PREFIXES = ("", "/weaviate/{model:path}")


class WeaviateRequest(msgspec.Struct):
    """Body of POST /vectorize: texts, and pictures in base64."""

    texts: list[str] | None = None
    images: list[str] | None = None


class WeaviateReply(msgspec.Struct):
    """Response body of POST /vectorize: a vector for each text and each picture, in order."""

    textVectors: list[list[float]]  # noqa: N815 - its name in the API
    imageVectors: list[list[float]]  # noqa: N815 - its name in the API


class WeaviateMeta(msgspec.Struct):
    """Response body of GET /meta, which Weaviate shows unchanged."""

    model: str
    model_type: str
    revision: str | None
    dimensions: int
    max_length: int
    fingerprint: str | None


class WeaviateError(msgspec.Struct):
    """Body of an error response."""

    error: str


@dataclass(kw_only=True)
class TwoTowerEncode(Encode):
    """Vectors of texts and pictures, by a model that reads both: those of all requests are in one space."""

    def fits(self, model: ModelDescription) -> bool:
        return super().fits(model) and _reads_both(model)

    def misfit(self, model: ModelDescription) -> InputError:
        if super().fits(model):
            return InputError(f"{model.name} does not read both texts and pictures.", param="model")
        return super().misfit(model)


def _reads_both(model: ModelDescription) -> bool:
    return {"text", "image"} <= set(model.modalities)


def _read_vectorize(request: WeaviateRequest, context: RequestContext) -> TwoTowerEncode:
    texts, images = request.texts or [], request.images or []
    if not texts and not images:
        raise InputError("texts and images are empty: send at least one.", param="texts")
    pictures = [
        picture_from_text(image, context.picture_limits, f"images[{index}]", request_field="images")
        for index, image in enumerate(images)
    ]
    return TwoTowerEncode(
        model=context.path.get("model"),
        inputs=[*texts, *pictures],
        input_field="images" if images else "texts",
        input_names=[
            f"{name}[{index}]"
            for name, values in (("texts", texts), ("images", images))
            for index in range(len(values))
        ],
        reply_options={"texts": len(texts)},
    )


def _write_vectorize(exchange: Encode) -> JsonObject:
    rows, texts = list(to_json_rows(exchange.vectors)), exchange.reply_options["texts"]
    return {"textVectors": rows[:texts], "imageVectors": rows[texts:]}


def _find_model(context: RequestContext) -> ModelDescription:
    """Return the description of the loaded model of the path, or of the first that reads texts and pictures."""
    name = context.path.get("model")
    if name:
        return context.models.describe(name, context.allowed)
    return context.models.first(lambda model: context.allowed(model.name) and _reads_both(model))


def _get_meta(_: None, context: RequestContext) -> JsonObject:
    model = _find_model(context)
    return {
        "model": model.name,
        "model_type": model.architecture,
        "revision": model.revision,
        "dimensions": model.dimensions,
        "max_length": model.max_length,
        "fingerprint": model.fingerprint,
    }


def _get_ready(_: None, context: RequestContext) -> Reply:
    """Return status 204 if the model is served, otherwise 404: Weaviate waits for 204 when it starts."""
    _find_model(context)
    return Reply(b"", 204)


def _get_live(_: None, __: RequestContext) -> Reply:
    return Reply(b"", 204)


def _probe(path: str, summary: str, read: Callable[[None, RequestContext], Reply]) -> Route:
    return Route(path, summary, read, method="GET", public=True)


class WeaviateDialect:
    """The container of multi2vec-clip."""

    name = "weaviate"
    error_type = WeaviateError
    routes = tuple(
        route
        for prefix in _PREFIXES
        for route in (
            Route(
                f"{prefix}/vectorize",
                "Embed texts and pictures that Weaviate sends",
                _read_vectorize,
                _write_vectorize,
                WeaviateRequest,
                WeaviateReply,
                example={"texts": ["How tall is Mont Blanc?"], "images": []},
            ),
            Route(f"{prefix}/meta", "Describe the model", _get_meta, response_type=WeaviateMeta, method="GET"),
            _probe(f"{prefix}/.well-known/ready", "Readiness probe of Weaviate", _get_ready),
            _probe(f"{prefix}/.well-known/live", "Liveness probe of Weaviate", _get_live),
        )
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return the error body, whose only field Weaviate shows to its client."""
        return {"error": message_of(error)}
