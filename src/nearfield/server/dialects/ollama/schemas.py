"""Request and response structs of Ollama's API."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.models.names import MAX_NAME_LENGTH

#: Null stands for what is left out, in each field: Go's decoder reads it so.
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)] | None
KeepAlive = float | Annotated[str, msgspec.Meta(max_length=64)]
#: Schema of ``Input``, which accepts any value, so that others than text are refused with Ollama's message.
_INPUT_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Input = Annotated[JsonValue, msgspec.Meta(extra_json_schema=_INPUT_SCHEMA)]


class OllamaEmbedRequest(msgspec.Struct):
    """Body of POST /api/embed. ``options`` are accepted and ignored: none applies to embedding models."""

    model: Name = ""
    input: Input = None
    truncate: bool | None = True
    dimensions: int | None = None
    keep_alive: KeepAlive | None = None
    options: dict[str, JsonValue] | None = None
    name: Name = ""


class OllamaEmbedReply(msgspec.Struct, omit_defaults=True):
    """Response body of POST /api/embed: a vector of unit length for each input, and nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class OllamaPromptRequest(msgspec.Struct):
    """Body of POST /api/embeddings."""

    model: Name = ""
    prompt: str | None = ""
    keep_alive: KeepAlive | None = None
    options: dict[str, JsonValue] | None = None
    name: Name = ""


class OllamaPromptReply(msgspec.Struct):
    """Response body of POST /api/embeddings: one vector, not scaled to unit length."""

    embedding: list[float]


class OllamaModelRequest(msgspec.Struct):
    """A body that names a model; ``name`` is the older name of the field."""

    model: Name = ""
    name: Name = ""
    verbose: bool | None = False


class OllamaPullRequest(msgspec.Struct):
    """Body of POST /api/pull."""

    model: Name = ""
    name: Name = ""
    stream: bool | None = True
    insecure: bool | None = False


class OllamaDetails(msgspec.Struct):
    """Format, family and size of a model; empty if unknown."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(msgspec.Struct):
    """A model of the list; ``size`` is that of its files."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails
    capabilities: list[str]


class OllamaTagsReply(msgspec.Struct):
    """Response body of GET /api/tags: the served models."""

    models: list[OllamaModel]


class OllamaRunningModel(msgspec.Struct):
    """A loaded model; ``size`` is the memory it uses."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    expires_at: str
    size_vram: int
    context_length: int


class OllamaProcessesReply(msgspec.Struct):
    """Response body of GET /api/ps: the loaded models."""

    models: list[OllamaRunningModel]


class OllamaShowReply(msgspec.Struct):
    """Response body of POST /api/show; ``model_info`` uses the names of GGUF."""

    license: str
    details: OllamaDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaVersionReply(msgspec.Struct):
    """Response body of GET /api/version."""

    version: str


class OllamaError(msgspec.Struct):
    """Body of an error response."""

    error: str
