"""Chat: asking a language model behind an OpenAI-compatible or an Ollama endpoint, within a deadline.

Formats: https://platform.openai.com/docs/api-reference/chat and https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from nearfield import __version__
from nearfield.errors import AnswerFailed, InputError, MissingExtra, NearfieldError, nearest

if TYPE_CHECKING:
    import ssl

    import httpx

Kind = Literal["openai", "ollama"]
#: Of each kind: the root of the API, how a URL that ends with one looks, and the path below it.
_PATHS: Mapping[str, tuple[str, re.Pattern[str], str]] = {
    "openai": ("/v1", re.compile(r"/v\d\w*(/openai)?$"), "/chat/completions"),
    "ollama": ("/api", re.compile(r"/api$"), "/chat"),
}
#: Variable that holds the key: on a command line, everybody on the machine could read it.
KEY = "NEARFIELD_CHAT_KEY"
#: Port on which Ollama listens unless told otherwise.
_OLLAMA_PORT = 11434
#: Statuses that mean "not now", and how often such a request is sent again.
_BUSY, _TRIES = (429, 503), 5
#: Seconds to wait before the second try, doubled with each, where the endpoint does not say.
_FIRST_WAIT = 0.5
#: Seconds in which a connection is made, or never.
_CONNECT = 10.0
#: Fields that some endpoints refuse; each is left out when the refusal names it.
_OPTIONAL = ("stream_options", "temperature", "max_tokens")
#: Bytes of one line, and of a whole reply.
_LONGEST_LINE, _LARGEST = 2**20, 2**24
#: Characters of an error that are passed on.
_LONGEST_COMPLAINT = 500
#: Tokens that an Ollama model is loaded for at least: it drops what is beyond, and says nothing.
_LEAST_CONTEXT = 4096
_DONE = b"[DONE]"
_THOUGHT, _THOUGHT_END = "<think>", "</think>"


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint, and the model to ask there.

    ``url`` is a server (``http://localhost:11434``), its API's root (``https://api.openai.com/v1``) or the full path;
    ``kind`` is told by it where it is None. ``key`` is sent as a bearer token, and shown nowhere. ``timeout`` are the
    seconds for one answer, waiting and trying again included; ``max_tokens`` is the longest answer.

    Raises:
        InputError: the URL is none, or the key holds what no header can.
    """

    url: str
    model: str = ""
    key: str | None = field(default=None, repr=False)
    kind: Kind | None = None
    timeout: float = 120.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise InputError("The chat endpoint's key holds characters that no key has: look for stray ones.")
        if not self.timeout > 0:
            raise InputError(f"An answer needs some seconds, not {self.timeout:g} (chat timeout).")
        try:
            found = urlsplit(self.url)
            known = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
        except ValueError:
            known = False
        if not known:
            raise InputError(f"A chat URL is such as http://localhost:11434 or https://host/v1, not {self.shown!r}.")
        if self.kind is None:
            object.__setattr__(self, "kind", _kind(self.url))
        if self.kind not in _PATHS:
            raise InputError(f"{self.kind!r} is no kind of chat endpoint. {nearest(self.kind, _PATHS)}")

    @classmethod
    def configured(
        cls, url: str | None, model: str | None = None, kind: str | None = None, timeout: float | None = None
    ) -> Endpoint | None:
        """Return the endpoint that settings tell of, its key taken from the environment (``NEARFIELD_CHAT_KEY``).

        None where there is no URL. Errors as for the class.
        """
        given: dict[str, Any] = {"model": model, "kind": kind, "timeout": timeout, "key": os.environ.get(KEY)}
        return cls(url, **{name: value for name, value in given.items() if value}) if url else None

    @property
    def shown(self) -> str:
        """The URL without what may be secret in it."""
        return re.sub(r"//[^/]*@", "//", self.url.partition("?")[0])

    @property
    def address(self) -> str:
        """The full URL that is posted to."""
        found = urlsplit(self.url)
        path, (root, rooted, end) = found.path.rstrip("/"), _PATHS[self.kind or "openai"]
        if not path.endswith(end):
            path += end if rooted.search(path) else root + end
        return urlunsplit((found.scheme, found.netloc, path, found.query, ""))

    def complete(self, messages: Sequence[Mapping[str, str]], *, prompt_tokens: int = 0) -> tuple[str, Ended]:
        """Return the whole answer to these messages (``{"role", "content"}``), and how it ended.

        ``prompt_tokens`` is about how long they are: a model of Ollama is loaded for so many.

        Raises:
            AnswerFailed: the endpoint cannot be reached, refused, or gave no answer in time; with what it said.
        """
        told = list(self.stream(messages, prompt_tokens=prompt_tokens, streaming=False))
        return "".join(piece for piece in told if isinstance(piece, str)), next(
            piece for piece in told if isinstance(piece, Ended)
        )

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, prompt_tokens: int = 0, streaming: bool = True
    ) -> Iterator[str | Ended]:
        """Yield an answer in pieces as they come, and how it ended. Arguments and errors as for ``complete``."""
        if find_spec("httpx") is None:
            raise MissingExtra("Asking a chat endpoint needs httpx: pip install 'nearfield[corpus]'")
        until = time.monotonic() + self.timeout
        body = self._body(messages, prompt_tokens, streaming)
        return _spoken(_within(until, _Asking(self, body, until).pieces, self._late))

    def _late(self) -> AnswerFailed:
        return AnswerFailed(f"{self.shown} gave no answer within {self.timeout:g} s.")

    def _body(self, messages: Sequence[Mapping[str, str]], prompt_tokens: int, streaming: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"messages": [_plain(message) for message in messages], "stream": streaming}
        body |= {"model": self.model} if self.model else {}
        if self.kind == "ollama":
            room = _LEAST_CONTEXT
            while room < prompt_tokens + self.max_tokens:
                room *= 2  # few different sizes: each makes Ollama load the model anew
            return body | {"options": {"temperature": 0, "num_predict": self.max_tokens, "num_ctx": room}}
        body |= {"temperature": 0, "max_tokens": self.max_tokens}
        return body | ({"stream_options": {"include_usage": True}} if streaming else {})


