"""Addresses of back-ends: their URLs, as the command line and files of back-ends have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nearfield.errors import SettingsError

_PORTS = {"http": 80, "https": 443}
#: Maximum bytes of a file of back-ends.
_MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, order=True)
class BackendAddress:
    """The URL of one back-end, or of several that share a name.

    ``address`` is the IP address that the name resolved to; None before it was resolved.
    """

    scheme: str
    host: str
    port: int
    address: str | None = None

    @property
    def url(self) -> str:
        """The URL, with the IP address that it resolved to where there is one."""
        return f"{self.scheme}://{_bracketed(self.address or self.host)}:{self.port}"

    @property
    def authority(self) -> str:
        """Host and port, as the header ``Host`` has them: the zone of an IPv6 address means something here only."""
        return f"{_bracketed(self.host.partition('%')[0])}:{self.port}"

    def at(self, address: str) -> BackendAddress:
        """Return the back-end at one of the addresses of the name."""
        return BackendAddress(self.scheme, self.host, self.port, address)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_address(text: str) -> BackendAddress:
    """Parse a URL such as ``http://10.0.0.7:8080``.

    Raises:
        SettingsError: it is none, or has a path, a query or a user, which requests could not have too.
    """
    try:
        parts = urlsplit(text)
        valid = parts.scheme in _PORTS and bool(parts.hostname) and text.isprintable() and " " not in text
        valid = valid and parts.path in ("", "/") and not (parts.query or parts.fragment) and "@" not in parts.netloc
        host = _ascii_host(str(parts.hostname))
        port = parts.port if parts.port is not None else _PORTS.get(parts.scheme, 0)
    except ValueError:
        valid, port, host = False, 0, ""
    if not valid or not port:
        raise SettingsError(f"{text!r} is no address of a server: write a URL without a path, such as http://a:8080.")
    return BackendAddress(parts.scheme, host, port)


def _ascii_host(host: str) -> str:
    """Return a host as DNS, headers and certificates have it.

    Raises:
        UnicodeError: it is no name of DNS: a label is empty or has more than 63 bytes.
    """
    return host if ":" in host else host.encode("idna").decode("ascii")


def read_backends_file(path: Path) -> tuple[BackendAddress, ...]:
    """Read a file of back-ends: a URL in each line; empty lines, and comments after ``#``, are ignored.

    Raises:
        SettingsError: the file cannot be read, is larger than 1 MiB, or a line is no address.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SettingsError(
                f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB: it should have a URL in each line."
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file of back-ends {path} cannot be read: {error}.") from error
    return tuple(_read_lines(path, text))


def _read_lines(path: Path, text: str) -> list[BackendAddress]:
    addresses = []
    for number, line in enumerate(text.splitlines(), 1):
        url = line.partition("#")[0].strip()
        if not url:
            continue
        try:
            addresses.append(parse_address(url))
        except SettingsError as error:
            raise SettingsError(f"{path}, line {number}: {error}") from error
    return addresses
