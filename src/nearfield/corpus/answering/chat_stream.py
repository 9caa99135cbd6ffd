"""Replies of chat endpoints as pieces of text: Ollama's NDJSON stream, and what both APIs have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from nearfield.errors import AnswerFailed

if TYPE_CHECKING:
    import httpx

#: Bytes of one line, and of a whole reply.
MAX_LINE, MAX_REPLY = 2**20, 2**24
#: Characters of an endpoint's error message that are passed on.
_MAX_ERROR = 500
_THOUGHT, _THOUGHT_END = "<think>", "</think>"


@dataclass(frozen=True)
class AnswerEnd:
    """How an answer ended: ``cut`` if the model reached its token limit; ``usage`` in tokens, if it is known."""

    model: str = ""
    cut: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


class EndpointRefused(Exception):
    """A reply with another status than 200: its status, headers, and the error message in its body."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.message = _refusal_text(response)
        super().__init__(self.message)


def _refusal_text(response: httpx.Response) -> str:
    if response.is_redirect:
        return "it redirects elsewhere. Give the URL that it redirects to."
    data = response.content if response.is_closed else b"".join(_bounded(response))
    try:
        body = json.loads(data)
    except ValueError:
        body = data.decode("utf-8", "replace")
    return error_text(body) or "it says nothing else."


def error_text(body: object) -> str:
    """Return the message in the error body of an endpoint, whatever its shape."""
    while isinstance(body, Mapping):
        body = next((body[name] for name in ("error", "message", "detail", "msg") if body.get(name)), "")
    text = " ".join((body if isinstance(body, str) else json.dumps(body)).split())
    return text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]} ..."


class MessageBody(msgspec.Struct):
    """The text of a message or of a part of one."""

    content: str | list[dict[str, object]] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The text; parts of other types than text are left out."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text") or "") for part in self.content)
        return self.content or self.refusal or ""


class ReplyChoice(msgspec.Struct):
    """One of the alternatives in a reply of OpenAI's API."""

    delta: MessageBody | None = None
    message: MessageBody | None = None
    finish_reason: str | None = None


class ChatReply(msgspec.Struct):
    """A chunk of a reply, or a whole reply, of either API."""

    choices: list[ReplyChoice] | None = None
    message: MessageBody | None = None
    model: str | None = None
    usage: dict[str, object] | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: object = None

    @property
    def text(self) -> str:
        """The text that this chunk adds."""
        body = self.message
        if self.choices:
            body = self.choices[0].delta or self.choices[0].message
        return body.text if body is not None else ""

    @property
    def reason(self) -> str | None:
        """Why the answer ended, in its last chunk."""
        if self.choices and self.choices[0].finish_reason:
            return self.choices[0].finish_reason
        return (self.done_reason or "stop") if self.done else None

    @property
    def tokens(self) -> dict[str, int]:
        """The tokens that the endpoint counted."""
        if self.usage is not None:
            return {name: value for name, value in self.usage.items() if isinstance(value, int)}
        counts = {"prompt_tokens": self.prompt_eval_count, "completion_tokens": self.eval_count}
        return {name: value for name, value in counts.items() if value}


def post_to_ollama(
    client: httpx.Client, url: str, body: Mapping[str, object], timeout: httpx.Timeout, shown: str
) -> Iterator[str | AnswerEnd]:
    """Yield the answer of Ollama's native API in pieces, and how it ended; messages call the endpoint ``shown``.

    Raises:
        EndpointRefused: its status is not 200.
        AnswerFailed: it is not a chat reply, is an error, or stops in the middle.
    """
    with client.stream("POST", url, json=body, timeout=timeout) as response:
        if response.status_code != 200:
            raise EndpointRefused(response)
        streaming = bool(body["stream"])
        parts = _lines(response) if streaming else iter((b"".join(_bounded(response)),))
        yield from answer_pieces(
            (parse_reply(part, shown) for part in parts if part.strip()), shown, whole=not streaming
        )


def parse_reply(data: bytes, shown: str) -> ChatReply:
    """Return a reply or a chunk of one from its JSON.

    Raises:
        AnswerFailed: it is something else, or an error.
    """
    try:
        reply = msgspec.json.decode(data, type=ChatReply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise no_reply(shown, data[:200].decode("utf-8", "replace")) from error
    if reply.error:
        raise AnswerFailed(f"The chat endpoint {shown} failed: {error_text(reply.error)}")
    return reply


def no_reply(shown: str, content: str) -> AnswerFailed:
    """Return the error for a reply that is no chat reply."""
    return AnswerFailed(f"{shown} is no chat endpoint, or none of this kind: it sent {content!r}.")


def answer_pieces(replies: Iterator[ChatReply | None], shown: str, *, whole: bool) -> Iterator[str | AnswerEnd]:
    """Yield the text of replies, without a reasoning model's thoughts, and how the answer ended.

    ``whole`` says that there is one reply, which is complete; None among the replies marks the end of a stream.

    Raises:
        AnswerFailed: the replies stop in the middle of the answer.
    """
    return _without_thoughts(_pieces(replies, shown, whole))


def _pieces(replies: Iterator[ChatReply | None], shown: str, whole: bool) -> Iterator[str | AnswerEnd]:
    end, reason = AnswerEnd(), None
    for reply in replies:
        if reply is None:
            whole = True
            break
        if reply.text:
            yield reply.text
        reason = reply.reason or reason
        end = replace(end, model=reply.model or end.model, usage=reply.tokens or end.usage)
    if not (whole or reason):
        raise AnswerFailed(f"The chat endpoint {shown} broke off in the middle of its answer.")
    yield replace(end, cut=reason == "length")


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Yield the lines of NDJSON. (``iter_lines`` would also split at U+2028, which may be part of a text.)"""
    rest = b""
    for part in _bounded(response):
        *whole, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_LINE:
            raise AnswerFailed(f"The chat endpoint sends a line of more than {MAX_LINE} bytes.")
        yield from (line.rstrip(b"\r") for line in whole)
    yield from [rest] if rest else []


def _bounded(response: httpx.Response) -> Iterator[bytes]:
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > MAX_REPLY:
            raise AnswerFailed(f"The chat endpoint sends more than {MAX_REPLY} bytes.")
        yield part


def _without_thoughts(pieces: Iterator[str | AnswerEnd]) -> Iterator[str | AnswerEnd]:
    """Leave out the ``<think>...</think>`` that a reasoning model writes before its answer."""
    pending, begun = "", False
    for piece in pieces:
        if begun or isinstance(piece, AnswerEnd):
            yield from [pending] if pending and not begun and not pending.startswith(_THOUGHT) else []
            pending = ""
            yield piece
            continue
        pending = (pending + piece).lstrip()
        if pending.startswith(_THOUGHT):
            _, closed, rest = pending.partition(_THOUGHT_END)
            pending = rest.lstrip() if closed else _THOUGHT + pending[len(_THOUGHT) :][-len(_THOUGHT_END) :]
        if pending and not _THOUGHT.startswith(pending) and not pending.startswith(_THOUGHT):
            begun = True
            yield pending
            pending = ""