@dataclass(frozen=True)
class Ended:
    """How an answer ended: ``cut`` where the model had to stop before its end; ``usage`` in tokens, where known."""

    model: str = ""
    cut: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)


def _kind(url: str) -> Kind:
    found = urlsplit(url)
    path = found.path.rstrip("/")
    if path.endswith(("/api/chat", "/api")):  # and Ollama's own "/v1" is an OpenAI's
        return "ollama"
    return "ollama" if found.port == _OLLAMA_PORT and not path else "openai"


def _plain(message: Mapping[str, str]) -> dict[str, str]:
    """Return a message without lone surrogates, which have no UTF-8."""
    return {name: value.encode("utf-8", "replace").decode() for name, value in message.items()}


# -- one request -------------------------------------------------------------------------------------------------------


class _Asking:
    """One question to one endpoint, asked again while that is busy."""

    def __init__(self, endpoint: Endpoint, body: dict[str, Any], until: float) -> None:
        self._endpoint, self._body, self._until = endpoint, body, until
        self._tries = 0

    def pieces(self, stop: threading.Event) -> Iterator[str | Ended]:
        """Yield what the endpoint says, until ``stop`` is set.

        Raises:
            AnswerFailed: it cannot be reached, refused, or broke off.
        """
        import httpx

        headers = {"User-Agent": f"nearfield/{__version__}"}
        headers |= {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        try:
            with httpx.Client(headers=headers, verify=_certificates()) as client:
                while not stop.is_set():
                    request = client.build_request(
                        "POST", self._endpoint.address, json=self._body, timeout=self._timeout()
                    )
                    response = client.send(request, stream=True)
                    try:
                        if response.status_code == 200:
                            yield from _read(self._endpoint, response, bool(self._body["stream"]))
                            return
                        wait = self._again(response)
                    finally:
                        response.close()
                    stop.wait(wait)
        except httpx.ConnectTimeout:
            raise AnswerFailed(
                f"The chat endpoint {self._endpoint.shown} cannot be reached in {_CONNECT:g} s."
            ) from None
        except httpx.TimeoutException:
            raise self._endpoint._late() from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = self._hidden(str(error) or type(error).__name__)
            raise AnswerFailed(f"The chat endpoint {self._endpoint.shown} does not answer: {told}.") from None

    def _timeout(self) -> httpx.Timeout:
        import httpx

        left = max(0.001, self._until - time.monotonic())
        return httpx.Timeout(left, connect=min(left, _CONNECT))

    def _again(self, response: httpx.Response) -> float:
        """Return the seconds after which to send the request again, perhaps without a field.

        Raises:
            AnswerFailed: it would be refused again, or too late.
        """
        said = self._hidden(_complaint(response))
        refused = AnswerFailed(f"The chat endpoint {self._endpoint.shown} answered {response.status_code}: {said}")
        if response.status_code in (400, 422):
            named = next((name for name in _OPTIONAL if name in self._body and name in said), None)
            if named is None:
                raise refused
            self._body = {name: value for name, value in self._body.items() if name != named}
            return 0.0
        self._tries += 1
        if response.status_code not in _BUSY or self._tries >= _TRIES:
            raise refused
        wait = _asked_to_wait(response.headers)
        wait = _FIRST_WAIT * 2 ** (self._tries - 1) if wait is None else wait
        if time.monotonic() + wait >= self._until:
            raise AnswerFailed(f"{refused} It is too busy to answer within {self._endpoint.timeout:g} s.")
        return wait

    def _hidden(self, told: str) -> str:
        """Return what the endpoint told, without the key, should it repeat that."""
        return told.replace(self._endpoint.key, "***") if self._endpoint.key else told


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Return what HTTPS is checked with; reading it takes longer than all else that a request costs here."""
    import httpx

    return httpx.create_ssl_context()


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    told = headers.get("retry-after", "").strip()
    try:
        return max(0.0, min(float(told), 1e6))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(told)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _complaint(response: httpx.Response) -> str:
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


# -- what comes back ---------------------------------------------------------------------------------------------------


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


def _read(endpoint: Endpoint, response: httpx.Response, streaming: bool) -> Iterator[str | Ended]:
    """Yield the pieces of a reply, and how it ended.

    Raises:
        AnswerFailed: it is none, is an error, or stops in the middle.
    """
    ended, whole, reason = Ended(endpoint.model), False, None
    for data in _parts(endpoint, response, streaming):
        if data.strip() == _DONE:
            whole = True
            break
        told = _decoded(endpoint, data)
        if told.text:
            yield told.text
        reason = told.reason or reason
        ended = replace(ended, model=told.model or ended.model, usage=told.spent or ended.usage)
    if not (whole or reason or not streaming):
        raise AnswerFailed(f"The chat endpoint {endpoint.shown} broke off in the middle of its answer.")
    yield replace(ended, cut=reason == "length")


def _decoded(endpoint: Endpoint, data: bytes) -> _Message:
    try:
        told = msgspec.json.decode(data, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = data[:200].decode("utf-8", "replace")
        raise AnswerFailed(f"{endpoint.shown} is no chat endpoint, or none of this kind: it said {shown!r}.") from error
    if told.error:
        said = _told(told.error)
        said = said.replace(endpoint.key, "***") if endpoint.key else said
        raise AnswerFailed(f"The chat endpoint {endpoint.shown} failed: {said}")
    return told


def _parts(endpoint: Endpoint, response: httpx.Response, streaming: bool) -> Iterator[bytes]:
    """Yield the JSON objects of a reply: events (SSE), lines (NDJSON), or one alone, though a stream was asked for."""
    if "text/event-stream" in response.headers.get("content-type", ""):
        yield from _events(_lines(response))
    elif streaming and endpoint.kind == "ollama":
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


# -- time --------------------------------------------------------------------------------------------------------------


def _within(
    until: float, make: Callable[[threading.Event], Iterator[str | Ended]], late: Callable[[], NearfieldError]
) -> Iterator[str | Ended]:
    """Yield what ``make`` yields in a thread of its own, and raise when the time is up.

    A timeout on the socket starts anew with each byte, and there is none on looking up a name.
    """
    stop, found = threading.Event(), queue.SimpleQueue[str | Ended | BaseException | None]()

    def work() -> None:
        try:
            for piece in make(stop):
                found.put(piece)
                if stop.is_set():
                    return
            found.put(None)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.put(error)

    threading.Thread(target=work, name="nearfield-chat", daemon=True).start()
    try:
        while (piece := _next(found, until, late)) is not None:
            yield piece
    finally:
        stop.set()


def _next(
    found: queue.SimpleQueue[str | Ended | BaseException | None], until: float, late: Callable[[], NearfieldError]
) -> str | Ended | None:
    try:
        piece = found.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise late() from None
    if isinstance(piece, NearfieldError):
        raise piece
    if isinstance(piece, BaseException):
        raise AnswerFailed(f"Asking the chat endpoint failed: {type(piece).__name__}: {piece}") from piece
    return piece
