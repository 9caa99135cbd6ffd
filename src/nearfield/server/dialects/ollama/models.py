"""Ollama's API of models: list, show, running, pull and delete."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import NoReturn

import orjson

from nearfield import catalog
from nearfield.errors import InputError, ModelNotFound, NearfieldError
from nearfield.hub.gguf import GgufFacts
from nearfield.server.dialects import JsonObject, Reply, message_of
from nearfield.server.dialects.ollama.requests import FOREVER, model_name
from nearfield.server.dialects.ollama.responses import quote_name
from nearfield.server.dialects.ollama.schemas import OllamaModelRequest, OllamaPullRequest
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.model_entry import ModelEntry
from nearfield.server.models.model_pool import ModelPool

NDJSON_TYPE = "application/x-ndjson"
#: Seconds between two progress lines while a model loads.
_PROGRESS_INTERVAL = 5.0
_QUANTIZATION_LEVELS = {
    "float32": "F32",
    "bf16": "BF16",
    "bfloat16": "BF16",
    "float16": "F16",
    "int8": "Q8_0",
    "int8-dynamic": "Q8_0",
    "int4": "Q4_0",
}


@dataclass(frozen=True)
class OllamaModelFacts:
    """Facts of a model, loaded or not; 0 or empty if unknown."""

    name: str
    family: str = ""
    parameters: int = 0
    dimensions: int = 0
    max_length: int = 0
    outputs: Sequence[str] = ()
    licence: str = ""
    precision: str = ""
    format: str = "safetensors"
    size: int = 0
    digest: str = ""

    @classmethod
    def from_entry(cls, entry: ModelEntry) -> OllamaModelFacts:
        """Create the facts from the model if it is loaded, otherwise from the catalogue."""
        known = catalog.find_by_id(entry.name)
        if entry.description is not None:
            return cls._from_description(entry.name, entry.description, known)
        digest = _digest_model(entry.name, known.revision if known is not None else None)
        if known is None:
            return cls(entry.name, digest=digest)
        return cls(
            entry.name,
            family=known.family,
            parameters=known.parameters or 0,
            dimensions=known.dimensions if known.kind == "dense" else 0,
            max_length=known.max_length,
            outputs=(known.kind,),
            licence=known.licence,
            digest=digest,
        )

    @classmethod
    def _from_description(
        cls, name: str, model: ModelDescription, known: catalog.CatalogEntry | None
    ) -> OllamaModelFacts:
        facts = cls(
            name,
            family=model.architecture or (known.family if known is not None else ""),
            parameters=(known.parameters or 0) if known is not None else 0,
            dimensions=model.dimensions if "dense" in model.outputs else 0,
            max_length=model.max_length,
            outputs=model.outputs,
            licence=model.licence or "",
            precision=_QUANTIZATION_LEVELS.get(model.precision, model.precision),
            size=model.disk_bytes,
            digest=_digest_model(name, model.revision),
        )
        return facts if model.gguf is None else facts._as_gguf(model.gguf)

    def _as_gguf(self, file: GgufFacts) -> OllamaModelFacts:
        """Return the facts with those that Ollama reads from the file itself."""
        return replace(
            self, format="gguf", family=file.architecture, parameters=file.parameters, precision=file.file_type
        )

    @property
    def details(self) -> JsonObject:
        """The object ``details`` of a model."""
        return {
            "parent_model": "",
            "format": self.format,
            "family": self.family,
            "families": [self.family] if self.family else [],
            "parameter_size": _format_count(self.parameters),
            "quantization_level": self.precision,
        }

    @property
    def capabilities(self) -> list[str]:
        """Capabilities of the model in this API."""
        return ["embedding"] if "dense" in self.outputs else []

    @property
    def tagged(self) -> str:
        """The name with its tag."""
        return self.name if ":" in self.name.rpartition("/")[2] else f"{self.name}:latest"


def list_models(_: None, context: RequestContext) -> JsonObject:
    """Return the served models, under their own names and those of Ollama's library."""
    modified = _format_time(context.models.started)
    models: list[JsonObject] = []
    for entry in context.models.listed:
        if not context.allowed(entry.name):
            continue
        facts = OllamaModelFacts.from_entry(entry)
        for name in (facts.tagged, *_library_names(entry, context.models)):
            models.append(
                {
                    "name": name,
                    "model": name,
                    "modified_at": modified,
                    "size": facts.size,
                    "digest": facts.digest,
                    "details": facts.details,
                    "capabilities": facts.capabilities,
                }
            )
    return {"models": models}


