"""URLs: web pages and files, one or a list of them; only what is listed is fetched, and from public addresses only."""

from __future__ import annotations

import asyncio
import codecs
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from nearfield import __version__ as version
from nearfield.corpus import extractors
from nearfield.corpus.document import NamedBytes, SourceItem
from nearfield.corpus.extractors.text_encoding import decode_as
from nearfield.corpus.sources import Source
from nearfield.errors import InputError, MissingExtra
from nearfield.fileio import url_safety

#: Bytes that a page may have, seconds that it may take, and redirects that are followed.
LARGEST, SECONDS, _REDIRECTS = 2**26, 60.0, 5
#: Addresses of a name that are tried, and seconds for each.
_TRIED, _CONNECT = 3, 15.0


class UrlSource(Source):
    """One URL, or a file with one a line (blank lines, and those that begin with #, are left out).

    Each is asked for itself, nothing is followed but redirects. ``allow_private`` (true, or networks such as
    ``10.0.0.0/8``) lets pages of an intranet through. ``largest`` is in bytes, ``seconds`` are those one page may
    take in all.
    """

    kind = "urls"

    def __init__(
        self,
        location: str,
        *,
        allow_private: bool | Sequence[str] = False,
        largest: int = LARGEST,
        seconds: float = SECONDS,
    ) -> None:
        one = "://" in location
        place = location if one else os.path.abspath(Path(location).expanduser())  # noqa: PTH100 - links stay links
        super().__init__(place, allow_private=allow_private, largest=largest, seconds=seconds)
        self._path = None if one else Path(place)
        self._fetch = partial(fetch, allowed=url_safety.parse_networks(allow_private), largest=largest, seconds=seconds)

    def items(self) -> Iterator[SourceItem]:
        """Yield the pages, each once.

        Raises:
            InputError: there is no such file, or it is no text.
        """
        seen: set[str] = set()
        for url in self._listed():
            if url not in seen:
                seen.add(url)
                yield SourceItem(url, url, partial(self._fetch, url))

    def watch(self) -> list[str]:
        """Return the file of the list; pages cannot be watched."""
        return [str(self._path)] if self._path else []

    def _listed(self) -> Iterator[str]:
        if self._path is None:
            yield self.location.partition("#")[0]
            return
        try:
            lines = self._path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError as error:
            raise InputError(f"There is no file {self._path}: give one, or a URL.", param="location") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: not UTF-8 ({error.reason}).", param="location") from error
        for line in map(str.strip, lines):
            if line and not line.startswith("#"):
                yield line.partition("#")[0]


def fetch(url: str, *, allowed: Sequence[url_safety.Network], largest: int, seconds: float) -> NamedBytes:
    """Return what is at a URL, under a name whose suffix tells its type.

    Raises:
        InputError: it is no URL of a page, leads to an address that may not be asked, is not there, too large, or late.
    """
    answer: Future[NamedBytes] = Future()

    async def work() -> None:
        try:
            answer.set_result(await asyncio.wait_for(_follow(url, allowed, largest), seconds))
        except Exception as error:  # noqa: BLE001 - told where it is waited for
            answer.set_exception(error)

    # In a thread of its own: whoever asks may run a loop already, and a name that is looked up cannot be given up.
    threading.Thread(target=lambda: asyncio.run(work()), name="nearfield-fetch", daemon=True).start()
    try:
        return answer.result(timeout=seconds + 1)
    except (TimeoutError, asyncio.TimeoutError, Late) as error:
        raise InputError(f"{url}: not there within {seconds:g} seconds.", param="url") from error


async def _follow(url: str, allowed: Sequence[url_safety.Network], largest: int) -> NamedBytes:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("Fetching pages needs httpx: pip install 'nearfield[corpus]'") from error
    try:
        target = httpx.URL(url)
        async with httpx.AsyncClient(verify=_trusted(), trust_env=False, timeout=None, headers=_headers()) as client:
            for _ in range(_REDIRECTS + 1):
                response = await _ask(client, target, allowed)
                try:
                    if not response.has_redirect_location:
                        return _named(response, target, await _body(response, url, largest))
                    target = target.join(response.headers["location"])
                finally:
                    await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise InputError(f"{url}: cannot be fetched ({error or type(error).__name__}).", param="url") from error
    raise InputError(f"{url}: more than {_REDIRECTS} redirects.", param="url")


async def _ask(client: Any, target: Any, allowed: Sequence[url_safety.Network]) -> Any:
    """Ask the very address that was checked: a second look-up could give another. The server still sees the name."""
    import httpx

    _check_url(target)
    host, port = target.raw_host.decode("ascii"), target.port or (443 if target.scheme == "https" else 80)
    found = await asyncio.get_running_loop().run_in_executor(None, url_safety.resolve, host, port)
    url_safety.require_public_address(found, host, allowed)
    error: Exception | None = None
    for address in found[:_TRIED]:
        named = {"headers": {"Host": target.netloc.decode("ascii")}, "extensions": {"sni_hostname": host}}
        request = client.build_request("GET", target.copy_with(host=address), timeout=_CONNECT, **named)
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
            error = failed
    raise error or InputError(f"{target}: its name has no address.", param="url")


def _check_url(target: Any) -> None:
    if target.scheme not in ("http", "https") or not target.host:
        raise InputError(f"{target}: only http:// and https:// are fetched.", param="url")
    if target.userinfo:
        raise InputError(f"{target.host}: a URL with a name or password in it is not fetched.", param="url")


async def _body(response: Any, url: str, largest: int) -> bytes:
    if response.status_code != 200:
        raise InputError(f"{url}: answered {response.status_code} {response.reason_phrase}.", param="url")
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > largest:
            raise InputError(f"{url}: larger than {largest:,} bytes. Raise 'largest' if it is wanted.", param="url")
    return b"".join(parts)


def _named(response: Any, target: Any, data: bytes) -> NamedBytes:
    """Return what was sent under the name it has in its URL, with the suffix of the type that the server states."""
    media, _, told = response.headers.get("content-type", "").lower().partition(";")
    media, path = media.strip(), unquote(target.path)
    own, stated = PurePosixPath(path).suffix.lower(), extractors.suffix_of(media)
    plain = media == "text/plain" and extractors.kind_of(path) in ("text", "markdown", "code")
    keep = not stated or plain or extractors.kind_of(own) == extractors.kind_of(stated)
    name = str(target.copy_with(query=None, fragment=None))
    if not keep:
        name += f"{'index' if name.endswith('/') else ''}{stated}"
    return NamedBytes(_recoded(data, media, told), name)


def _recoded(data: bytes, media: str, told: str) -> bytes:
    """Return a text in UTF-8, marked as such, where the server states another encoding."""
    _, _, charset = told.partition("charset=")
    charset = charset.partition(";")[0].strip(" \"'")
    if not charset or charset in ("utf-8", "utf8") or not (media.startswith("text/") or "xml" in media):
        return data
    text = decode_as(data, {"iso-8859-1": "cp1252", "us-ascii": "cp1252"}.get(charset, charset))
    return data if text is None else codecs.BOM_UTF8 + text.encode("utf-8", "replace")


@cache
def _trusted() -> Any:
    import httpx

    return httpx.create_ssl_context()


def _headers() -> dict[str, str]:
    return {"User-Agent": f"nearfield/{version} (fetches listed pages)", "Accept-Encoding": "gzip, deflate"}
