"""Served: a model behind a URL, asked like an Encoder: by Nearfield's own API where it is one, else by OpenAI's."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nearfield.errors import InputError, MissingExtra, NearfieldError
from nearfield.progress import Progress
from nearfield.vectors.dense import Vectors, quantize

Array = np.ndarray[Any, np.dtype[Any]]
#: Texts in one request, requests at once, and how often one that was refused for want of room is sent again.
BATCH, AT_ONCE, TRIES = 64, 4, 6
#: Statuses that say: later.
_LATER = frozenset({429, 502, 503, 504})
#: Encoder's keywords, and the fields of POST /encode for them.
_FIELDS = {
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "truncate_dim": "dimensions",
    "force_truncate_dim": "force_dimensions",
}


class Client:
    """A model that a server runs.

    A server of Nearfield's is known by what it tells of its models, and is asked for roles, prompts and tasks by name.
    Any other gets each text as it is to be read: a prompt's text is put before it here, and what that server adds of
    its own is not known. Vectors are quantised here.

    Args:
        url: of the server, with or without ``/v1``.
        model: its name there.
        key: sent as a bearer token.
        timeout: seconds for one request.

    Raises:
        InputError: the URL is none, or the model is not served there.
        NearfieldError: the server does not answer, or refuses.
        MissingExtra: httpx is not installed.
    """

    def __init__(self, url: str, model: str, *, key: str | None = None, timeout: float = 300.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"A server's URL begins with http:// or https://, and is not {url!r}.", param="url")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._client = _client(key, timeout)
        try:
            told = self._told(model)
        except BaseException:
            self.close()
            raise
        #: Whether the server is one of Nearfield's.
        self.native = "fingerprint" in told
        self.name = str(told.get("id", model))
        self._asked = model
        self.prompts: tuple[str, ...] = tuple(told.get("prompts") or ())
        #: Tasks are prompts by name, and adapters that the server does not tell of.
        self.tasks: tuple[str, ...] = self.prompts
        self.fingerprint: str | None = told.get("fingerprint")

    def encode(self, texts: Sequence[str], *, show_progress_bar: bool = False, **wanted: Any) -> Vectors:
        """Encode texts; ``wanted`` are keywords of ``Encoder.encode``: role, prompt, prompt_name, task, instruction.

        Raises:
            InputError: something that this server cannot be asked for.
            NearfieldError: the server failed, or refused.
        """
        precision, unknown = wanted.pop("precision", "float32"), {*wanted} - {*_FIELDS}
        if unknown:
            raise InputError(f"{self.url} cannot be asked for {sorted(unknown)[0]}.", param=sorted(unknown)[0])
        parts = [list(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        with Progress(len(texts), shown=show_progress_bar) as progress, ThreadPoolExecutor(AT_ONCE) as pool:
            rows = list(self._counted(pool.map(lambda part: self._encode(part, wanted), parts), progress))
        if not rows:
            raise InputError("There is nothing to encode.", param="input")
        return self._quantised(np.concatenate(rows), precision)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _counted(self, rows: Iterator[Array], progress: Progress) -> Iterator[Array]:
        for part in rows:
            progress.advance(len(part), 0)
            yield part

    def _encode(self, texts: list[str], wanted: dict[str, Any]) -> Array:
        return (self._native if self.native else self._openai)(texts, wanted)

    def _native(self, texts: list[str], wanted: dict[str, Any]) -> Array:
        fields = {_FIELDS[name]: value for name, value in wanted.items() if value is not None}
        body = {"model": self._asked, "input": texts, "outputs": "dense", "encoding": "base64", **fields}
        dense = self._ask("POST", "/encode", body)["dense"]
        rows = b"".join(base64.b64decode(row) for row in dense["data"])
        return np.frombuffer(rows, "<f4").reshape(dense["shape"])

    def _openai(self, texts: list[str], wanted: dict[str, Any]) -> Array:
        odd = next((name for name in ("prompt_name", "task", "instruction") if wanted.get(name)), None)
        if odd is not None:
            raise InputError(f"{self.url} is no server of Nearfield's, and knows no {odd}: give a prompt's text.")
        prompt, body = wanted.get("prompt") or "", {"model": self._asked, "encoding_format": "float"}
        if wanted.get("truncate_dim") is not None:
            body["dimensions"] = wanted["truncate_dim"]
        told = self._ask("POST", "/v1/embeddings", {**body, "input": [prompt + text for text in texts]})
        try:
            rows = sorted(told["data"], key=lambda row: int(row["index"]))
            found = np.array([row["embedding"] for row in rows], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise NearfieldError(f"{self.url} is no OpenAI-compatible endpoint: {str(told)[:200]!r}.") from error
        if found.ndim != 2 or len(found) != len(texts):
            raise NearfieldError(f"{self.url} gave vectors of shape {found.shape} for {len(texts)} texts.")
        return found

    def _quantised(self, rows: Array, precision: str) -> Vectors:
        found = Vectors(rows, f"{self.url}/{self.name}:{rows.shape[1]}:float32", rows.shape[1])
        if precision == "float32":
            return found
        unit = bool(np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3))
        return quantize(found, precision, unit=unit)

    def _told(self, model: str) -> dict[str, Any]:
        """Return what the server says of a model; nothing where it has no list."""
        try:
            listed = self._ask("GET", "/v1/models").get("data") or []
        except _NoSuchPath:
            return {}
        found = next((each for each in listed if each.get("id") == model), None)
        if found is None and listed and all("fingerprint" in each for each in listed):
            # An alias: it is described, but not listed.
            return dict(self._ask("GET", f"/v1/models/{model}"))
        return dict(found or {})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx

        broken = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                reply = self._client.request(method, self.url + path, json=body)
            except httpx.HTTPError as error:
                # A connection that was never made is told at once; one that broke is worth another try.
                if last or not isinstance(error, broken):
                    reason = str(error) or type(error).__name__
                    raise NearfieldError(f"{self.url} does not answer: {reason}. Is a server running?") from error
                time.sleep(_seconds(None, attempt))
                continue
            if reply.status_code not in _LATER or last:
                break
            time.sleep(_seconds(reply.headers.get("retry-after"), attempt))
        if reply.status_code in (404, 405) and method == "GET" and path == "/v1/models":
            raise _NoSuchPath(path)
        if reply.status_code >= 400:
            raise NearfieldError(f"{self.url}{path} answered {reply.status_code}: {reply.text[:300]}")
        try:
            return reply.json()
        except ValueError as error:
            raise NearfieldError(f"{self.url}{path} did not answer with JSON: {reply.text[:100]!r}") from error


class _NoSuchPath(NearfieldError):
    """The server has no list of models."""


def _client(key: str | None, timeout: float) -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtra("Asking a server needs 'httpx': pip install 'nearfield[evaluate]'") from error
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(headers=headers, timeout=timeout)


def _seconds(told: str | None, attempt: int) -> float:
    """Return how long to wait: what the server says, at most a minute, or twice as long each time."""
    try:
        return min(60.0, max(0.0, float(told or "")))
    except ValueError:
        return float(min(30.0, 0.5 * 2.0**attempt))
