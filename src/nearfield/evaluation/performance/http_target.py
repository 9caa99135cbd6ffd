"""An OpenAI-compatible embeddings endpoint as a load test target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from nearfield.client import AsyncClient, RetryPolicy
from nearfield.errors import NearfieldError
from nearfield.evaluation.json_types import JsonDict
from nearfield.message_text import count_of

#: Texts in one request of bulk work, and requests at the same time.
_BATCH_SIZE, _CONCURRENT_REQUESTS = 32, 4
#: Seconds for one request.
_TIMEOUT = 60.0


class HttpTarget:
    """Sends texts to an endpoint and counts its refusals.

    After a reply of 429 or 503 the request is sent again when ``Retry-After`` says. The wait counts as latency.

    Args:
        url: URL of the API, such as ``https://api.openai.com/v1``.
        model: its name at the endpoint.
        key: API key.
        patience: seconds after which a refusal is final.
        options: further fields of each request.

    Raises:
        InputError: the URL or the key cannot be used.
        NearfieldError: the endpoint does not answer, or not with embeddings.
    """

    def __init__(self, url: str, model: str, key: str | None = None, *, patience: float = 30.0, **options: Any) -> None:
        # A load test measures refusals, so the wait does not grow, and a broken connection is an error.
        retry = RetryPolicy(
            max_attempts=None,
            patience=patience,
            statuses=frozenset({429, 503}),
            broken_connections=False,
            growth=1.0,
            min_delay=0.05,
            max_delay=patience,
        )
        self._client = AsyncClient(url, key=key, timeout=_TIMEOUT, retry=retry, on_retry=self._count_refusal)
        self.name = f"{model} at {url}"
        self._url, self._model, self._options = f"{url.rstrip('/')}/embeddings", model, options
        self.refused = 0
        self.facts: JsonDict = {"where": url}
        started = time.perf_counter()
        reply = asyncio.run(self._send_first())
        size = len(reply["data"][0]["embedding"])
        self.facts["first_answer_seconds"] = round(time.perf_counter() - started, 3)
        self.facts.update(dimensions=size, bytes_per_vector=4 * size)

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Send all texts, 32 in a request, four requests at a time; return the tokens the endpoint counted."""
        return asyncio.run(self._bulk(texts))

    async def ask(self, text: str) -> None:
        """Send one text."""
        await self._send([text])

    async def close(self) -> None:
        """Close the connections; they belong to one event loop."""
        await self._client.aclose()

    async def _send_first(self) -> JsonDict:
        try:
            return await self._send(["hello world"])
        finally:
            await self.close()

    async def _bulk(self, texts: Sequence[str]) -> int | None:
        batches = iter([list(texts[start : start + _BATCH_SIZE]) for start in range(0, len(texts), _BATCH_SIZE)])
        counts: list[int | None] = []

        async def client() -> None:
            for batch in batches:
                counts.append((await self._send(batch)).get("usage", {}).get("prompt_tokens"))

        try:
            await asyncio.gather(*(client() for _ in range(_CONCURRENT_REQUESTS)))
        finally:
            await self.close()
        return sum(count or 0 for count in counts) if all(counts) else None

    def _count_refusal(self, _: float) -> None:
        self.refused += 1
        self.facts["refused"] = self.refused

    async def _send(self, texts: Sequence[str]) -> JsonDict:
        body = {"model": self._model, "input": list(texts), **self._options}
        reply: JsonDict = await self._client.request("POST", self._url, body)
        # The vectors are not converted: that would be measured too.
        try:
            count = len(reply["data"])
            reply["data"][0]["embedding"]
        except (KeyError, TypeError, IndexError) as error:
            raise NearfieldError(f"{self._url} is no OpenAI-compatible endpoint: {str(reply)[:200]!r}.") from error
        if count != len(texts):
            raise NearfieldError(
                f"{self._url} returned {count_of(count, 'vector')} for {count_of(len(texts), 'text')}."
            )
        return reply
