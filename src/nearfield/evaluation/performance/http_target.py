"""Endpoint: somebody else's server of embeddings, OpenAI-compatible, as something whose speed is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from nearfield.errors import InputError, MissingExtra, NearfieldError

#: Texts of a request in bulk, and requests at once.
_BATCH, _AT_ONCE = 32, 4
#: Statuses that say: later.
_LATER = frozenset({429, 503})
_TIMEOUT = 60.0


class HttpTarget:
    """``url`` is that of the API (``https://api.openai.com/v1``), ``key`` its key; ``options`` go into each request.

    A server that answers 429 or 503 is asked again when its Retry-After says, and that counts as waiting.

    Raises:
        InputError: the URL is none.
        MissingExtra: httpx is not installed.
    """

    def __init__(self, url: str, model: str, key: str | None = None, *, patience: float = 30.0, **options: Any) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"An endpoint's URL begins with http:// or https://, not {url!r}.", param="url")
        try:
            self._httpx = import_module("httpx")
        except ImportError as error:
            raise MissingExtra("Endpoints are asked by httpx: pip install 'nearfield[evaluate]'") from error
        self.name = f"{model} at {url}"
        self._url, self._model, self._options, self._patience = (
            url.rstrip("/") + "/embeddings",
            model,
            options,
            patience,
        )
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._open: Any = None
        self.refused = 0
        self.facts: dict[str, Any] = {"where": url}
        started = time.perf_counter()
        reply = asyncio.run(self._first())
        size = len(reply["data"][0]["embedding"])
        self.facts["first_answer_seconds"] = round(time.perf_counter() - started, 3)
        self.facts.update(dimensions=size, bytes_per_vector=4 * size)

    async def _first(self) -> dict[str, Any]:
        try:
            return await self._send(["hello world"])
        finally:
            await self.close()

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Send all texts by 32, four requests at once."""
        return asyncio.run(self._bulk(texts))

    async def _bulk(self, texts: Sequence[str]) -> int | None:
        waiting = iter([list(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)])
        counts: list[int | None] = []

        async def client() -> None:
            for batch in waiting:
                counts.append((await self._send(batch)).get("usage", {}).get("prompt_tokens"))

        try:
            await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
        finally:
            await self.close()
        return sum(count or 0 for count in counts) if all(counts) else None

    async def ask(self, text: str) -> None:
        """Send one text."""
        await self._send([text])

    async def close(self) -> None:
        """Close the connections; they belong to one event loop."""
        client, self._open = self._open, None
        if client is not None:
            await client.aclose()

    def _client(self) -> Any:
        if self._open is None:
            limits = self._httpx.Limits(max_connections=None)
            self._open = self._httpx.AsyncClient(headers=self._headers, timeout=_TIMEOUT, limits=limits)
        return self._open

    async def _send(self, texts: Sequence[str]) -> dict[str, Any]:
        body = {"model": self._model, "input": list(texts), **self._options}
        latest = time.monotonic() + self._patience
        while True:
            try:
                reply = await self._client().post(self._url, json=body)
            except self._httpx.HTTPError as error:
                raise NearfieldError(f"{self._url} does not answer: {error or type(error).__name__}.") from error
            if reply.status_code not in _LATER or time.monotonic() > latest:
                return self._read(reply, len(texts))
            self.refused += 1
            self.facts["refused"] = self.refused
            await asyncio.sleep(min(_seconds(reply.headers.get("retry-after")), self._patience))

    def _read(self, reply: Any, count: int) -> dict[str, Any]:
        if reply.status_code != 200:
            raise NearfieldError(f"{self._url} answered {reply.status_code}: {reply.text[:300]}")
        try:
            told: dict[str, Any] = reply.json()
            found = len(told["data"])
            told["data"][0]["embedding"]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise NearfieldError(f"{self._url} is no OpenAI-compatible endpoint: {reply.text[:200]!r}.") from error
        if found != count:
            raise NearfieldError(f"{self._url} gave {found} vectors for {count} texts.")
        return told


def _seconds(told: str | None) -> float:
    try:
        return max(0.05, float(told or 0.5))
    except ValueError:
        return 0.5
