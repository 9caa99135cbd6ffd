"""Ollama's API, as far as it is about embeddings: https://github.com/ollama/ollama/blob/main/docs/api.md

Beside the documented: a body is read whatever its Content-Type says (the documented curl commands send none), ``name``
stands for ``model``, and errors are what Ollama's server/routes.go gives.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson

from nearfield import __version__, catalog
from nearfield.encoder import Encoder
from nearfield.errors import InputError, InputTooLong, MissingBody, ModelNotFound, NearfieldError, Overloaded
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.dialects import Reply, RequestContext, Route
from nearfield.server.exchange import Bounds, Encode, Exchange, Tokenize
from nearfield.server.models.model_pool import LONGEST_NAME, ModelEntry, ModelPool

Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
KeepAlive = float | Annotated[str, msgspec.Meta(max_length=64)]
#: Any value: what is no text is refused in Ollama's words.
Input = Annotated[
    Any, msgspec.Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
]
NDJSON = "application/x-ndjson"
#: Of a duration as Go writes it (https://pkg.go.dev/time#ParseDuration).
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h|)")
_DURATION = re.compile(r"[+-]?(?:(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+|\d+(?:\.\d*)?)")
#: Seconds from which on a time is for good.
_FOR_GOOD = 100 * 365.25 * 86_400
#: Seconds between two lines about a load.
_BEAT = 5.0
_LEVELS = {"float32": "F32", "bf16": "BF16", "bfloat16": "BF16", "float16": "F16"}


class OllamaEmbedRequest(msgspec.Struct):
    """The body of POST /api/embed. ``options`` are for other models; none of them applies to these."""

    model: Name = ""
    input: Input = None
    truncate: bool = True
    dimensions: int | None = None
    keep_alive: KeepAlive | None = None
    options: dict[str, Any] | None = None
    name: Name = ""


class OllamaEmbedReply(msgspec.Struct, omit_defaults=True):
    """The reply of POST /api/embed: a vector of unit length for each input, and nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class OllamaPromptRequest(msgspec.Struct):
    """The body of POST /api/embeddings."""

    model: Name = ""
    prompt: str = ""
    keep_alive: KeepAlive | None = None
    options: dict[str, Any] | None = None
    name: Name = ""


class OllamaPromptReply(msgspec.Struct):
    """The reply of POST /api/embeddings: one vector, as the model gives it."""

    embedding: list[float]


class OllamaNamed(msgspec.Struct):
    """A body that names a model; ``name`` is the older word for it."""

    model: Name = ""
    name: Name = ""
    verbose: bool = False


class OllamaPullRequest(msgspec.Struct):
    """The body of POST /api/pull."""

    model: Name = ""
    name: Name = ""
    stream: bool = True
    insecure: bool = False


class OllamaDetails(msgspec.Struct):
    """What a model is made of; empty where it is not known."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(msgspec.Struct):
    """A model of the list: ``size`` is that of its files."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetails
    capabilities: list[str]


class OllamaModels(msgspec.Struct):
    """The models that are served."""

    models: list[OllamaModel]


class OllamaRunning(msgspec.Struct):
    """A model that is loaded: ``size`` is the memory that it takes."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaDetails
    expires_at: str
    size_vram: int
    context_length: int


class OllamaProcesses(msgspec.Struct):
    """The models that are loaded."""

    models: list[OllamaRunning]


class OllamaShown(msgspec.Struct):
    """One model: ``model_info`` has its facts by the names of GGUF."""

    license: str
    details: OllamaDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(msgspec.Struct):
    """The server's version."""

    version: str


class OllamaError(msgspec.Struct):
    """Any reply that is no success."""

    error: str


# -- vectors ---------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Embed(Encode):
    """Texts to vectors, and the times at which that began and the model was there."""

    begun: int
    lent: int = 0

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        self.lent = time.perf_counter_ns()
        await super().run(model, bounds)


def _embed(request: OllamaEmbedRequest, _: RequestContext) -> Exchange:
    name, texts, stays = _named(request), _texts(request.input), kept_for(request.keep_alive)
    if not texts:
        return Tokenize(model=name, keep_alive=stays, reply={"model": name})
    wanted = {"normalize_embeddings": True, "truncate": "report" if request.truncate else "error"}
    return Embed(
        model=name,
        inputs=texts,
        wanted=wanted,
        by_model=lambda encoder: _cut(encoder, request.dimensions),
        keep_alive=stays,
        reply={"model": name},
        begun=time.perf_counter_ns(),
    )


