"""Fetch the bytes behind an http(s) address, guarded against addresses of this machine and its network (SSRF).

It is off by default. The name is resolved once, each of its addresses must be public, and the connection goes to one of
those that were checked: a second lookup could return another. Redirects are checked like the first address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from nearfield.errors import InputError, MissingExtra, TooLarge
from nearfield.fileio import url_safety
from nearfield.fileio.pinned_request import get_pinned

if TYPE_CHECKING:
    import ssl

    from httpx import URL, AsyncClient, Response

#: Characters of an address in a message.
_SHOWN = 200
#: NAT64 leads into the network's IPv4, wherever its gateway allows.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_FETCHED = "The address cannot be fetched"


@dataclass(frozen=True)
class FetchPolicy:
    """What may be fetched. The default is nothing.

    Args:
        enabled: whether anything is fetched.
        allow_http: whether unencrypted addresses are, too.
        hosts: names of hosts that are allowed, such as ``example.com``; ``*.example.com`` allows the names below it.
            Empty allows all public hosts.
        ports: port numbers that are allowed.
        allow_private: networks, such as ``10.0.0.0/8``, that are allowed though they are not public.
        max_bytes: bytes of an answer.
        seconds: time for all of it, redirects included.
        max_redirects: redirects that are followed.
    """

    enabled: bool = False
    allow_http: bool = False
    hosts: Sequence[str] = ()
    ports: Sequence[int] = (80, 443)
    allow_private: Sequence[url_safety.Network] = ()
    max_bytes: int = 20_000_000
    seconds: float = 10.0
    max_redirects: int = 3


def fetch(url: str, policy: FetchPolicy) -> bytes:
    """Return the bytes behind an address.

    Messages do not repeat the answer, and do not show which ports are open or which addresses a name has.

    Raises:
        InputError: nothing is fetched, the address is not allowed, or it cannot be fetched in time.
        TooLarge: the answer is larger than the policy allows.
        MissingExtra: httpx is not installed.
    """
    if not policy.enabled:
        raise InputError(
            "Addresses are not fetched here: send the bytes, as base64 or as a data URI. (The server's setting for "
            "media_urls is off.)",
            param="url",
        )
    result: Future[bytes] = Future()

    async def work() -> None:
        try:
            result.set_result(await asyncio.wait_for(_follow(url, policy), policy.seconds))
        except Exception as error:  # noqa: BLE001 - raised again by ``result.result``
            result.set_exception(error)

    # In a new thread: the caller may have a running event loop, and a name lookup cannot be cancelled.
    threading.Thread(target=lambda: asyncio.run(work()), name="nearfield-media-fetch", daemon=True).start()
    try:
        return result.result(timeout=policy.seconds + 1)
    except (TimeoutError, asyncio.TimeoutError, FutureTimeout) as error:
        raise InputError(f"{_NOT_FETCHED} within {policy.seconds:g} seconds.", param="url") from error


async def _follow(url: str, policy: FetchPolicy) -> bytes:
    """Fetch an address and follow its redirects."""
    httpx = _httpx()
    try:
        target = httpx.URL(url)
        # No proxies of the environment, no cookies, and nothing that a decoder could expand.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "nearfield"}
        async with httpx.AsyncClient(verify=_ssl_context(), trust_env=False, timeout=None, headers=headers) as client:
            for _ in range(policy.max_redirects + 1):
                response = await _send(client, target, policy)
                try:
                    if not response.has_redirect_location:
                        return await _read_body(response, policy.max_bytes)
                    target = target.join(response.headers["location"])
                finally:
                    await response.aclose()
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise InputError(f"{_NOT_FETCHED}.", param="url") from error
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(url)[:_SHOWN]!r} is no valid address.", param="url") from error
    raise InputError(f"{_NOT_FETCHED}: it redirects more than {policy.max_redirects} times.", param="url")


async def _send(client: AsyncClient, target: URL, policy: FetchPolicy) -> Response:
    """Check an address, and send the request to what was checked."""
    host, port = check_url(target, policy)
    addresses = await asyncio.get_running_loop().run_in_executor(None, _resolve, host, port)
    _require_allowed(addresses, host, policy)
    return await get_pinned(client, target, addresses)


def check_url(target: URL, policy: FetchPolicy) -> tuple[str, int]:
    """Return the host and port of an address.

    Raises:
        InputError: its scheme, port or host is not allowed, or it has a user name or password.
    """
    schemes = ("https", "http") if policy.allow_http else ("https",)
    if target.scheme not in schemes or not target.host:
        raise InputError(
            f"Only addresses that start with {' or '.join(f'{name}://' for name in schemes)} are fetched, not "
            f"{str(target.copy_with(userinfo=b''))[:_SHOWN]!r}.",
            param="url",
        )
    if target.userinfo:
        raise InputError("An address with a user name or password in it is not fetched.", param="url")
    port = target.port or (443 if target.scheme == "https" else 80)
    if port not in policy.ports:
        allowed = ", ".join(map(str, policy.ports))
        raise InputError(f"Addresses with port {port} are not fetched, only {allowed}.", param="url")
    host = target.raw_host.decode("ascii").lower().rstrip(".")
    if policy.hosts and not any(_matches(host, pattern.lower()) for pattern in policy.hosts):
        raise InputError(f"Nothing is fetched from {host[:_SHOWN]!r}: the server allows other hosts only.", param="url")
    return host, port


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _resolve(host: str, port: int) -> list[str]:
    try:
        return url_safety.resolve(host, port)
    except InputError as error:
        raise InputError(f"{_NOT_FETCHED}: no public address.", param="url") from error


def _require_allowed(addresses: Sequence[str], host: str, policy: FetchPolicy) -> None:
    """Raise InputError if one of a host's addresses is neither public nor in an allowed network."""
    try:
        if any(_is_nat64(address) for address in addresses):
            raise InputError("NAT64", param="url")
        url_safety.require_public_address(addresses, host, policy.allow_private)
    except InputError as error:  # its message has the address, which may be one of a private network
        raise InputError(f"{_NOT_FETCHED}: no public address.", param="url") from error


def _is_nat64(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return address.version == 6 and address in _NAT64


async def _read_body(response: Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise InputError(f"{_NOT_FETCHED}: it answered with status {response.status_code}.", param="url")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise InputError(f"{_NOT_FETCHED}: its answer is compressed, though none was asked for.", param="url")
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"The address has more than {max_bytes:,} bytes.", param="url")
    return b"".join(parts)


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtra("Fetching needs httpx: pip install 'nearfield[media]'") from error
    return httpx


@cache
def _ssl_context() -> ssl.SSLContext:
    context: ssl.SSLContext = _httpx().create_ssl_context()
    return context
