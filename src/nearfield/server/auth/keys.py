"""Auth: API keys, kept as hashes and compared in constant time; what each may do; and who may ask without one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from nearfield.errors import AccessDenied, Forbidden, RateLimited, SettingsError, nearest

SCOPES = ("infer", "manage")
_MARK = "sha256:"
_COMMENT = re.compile(r"(^|\s)#.*")
#: Seconds for which a key file is not looked at again.
_FRESH = 1.0
_FIELDS = ("name", "hash", "key", "scopes", "models", "tokens_per_minute")


@dataclass(eq=False)
class ApiKey:
    """One key: its name, its hash, and what it may do.

    ``models`` are ids or patterns of them; ``tokens_per_minute`` bounds what is read for it, a minute's worth at once.
    """

    name: str
    digest: bytes
    scopes: tuple[str, ...] = ("infer",)
    models: tuple[str, ...] = ("*",)
    tokens_per_minute: int | None = None
    #: Called with the key and the tokens that were read for it here.
    watchers: list[Callable[[ApiKey, int], None]] = field(default_factory=list, init=False, repr=False)
    #: Tokens that it may still use, as of ``_since``; below zero once the last request took more than was left.
    _left: float = field(default=0.0, init=False)
    _since: float = field(default=0.0, init=False)

    @property
    def owner(self) -> str:
        """What files and batches are kept under: the hash in hexadecimals, empty without keys."""
        return self.digest.hex()

    def may(self, scope: str) -> bool:
        """Whether it may do what a scope stands for."""
        return scope in self.scopes

    def allows(self, model: str) -> bool:
        """Whether it may use the model of a full id."""
        return "*" in self.models or any(fnmatchcase(model.lower(), pattern.lower()) for pattern in self.models)

    def check_rate(self) -> None:
        """Refuse a key that has used up what it may.

        Raises:
            RateLimited: says when to come back.
        """
        rate = self.tokens_per_minute
        if rate is None:
            return
        self._refill(rate)
        if self._left <= 0:
            wait = (1 - self._left) * 60 / rate
            raise RateLimited(
                f"The key {self.name!r} has used its {rate} tokens a minute. Try again in {wait:.1f} s.",
                retry_after=wait,
            )

    def spend(self, tokens: int) -> None:
        """Count tokens that were read for it."""
        if self.tokens_per_minute is not None:
            self.charge(tokens)
            for watcher in self.watchers:
                watcher(self, tokens)

    def charge(self, tokens: int) -> None:
        """Count tokens that were read for it, perhaps by another process, and tell nobody."""
        if self.tokens_per_minute is not None:
            self._refill(self.tokens_per_minute)
            self._left -= tokens

    def _refill(self, rate: int) -> None:
        now = time.monotonic()
        self._left = min(rate, self._left + (now - self._since) * rate / 60) if self._since else float(rate)
        self._since = now

    def take_over(self, other: ApiKey) -> None:
        """Go on with what another reading of the same key has used."""
        self._left, self._since = other._left, other._since


#: Who asks where no keys are set: anybody may use the models; managing them is for this machine alone.
ANYBODY = ApiKey("anybody", b"")
_OWNER = ApiKey("this machine", b"", SCOPES)


class ApiKeys:
    """The accepted keys. With none, everybody is let in, from this machine also to manage."""

    def __init__(self, keys: Iterable[str | ApiKey] = (), file: Path | None = None) -> None:
        self._fixed = tuple(
            key if isinstance(key, ApiKey) else ApiKey(f"key {n}", _digest(key)) for n, key in _count(keys)
        )
        self._file = file
        self._read_at = 0.0
        self._stamp: tuple[int, int] = (0, 0)
        self._of_file: tuple[ApiKey, ...] = ()
        if file is not None:
            self._of_file = tuple(_read(file))
            self._stamp, self._read_at = _stamp(file), time.monotonic()
        self._watchers: list[Callable[[ApiKey, int], None]] = []
        self._watch()

    @classmethod
    def of(cls, keys: Iterable[str], file: Path | None) -> ApiKeys:
        """Join the keys of the settings and those of a file.

        A file is lines, each a key, plain or ``sha256:<hex>`` (a comment starts with # at the start of a line or after
        a space, so that a key may hold one); or, named ``*.toml``, tables ``[[keys]]`` with name, hash, scopes, models
        and tokens_per_minute. It is read again when it changes: a key taken out of it is refused a second later.

        Raises:
            SettingsError: it cannot be read, or holds no keys.
        """
        return cls(keys, file)

    def __bool__(self) -> bool:
        return bool(self._fixed or self._file is not None)

    def names(self) -> list[str]:
        """Return the names of all keys."""
        return [key.name for key in self._all()]

    def check(self, authorization: str | None) -> ApiKey:
        """Let a request in and return its key, or refuse it; takes ``Bearer key`` and the bare key, as clients do.

        Raises:
            AccessDenied: keys are required, and this is none of them.
        """
        if not self:
            return ANYBODY
        given = (authorization or "").strip()
        if given[:7].lower() == "bearer ":
            given = given[7:].strip()
        if not given:
            raise AccessDenied("This server needs an API key: send the header 'Authorization: Bearer <key>'.")
        # Starlette reads a header's bytes as latin-1; a key beyond ASCII was sent as UTF-8.
        digest = hashlib.sha256(given.encode("latin-1")).digest()
        # Every key is compared, so that the time taken does not tell which one was near.
        matches = [key for key in self._all() if hmac.compare_digest(digest, key.digest)]
        if not matches:
            raise AccessDenied("Incorrect API key.")
        return matches[0]

    def by_digest(self, digest: bytes) -> ApiKey | None:
        """Return the accepted key of a digest: for work that goes on after the request that asked for it."""
        return next((key for key in self._all() if key.digest == digest), None)

    def watch(self, watcher: Callable[[ApiKey, int], None]) -> None:
        """Have ``watcher`` called with each key for which tokens are read here, and how many."""
        self._watchers.append(watcher)

    def charge(self, digest: bytes, tokens: int) -> None:
        """Count tokens that another process has read for the key of a digest."""
        key = self.by_digest(digest)
        if key is not None:
            key.charge(tokens)

    def take_over(self, others: Iterable[ApiKey]) -> None:
        """Go on with what other processes know of what keys have used."""
        for other in others:
            key = self.by_digest(other.digest)
            if key is not None:
                key.take_over(other)

    def _watch(self) -> None:
        for key in self._fixed + self._of_file:
            key.watchers = self._watchers

    def _all(self) -> tuple[ApiKey, ...]:
        if self._file is not None and time.monotonic() - self._read_at > _FRESH:
            self._read_again(self._file)
        return self._fixed + self._of_file

    def _read_again(self, file: Path) -> None:
        """Read the file if it has changed; one that cannot be read leaves the keys as they were."""
        self._read_at = time.monotonic()
        try:
            stamp = _stamp(file)
            if stamp == self._stamp:
                return
            before = {key.digest: key for key in self._of_file}
            self._of_file = tuple(_read(file))
            self._stamp = stamp
        except (OSError, SettingsError):
            return
        for key in self._of_file:
            if key.digest in before:
                key.take_over(before[key.digest])
        self._watch()


@dataclass(frozen=True)
class HostGuard:
    """Who is let in without a key: where none are set, pages of other sites must not reach a server on this machine.

    A page whose name was made to point here sends that name as ``Host``, and its own as ``Origin``.
    """

    loopback: bool
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def check(self, headers: Mapping[str, str], peer: str | None) -> ApiKey:
        """Return what an asker without a key may do.

        Raises:
            Forbidden: it came by another name than this machine's, or from a foreign page.
        """
        if not self.loopback:
            return ANYBODY
        host, origin = _host(headers.get("host", "")), headers.get("origin", "")
        if host and not is_loopback(host) and host not in self.hosts:
            raise Forbidden(
                f"The name {host[:200]!r} is not this machine's. To serve under it, set allowed_hosts, or keys."
            )
        if origin and origin not in self.origins and "*" not in self.origins and not is_loopback(_host(origin)):
            raise Forbidden(f"Pages of {origin[:200]!r} may not call this server. To let them, set cors_origins.")
        return _OWNER if peer is not None and is_loopback(peer) else ANYBODY


def new_key() -> tuple[str, str]:
    """Return a new key and what is kept of it: ``sha256:<hex>``."""
    key = "nf-" + secrets.token_urlsafe(32)
    return key, _MARK + hashlib.sha256(key.encode()).hexdigest()


def append(file: Path, key: ApiKey, kept: str) -> None:
    """Add a key to a TOML file, by the hash that is ``kept`` of it; a new file is for its owner's eyes alone.

    Raises:
        SettingsError: a scope is unknown.
    """
    bad = next((scope for scope in key.scopes if scope not in SCOPES), None)
    if bad is not None:
        raise SettingsError(f"Unknown scope {bad!r}. {nearest(bad, SCOPES)}")
    values = {"name": key.name, "hash": kept, "scopes": list(key.scopes), "models": list(key.models)}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    lines += [f"tokens_per_minute = {key.tokens_per_minute}"] * (key.tokens_per_minute is not None)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as out:
        out.write("\n".join(["[[keys]]", *lines, ""]) + "\n")


def _count(keys: Iterable[str | ApiKey]) -> Iterable[tuple[int, str | ApiKey]]:
    return enumerate(keys, 1)


def _host(text: str) -> str:
    """Return the host of ``host:port`` or of an origin, without brackets."""
    name = text.partition("://")[2] or text
    if name.startswith("["):
        return name[1:].partition("]")[0].lower()
    return name.rpartition(":")[0].lower() if name.count(":") == 1 else name.lower()


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, seen from itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


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


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _read(file: Path) -> Sequence[ApiKey]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The key file {file} cannot be read: {error}.") from error
    found = _tables(file, text) if file.suffix == ".toml" else _lines(file, text)
    if not found:
        raise SettingsError(f"The key file {file} holds no keys: the server would be open to everybody.")
    return found


def _lines(file: Path, text: str) -> list[ApiKey]:
    keys = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [ApiKey(f"{file.name}:{number}", _digest(key)) for number, key in keys if key]


def _tables(file: Path, text: str) -> list[ApiKey]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables = tomllib.loads(text).get("keys", [])
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The key file {file} is not valid TOML: {error}.") from error
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"The key file {file} must hold tables [[keys]].")
    return [_key(file, number, table) for number, table in enumerate(tables, 1)]


def _key(file: Path, number: int, table: Mapping[str, Any]) -> ApiKey:
    """Read one table; what is wrong with it is named."""

    def wrong(what: str) -> SettingsError:
        return SettingsError(f"The key file {file}, key {number}: {what}")

    unknown = next((name for name in table if name not in _FIELDS), None)
    if unknown is not None:
        raise wrong(f"unknown field {unknown!r}. {nearest(unknown, _FIELDS)}")
    secret = table.get("hash") or table.get("key")
    if not isinstance(secret, str) or ("hash" in table) == ("key" in table):
        raise wrong("give either hash = 'sha256:...' or key = '...'.")
    scopes, models = table.get("scopes", ["infer"]), table.get("models", ["*"])
    for values, called in ((scopes, "scopes"), (models, "models")):
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise wrong(f"{called} must be a list of texts.")
    bad = next((scope for scope in scopes if scope not in SCOPES), None)
    if bad is not None:
        raise wrong(f"unknown scope {bad!r}. {nearest(bad, SCOPES)}")
    rate = table.get("tokens_per_minute")
    if rate is not None and (type(rate) is not int or rate < 1):
        raise wrong(f"tokens_per_minute must be a whole number above 0, not {rate!r}.")
    return ApiKey(str(table.get("name", f"{file.name}:{number}")), _digest(secret), tuple(scopes), tuple(models), rate)
