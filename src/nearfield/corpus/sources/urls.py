"""Documents from URLs: one page or a list of pages. Links are not followed; only public addresses are fetched."""

from __future__ import annotations

import asyncio
import codecs
import os
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from nearfield import __version__ as version
from nearfield.corpus import extractors
from nearfield.corpus.document import NamedBytes, SourceItem
from nearfield.corpus.extractors.text_encoding import decode_as
from nearfield.corpus.sources import Source
from nearfield.errors import InputError, MissingExtra
from nearfield.fileio import url_safety
from nearfield.fileio.pinned_request import get_pinned

if TYPE_CHECKING:
    from httpx import URL, AsyncClient, Response

#: Maximum size of a page in bytes, seconds to fetch it, and number of redirects.
MAX_BYTES, TIMEOUT, _MAX_REDIRECTS = 2**26, 60.0, 5
#: Timeout of each address of a host in seconds.
_CONNECT_TIMEOUT = 15.0


class UrlSource(Source):
    """One URL, or a file with one URL per line (blank lines and lines that begin with # are skipped).

    Only these pages are fetched, and only redirects are followed. ``allow_private`` (true, or networks such as
    ``10.0.0.0/8``) allows pages of an intranet. ``largest`` is the maximum size of a page in bytes, ``seconds`` the
    time limit for one page.
    """

    kind = "urls"

    def __init__(
        self,
        location: str,
        *,
        allow_private: bool | Sequence[str] = False,
        largest: int = MAX_BYTES,
        seconds: float = TIMEOUT,
    ) -> None:
        one = "://" in location
        place = location if one else os.path.abspath(Path(location).expanduser())  # noqa: PTH100 - links stay links
        super().__init__(place, allow_private=allow_private, largest=largest, seconds=seconds)
        self._path = None if one else Path(place)
        self._fetch = partial(
            fetch, allowed=url_safety.parse_networks(allow_private), max_bytes=largest, timeout=seconds
        )

    def items(self) -> Iterator[SourceItem]:
        """Yield the pages, each once.

        Raises:
            InputError: there is no such file, or it is not a text file.
        """
        seen: set[str] = set()
        for url in self._urls():
            if url not in seen:
                seen.add(url)
                yield SourceItem(url, url, partial(self._fetch, url))

    def watch(self) -> list[str]:
        """Return the file with the list; pages cannot be watched."""
        return [str(self._path)] if self._path else []

    def _urls(self) -> Iterator[str]:
        if self._path is None:
            yield self.location.partition("#")[0]
            return
        try:
            lines = self._path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError as error:
            raise InputError(
                f"There is no file {self._path}. The location is a URL or a file of URLs.", param="location"
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: not UTF-8 ({error.reason}).", param="location") from error
        for line in map(str.strip, lines):
            if line and not line.startswith("#"):
                yield line.partition("#")[0]


def fetch(url: str, *, allowed: Sequence[url_safety.Network], max_bytes: int, timeout: float) -> NamedBytes:
    """Return the content of a URL, with a name whose suffix gives its type.

    Raises:
        InputError: the URL is not valid, its address is not allowed, or its page does not exist, is too large or takes
            too long.
    """
    result: Future[NamedBytes] = Future()

    async def work() -> None:
        try:
            result.set_result(await asyncio.wait_for(_follow(url, allowed, max_bytes), timeout))
        except Exception as error:  # noqa: BLE001 - raised again by ``result.result``
            result.set_exception(error)

    # In a new thread: the caller may have a running event loop, and a name lookup cannot be cancelled.
    threading.Thread(target=lambda: asyncio.run(work()), name="nearfield-fetch", daemon=True).start()
    try:
        return result.result(timeout=timeout + 1)
    except (TimeoutError, asyncio.TimeoutError, FutureTimeout) as error:
        raise InputError(f"{url}: not fetched within {timeout:g} seconds.", param="url") from error


async def _follow(url: str, allowed: Sequence[url_safety.Network], max_bytes: int) -> NamedBytes:
    """Fetch a URL and follow its redirects."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("Fetching pages needs httpx: pip install 'nearfield[corpus]'") from error
    try:
        target = httpx.URL(url)
        context = _ssl_context()
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=None, headers=_headers()) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                response = await _request(client, target, allowed)
                try:
                    if not response.has_redirect_location:
                        return _name_content(response, target, await _read_body(response, url, max_bytes))
                    target = target.join(response.headers["location"])
                finally:
                    await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise InputError(f"{url}: cannot be fetched ({error or type(error).__name__}).", param="url") from error
    raise InputError(f"{url}: more than {_MAX_REDIRECTS} redirects.", param="url")


async def _request(client: AsyncClient, target: URL, allowed: Sequence[url_safety.Network]) -> Response:
    """Check a URL, and send the request to the address that was checked."""
    _check_url(target)
    host, port = target.raw_host.decode("ascii"), target.port or (443 if target.scheme == "https" else 80)
    addresses = await asyncio.get_running_loop().run_in_executor(None, url_safety.resolve, host, port)
    url_safety.require_public_address(addresses, host, allowed)
    return await get_pinned(client, target, addresses, _CONNECT_TIMEOUT)


def _check_url(target: URL) -> None:
    if target.scheme not in ("http", "https") or not target.host:
        raise InputError(f"{target}: only http:// and https:// URLs are fetched.", param="url")
    if target.userinfo:
        raise InputError(f"{target.host}: a URL with a name or password in it is not fetched.", param="url")


async def _read_body(response: Response, url: str, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise InputError(f"{url}: answered {response.status_code} {response.reason_phrase}.", param="url")
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise InputError(f"{url}: larger than {max_bytes:,} bytes. Increase 'largest' to fetch it.", param="url")
    return b"".join(parts)


def _name_content(response: Response, target: URL, data: bytes) -> NamedBytes:
    """Return the content, named by its URL with a suffix for the type that the server states."""
    media_type, _, parameters = response.headers.get("content-type", "").lower().partition(";")
    media_type, path = media_type.strip(), unquote(target.path)
    own, stated = PurePosixPath(path).suffix.lower(), extractors.suffix_of(media_type)
    # Servers state plain text for Markdown and source code too.
    is_plain = media_type == "text/plain" and extractors.kind_of(path) in ("text", "markdown", "code")
    keep = not stated or is_plain or extractors.kind_of(own) == extractors.kind_of(stated)
    name = str(target.copy_with(query=None, fragment=None))
    if not keep:
        name += f"{'index' if name.endswith('/') else ''}{stated}"
    return NamedBytes(_to_utf8(data, media_type, parameters), name)


def _to_utf8(data: bytes, media_type: str, parameters: str) -> bytes:
    """Return a text in UTF-8 with a byte order mark if the server states another encoding."""
    _, _, charset = parameters.partition("charset=")
    charset = charset.partition(";")[0].strip(" \"'")
    if not charset or charset in ("utf-8", "utf8") or not (media_type.startswith("text/") or "xml" in media_type):
        return data
    text = decode_as(data, {"iso-8859-1": "cp1252", "us-ascii": "cp1252"}.get(charset, charset))
    return data if text is None else codecs.BOM_UTF8 + text.encode("utf-8", "replace")


@cache
def _ssl_context() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()


def _headers() -> dict[str, str]:
    return {"User-Agent": f"nearfield/{version} (fetches listed pages)", "Accept-Encoding": "gzip, deflate"}
