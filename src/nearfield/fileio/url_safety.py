"""Checks that a URL leads to a public address, not back to this machine or its network (SSRF)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from nearfield.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Never public, whatever the version of Python knows: this machine and network, NAT, tests, tunnels, multicast.
_NEVER_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/3", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7",
        "fe80::/10", "fec0::/10", "ff00::/8",
    )
]  # fmt: skip
#: IPv6 addresses that embed an IPv4 address in their last 32 bits: mapped ones, and NAT64.
_EMBEDDED_IPV4 = [ipaddress.IPv6Network(network) for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")]


def resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host name.

    Raises:
        InputError: the name has none.
    """
    try:
        results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"The name {host!r} has no address ({error}).", param="url") from error
    return list(dict.fromkeys(str(result[4][0]) for result in results))


def require_public_address(addresses: Sequence[str], host: str, allowed: Sequence[Network] = ()) -> None:
    """Raise InputError if one of a host's addresses is not public and lies in no ``allowed`` network."""
    for text in addresses:
        # After the % comes the network interface, of link-local addresses only.
        address = _embedded_ipv4(ipaddress.ip_address(text.partition("%")[0]))
        if not is_public(address) and not any(address in network for network in allowed):
            raise InputError(
                f"{host} is at {address}, which is no public address. Such pages need allow_private.",
                param="url",
            )


def is_public(address: Address) -> bool:
    """Return whether an address can be reached from the public internet."""
    address = _embedded_ipv4(address)
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not special and not any(address in network for network in _NEVER_PUBLIC)


def _embedded_ipv4(address: Address) -> Address:
    if any(address in network for network in _EMBEDDED_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def parse_networks(value: bool | Sequence[str]) -> list[Network]:
    """Return the networks that a setting allows: all for True, none for False, otherwise those that it names.

    Raises:
        InputError: a name is not a network.
    """
    if isinstance(value, bool):
        return [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")] if value else []
    try:
        return [ipaddress.ip_network(name, strict=False) for name in ([value] if isinstance(value, str) else value)]
    except (ValueError, TypeError) as error:
        raise InputError(f"allow_private: true, false, or networks such as '10.0.0.0/8' ({error}).") from error
