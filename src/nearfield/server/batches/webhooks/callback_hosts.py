"""The hosts that webhooks may be sent to, and checks of callback URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nearfield.errors import InputError, SettingsError
from nearfield.fileio import url_safety

if TYPE_CHECKING:
    from httpx import URL

PARAM = "metadata.callback_url"
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class CallbackHosts:
    """An allow-list: host names, addresses and networks.

    A name allows URLs with exactly this host; its addresses must be public, or lie in a network of the list. An address
    or network also allows URLs that have such an address in place of a name.

    Raises:
        SettingsError: an entry is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self.networks: list[url_safety.Network] = []
        for entry in entries:
            try:
                self.networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if not _HOST_NAME.fullmatch(entry.lower()):
                    raise SettingsError(
                        f"Setting 'webhook_hosts': {entry[:200]!r} is no host name, address or network. It has no "
                        "scheme, port or path."
                    ) from None
                self._names.add(entry.lower())

    def __bool__(self) -> bool:
        return bool(self._names or self.networks)

    def check(self, url: str) -> URL:
        """Return a URL that webhooks may be sent to.

        Raises:
            InputError: no webhooks are sent, the URL is invalid, or its host is not in the list.
        """
        import httpx

        if not self:
            raise InputError(
                "This server sends no webhooks: leave out metadata.callback_url, or allow its host (webhook_hosts).",
                param=PARAM,
            )
        try:
            target = httpx.URL(url)
            host = target.raw_host.decode("ascii").lower()
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InputError(f"metadata.callback_url is not a valid URL: {error}.", param=PARAM) from error
        if target.scheme not in ("http", "https") or not host:
            raise InputError("metadata.callback_url must start with https:// or http://.", param=PARAM)
        if target.userinfo:
            raise InputError("metadata.callback_url must not contain a user name or password.", param=PARAM)
        if not self._allows(host):
            raise InputError(
                f"Webhooks may not be sent to {host[:200]!r}: the server allows other hosts only (webhook_hosts).",
                param=PARAM,
            )
        return target

    def _allows(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return any(address in network for network in self.networks)
