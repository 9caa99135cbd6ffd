"""Chat endpoints: ask a language model over an OpenAI-compatible API or Ollama's, with retries and a total deadline.

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
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit, urlunsplit

from nearfield import __version__
from nearfield.corpus.answering.chat_stream import AnswerEnd, EndpointRefused, post_to_ollama
from nearfield.corpus.answering.timeout import iterate_with_timeout
from nearfield.errors import AnswerFailed, InputError, MissingExtra, nearest

if TYPE_CHECKING:
    import ssl

    import httpx

Kind = Literal["openai", "ollama"]
#: By kind: the root of the API, the pattern of a URL that ends with a root, and the path below it.
_PATHS: Mapping[str, tuple[str, re.Pattern[str], str]] = {
    "openai": ("/v1", re.compile(r"/v\d\w*(/openai)?$"), "/chat/completions"),
    "ollama": ("/api", re.compile(r"/api$"), "/chat"),
}
#: Environment variable of the key: on a command line, every user of the machine could read it.
KEY = "NEARFIELD_CHAT_KEY"
#: Default port of Ollama.
_OLLAMA_PORT = 11434
#: Statuses that mean "not now", and how often such a request is sent at most.
_BUSY, _MAX_ATTEMPTS = (429, 503), 5
#: Seconds before the second attempt, doubled with each, if the endpoint names no time.
_FIRST_WAIT = 0.5
#: Seconds within which a connection must be established.
_CONNECT_SECONDS = 10.0
#: Fields that some endpoints refuse; each is left out when the error names it.
_OPTIONAL = ("stream_options", "temperature", "max_completion_tokens", "max_tokens")
#: The two fields for the maximum length of an answer; an endpoint that refuses one may take the other.
_LENGTH_FIELDS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
#: Models of OpenAI that take ``max_completion_tokens`` only: the reasoning models.
_COMPLETION_TOKENS = re.compile(r"(?:.*/)?(?:o[1-9]|gpt-[5-9])(?![a-z0-9])", re.IGNORECASE)
#: Tokens of an answer that an Ollama model's context leaves room for, if there is no maximum.
_ANSWER_TOKENS = 1024
#: Minimum context, in tokens, that an Ollama model is loaded with: it drops what is beyond, without an error.
_MIN_CONTEXT = 4096


@dataclass(frozen=True)
class ChatEndpoint:
    """A chat endpoint, and the model to ask there.

    ``url`` is a server (``http://localhost:11434``), its API's root (``https://api.openai.com/v1``) or the full path;
    ``kind`` is detected from it if it is None. ``key`` is sent as a bearer token and never shown. ``timeout`` is the
    number of seconds for one answer, including waiting and retries. ``max_tokens`` is the maximum length of an answer,
    and ``temperature`` how much it varies; both are sent only if they are set, since some models refuse them.

    Raises:
        InputError: the URL is invalid, or the key has characters that no header can hold.
    """

    url: str
    model: str = ""
    key: str | None = field(default=None, repr=False)
    kind: Kind | None = None
    timeout: float = 120.0
    max_tokens: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise InputError("The chat endpoint's key contains characters that no key has. Check it for stray ones.")
        if not self.timeout > 0:
            raise InputError(f"The chat timeout must be more than 0 seconds, not {self.timeout:g}.")
        try:
            url = urlsplit(self.url)
            is_valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InputError(f"Not a chat URL: {self.shown!r}. Write http://localhost:11434 or https://host/v1.")
        if self.kind is None:
            object.__setattr__(self, "kind", _kind(self.url))
        if self.kind not in _PATHS:
            raise InputError(f"{self.kind!r} is no kind of chat endpoint. {nearest(self.kind, _PATHS)}")

    @classmethod
    def configured(
        cls,
        url: str | None,
        model: str | None = None,
        kind: str | None = None,
        timeout: float | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> ChatEndpoint | None:
        """Return the endpoint of the settings, with the key from the environment (``NEARFIELD_CHAT_KEY``).

        None if there is no URL. Raises the same errors as the class.
        """
        if not url:
            return None
        endpoint = cls(
            url,
            model=model or "",
            key=os.environ.get(KEY) or None,
            kind=cast("Kind | None", kind or None),
            max_tokens=max_tokens,
            temperature=temperature,
        )
        return replace(endpoint, timeout=timeout) if timeout else endpoint

    @property
    def shown(self) -> str:
        """The URL without the parts that may be secret."""
        return re.sub(r"//[^/]*@", "//", self.url.partition("?")[0])

    @property
    def address(self) -> str:
        """The full URL of requests."""
        url = urlsplit(self.url)
        path, (root, root_pattern, end) = url.path.rstrip("/"), _PATHS[self.kind or "openai"]
        if not path.endswith(end):
            path += end if root_pattern.search(path) else root + end
        return urlunsplit((url.scheme, url.netloc, path, url.query, ""))

    def complete(self, messages: Sequence[Mapping[str, Any]], *, prompt_tokens: int = 0) -> tuple[str, AnswerEnd]:
        """Return the whole answer to these messages (``{"role", "content"}``), and how it ended.

        ``prompt_tokens`` is their approximate length: an Ollama model is loaded with a context for it.

        Raises:
            AnswerFailed: the endpoint cannot be reached, refused, or gave no answer in time; with its message.
        """
        pieces = list(self.stream(messages, prompt_tokens=prompt_tokens, streaming=False))
        end = next(piece for piece in pieces if isinstance(piece, AnswerEnd))
        return "".join(piece for piece in pieces if isinstance(piece, str)), end

    def stream(
        self, messages: Sequence[Mapping[str, Any]], *, prompt_tokens: int = 0, streaming: bool = True
    ) -> Iterator[str | AnswerEnd]:
        """Yield an answer in pieces as they arrive, and how it ended. Arguments and errors as for ``complete``.

        Raises:
            MissingExtra: the library for this kind of endpoint is not installed.
        """
        for library in ("httpx", "openai") if self.kind == "openai" else ("httpx",):
            if find_spec(library) is None:
                raise MissingExtra(f"Asking a chat endpoint needs {library!r}: pip install 'nearfield[chat]'")
        until = time.monotonic() + self.timeout
        body = self._body(messages, prompt_tokens, streaming)
        return iterate_with_timeout(until, _ChatRequest(self, body, until).pieces, self._timeout_error)

    def _timeout_error(self) -> AnswerFailed:
        return AnswerFailed(f"{self.shown} gave no answer within {self.timeout:g} s.")

    def _body(self, messages: Sequence[Mapping[str, Any]], prompt_tokens: int, streaming: bool) -> dict[str, object]:
        body: dict[str, object] = {"messages": [_encodable(message) for message in messages], "stream": streaming}
        body |= {"model": self.model} if self.model else {}
        if self.kind == "ollama":
            context = _MIN_CONTEXT
            while context < prompt_tokens + (self.max_tokens or _ANSWER_TOKENS):
                context *= 2  # few different sizes: Ollama reloads the model for each
            options = {"temperature": self.temperature, "num_predict": self.max_tokens, "num_ctx": context}
            return body | {"options": _present(options)}
        length = "max_completion_tokens" if _COMPLETION_TOKENS.match(self.model) else "max_tokens"
        body |= _present({"temperature": self.temperature, length: self.max_tokens})
        return body | ({"stream_options": {"include_usage": True}} if streaming else {})


def _present(options: Mapping[str, float | None]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _kind(url: str) -> Kind:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith(("/api/chat", "/api")):  # Ollama's own "/v1" is an OpenAI-compatible API
        return "ollama"
    return "ollama" if parts.port == _OLLAMA_PORT and not path else "openai"


def _encodable(value: Any) -> Any:
    """Return a message, or a part of one, without lone surrogates, which have no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: _encodable(part) for name, part in value.items()}
    return [_encodable(part) for part in value]


