"""One API key: its hash, what it may do, and its rate limit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from nearfield.errors import RateLimited, SettingsError
from nearfield.server.auth.rate_limit import TokenBucket

SCOPES = ("infer", "manage")
HASH_PREFIX = "sha256:"
KeyWatcher = Callable[["ApiKey", int], None]


@dataclass(eq=False)
class ApiKey:
    """One key: its name, its hash, and what it may do."""

    name: str
    #: SHA-256 of the key; empty for clients without a key.
    digest: bytes
    scopes: tuple[str, ...] = ("infer",)
    #: Ids of models, or patterns of them.
    models: tuple[str, ...] = ("*",)
    tokens_per_minute: int | None = None
    #: Called with the key and the number of tokens of each request that used it in this process.
    watchers: list[KeyWatcher] = field(default_factory=list, init=False, repr=False)
    _bucket: TokenBucket | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.tokens_per_minute is not None:
            self._bucket = TokenBucket(self.tokens_per_minute)

    @property
    def owner(self) -> str:
        """The owner of files and batches: the hash in hexadecimals, empty without keys."""
        return self.digest.hex()

    def may(self, scope: str) -> bool:
        """Whether the key has a scope."""
        return scope in self.scopes

    def allows(self, model: str) -> bool:
        """Whether the key may use the model with this full id."""
        return "*" in self.models or any(fnmatchcase(model.lower(), pattern.lower()) for pattern in self.models)

    def check_rate(self) -> None:
        """Refuse a key that has used up its tokens.

        Raises:
            RateLimited: with the seconds after which to try again.
        """
        if self._bucket is None:
            return
        wait = self._bucket.wait_seconds()
        if wait:
            raise RateLimited(
                f"The key {self.name!r} has used its {self.tokens_per_minute} tokens a minute. Try again in "
                f"{wait:.1f} s.",
                retry_after=wait,
            )

    def spend(self, tokens: int) -> None:
        """Count tokens that a request in this process used; a negative number counts them no more."""
        if self._bucket is not None and tokens:
            self._bucket.spend(tokens)
            for watcher in self.watchers:
                watcher(self, tokens)

    def charge(self, tokens: int) -> None:
        """Count tokens that another process used, without calling watchers."""
        if self._bucket is not None:
            self._bucket.spend(tokens)

    def used(self) -> int:
        """Return the tokens that count against the rate now; 0 for a key without a rate."""
        return round(self._bucket.used()) if self._bucket is not None else 0

    def copy_balance(self, other: ApiKey) -> None:
        """Continue from the balance of another object of the same key."""
        if self._bucket is not None and other._bucket is not None:
            self._bucket.copy_balance(other._bucket)


#: Clients of a server without keys: they may use the models, and not manage them.
ANONYMOUS = ApiKey("anybody", b"")
#: Clients on the server's own machine, without keys: they may also manage models.
LOCAL_OPERATOR = ApiKey("this machine", b"", SCOPES)


def key_digest(key: str) -> bytes:
    """Return the SHA-256 of a key; a key that starts with ``sha256:`` is the hash itself.

    Raises:
        SettingsError: the hash is not 64 hexadecimal digits.
    """
    if not key.startswith(HASH_PREFIX):
        return hashlib.sha256(key.encode()).digest()
    try:
        digest = bytes.fromhex(key.removeprefix(HASH_PREFIX))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise SettingsError(f"A key starts with {HASH_PREFIX!r} but is not followed by 64 hexadecimal digits.")
    return digest
