"""The owner of a request's costs: limits, shares and turns are counted for each owner."""

from __future__ import annotations

import ipaddress
import itertools
from functools import lru_cache

from nearfield.engine.turns import CALLER, Caller
from nearfield.server.auth.api_key import ApiKey

#: Owner of requests that arrive over a Unix socket and of those without an address.
LOCAL = "local"
#: A client with IPv6 usually has all addresses of a network of this many bits.
_IPV6_NETWORK_BITS = 64
_REQUESTS = itertools.count()


def owner_of(key: ApiKey, peer: str | None) -> str:
    """Return the owner of a request: its API key, else the address of its client.

    ``peer`` is the client's address, or None if it has none. IPv6 addresses of one /64 network are one owner.
    """
    return f"key {key.owner}" if key.digest else address_owner(peer)


def enter_request(key: ApiKey, peer: str | None) -> str:
    """Set the caller of the current task: its tickets use the turns of the request's owner. Return the owner."""
    owner = owner_of(key, peer)
    CALLER.set(Caller(owner, next(_REQUESTS)))
    return owner


@lru_cache(4096)
def address_owner(peer: str | None) -> str:
    """Return the owner of a client without a valid key."""
    if not peer:
        return LOCAL
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return f"address {peer}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"network {ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False)}"
        address = address.ipv4_mapped
    return f"address {address}"