# -- one request -------------------------------------------------------------------------------------------------------


class _ChatRequest:
    """One question to one endpoint, sent again while the endpoint is busy."""

    def __init__(self, endpoint: ChatEndpoint, body: dict[str, object], until: float) -> None:
        self._endpoint, self._body, self._until = endpoint, body, until
        self._attempts = 0
        #: Fields that the endpoint refused.
        self._refused: set[str] = set()

    def pieces(self, stop: threading.Event) -> Iterator[str | AnswerEnd]:
        """Yield the answer of the endpoint in pieces, until ``stop`` is set.

        Raises:
            AnswerFailed: it cannot be reached, refused, or broke off.
        """
        import httpx

        # Compressed replies would escape the limit on their size.
        headers = {"User-Agent": f"nearfield/{__version__}", "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        try:
            with httpx.Client(headers=headers, verify=_certificates()) as client:
                while not stop.is_set():
                    try:
                        for piece in self._post(client):
                            yield piece if isinstance(piece, str) else self._with_model(piece)
                        return
                    except EndpointRefused as refusal:
                        wait = self._wait_after(refusal)
                    stop.wait(wait)
        except AnswerFailed as error:
            raise AnswerFailed(self._redacted(str(error))) from None
        except httpx.ConnectTimeout:
            raise AnswerFailed(
                f"The chat endpoint {self._endpoint.shown} cannot be reached in {_CONNECT_SECONDS:g} s."
            ) from None
        except httpx.TimeoutException:
            raise self._endpoint._timeout_error() from None
        except Exception as error:  # noqa: BLE001 - of the libraries or the endpoint, and it may quote the key
            reason = self._redacted(str(error) or type(error).__name__)
            raise AnswerFailed(f"The chat endpoint {self._endpoint.shown} does not answer: {reason}.") from None

    def _post(self, client: httpx.Client) -> Iterator[str | AnswerEnd]:
        url, timeout, shown = self._endpoint.address, self._timeout(), self._endpoint.shown
        if self._endpoint.kind == "ollama":
            return post_to_ollama(client, url, self._body, timeout, shown)
        from nearfield.corpus.answering.openai_chat import post_to_openai

        return post_to_openai(client, url, self._endpoint.key, self._body, timeout, shown)

    def _with_model(self, end: AnswerEnd) -> AnswerEnd:
        return replace(end, model=end.model or self._endpoint.model)

    def _timeout(self) -> httpx.Timeout:
        import httpx

        left = max(0.001, self._until - time.monotonic())
        return httpx.Timeout(left, connect=min(left, _CONNECT_SECONDS))

    def _wait_after(self, refusal: EndpointRefused) -> float:
        """Return the seconds after which to send the request again; the body may have lost a field.

        Raises:
            AnswerFailed: another attempt would be refused as well, or come too late.
        """
        error = AnswerFailed(f"The chat endpoint {self._endpoint.shown} answered {refusal.status}: {refusal.message}")
        if refusal.status in (400, 422):
            field_name = next(
                (name for name in _OPTIONAL if name in self._body and _names(refusal.message, name)), None
            )
            if field_name is None:
                raise error
            value = self._body[field_name]
            self._body = {name: value for name, value in self._body.items() if name != field_name}
            other = _LENGTH_FIELDS.get(field_name)
            if other is not None and other not in self._refused:
                self._body[other] = value
            self._refused.add(field_name)
            return 0.0
        self._attempts += 1
        if refusal.status not in _BUSY or self._attempts >= _MAX_ATTEMPTS:
            raise error
        wait = _retry_after(refusal.headers)
        wait = _FIRST_WAIT * 2 ** (self._attempts - 1) if wait is None else wait
        if time.monotonic() + wait >= self._until:
            raise AnswerFailed(f"{error} It is too busy to answer within {self._endpoint.timeout:g} s.")
        return wait

    def _redacted(self, text: str) -> str:
        """Return a text without the key, which an endpoint may repeat."""
        return text.replace(self._endpoint.key, "***") if self._endpoint.key else text


def _names(message: str, field_name: str) -> bool:
    """Return whether a message names a field; ``max_tokens`` is no part of another field's name."""
    return re.search(rf"(?<![A-Za-z_]){field_name}(?![A-Za-z_])", message) is not None


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Return the trusted certificates; reading them takes longer than the rest of a request."""
    import httpx

    return httpx.create_ssl_context()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the Retry-After header (RFC 9110, 10.2.3), which is a number or a date."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, min(float(value), 1e6))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
