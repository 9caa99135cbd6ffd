"""SIE's list and description of the served models."""

from __future__ import annotations

from dataclasses import dataclass, field

from nearfield import catalog
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.dialects.sie.requests import model_name
from nearfield.server.dialects.sie.responses import VERSION_HEADERS
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.model_entry import ModelEntry


def is_sdk_request(context: RequestContext) -> bool:
    """Return whether a request to a path that OpenAI's API has, too, comes from SIE's SDK."""
    return "x-sie-sdk-version" in context.headers


def list_models(_: None, context: RequestContext) -> Reply:
    """Return the served models."""
    models = [_model_to_dict(entry) for entry in context.models.listed if context.allowed(entry.name)]
    return Reply({"models": models}, headers=VERSION_HEADERS)


def get_model(_: None, context: RequestContext) -> Reply:
    """Return the description of one model."""
    return Reply(
        _model_to_dict(context.models.known_entry(model_name(context), context.allowed)), headers=VERSION_HEADERS
    )


@dataclass(frozen=True)
class SieModelFacts:
    """Facts of a model, loaded or not; 0, None or empty if unknown."""

    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ()
    dims: dict[str, int] = field(default_factory=dict)
    max_length: int = 0
    revision: str | None = None

    @classmethod
    def from_entry(cls, entry: ModelEntry) -> SieModelFacts:
        """Create the facts from the model if it is loaded, otherwise from the catalogue."""
        model = entry.description
        if model is not None:
            return cls(model.modalities, model.outputs, dict(model.sizes), model.max_length, model.revision)
        known = catalog.find_by_id(entry.name)
        if known is None:
            return cls()
        dims = {known.kind: known.dimensions} if known.kind != "scores" else {}
        return cls(known.reads, (known.kind,), dims, known.max_length, known.revision)


def _model_to_dict(entry: ModelEntry) -> JsonObject:
    facts = SieModelFacts.from_entry(entry)
    return {
        "name": entry.name,
        "inputs": list(facts.inputs),
        "outputs": ["score" if output == "scores" else output for output in facts.outputs],
        "dims": facts.dims,
        "loaded": entry.description is not None,
        "state": entry.state,
        "last_error": entry.error or None,
        "max_sequence_length": facts.max_length,
        "profiles": {"default": {"is_default": True}},
        "revision": facts.revision,
        "capabilities": None,
        "routing": {"policy": None, "upstream_kind": None},
    }
