"""Chat: asking a language model behind an OpenAI-compatible or an Ollama endpoint, within a deadline.

Formats: https://platform.openai.com/docs/api-reference/chat and https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from nearfield import __version__
from nearfield.corpus.answering.chat_stream import Ended, complaint, read
from nearfield.corpus.answering.timeout import iterate_with_timeout
from nearfield.errors import AnswerFailed, InputError, MissingExtra, nearest

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
#: Tokens that an Ollama model is loaded for at least: it drops what is beyond, and says nothing.
_LEAST_CONTEXT = 4096


@dataclass(frozen=True)
class ChatEndpoint:
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
    ) -> ChatEndpoint | None:
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
        return iterate_with_timeout(until, _Asking(self, body, until).pieces, self._late)

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

    def __init__(self, endpoint: ChatEndpoint, body: dict[str, Any], until: float) -> None:
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
                            yield from self._read(response)
                            return
                        wait = self._again(response)
                    finally:
                        response.close()
                    stop.wait(wait)
        except AnswerFailed as error:
            raise AnswerFailed(self._hidden(str(error))) from None
        except httpx.ConnectTimeout:
            raise AnswerFailed(
                f"The chat endpoint {self._endpoint.shown} cannot be reached in {_CONNECT:g} s."
            ) from None
        except httpx.TimeoutException:
            raise self._endpoint._late() from None
        except Exception as error:  # noqa: BLE001 - of the library or the endpoint, and it may quote the key
            told = self._hidden(str(error) or type(error).__name__)
            raise AnswerFailed(f"The chat endpoint {self._endpoint.shown} does not answer: {told}.") from None

    def _read(self, response: httpx.Response) -> Iterator[str | Ended]:
        ollama = self._endpoint.kind == "ollama"
        for piece in read(response, self._endpoint.shown, streaming=bool(self._body["stream"]), lines=ollama):
            yield piece if isinstance(piece, str) else replace(piece, model=piece.model or self._endpoint.model)

    def _timeout(self) -> httpx.Timeout:
        import httpx

        left = max(0.001, self._until - time.monotonic())
        return httpx.Timeout(left, connect=min(left, _CONNECT))

    def _again(self, response: httpx.Response) -> float:
        """Return the seconds after which to send the request again, perhaps without a field.

        Raises:
            AnswerFailed: it would be refused again, or too late.
        """
        said = complaint(response)
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
