"""How S3-compatible storage is reached: by the environment variables that other clients of S3 read too.

``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and
``AWS_SESSION_TOKEN``; the library obstore reads them, and gets temporary keys from the roles of machines, containers
and web identities. Values of them appear in no message.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from nearfield.errors import InputError, MissingExtra, StorageFailed

#: Seconds in which a request must be answered; it is repeated otherwise.
REQUEST_SECONDS = 60.0
#: Bytes per second at which uploads are sent at least.
_UPLOAD_SPEED = 2**20
_CONNECT_SECONDS = 10.0
#: Half of the requests may fail: one in two million fails 21 times.
RETRIES = 20
#: Seconds after which a request is not repeated any more.
RETRY_SECONDS = 180.0
_FIRST_WAIT_SECONDS = 0.1
_MAX_WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class S3Settings:
    """What a connection to a bucket depends on."""

    bucket: str
    endpoint: str | None
    allow_http: bool
    #: All variables of AWS: a connection with other values is not used again.
    environment: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def read(cls, bucket: str) -> S3Settings:
        """Read the environment.

        Raises:
            InputError: the endpoint is no URL, holds a password, or would send data unencrypted over the network.
        """
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        is_allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
        variables = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
        return cls(bucket, endpoint, endpoint is not None and _is_plain(endpoint, is_allowed), variables)

    @property
    def place(self) -> str:
        """Where the bucket is, for messages."""
        return f"s3://{self.bucket}" + (f" at {urlsplit(self.endpoint).netloc}" if self.endpoint else "")

    @property
    def region(self) -> str:
        """The region in which the bucket should be."""
        values = dict(self.environment)
        return values.get("AWS_REGION") or values.get("AWS_DEFAULT_REGION") or "us-east-1"

    def check_endpoint(self) -> None:
        """Check that something answers at the endpoint: requests would be repeated for minutes.

        Raises:
            StorageFailed: nothing does.
        """
        if self.endpoint is None or getproxies():
            return
        parts = urlsplit(self.endpoint)
        address = (str(parts.hostname), parts.port or (80 if parts.scheme == "http" else 443))
        for last in (False, False, True):
            try:
                socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
                return
            except OSError as error:
                if last:
                    reason = error.strerror or str(error)
                    raise StorageFailed(
                        f"s3://{self.bucket}: nothing answers at {parts.netloc} ({reason}). Check AWS_ENDPOINT_URL."
                    ) from error
            time.sleep(_FIRST_WAIT_SECONDS)

    def connect(self, upload_bytes: int = 0) -> Any:
        """Return obstore's store for the bucket, whose requests may take as long as an upload of so many bytes.

        Raises:
            MissingExtra: obstore is not installed.
        """
        store = require_obstore().store.S3Store
        timeout = timedelta(seconds=REQUEST_SECONDS + upload_bytes / _UPLOAD_SPEED)
        connect = timedelta(seconds=min(_CONNECT_SECONDS, REQUEST_SECONDS))
        return store(
            self.bucket,
            **({"endpoint": self.endpoint} if self.endpoint else {}),
            client_options={"timeout": timeout, "connect_timeout": connect, "allow_http": self.allow_http},
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(seconds=_FIRST_WAIT_SECONDS),
                    "max_backoff": timedelta(seconds=_MAX_WAIT_SECONDS),
                },
            },
        )


def require_obstore() -> Any:
    """Import obstore.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import obstore
        import obstore.store
    except ModuleNotFoundError as error:
        raise MissingExtra("Paths that begin with s3:// need obstore: pip install 'nearfield[s3]'") from error
    return obstore


def _is_plain(endpoint: str, is_allowed: bool) -> bool:
    """Return whether an endpoint speaks HTTP without encryption.

    Raises:
        InputError: it does so although it is another machine and this was not allowed; or it is no URL of an endpoint.
    """
    parts = urlsplit(endpoint)
    if parts.username or parts.password:
        raise InputError("AWS_ENDPOINT_URL holds a user or a password: leave it out, and set AWS_ACCESS_KEY_ID.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"AWS_ENDPOINT_URL must be a URL such as https://s3.example.org, not {endpoint!r}.")
    if parts.scheme == "http" and not is_allowed and not _is_loopback(parts.hostname):
        raise InputError(
            f"AWS_ENDPOINT_URL is {endpoint}: plain HTTP shows the data to the network. Use https://, or set "
            "AWS_ALLOW_HTTP=true."
        )
    return parts.scheme == "http"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
