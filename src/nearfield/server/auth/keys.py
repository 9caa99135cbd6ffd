"""The accepted API keys of a server: compared in constant time, and read again when the key file changes."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable
from pathlib import Path

from nearfield.errors import AccessDenied, SettingsError
from nearfield.message_text import count_of
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey, KeyWatcher, key_digest
from nearfield.server.auth.key_file import read_key_file
from nearfield.server.logs import LOG

#: Seconds after which a key file is checked for changes.
_FILE_CHECK_SECONDS = 1.0
#: The version of a key file that cannot be looked at.
_MISSING = (0, 0)


class ApiKeys:
    """The accepted keys, from the settings and from a key file. The file is read again when it changes.

    Args:
        keys: keys in plain, hashes of keys as ``sha256:<hex>``, or ``ApiKey`` objects.
        file: a key file (see ``key_file.read_key_file``); a key removed from it is refused a second later.

    Raises:
        SettingsError: the file cannot be read, or has no keys.
    """

    def __init__(self, keys: Iterable[str | ApiKey] = (), file: Path | None = None) -> None:
        self._configured = tuple(
            key if isinstance(key, ApiKey) else ApiKey(f"key {number}", key_digest(key))
            for number, key in enumerate(keys, 1)
        )
        self._file = file
        self._checked_at = 0.0
        self._version = _MISSING
        self._from_file: tuple[ApiKey, ...] = ()
        self._watchers: list[KeyWatcher] = []
        #: Why the file could not be read the last time.
        self._failure = ""
        if file is not None:
            self._from_file = read_key_file(file)
            self._version, self._checked_at = _file_version(file), time.monotonic()
        self._attach_watchers()

    def __bool__(self) -> bool:
        return bool(self._configured or self._file is not None)

    def names(self) -> list[str]:
        """Return the names of all keys."""
        return [key.name for key in self.listed()]

    def listed(self) -> tuple[ApiKey, ...]:
        """Return all keys: those of the settings, then those of the file."""
        return self._all()

    @property
    def editable_file(self) -> Path | None:
        """The key file, if keys can be added to it and removed from it while the server runs."""
        return self._file if self._file is not None and self._file.suffix == ".toml" else None

    def check(self, authorization: str | None) -> ApiKey:
        """Return the key of an Authorization header, either ``Bearer <key>`` or the bare key.

        Raises:
            AccessDenied: keys are configured, and this is none of them.
        """
        if not self:
            return ANONYMOUS
        secret = (authorization or "").strip()
        if secret[:7].lower() == "bearer ":
            secret = secret[7:].strip()
        if not secret:
            raise AccessDenied("This server needs an API key: send the header 'Authorization: Bearer <key>'.")
        # Starlette decodes headers as latin-1; clients send characters beyond ASCII as UTF-8.
        digest = hashlib.sha256(secret.encode("latin-1")).digest()
        # All keys are compared, so that the time does not depend on which one is similar.
        matches = [key for key in self._all() if hmac.compare_digest(digest, key.digest)]
        if not matches:
            raise AccessDenied("Incorrect API key.")
        return matches[0]

    def by_digest(self, digest: bytes) -> ApiKey | None:
        """Return the accepted key of a digest, for work that continues after its request."""
        return next((key for key in self._all() if key.digest == digest), None)

    def watch(self, watcher: KeyWatcher) -> None:
        """Call ``watcher`` with the key and the number of tokens of each request in this process."""
        self._watchers.append(watcher)

    def charge(self, digest: bytes, tokens: int) -> None:
        """Count tokens that another process used for the key of a digest."""
        key = self.by_digest(digest)
        if key is not None:
            key.charge(tokens)

    def used(self) -> dict[bytes, int]:
        """Return the tokens that count against the rates of keys now, by digest."""
        return {key.digest: used for key in self._all() if (used := key.used())}

    def copy_balances(self, others: Iterable[ApiKey]) -> None:
        """Continue from the balances that another process knows."""
        for other in others:
            key = self.by_digest(other.digest)
            if key is not None:
                key.copy_balance(other)

    def _attach_watchers(self) -> None:
        for key in self._configured + self._from_file:
            key.watchers = self._watchers

    def _all(self) -> tuple[ApiKey, ...]:
        if self._file is not None and time.monotonic() - self._checked_at > _FILE_CHECK_SECONDS:
            self._reload(self._file)
        return self._configured + self._from_file

    def reload(self) -> str:
        """Read the key file now and return what was done; on an error the keys stay the same."""
        if self._file is None:
            return "no key file"
        self._version, self._failure = _MISSING, ""
        self._reload(self._file)
        return "keys unchanged" if self._failure else f"{count_of(len(self._from_file), 'key')} read again"

    def _reload(self, file: Path) -> None:
        """Read the file again if it changed; if it cannot be read, the keys stay the same, and the log says why."""
        self._checked_at = time.monotonic()
        try:
            version = _file_version(file)
            if version == self._version != _MISSING:
                return
            before = {key.digest: key for key in self._from_file}
            self._from_file = read_key_file(file)
            self._version = version
        except SettingsError as error:
            if str(error) != self._failure:
                LOG.error("the keys stay the same: %s", error)
            self._failure = str(error)
            return
        self._failure = ""
        for key in self._from_file:
            if key.digest in before:
                key.copy_balance(before[key.digest])
        self._attach_watchers()


def _file_version(file: Path) -> tuple[int, int]:
    """Return what changes with the contents of a file."""
    try:
        status = file.stat()
    except OSError:
        return _MISSING  # to read it will say why
    return status.st_mtime_ns, status.st_size
