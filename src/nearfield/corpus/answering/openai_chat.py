"""Chat completions of OpenAI-compatible endpoints, through the ``openai`` library.

The library builds the request, reads server-sent events and recognises errors. Retries stay in ``chat_client``, which
has a total deadline. The library has no limit on the size of a reply, and adds headers from the environment and about
this machine: ``ReplyStream`` and ``_remove_headers`` see to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import httpx
import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from nearfield.corpus.answering.chat_stream import (
    MAX_LINE,
    MAX_REPLY,
    AnswerEnd,
    ChatReply,
    EndpointRefused,
    answer_pieces,
    error_text,
    no_reply,
    parse_reply,
)
from nearfield.errors import AnswerFailed

PATH = "/chat/completions"
#: The library needs a key: this one is not sent.
_NO_KEY = "none"
_DONE = b"[DONE]"
#: Headers that are sent; all others are removed.
_HEADERS = frozenset(
    ["host", "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "user-agent"]
)


def post_to_openai(
    client: httpx.Client, url: str, key: str | None, body: Mapping[str, object], timeout: httpx.Timeout, shown: str
) -> Iterator[str | AnswerEnd]:
    """Yield an answer in pieces, and how it ended; messages call the endpoint ``shown``.

    Raises:
        EndpointRefused: its status is not 200.
        AnswerFailed: it is not a chat reply, is an error, or stops in the middle.
    """
    address = httpx.URL(url)
    api = openai.OpenAI(
        api_key=key or _NO_KEY,
        base_url=str(address.copy_with(path=address.path.removesuffix(PATH), query=None)),
        default_query=dict(address.params),
        default_headers={
            "User-Agent": client.headers["user-agent"],
            "Authorization": f"Bearer {key or _NO_KEY}",
        },
        # Since its version 3 the library's types name its own fork of httpx; it takes both.
        http_client=client,  # type: ignore[arg-type]
        max_retries=0,
        timeout=timeout,  # type: ignore[arg-type]
    )
    client.event_hooks = {"request": [_remove_headers], "response": [_watch]}
    try:
        # The low-level call, since endpoints of one model need no model's name, and some send no stream when asked to.
        stream = api.post(
            PATH,
            body=dict(body),
            cast_to=ChatCompletionChunk,
            stream=True,
            stream_cls=openai.Stream[ChatCompletionChunk],
        )
        with stream:
            yield from answer_pieces(_replies(stream, shown), shown, whole=not body["stream"])
    except openai.APIStatusError as error:
        raise EndpointRefused(cast("httpx.Response", error.response)) from None
    except openai.APIConnectionError as error:
        raise error.__cause__ or error from None
    except openai.APIError as error:
        raise AnswerFailed(f"The chat endpoint {shown} failed: {error_text(error.body)}") from None


def _replies(stream: openai.Stream[ChatCompletionChunk], shown: str) -> Iterator[ChatReply | None]:
    """Yield the chunks of a stream of events, with None for its end mark; or the whole reply, if it is no stream."""
    if "text/event-stream" not in stream.response.headers.get("content-type", ""):
        yield parse_reply(stream.response.read(), shown)
        return
    try:
        for chunk in stream:
            # The library does not validate what it reads.
            content = chunk.to_dict(warnings=False) if isinstance(chunk, openai.BaseModel) else chunk
            yield msgspec.convert(content, ChatReply)
    except ValueError as error:
        raise no_reply(shown, str(error)[:200]) from error
    if isinstance(stream.response.stream, ReplyStream) and stream.response.stream.is_done:
        yield None


def _remove_headers(request: httpx.Request) -> None:
    """Remove the placeholder of a key, and what the library adds: facts about this machine, and OPENAI_* variables."""
    for name, value in request.headers.items():
        if name not in _HEADERS or value == f"Bearer {_NO_KEY}":
            del request.headers[name]


def _watch(response: httpx.Response) -> None:
    response.stream = ReplyStream(cast("httpx.SyncByteStream", response.stream))


class ReplyStream(httpx.SyncByteStream):
    """The bytes of a reply, up to a limit; ``is_done`` once the mark that ends a stream of events has passed."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self.is_done = False
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size, line = 0, b""
        for part in self._stream:
            size += len(part)
            *lines, line = (line + part).split(b"\n")
            if size > MAX_REPLY:
                raise AnswerFailed(f"The chat endpoint sends more than {MAX_REPLY} bytes.")
            if len(line) > MAX_LINE:
                raise AnswerFailed(f"The chat endpoint sends a line of more than {MAX_LINE} bytes.")
            self.is_done |= any(line.removeprefix(b"data:").strip() == _DONE for line in (*lines, line))
            yield part

    def close(self) -> None:
        self._stream.close()