def write(exchange: Exchange) -> dict[str, Any]:
    """Write the vectors; counts of zero are left out, as Go's ``omitempty`` does."""
    reply: dict[str, Any] = {"model": exchange.reply["model"], "embeddings": []}
    if not isinstance(exchange, Embed):
        return reply
    reply["embeddings"] = list(exchange.vectors.data)
    counts = {
        "total_duration": time.perf_counter_ns() - exchange.begun,
        "load_duration": exchange.lent - exchange.begun,
        "prompt_eval_count": exchange.tokens,
    }
    return {**reply, **{name: count for name, count in counts.items() if count}}


def _prompt(request: OllamaPromptRequest, _: RequestContext) -> Exchange:
    name, stays = _named(request), kept_for(request.keep_alive)
    if not request.prompt:
        return Tokenize(model=name, keep_alive=stays)
    return Encode(model=name, inputs=[request.prompt], wanted={"truncate": "report"}, keep_alive=stays)


def _write_prompt(exchange: Exchange) -> dict[str, Any]:
    return {"embedding": exchange.vectors.data[0] if isinstance(exchange, Encode) else []}


def _named(request: Any) -> str:
    name: str = request.model or request.name
    if not name:
        raise InputError("model is required", param="model")
    return name


def _texts(given: Any) -> list[str]:
    """Return the texts: an empty one, or none, asks for no vectors, but for the model to be there."""
    if given is None or isinstance(given, str):
        return [given] if given else []
    if not isinstance(given, list):
        raise InputError(
            f"invalid input type: input must be a text or a list of texts, not {_kind(given)}", param="input"
        )
    for index, item in enumerate(given):
        if not isinstance(item, str):
            raise InputError(f"invalid input type: input {index} must be a text, not {_kind(item)}", param="input")
    return given


def _kind(value: Any) -> str:
    return "null" if value is None else {"int": "number", "float": "number"}.get(kind := type(value).__name__, kind)


def _cut(encoder: Encoder, dimensions: int | None) -> Mapping[str, Any]:
    """Return the dimensions to keep: none is left out by a number as large as the vector, or by 0."""
    asked = bool(dimensions) and dimensions is not None and dimensions < encoder.dimensions
    return {"truncate_dim": dimensions} if asked else {}


def kept_for(given: KeepAlive | None) -> float | None:
    """Return the seconds for which the model stays: a number, or a duration as Go writes it; negative is for good."""
    if given is None or isinstance(given, (int, float)):
        seconds = given
    else:
        if not _DURATION.fullmatch(given):
            raise InputError(
                f"invalid keep_alive {given!r}: give seconds, or a duration such as 5m or 1h30m", param="keep_alive"
            )
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(given))
        seconds = -seconds if given.startswith("-") else seconds
    return seconds if seconds is None or seconds < _FOR_GOOD else -1.0


# -- models ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is known of a model, whether it is loaded or not."""

    name: str
    family: str = ""
    parameters: int = 0
    dimensions: int = 0
    max_length: int = 0
    outputs: Sequence[str] = ()
    licence: str = ""
    precision: str = ""
    size: int = 0
    digest: str = ""

    @classmethod
    def of(cls, name: str, model: LoadedModel | None) -> Facts:
        """Gather them from the model where it is loaded, else from the catalogue."""
        entry = catalog.find(name)
        parameters = (entry.parameters or 0) if entry is not None else 0
        if model is None:
            digest = _digest(name, entry.revision if entry is not None else None)
            if entry is None:
                return cls(name, digest=digest)
            width = entry.dimensions if entry.kind == "dense" else 0
            about = (entry.family, parameters, width, entry.max_length, (entry.kind,), entry.licence)
            return cls(name, *about, digest=digest)
        recipe = model.recipe
        return cls(
            name,
            str(recipe.config.get("model_type") or (entry.family if entry is not None else "")),
            parameters,
            recipe.dimensions if "dense" in recipe.outputs else 0,
            model.max_length,
            recipe.outputs,
            recipe.licence or "",
            _LEVELS.get(model.precision, model.precision),
            _size(recipe.folder),
            _digest(name, recipe.revision),
        )

    @property
    def details(self) -> dict[str, Any]:
        """What it is made of."""
        return {
            "parent_model": "",
            "format": "safetensors",
            "family": self.family,
            "families": [self.family] if self.family else [],
            "parameter_size": _short(self.parameters),
            "quantization_level": self.precision,
        }

    @property
    def capabilities(self) -> list[str]:
        """What it can do in this API."""
        return ["embedding"] if "dense" in self.outputs else []

    @property
    def tagged(self) -> str:
        """The name with its tag."""
        return self.name if ":" in self.name.rpartition("/")[2] else f"{self.name}:latest"


