"""Addresses: which of a network's may be asked for pages: none that leads back to this machine or its neighbours."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from nearfield.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Never public, whatever the version of Python knows: this machine and network, carriers' NAT, tests, tunnels, groups.
_NEVER = [
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7",
        "fe80::/10", "fec0::/10", "ff00::/8",
    )
]  # fmt: skip
#: Addresses of IPv6 that stand for one of IPv4, which are their last 32 bits: mapped ones, and NAT64.
_STANDING = [ipaddress.IPv6Network(each) for each in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name.

    Raises:
        InputError: there are none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"The name {host!r} has no address ({error}).", param="url") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def require_public_address(addresses: Sequence[str], host: str, allowed: Sequence[Network] = ()) -> None:
    """Refuse a name one of whose addresses is not public, unless it lies in an ``allowed`` network.

    Raises:
        InputError: it names the address.
    """
    for told in addresses:
        # A zone says through which interface: of link-local addresses only.
        address = _meant(ipaddress.ip_address(told.partition("%")[0]))
        if not is_public(address) and not any(address in network for network in allowed):
            raise InputError(
                f"{host} is at {address}, which is no public address. Such pages need allow_private.",
                param="url",
            )


def is_public(address: Address) -> bool:
    """Return whether an address is one that anyone may reach."""
    address = _meant(address)
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not special and not any(address in network for network in _NEVER)


def _meant(address: Address) -> Address:
    if any(address in network for network in _STANDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def networks(told: bool | Sequence[str]) -> list[Network]:
    """Return networks: all there are for True, none for False, else those that are named.

    Raises:
        InputError: one is no network.
    """
    if isinstance(told, bool):
        return [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")] if told else []
    try:
        return [ipaddress.ip_network(each, strict=False) for each in ([told] if isinstance(told, str) else told)]
    except (ValueError, TypeError) as error:
        raise InputError(f"allow_private: true, false, or networks such as '10.0.0.0/8' ({error}).") from error
