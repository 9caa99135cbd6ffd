"""HTTP clients for a Nearfield server or any server with OpenAI's embeddings API: ``Client`` and ``AsyncClient``.

from nearfield.client import Client

with Client("http://127.0.0.1:8080", "all-MiniLM-L6-v2") as client:
    vectors = client.encode(["How tall is Mont Blanc?"], role="query")
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nearfield.arrays import Array
from nearfield.client.inputs import BodyInput, body_inputs
from nearfield.client.remote_jobs import JobReply, RemoteJobs
from nearfield.client.results import LoadState, LoadStates, RankedDocument, Readiness, RemoteModel
from nearfield.client.retry import NO_RETRY, Attempts, RetryPolicy
from nearfield.client.server_api import (
    LIST_MODELS,
    LOAD_STATES,
    METRICS,
    READINESS,
    ApiCall,
    ClientOptions,
    RemoteEncodeOptions,
    ServerApi,
    T,
    check_options,
    json_call,
    load_call,
    unload_call,
)
from nearfield.errors import ServerRefused
from nearfield.fork_safety import PerProcess
from nearfield.progress import Progress
from nearfield.vectors.dense import Vectors

if TYPE_CHECKING:
    # Importing httpx takes 0.1 s: it is imported when a client is created.
    import httpx
    from typing_extensions import Unpack

__all__ = [
    "NO_RETRY",
    "AsyncClient",
    "Client",
    "LoadState",
    "LoadStates",
    "RankedDocument",
    "Readiness",
    "RemoteModel",
    "RetryPolicy",
    "ServerRefused",
]
#: Requests that ``encode`` has open at the same time.
CONCURRENT_REQUESTS = 4


class Client(ServerApi):
    """A client that waits for each reply.

    A Nearfield server resolves roles, prompts and tasks by name. To any other server the client sends each text after
    the text of ``prompt``; prompts that such a server adds by itself are not known here. Vectors are quantised here.

    Example::

        with Client("https://api.openai.com/v1", "text-embedding-3-small", key="sk-...") as client:
            vectors = client.encode(["How tall is Mont Blanc?"], truncate_dim=256)

    Args:
        url: the server's, with or without ``/v1``; or ``unix:/path`` for a server that listens on a Unix socket.
        model: its name on the server, which is then checked at once. Needed to encode where there are several models.
        options: ``key``, ``timeout``, ``retry``, ``on_retry``: see ``ClientOptions``.

    Raises:
        InputError: the URL or the key cannot be used.
        ServerRefused: the server does not have the model, or does not accept the key.
        NearfieldError: the server does not answer.
    """

    def __init__(self, url: str, model: str | None = None, **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, model, **options)
        #: A forked process opens its own connections: on the parent's, replies would reach the wrong process.
        self._connections = PerProcess["httpx.Client"]()
        self._remote: RemoteModel | None = None
        if model is not None:
            try:
                self._remote = self._describe()
            except BaseException:
                self.close()
                raise

    @property
    def remote(self) -> RemoteModel:
        """The model on the server."""
        if self._remote is None:
            self._remote = self._describe()
        return self._remote

    @property
    def name(self) -> str:
        """The model's full name on the server."""
        return self.remote.id

    def models(self) -> tuple[RemoteModel, ...]:
        """Return the models that the server lists."""
        return self._send(LIST_MODELS)

    def encode(
        self,
        texts: Sequence[Any],
        *,
        show_progress_bar: bool = False,
        **options: Unpack[RemoteEncodeOptions],
    ) -> Vectors:
        """Encode texts, in requests of at most 64, 4 at the same time; the options are those of ``Encoder.encode``.

        To a Nearfield server, also pictures, sounds and videos, and inputs of several parts: what ``Encoder.encode``
        takes in a list, except for token ids, arrays of frames, and a choice of a video's frames. The bytes of files
        are read here, in this process, and sent unchanged; arrays and Pillow's pictures become files without loss.

        Raises:
            InputError: an option or input that this server does not have, or a file that cannot be read.
            NearfieldError: the server failed or refused.
        """
        check_options(options)
        remote, rows = self.remote, list[Array]()
        items = self._read_inputs(remote, texts)
        pending: deque[Future[Array]] = deque()
        with (
            Progress(len(items), shown=show_progress_bar) as progress,
            ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool,
        ):
            for batch in body_inputs(items):
                pending.append(pool.submit(self._send, self._encode_call(remote, batch, options)))
                if len(pending) == CONCURRENT_REQUESTS:
                    rows.append(_finish(pending, progress))
            while pending:
                rows.append(_finish(pending, progress))
        return self._vectors(rows, remote, options.get("precision", "float32"))

    def rank(self, query: Any, documents: Sequence[Any], *, top_k: int | None = None) -> tuple[RankedDocument, ...]:
        """Return documents by falling score for a query. Nearfield servers only.

        Both are texts, or what ``encode`` takes where the model ranks it.
        """
        return self._send(self._rank_call(query, documents, top_k))

    @property
    def jobs(self) -> RemoteJobs[JobReply]:
        """Jobs over texts or collections: labels, topics, recommendations and others. Nearfield servers only."""
        return RemoteJobs(self._send, self._model)

    def load_states(self) -> LoadStates:
        """Return which models the server has in memory. Nearfield servers only."""
        return self._send(LOAD_STATES)

    def load_model(self, model: str) -> LoadState:
        """Load a model into the server's memory. Nearfield servers only; needs a key with the scope ``manage``."""
        return self._send(load_call(model))

    def unload_model(self, model: str) -> LoadState:
        """Remove a model from the server's memory once no request uses it; like ``load_model``."""
        return self._send(unload_call(model))

    def readiness(self) -> Readiness:
        """Return whether the server accepts work. Nearfield servers only."""
        return self._send(READINESS)

    def metrics(self) -> str:
        """Return the server's metrics as Prometheus reads them."""
        return self._send(METRICS)

    def request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send any request and return the JSON of its reply.

        Raises:
            ServerRefused: the reply's status is an error.
            NearfieldError: the server does not answer, or not with JSON.
        """
        return self._send(json_call(method, path, body))

    def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        http = self._connections.pop()
        if http is not None:
            http.close()

    def _open(self) -> httpx.Client:
        import httpx

        transport = httpx.HTTPTransport(uds=self._socket) if self._socket is not None else None
        return httpx.Client(headers=self._headers, timeout=self._timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _describe(self) -> RemoteModel:
        try:
            chosen = self._choose(self.models())
        except ServerRefused as error:
            chosen = self._without_list(error)
        return self._send(self._model_call()) if chosen is None else chosen

    def _send(self, call: ApiCall[T]) -> T:
        import httpx

        attempts, url, follow = Attempts(self._retry), self._absolute(call.path), call.method == "GET"
        while True:
            self._check_server()
            try:
                response = self._connections.get(self._open).request(
                    call.method, url, follow_redirects=follow, **call.content()
                )
            except httpx.HTTPError as error:
                seconds: float | None = attempts.after_error(error, self.url)
            else:
                seconds = None if self._is_final(response, call) else attempts.after_response(response, call.accepted)
            if seconds is None:
                return self._read(response, call)
            self._report(seconds)
            time.sleep(seconds)

    def _check_server(self) -> None:
        """Raise NearfieldError if the request must not be sent. Called before each attempt; a subclass may refuse."""

    def _is_final(self, response: httpx.Response, call: ApiCall[T]) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether the same request would get the same response again, whatever its status."""
        return False


