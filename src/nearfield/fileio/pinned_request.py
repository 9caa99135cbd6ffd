"""Requests to addresses that were checked before: a second lookup of the name could return another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpx import URL, AsyncClient, Response

#: Addresses of a host that are tried.
_MAX_ADDRESSES = 3


async def get_pinned(
    client: AsyncClient, target: URL, addresses: Sequence[str], timeout: float | None = None
) -> Response:
    """Return the response of the first address of a host that accepts a connection; its body is not read yet.

    The server sees the host's name, in the header and for TLS. Redirects are not followed.

    Args:
        client: what sends the request.
        target: the URL, with the host's name.
        addresses: its IP addresses, which the caller has checked; at least one.
        timeout: seconds of each wait for the server.

    Raises:
        httpx.HTTPError: no address accepts a connection, or what answers does not speak HTTP.
    """
    import httpx

    failure: Exception = httpx.ConnectError("the host has no address")
    for address in addresses[:_MAX_ADDRESSES]:
        request = client.build_request(
            "GET",
            target.copy_with(host=address, fragment=None),
            timeout=timeout,
            headers={"Host": target.netloc.decode("ascii")},
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure
