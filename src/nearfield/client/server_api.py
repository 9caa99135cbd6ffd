"""Requests and replies of a server's API, without sending them; shared by ``Client`` and ``AsyncClient``."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from nearfield.arrays import Array
from nearfield.client.inputs import BodyInput, RemoteInput, has_files, read_input, read_inputs, to_body
from nearfield.client.results import LoadState, LoadStates, RankedDocument, Readiness, RemoteModel
from nearfield.client.retry import RetryPolicy
from nearfield.errors import InputError, NearfieldError, ServerRefused
from nearfield.message_text import count_of
from nearfield.vectors.dense import Vectors, quantize

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Unpack

T = TypeVar("T")
#: Characters of an unexpected reply that an error message quotes.
_MAX_QUOTED = 300
#: A URL that starts with it names the Unix socket of a server.
SOCKET_SCHEME = "unix:"


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[T]):
    """One request, and ``parse``, which converts the JSON of the reply into the result."""

    method: str
    path: str
    parse: Callable[[Any], T]
    body: Mapping[str, object] | None = None
    #: Statuses besides 2xx whose reply is a result.
    accepted: frozenset[int] = frozenset()
    #: ``parse`` takes the bytes of the reply, which need not be JSON.
    raw: bool = False
    #: The body has the bytes of files: it is sent as msgpack.
    binary: bool = False
    #: The caller sends several smaller requests if this one takes too long.
    divisible: bool = False

    def content(self) -> dict[str, Any]:
        """Return the arguments of httpx for the body."""
        if not self.binary:
            return {"json": self.body}
        return {"content": msgspec.msgpack.encode(self.body), "headers": {"Content-Type": "application/msgpack"}}


class RemoteEncodeOptions(TypedDict, total=False):
    """The options of ``Client.encode``; they mean what they mean for ``Encoder.encode``."""

    role: str | None
    prompt_name: str | None
    prompt: str | None
    instruction: str | None
    task: str | None
    truncate_dim: int | None
    force_truncate_dim: bool | None
    precision: str


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of both clients.

    ``key``: API key, sent as a bearer token. ``timeout``: seconds for one request, 300 by default. ``retry``: when a
    request is sent again. ``on_retry``: called before each wait, with its seconds.
    """

    key: str | None
    timeout: float
    retry: RetryPolicy
    on_retry: Callable[[float], None]


