"""Chat server: answers as an OpenAI-compatible endpoint (/v1/chat/completions) and as Ollama (/api/chat), by a script.

Its replies are built with the types of OpenAI's and Ollama's clients.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ollama import ChatResponse, Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk

MODEL = "chatty-1"


@dataclass
class Say:
    """An answer, in these pieces where it is streamed; it stops after ``breaks_after`` of them, or waits there."""

    pieces: Sequence[str]
    finish: str = "stop"
    breaks_after: int | None = None
    waits: threading.Event | None = None


@dataclass
class Refuse:
    """A refusal."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Raw:
    """Anything else."""

    data: bytes
    media: str = "text/event-stream"


@dataclass
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class ChatServer:
    """What a test says and sees: ``script`` are the next replies, the last of which stays."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.script: list[Say | Refuse | Raw | Callable[[Asked], Say | Refuse | Raw]] = [Say(["Yes", " [1]", "."])]

    def next(self, request: Asked) -> Say | Refuse | Raw:
        """Note a request and choose its reply."""
        self.asked.append(request)
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return reply if isinstance(reply, (Say, Refuse, Raw)) else reply(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients of these tests leave early."""


class _Handler(BaseHTTPRequestHandler):
    chat: ChatServer

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        request = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(data))
        reply = self.chat.next(request)
        if isinstance(reply, Refuse):
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self._send(reply.status, "application/json", body, reply.headers)
        elif isinstance(reply, Raw):
            self._send(200, reply.media, reply.data)
        elif request.body.get("stream", False):
            self._stream(reply, ollama=request.path == "/api/chat", usage="stream_options" in request.body)
        else:
            whole = _ollama_whole(reply) if request.path == "/api/chat" else _openai_whole(reply)
            self._send(200, "application/json", whole.encode())

    def _send(self, status: int, media: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": media, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, reply: Say, *, ollama: bool, usage: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson" if ollama else "text/event-stream")
        self.end_headers()
        lines = list(_ollama_lines(reply) if ollama else _openai_lines(reply, usage))
        try:
            for line in lines[: reply.breaks_after]:
                self.wfile.write(line.encode())
                self.wfile.flush()
            if reply.waits is not None:
                reply.waits.wait(30)
        except OSError:
            pass  # the client reads no further

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _openai_lines(reply: Say, usage: bool) -> Iterator[str]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    said = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in reply.pieces]
    chunks: list[dict[str, Any]] = [{**head, "choices": [choice]} for choice in (first, *said)]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish}]})
    chunks += [{**head, "choices": [], "usage": _USAGE}] if usage else []
    if reply.breaks_after is None and reply.waits is None:
        yield ": a comment, to keep the connection open\n\n"
    for chunk in chunks:
        yield f"data: {ChatCompletionChunk.model_validate(chunk).model_dump_json(exclude_unset=True)}\n\n"
    yield "data: [DONE]\n\n"


def _openai_whole(reply: Say) -> str:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(reply.pieces)},
        "finish_reason": reply.finish,
        "logprobs": None,
    }
    values = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return str(ChatCompletion.model_validate({**values, "usage": _USAGE}).model_dump_json(exclude_unset=True))


def _ollama_lines(reply: Say) -> Iterator[str]:
    for piece in reply.pieces:
        yield _ollama(piece, done=False) + "\n"
    yield _ollama("", done=True, done_reason=reply.finish, **_COUNTS) + "\n"


def _ollama_whole(reply: Say) -> str:
    return _ollama("".join(reply.pieces), done=True, done_reason=reply.finish, **_COUNTS)


def _ollama(text: str, **values: Any) -> str:
    response = ChatResponse(model=MODEL, message=Message(role="assistant", content=text), **values)
    return str(response.model_dump_json(exclude_none=True))


_USAGE = {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97}
_COUNTS = {"prompt_eval_count": 90, "eval_count": 7}


@contextmanager
def chatting() -> Iterator[ChatServer]:
    """Serve in a thread on loopback."""
    chat = ChatServer()
    handler = type("Handler", (_Handler,), {"chat": chat})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
