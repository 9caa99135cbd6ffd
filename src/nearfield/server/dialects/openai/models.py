"""OpenAI's list and description of the served models, with the fields that Cohere's clients read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from nearfield import catalog
from nearfield.errors import InputError
from nearfield.server.dialects import JsonObject
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.model_entry import ModelEntry

#: Endpoint of Cohere's API that a model with each output serves.
_COHERE_ENDPOINTS = {"dense": "embed", "multivector": "rerank", "scores": "rerank"}


def list_models(_: None, context: RequestContext) -> JsonObject:
    """List the models. Cohere's clients may filter by endpoint, and page: ``page_token`` is the index of the first."""
    models = [_model_to_dict(entry, context) for entry in context.models.listed if context.allowed(entry.name)]
    if "endpoint" in context.query:
        field = "default_endpoints" if context.query.get("default_only", "").lower() == "true" else "endpoints"
        models = [model for model in models if context.query["endpoint"] in model[field]]
    start = _query_number(context, "page_token", default=0)
    stop = start + _query_number(context, "page_size", default=max(1, len(models)), min_value=1)
    page = models[start:stop]
    return {
        "object": "list",
        "data": page,
        "models": page,
        "next_page_token": str(stop) if stop < len(models) else None,
    }


def _query_number(context: RequestContext, name: str, *, default: int, min_value: int = 0) -> int:
    value = context.query.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= min_value):
        raise InputError(f"{name} must be a whole number of at least {min_value}, not {value[:80]!r}.", param=name)
    return int(value)


def get_model(_: None, context: RequestContext) -> JsonObject:
    """Return the description of one model."""
    return _model_to_dict(context.models.known_entry(context.path["model"], context.allowed), context)


def _model_to_dict(entry: ModelEntry, context: RequestContext) -> dict[str, Any]:
    model = entry.description
    facts = OpenAiModelFacts.from_catalog(entry.name) if model is None else OpenAiModelFacts.from_description(model)
    return {
        "id": entry.name,
        "object": "model",
        "created": context.models.started,
        "owned_by": entry.owner,
        **asdict(facts),
        "state": entry.state,
        "name": entry.name,
        "is_deprecated": False,
        "default_endpoints": [
            endpoint for endpoint in facts.endpoints if model is not None and _default_model(context, endpoint) is model
        ],
        "finetuned": False,
        "context_length": facts.max_length,
        "tokenizer_url": f"{_client_origin(context)}/v1/tokenizers/{quote(entry.name)}",
    }


@dataclass(frozen=True)
class OpenAiModelFacts:
    """Facts of a model, loaded or not; 0, None or empty if unknown."""

    dimensions: int = 0
    max_length: int = 0
    outputs: Sequence[str] = ()
    prompts: Sequence[str] = ()
    fingerprint: str | None = None
    #: Number format of a loaded model's arithmetic.
    precision: str | None = None
    #: The devices of a loaded model.
    devices: Sequence[str] = ()
    licence: str | None = None
    endpoints: Sequence[str] = ()

    @classmethod
    def from_description(cls, model: ModelDescription) -> OpenAiModelFacts:
        """Create the facts of a loaded model."""
        return cls(
            dimensions=model.dimensions,
            max_length=model.max_length,
            outputs=list(model.outputs),
            prompts=sorted(model.prompts),
            fingerprint=model.fingerprint,
            precision=model.precision,
            devices=list(model.devices),
            licence=model.licence,
            endpoints=cohere_endpoints(model),
        )

    @classmethod
    def from_catalog(cls, name: str) -> OpenAiModelFacts:
        """Create the facts of a model that is not loaded, as far as the catalogue knows them."""
        entry = catalog.find_by_id(name)
        if entry is None:
            return cls()
        endpoint = _COHERE_ENDPOINTS.get(entry.kind)
        return cls(
            dimensions=entry.dimensions if entry.kind != "scores" else 0,
            max_length=entry.max_length,
            outputs=[entry.kind],
            prompts=sorted(entry.prompts),
            licence=entry.licence,
            endpoints=[endpoint] if endpoint is not None else [],
        )


def cohere_endpoints(model: ModelDescription) -> list[str]:
    """Return the endpoints of Cohere's API that a model serves."""
    if not model.is_encoder:
        return ["rerank"] if model.is_reranker else []
    return [_COHERE_ENDPOINTS[output] for output in model.outputs if output in _COHERE_ENDPOINTS]


def _default_model(context: RequestContext, endpoint: str) -> ModelDescription | None:
    """Return the model that serves an endpoint if a request names none."""
    models = (model for model in context.models.descriptions if context.allowed(model.name))
    return next((model for model in models if endpoint in cohere_endpoints(model)), None)


def _client_origin(context: RequestContext) -> str:
    """Return scheme and host as the client wrote them."""
    return f"{context.scheme}://{context.headers.get('host', 'localhost')}"