class ServerApi:
    """The base of both clients: checks their arguments, builds requests and parses replies."""

    def __init__(self, url: str, model: str | None = None, **options: Unpack[ClientOptions]) -> None:
        check_url(url)
        key = options.get("key")
        if key is not None and not (key.isascii() and key.isprintable()):
            # The message must not show the key.
            raise InputError("The API key contains characters that cannot be sent in an HTTP header.", param="key")
        #: The server's URL, without ``/v1``.
        self.url = url.rstrip("/").removesuffix("/v1")
        #: Path of the server's Unix socket.
        self._socket = self.url.removeprefix(SOCKET_SCHEME) if self.url.startswith(SOCKET_SCHEME) else None
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = options.get("timeout", 300.0)
        self._retry = options.get("retry", RetryPolicy())
        self._on_retry = options.get("on_retry")

    def _absolute(self, path: str) -> str:
        base = "http://localhost" if self._socket is not None else self.url
        return path if path.startswith(("http://", "https://")) else base + path

    def _report(self, seconds: float) -> None:
        if self._on_retry is not None:
            self._on_retry(seconds)

    def _rank_call(
        self, query: object, documents: Sequence[Any], top_k: int | None
    ) -> ApiCall[tuple[RankedDocument, ...]]:
        items = [read_input(query, "query"), *read_inputs(documents, "documents", "Document")]
        first, *others = map(to_body, items)
        body = {"query": first, "documents": others, "model": self._model, "top_k": top_k}
        parse = _parser(tuple[RankedDocument, ...])
        return ApiCall(
            "POST",
            "/rank",
            lambda content: parse(content["results"]),
            _without_none(body),
            binary=has_files([first, *others]),
        )

    def _read_inputs(self, remote: RemoteModel, inputs: object) -> list[RemoteInput]:
        """Return the inputs of a call, checked; files are not opened yet.

        Raises:
            InputError: they are no list of inputs, or the server takes texts alone and one is no text.
        """
        items = read_inputs(inputs)
        number = next((number for number, item in enumerate(items) if not isinstance(item, str)), None)
        if number is not None and not remote.native:
            raise InputError(
                f"Input {number} is no text, and {self.url} is not a Nearfield server: texts alone are sent to others.",
                param="texts",
            )
        return items

    def _encode_call(
        self, remote: RemoteModel, inputs: Sequence[BodyInput], options: RemoteEncodeOptions
    ) -> ApiCall[Array]:
        body: dict[str, object] = {"model": self._model or remote.id}
        dimensions = options.get("truncate_dim")
        if remote.native:
            named = {name: options.get(name) for name in ("role", "prompt_name", "prompt", "instruction", "task")}
            named |= {"dimensions": dimensions, "force_dimensions": options.get("force_truncate_dim")}
            body |= {"input": list(inputs), "outputs": "dense", "encoding": "base64", **_without_none(named)}
            return ApiCall("POST", "/encode", _parse_base64_rows, body, binary=has_files(inputs))
        unknown = next((name for name in ("prompt_name", "task", "instruction") if options.get(name)), None)
        if unknown is not None:
            raise InputError(
                f"{self.url} is not a Nearfield server and knows no {unknown}: pass a prompt.", param=unknown
            )
        prompt = options.get("prompt") or ""
        body |= {"encoding_format": "float", "input": [f"{prompt}{text}" for text in inputs]}
        body |= _without_none({"dimensions": dimensions})
        return ApiCall("POST", "/v1/embeddings", lambda content: self._parse_embeddings(content, len(inputs)), body)

    def _model_call(self) -> ApiCall[RemoteModel]:
        return ApiCall("GET", f"/v1/models/{quote(self._model or '')}", _parse_model)

    def _check_status(self, response: httpx.Response, call: ApiCall[T]) -> None:
        status = response.status_code
        if not response.is_success and status not in call.accepted:
            message = f"{self._absolute(call.path)} answered {status}: {_error_message(response.text)}"
            raise ServerRefused(message, response_status=status)

    def _read(self, response: httpx.Response, call: ApiCall[T]) -> T:
        self._check_status(response, call)
        if call.raw:
            return call.parse(response.content)
        try:
            content = response.json()
        except ValueError as error:
            raise self._unexpected(call.path, "is not JSON", response.text) from error
        try:
            return call.parse(content)
        except NearfieldError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unexpected(call.path, "has other fields than expected", str(content)) from error

    def _unexpected(self, path: str, problem: str, reply: str) -> NearfieldError:
        what = f"The reply of {self._absolute(path)} {problem}: {reply[:_MAX_QUOTED]!r}."
        return NearfieldError(f"{what} This is no Nearfield server, or one of another version.")

    def _parse_embeddings(self, reply: Any, count: int) -> Array:
        try:
            rows = sorted(reply["data"], key=lambda row: int(row["index"]))
            data = np.array([row["embedding"] for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise NearfieldError(f"{self.url} is no OpenAI-compatible endpoint: {str(reply)[:200]!r}.") from error
        if data.ndim != 2 or len(data) != count:
            raise NearfieldError(f"{self.url} returned vectors of shape {data.shape} for {count_of(count, 'text')}.")
        return data

    def _choose(self, listed: Sequence[RemoteModel]) -> RemoteModel | None:
        """Return the client's model from the server's list; None for a name that the list of a Nearfield server lacks.

        Raises:
            InputError: no model was named, and the server has not exactly one.
        """
        if self._model is None:
            if len(listed) != 1:
                names = ", ".join(remote.id for remote in listed) or "no list of models"
                raise InputError(f"Name a model to encode with; {self.url} has {names}.", param="model")
            return listed[0]
        match = next((remote for remote in listed if remote.id == self._model), None)
        if match is None and not (listed and all(remote.native for remote in listed)):
            return RemoteModel(self._model)
        return match

    def _without_list(self, error: ServerRefused) -> RemoteModel:
        """Return the model as named, for a server without a list of models (404, 405)."""
        if error.response_status not in (404, 405) or self._model is None:
            raise error
        return RemoteModel(self._model)

    def _vectors(self, rows: Sequence[Array], remote: RemoteModel, precision: str) -> Vectors:
        if not rows:
            raise InputError("There is nothing to encode.", param="input")
        data = np.concatenate(rows)
        vectors = Vectors(data, f"{self.url}/{remote.id}:{data.shape[1]}:float32", data.shape[1])
        if precision == "float32":
            return vectors
        unit = bool(np.allclose(np.linalg.norm(data, axis=1), 1.0, atol=1e-3))
        return quantize(vectors, precision, unit=unit)


def check_url(url: str) -> None:
    """Raise InputError unless ``url`` is an HTTP URL with a host, or ``unix:`` and the path of a socket."""
    import httpx

    if url.startswith(SOCKET_SCHEME) and len(url) > len(SOCKET_SCHEME):
        return
    if not url.startswith(("http://", "https://")):
        raise InputError(f"The URL of a server begins with http:// or https://, not {url!r}.", param="url")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"{url!r} is not a URL: {error}.", param="url") from error
    if not parsed.host or (parsed.port or 0) > 65535:
        raise InputError(f"The URL {url!r} has no host, or a port above 65535.", param="url")


def check_options(options: RemoteEncodeOptions) -> None:
    """Raise InputError for an option that no server has."""
    unknown = sorted(options.keys() - RemoteEncodeOptions.__annotations__.keys())
    if unknown:
        raise InputError(f"A server has no option {unknown[0]!r} for encoding.", param=unknown[0])


def _without_none(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _parser(kind: type[T]) -> Callable[[Any], T]:
    return lambda content: msgspec.convert(content, kind)


def _parse_model(content: Any) -> RemoteModel:
    prompts, fingerprint = tuple(content.get("prompts") or ()), content.get("fingerprint")
    return RemoteModel(str(content["id"]), "fingerprint" in content, prompts, fingerprint)


def _parse_models(content: Any) -> tuple[RemoteModel, ...]:
    return tuple(_parse_model(entry) for entry in content.get("data") or ())


def _parse_base64_rows(content: Any) -> Array:
    dense = content["dense"]
    return np.frombuffer(b"".join(map(base64.b64decode, dense["data"])), "<f4").reshape(dense["shape"])


LIST_MODELS = ApiCall("GET", "/v1/models", _parse_models)
LOAD_STATES = ApiCall("GET", "/models", _parser(LoadStates))
READINESS = ApiCall("GET", "/ready", _parser(Readiness), accepted=frozenset({503}))
METRICS = ApiCall("GET", "/metrics", lambda content: str(content, "utf-8"), raw=True)


def load_call(model: str) -> ApiCall[LoadState]:
    """Return the request that loads a model."""
    return ApiCall("POST", "/models/load", _parser(LoadState), {"model": model})


def unload_call(model: str) -> ApiCall[LoadState]:
    """Return the request that unloads a model."""
    return ApiCall("POST", "/models/unload", _parser(LoadState), {"model": model})


def json_call(method: str, path: str, body: Mapping[str, object] | None) -> ApiCall[Any]:
    """Return a request with the JSON of the reply as its result."""
    return ApiCall(method, path, lambda content: content, body)


def _error_message(text: str) -> str:
    """Return the message of an error reply: that of our server or OpenAI's API, else the beginning of the body."""
    try:
        content = json.loads(text)
    except ValueError:
        return text[:_MAX_QUOTED]
    error = content.get("detail", content.get("error")) if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else text[:_MAX_QUOTED]
