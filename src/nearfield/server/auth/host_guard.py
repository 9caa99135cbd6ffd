"""Host and Origin checks for servers without API keys, which protect a local server from web pages of other sites."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from nearfield.errors import Forbidden
from nearfield.server.auth.api_key import ANONYMOUS, LOCAL_OPERATOR, ApiKey

#: Maximum characters of a DNS name. Longer ones would fill the cache of names.
_MAX_HOST_CHARACTERS = 253


@dataclass(frozen=True)
class HostGuard:
    """Decides what a client may do when no keys are configured.

    A web page can make a browser send requests to this machine, even under the page's own host name (DNS rebinding).
    Such a request has a foreign name in ``Host`` or ``Origin``.
    """

    #: Whether the server listens on a loopback address only.
    loopback: bool
    #: Further host names that are accepted.
    hosts: tuple[str, ...] = ()
    #: Origins of web pages that may call the server.
    origins: tuple[str, ...] = ()

    def check(self, headers: Mapping[str, str], peer: str | None) -> ApiKey:
        """Return what a client at the address ``peer`` may do without a key.

        Raises:
            Forbidden: the request has a foreign host name, or comes from a foreign web page.
        """
        if not self.loopback:
            return ANONYMOUS
        host, origin = _hostname(headers.get("host", "")), headers.get("origin", "")
        if host and not is_loopback(host) and host not in map(str.lower, self.hosts):
            raise Forbidden(
                f"The name {host[:200]!r} is not this machine's. To serve under it, set allowed_hosts, or keys."
            )
        if origin and origin not in self.origins and "*" not in self.origins and not is_loopback(_hostname(origin)):
            raise Forbidden(f"Pages of {origin[:200]!r} may not call this server. To let them, set cors_origins.")
        return LOCAL_OPERATOR if peer is not None and is_loopback(peer) else ANONYMOUS


def _hostname(text: str) -> str:
    """Return the host of ``host:port`` or of an origin, without brackets."""
    name = text.partition("://")[2] or text
    if name.startswith("["):
        return name[1:].partition("]")[0].lower()
    return name.rpartition(":")[0].lower() if name.count(":") == 1 else name.lower()


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's loopback interface."""
    return len(host) <= _MAX_HOST_CHARACTERS and _is_loopback(host)


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