def _finish(pending: deque[Future[Array]], progress: Progress) -> Array:
    """Return the rows of the oldest request, once it has finished."""
    rows = pending.popleft().result()
    progress.advance(len(rows), 0)
    return rows


class AsyncClient(ServerApi):
    """A client for asyncio: encodes, ranks and lists models with coroutines.

    Arguments and errors are those of ``Client``, except that the first ``encode`` checks the model. Connections belong
    to one event loop: ``aclose`` closes them, and the next request opens new ones, possibly in another event loop.

    Example::

        async with AsyncClient("http://127.0.0.1:8080", "all-MiniLM-L6-v2") as client:
            vectors = await client.encode(["How tall is Mont Blanc?"], role="query")
    """

    def __init__(self, url: str, model: str | None = None, **options: Unpack[ClientOptions]) -> None:
        super().__init__(url, model, **options)
        self._connections = PerProcess["httpx.AsyncClient"]()
        self._remote: RemoteModel | None = None

    async def models(self) -> tuple[RemoteModel, ...]:
        """Return the models that the server lists."""
        return await self._send(LIST_MODELS)

    async def encode(self, texts: Sequence[Any], **options: Unpack[RemoteEncodeOptions]) -> Vectors:
        """Encode texts, pictures, sounds and videos like ``Client.encode``. Files are read in a thread.

        Raises:
            InputError: an option or input that this server does not have, or a file that cannot be read.
            NearfieldError: the server failed or refused.
        """
        check_options(options)
        remote = self._remote = self._remote or await self._describe()
        items = await asyncio.to_thread(self._read_inputs, remote, texts)
        batches, rows = body_inputs(items), list[Array]()
        pending: deque[asyncio.Task[Array]] = deque()

        def create_call() -> ApiCall[Array] | None:
            batch: Sequence[BodyInput] | None = next(batches, None)
            return None if batch is None else self._encode_call(remote, batch, options)

        try:
            while (call := await asyncio.to_thread(create_call)) is not None:
                pending.append(asyncio.create_task(self._send(call)))
                if len(pending) == CONCURRENT_REQUESTS:
                    rows.append(await pending.popleft())
            while pending:
                rows.append(await pending.popleft())
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return self._vectors(rows, remote, options.get("precision", "float32"))

    async def rank(
        self, query: Any, documents: Sequence[Any], *, top_k: int | None = None
    ) -> tuple[RankedDocument, ...]:
        """Return documents by falling score for a query, like ``Client.rank``. Nearfield servers only."""
        return await self._send(await asyncio.to_thread(self._rank_call, query, documents, top_k))

    @property
    def jobs(self) -> RemoteJobs[Awaitable[JobReply]]:
        """Jobs over texts or collections, like ``Client.jobs``; each call is awaited. Nearfield servers only."""
        return RemoteJobs(self._send, self._model)

    async def request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send any request and return the JSON of its reply; errors as for ``Client.request``."""
        return await self._send(json_call(method, path, body))

    async def aclose(self) -> None:
        """Close the connections."""
        http = self._connections.pop()
        if http is not None:
            await http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _describe(self) -> RemoteModel:
        try:
            chosen = self._choose(await self.models())
        except ServerRefused as error:
            chosen = self._without_list(error)
        return await self._send(self._model_call()) if chosen is None else chosen

    def _open(self) -> httpx.AsyncClient:
        import httpx

        limits = httpx.Limits(max_connections=None)
        transport = httpx.AsyncHTTPTransport(uds=self._socket, limits=limits) if self._socket is not None else None
        return httpx.AsyncClient(headers=self._headers, timeout=self._timeout, limits=limits, transport=transport)

    async def _send(self, call: ApiCall[T]) -> T:
        import httpx

        attempts, url, follow = Attempts(self._retry), self._absolute(call.path), call.method == "GET"
        while True:
            try:
                response = await self._connections.get(self._open).request(
                    call.method, url, follow_redirects=follow, **call.content()
                )
            except httpx.HTTPError as error:
                seconds: float | None = attempts.after_error(error, self.url)
            else:
                seconds = attempts.after_response(response, call.accepted)
            if seconds is None:
                return self._read(response, call)
            self._report(seconds)
            await asyncio.sleep(seconds)