def _library_names(entry: ModelEntry, models: ModelPool) -> list[str]:
    """Return the model's name in Ollama's library, if it has one: clients look for that name in the list."""
    known = catalog.find_by_id(entry.name)
    if known is None:
        return []
    tagged = min((alias for alias in known.aliases if ":" in alias), key=len, default="")
    base = tagged.partition(":")[0]
    name = f"{base}:latest" if catalog.find(base) is known else tagged
    try:
        return [name] if name and models.entry(name).name == entry.name else []
    except ModelNotFound:  # on this server the name belongs to another model
        return []


def show_model(request: OllamaModelRequest, context: RequestContext) -> JsonObject:
    """Return the facts of one model."""
    facts = _find_facts(model_name(request), context)
    info: dict[str, str | int] = {
        "general.architecture": facts.family,
        "general.parameter_count": facts.parameters,
        f"{facts.family}.context_length": facts.max_length,
        f"{facts.family}.embedding_length": facts.dimensions,
    }
    return {
        "license": facts.licence,
        "details": facts.details,
        "model_info": {name: value for name, value in info.items() if value},
        "capabilities": facts.capabilities,
        "modified_at": _format_time(context.models.started),
    }


def list_running(_: None, context: RequestContext) -> JsonObject:
    """Return the loaded models."""
    models: list[JsonObject] = []
    for entry in context.models.entries:
        if entry.description is None or not context.allowed(entry.name):
            continue
        facts = OllamaModelFacts.from_entry(entry)
        models.append(
            {
                "name": facts.tagged,
                "model": facts.tagged,
                "size": entry.bytes,
                "digest": facts.digest,
                "details": facts.details,
                "expires_at": _format_time(time.time() + _seconds_left(entry)),
                "size_vram": 0,
                "context_length": facts.max_length,
            }
        )
    return {"models": models}


async def pull_model(request: OllamaPullRequest, context: RequestContext) -> object:
    """Load a model that the server may load on demand, and stream the progress if requested.

    Raises:
        ModelNotFound: the server does not serve the model.
    """
    name = context.models.entry(model_name(request)).name
    if request.stream is not False:
        return Reply(_stream_progress(name, context), media_type=NDJSON_TYPE)
    await context.models.load(name, context.allowed)
    return {"status": "success"}


async def _stream_progress(name: str, context: RequestContext) -> AsyncIterator[bytes]:
    """Load a model and yield its status, repeated while loading so that clients and proxies do not time out."""
    yield _encode_line(status="pulling manifest")
    loading = asyncio.ensure_future(context.models.load(name, context.allowed))
    try:
        while not (await asyncio.wait([loading], timeout=_PROGRESS_INTERVAL))[0]:
            yield _encode_line(status=f"loading {name}")
        loading.result()
        yield _encode_line(status="success")
    except NearfieldError as error:
        yield _encode_line(error=message_of(error))
    finally:
        loading.cancel()


def _encode_line(**fields: str) -> bytes:
    return orjson.dumps(fields) + b"\n"


async def delete_model(request: OllamaModelRequest, context: RequestContext) -> Reply:
    """Unload a model that was loaded on demand; its files stay on disk. Models named at the start are refused."""
    await context.models.remove(model_name(request), context.allowed)
    return Reply(b"", media_type="text/plain")


def refuse_generate(request: OllamaModelRequest, context: RequestContext) -> NoReturn:
    """Refuse to generate text, as Ollama does for embedding models."""
    _find_facts(model_name(request), context)
    raise InputError(
        f"{quote_name(model_name(request))} does not support generate: this server embeds (POST /api/embed)"
    )


def refuse_manage(_: None, __: RequestContext) -> NoReturn:
    """Refuse to create, copy or publish a model."""
    raise InputError("The models of this server are managed by its operator (nearfield serve NAME ...).")


def _find_facts(name: str, context: RequestContext) -> OllamaModelFacts:
    """Return the facts of a served model, loaded or not.

    Raises:
        ModelNotFound: the server does not serve it.
        Forbidden: the client may not use it.
    """
    return OllamaModelFacts.from_entry(context.models.known_entry(name, context.allowed))


def _seconds_left(entry: ModelEntry) -> float:
    """Return the seconds after which an idle model is unloaded."""
    if entry.keep_alive is None or entry.pinned:
        return FOREVER
    return max(0.0, entry.last_used + entry.keep_alive - time.monotonic())


def _format_time(seconds: float) -> str:
    """Return a Unix time as RFC 3339."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _digest_model(name: str, revision: str | None) -> str:
    """Return 64 hexadecimal digits that identify the files: clients compare them, and show the first twelve."""
    return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()


def _format_count(count: int) -> str:
    """Return a number of parameters as Ollama writes it: 7.6B, 22.71M, 22M, 512K."""
    for limit, unit, digits in ((1_000_000_000, "B", 1), (1_000_000, "M", 2), (1_000, "K", 0)):
        if count >= limit:
            return f"{count / limit:.{digits if count % limit else 0}f}{unit}"
    return str(count) if count else ""
