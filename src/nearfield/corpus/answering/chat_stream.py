"""Chat reply: what a chat endpoint says, in either format, streamed or whole, as pieces of text and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from nearfield.errors import AnswerFailed

if TYPE_CHECKING:
    import httpx

#: Bytes of one line, and of a whole reply.
_LONGEST_LINE, _LARGEST = 2**20, 2**24
#: Characters of an error that are passed on.
_LONGEST_COMPLAINT = 500
_DONE = b"[DONE]"
_THOUGHT, _THOUGHT_END = "<think>", "</think>"


@dataclass(frozen=True)
class Ended:
    """How an answer ended: ``cut`` where the model had to stop before its end; ``usage`` in tokens, where known."""

    model: str = ""
    cut: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


def complaint(response: httpx.Response) -> str:
    """Return what an endpoint says in a refusal, whatever the shape."""
    if response.is_redirect:
        return "it redirects elsewhere. Give the URL that it redirects to."
    data = b"".join(_bounded(response))
    try:
        said = json.loads(data)
    except ValueError:
        said = data.decode("utf-8", "replace")
    return _told(said) or "it says nothing else."


def _told(said: Any) -> str:
    while isinstance(said, Mapping):
        said = next((said[name] for name in ("error", "message", "detail", "msg") if said.get(name)), "")
    text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())
    return text if len(text) <= _LONGEST_COMPLAINT else f"{text[:_LONGEST_COMPLAINT]} ..."


class _Said(msgspec.Struct):
    content: str | list[Any] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text") or "") for part in self.content if isinstance(part, dict))
        return self.content or self.refusal or ""


class _Choice(msgspec.Struct):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Message(msgspec.Struct):
    """A chunk or a whole reply of either API."""

    choices: list[_Choice] | None = None
    message: _Said | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: Any = None

    @property
    def text(self) -> str:
        said = self.message
        if self.choices:
            said = self.choices[0].delta or self.choices[0].message
        return said.text if said is not None else ""

    @property
    def reason(self) -> str | None:
        """Why it ended, once it has."""
        if self.choices and self.choices[0].finish_reason:
            return self.choices[0].finish_reason
        return (self.done_reason or "stop") if self.done else None

    @property
    def spent(self) -> dict[str, int]:
        if self.usage is not None:
            return {name: value for name, value in self.usage.items() if isinstance(value, int)}
        counts = {"prompt_tokens": self.prompt_eval_count, "completion_tokens": self.eval_count}
        return {name: value for name, value in counts.items() if value}


def read(response: httpx.Response, named: str, *, streaming: bool, lines: bool) -> Iterator[str | Ended]:
    """Yield the pieces of a reply, and how it ended; what a reasoning model thinks aloud is left out.

    ``named`` is how messages call the endpoint; ``streaming`` tells whether a stream was asked for, and ``lines``
    whether that is one of lines (NDJSON) where it is not of events (SSE).

    Raises:
        AnswerFailed: it is none, is an error, or stops in the middle.
    """
    return _spoken(_pieces(_parts(response, lines=streaming and lines), named, streaming))


def _pieces(parts: Iterator[bytes], named: str, streaming: bool) -> Iterator[str | Ended]:
    ended, whole, reason = Ended(), not streaming, None
    for data in parts:
        if data.strip() == _DONE:
            whole = True
            break
        told = _decoded(data, named)
        if told.text:
            yield told.text
        reason = told.reason or reason
        ended = replace(ended, model=told.model or ended.model, usage=told.spent or ended.usage)
    if not (whole or reason):
        raise AnswerFailed(f"The chat endpoint {named} broke off in the middle of its answer.")
    yield replace(ended, cut=reason == "length")


def _decoded(data: bytes, named: str) -> _Message:
    try:
        told = msgspec.json.decode(data, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = data[:200].decode("utf-8", "replace")
        raise AnswerFailed(f"{named} is no chat endpoint, or none of this kind: it said {shown!r}.") from error
    if told.error:
        raise AnswerFailed(f"The chat endpoint {named} failed: {_told(told.error)}")
    return told


def _parts(response: httpx.Response, *, lines: bool) -> Iterator[bytes]:
    """Yield the JSON objects of a reply: of events, of lines, or one alone, though a stream was asked for."""
    if "text/event-stream" in response.headers.get("content-type", ""):
        yield from _events(_lines(response))
    elif lines:
        yield from (line for line in _lines(response) if line.strip())
    else:
        yield b"".join(_bounded(response))


def _events(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the data of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Yield lines as both formats end them. (``iter_lines`` would also cut at U+2028, which may stand in a text.)"""
    rest = b""
    for part in _bounded(response):
        *whole, rest = (rest + part).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise AnswerFailed(f"The chat endpoint sends a line of more than {_LONGEST_LINE} bytes.")
        yield from (line.rstrip(b"\r") for line in whole)
    yield from [rest] if rest else []


def _bounded(response: httpx.Response) -> Iterator[bytes]:
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > _LARGEST:
            raise AnswerFailed(f"The chat endpoint sends more than {_LARGEST} bytes.")
        yield part


def _spoken(pieces: Iterator[str | Ended]) -> Iterator[str | Ended]:
    """Leave out what a reasoning model thinks aloud (``<think>...</think>``) before it speaks."""
    held, begun = "", False
    for piece in pieces:
        if begun or isinstance(piece, Ended):
            yield from [held] if held and not begun and not held.startswith(_THOUGHT) else []
            held = ""
            yield piece
            continue
        held = (held + piece).lstrip()
        if held.startswith(_THOUGHT):
            _, closed, rest = held.partition(_THOUGHT_END)
            held = rest.lstrip() if closed else _THOUGHT + held[len(_THOUGHT) :][-len(_THOUGHT_END) :]
        if held and not _THOUGHT.startswith(held) and not held.startswith(_THOUGHT):
            begun = True
            yield held
            held = ""