def _tags(_: None, call: RequestContext) -> dict[str, Any]:
    changed = _written(call.models.started)
    found = [(slot, Facts.of(slot.name, slot.model)) for slot in call.models.listed if call.allowed(slot.name)]
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": changed,
                "size": facts.size,
                "digest": facts.digest,
                "details": facts.details,
                "capabilities": facts.capabilities,
            }
            for slot, facts in found
            for name in (facts.tagged, *_library_names(slot, call.models))
        ]
    }


def _library_names(slot: ModelEntry, models: ModelPool) -> list[str]:
    """Return the model's name in Ollama's library, if it has one: clients look for theirs in the list."""
    entry = catalog.find(slot.name)
    tagged = min((alias for alias in entry.aliases if ":" in alias), key=len, default="") if entry is not None else ""
    base = tagged.partition(":")[0]
    name = f"{base}:latest" if entry is not None and catalog.find(base) is entry else tagged
    try:
        return [name] if name and models.slot(name) is slot else []
    except ModelNotFound:  # it means another model here
        return []


def _show(request: OllamaNamed, call: RequestContext) -> dict[str, Any]:
    facts = _find(_named(request), call.models)
    known: dict[str, str | int] = {
        "general.architecture": facts.family,
        "general.parameter_count": facts.parameters,
        f"{facts.family}.context_length": facts.max_length,
        f"{facts.family}.embedding_length": facts.dimensions,
    }
    return {
        "license": facts.licence,
        "details": facts.details,
        "model_info": {name: value for name, value in known.items() if value},
        "capabilities": facts.capabilities,
        "modified_at": _written(call.models.started),
    }


def _ps(_: None, call: RequestContext) -> dict[str, Any]:
    running = [
        (slot, Facts.of(slot.name, slot.model))
        for slot in call.models.slots
        if slot.model is not None and call.allowed(slot.name)
    ]
    return {
        "models": [
            {
                "name": facts.tagged,
                "model": facts.tagged,
                "size": slot.bytes,
                "digest": facts.digest,
                "details": facts.details,
                "expires_at": _written(time.time() + _left(slot)),
                "size_vram": 0,
                "context_length": facts.max_length,
            }
            for slot, facts in running
        ]
    }


async def _pull(request: OllamaPullRequest, call: RequestContext) -> Any:
    """Have the model there: what is not served is refused, what may be loaded is."""
    name = call.models.slot(_named(request)).name
    if request.stream:
        return Reply(_steps(name, call), media_type=NDJSON)
    await call.models.load(name, call.allowed)
    return {"status": "success"}


async def _steps(name: str, call: RequestContext) -> AsyncIterator[bytes]:
    """Tell how far a load is, each few seconds once more: whoever waits, and all between, see that it goes on."""
    yield _line(status="pulling manifest")
    loading = asyncio.ensure_future(call.models.load(name, call.allowed))
    try:
        while not (await asyncio.wait([loading], timeout=_BEAT))[0]:
            yield _line(status=f"loading {name}")
        loading.result()
        yield _line(status="success")
    except NearfieldError as error:
        yield _line(error=str(error))
    finally:
        loading.cancel()


def _line(**told: str) -> bytes:
    return orjson.dumps(told) + b"\n"


async def _delete(request: OllamaNamed, call: RequestContext) -> Any:
    """Unload a model that came on demand; its files stay for the next time. Those given at the start stay."""
    await call.models.forget(_named(request), call.allowed)
    return Reply(b"", media_type="text/plain")


