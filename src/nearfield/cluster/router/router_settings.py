"""The options of ``nearfield route``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from nearfield.cluster.router.backends.address import BackendAddress, parse_address
from nearfield.setting_fields import ByteSize
from nearfield.settings import (
    DrainTimeout,
    Host,
    ListenPort,
    LogFormat,
    LogLevel,
    MaxBodyBytes,
    Names,
    OtelEndpoint,
    Settings,
    Timeout,
    TlsCert,
    TlsKey,
    TrustedProxies,
)


class RouterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All options of a router, with their defaults and descriptions. Those that servers have, too, mean the same."""

    to: Annotated[
        Names,
        Meta(
            description="URL of a server, such as http://a:8080. A name with several addresses stands for a server at "
            "each of them."
        ),
    ] = ()
    backends_file: Annotated[
        Path | None,
        Meta(description="File with further URLs of servers, one per line. SIGHUP reads it again."),
    ] = None
    ca_file: Annotated[
        Path | None,
        Meta(
            description="File (PEM) of the authorities whose certificates of servers (https) are trusted; the system's "
            "if not set."
        ),
    ] = None
    home: Annotated[
        str | None,
        Meta(
            description="The one of the servers that has the files, batches and collections. Without it, requests for "
            "these are refused if there are several servers."
        ),
    ] = None
    host: Host = "127.0.0.1"
    port: ListenPort = 8080
    uds: Annotated[Path | None, Meta(description="Unix socket to listen on in place of host and port (mode 0660).")] = (
        None
    )
    api_key_file: Annotated[
        Path | None,
        Meta(
            description="File of API keys that may read /metrics of the router. Keys of all other requests are checked "
            "by the servers."
        ),
    ] = None
    trusted_proxies: TrustedProxies = ()
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    max_body_bytes: MaxBodyBytes = ByteSize(32 * 2**20)
    max_reply_bytes: Annotated[ByteSize, Meta(description="Memory for replies that are being passed on.")] = ByteSize(
        128 * 2**20
    )
    reply_timeout: Annotated[
        Timeout,
        Meta(
            description="Seconds within which a server must answer; more than its request_timeout, or its errors are "
            "not seen. A request that can be repeated then goes to another server."
        ),
    ] = 35.0
    drain_timeout: DrainTimeout = 30.0
    otel_endpoint: OtelEndpoint = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    @property
    def addresses(self) -> tuple[BackendAddress, ...]:
        """The addresses of ``to``.

        Raises:
            SettingsError: one is no address.
        """
        return tuple(map(parse_address, self.to))

    @property
    def home_address(self) -> BackendAddress | None:
        """The address of ``home``.

        Raises:
            SettingsError: it is no address.
        """
        return None if self.home is None else parse_address(self.home)

    def listener_settings(self) -> Settings:
        """Return the settings of a server with the same names, for what a router and a server have in common."""
        shared = set(self.__struct_fields__) & set(Settings.__struct_fields__)
        return Settings(**{name: getattr(self, name) for name in shared})
