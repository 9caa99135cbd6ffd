"""Auth: API keys, kept as hashes and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from nearfield.errors import AccessDenied, SettingsError

_MARK = "sha256:"
_COMMENT = re.compile(r"(^|\s)#.*")


class Keys:
    """The accepted keys. With none, everybody is let in."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def of(cls, keys: Iterable[str], file: Path | None) -> Keys:
        """Join the keys of the settings and those of a file: a line each, plain or ``sha256:<hex>``.

        A comment starts with # at the start of a line or after a space, so that a key may hold one.
        """
        return cls([*keys, *(_read(file) if file is not None else ())])

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, authorization: str | None) -> None:
        """Let a request in, or refuse it; takes ``Bearer key`` and the bare key, as clients send both.

        Raises:
            AccessDenied: keys are required, and this is none of them.
        """
        if not self._digests:
            return
        given = (authorization or "").strip()
        if given[:7].lower() == "bearer ":
            given = given[7:].strip()
        if not given:
            raise AccessDenied("This server needs an API key: send the header 'Authorization: Bearer <key>'.")
        # Starlette reads a header's bytes as latin-1; a key beyond ASCII was sent as UTF-8.
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        # Every key is compared, so that the time taken does not tell which one was near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise AccessDenied("Incorrect API key.")


def _digest(key: str) -> bytes:
    if not key.startswith(_MARK):
        return hashlib.sha256(key.encode()).digest()
    try:
        digest = bytes.fromhex(key.removeprefix(_MARK))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise SettingsError(f"A key starts with {_MARK!r} but is not followed by 64 hexadecimal digits.")
    return digest


def _read(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The key file {file} cannot be read: {error}.") from error
    keys = [_COMMENT.sub("", line).strip() for line in lines]
    found = [key for key in keys if key]
    if not found:
        raise SettingsError(f"The key file {file} holds no keys: the server would be open to everybody.")
    return found