def _generate(request: OllamaNamed, call: RequestContext) -> Any:
    """Refuse, as Ollama does for models that embed."""
    _find(_named(request), call.models)
    raise InputError(f"{_quoted(_named(request))} does not support generate: this server embeds (POST /api/embed)")


def _manage(_: None, __: RequestContext) -> Any:
    """Refuse what makes, copies or publishes models."""
    raise InputError("The models of this server are managed by its operator (nearfield serve NAME ...).")


def _version(_: None, __: RequestContext) -> dict[str, Any]:
    return {"version": __version__}


def _alive(_: None, __: RequestContext) -> Reply:
    return Reply(b"Ollama is running", media_type="text/plain")


def _find(name: str, models: ModelPool) -> Facts:
    """Return the facts of a model that is served, loaded or not.

    Raises:
        ModelNotFound: it is not.
    """
    slot = models.described(name)
    return Facts.of(slot.name, slot.model)


def _left(slot: ModelEntry) -> float:
    """Return the seconds until an idle model leaves."""
    if slot.keep_alive is None or slot.pinned:
        return _FOR_GOOD
    return max(0.0, slot.used + slot.keep_alive - time.monotonic())


def _written(moment: float) -> str:
    """Write a time as RFC 3339."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


def _digest(name: str, revision: str | None) -> str:
    """Return 64 hexadecimal digits that stand for the files: clients compare them, and show the first twelve."""
    return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()


@lru_cache(maxsize=256)
def _size(folder: Path) -> int:
    """Return the bytes of the files in a model's folder."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _short(count: int) -> str:
    """Write a number of parameters as Ollama does: 22.71M."""
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if count >= limit:
            return f"{count / limit:.2f}{unit}"
    return str(count) if count else ""


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


_EXAMPLE = {"model": "all-minilm", "input": ["Why is the sky blue?", "Why is the grass green?"]}


class OllamaDialect:
    """The dialect."""

    name = "ollama"
    error_type = OllamaError
    routes = (
        Route(
            "/api/embed",
            "Turn texts into unit vectors",
            _embed,
            write,
            OllamaEmbedRequest,
            OllamaEmbedReply,
            example=_EXAMPLE,
            any_content_type=True,
        ),
        Route(
            "/api/embeddings",
            "Turn one text into a vector",
            _prompt,
            _write_prompt,
            OllamaPromptRequest,
            OllamaPromptReply,
            example={"model": "all-minilm", "prompt": "Why is the sky blue?"},
            any_content_type=True,
        ),
        Route("/api/tags", "List the models", _tags, response_type=OllamaModels, method="GET"),
        Route(
            "/api/show",
            "Describe a model",
            _show,
            request_type=OllamaNamed,
            response_type=OllamaShown,
            any_content_type=True,
        ),
        Route("/api/ps", "List the models that are loaded", _ps, response_type=OllamaProcesses, method="GET"),
        Route("/api/pull", "Have a model there", _pull, request_type=OllamaPullRequest, any_content_type=True),
        Route(
            "/api/delete",
            "Unload a model",
            _delete,
            request_type=OllamaNamed,
            method="DELETE",
            scope="manage",
            any_content_type=True,
        ),
        *(
            Route(path, "Refused: models here embed", _generate, request_type=OllamaNamed, any_content_type=True)
            for path in ("/api/generate", "/api/chat")
        ),
        *(
            Route(path, "Refused: models are not made here", _manage, any_content_type=True)
            for path in ("/api/create", "/api/copy", "/api/push")
        ),
        Route("/api/version", "Tell the version", _version, response_type=OllamaVersion, method="GET"),
        Route("/", "Say that the server runs", _alive, method="GET", public=True),
    )

    def refuse(self, error: NearfieldError) -> Any:
        told = str(error)
        if isinstance(error, ModelNotFound) and error.name is not None:
            told = (
                f"model {_quoted(error.name)} not found, try pulling it first: here, the server's operator "
                f"does that (nearfield serve NAME ...). {told}"
            )
        elif isinstance(error, InputTooLong):
            told = f"the input length exceeds the context length: {told}"
        elif isinstance(error, MissingBody):
            told = "missing request body"
        elif isinstance(error, Overloaded) and error.status == 429:
            return Reply({"error": f"server busy, please try again: {told}"}, status=503)
        return {"error": told}
