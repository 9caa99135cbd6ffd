"""A bucket: reads, writes and conditional writes, with clear errors.

The library obstore repeats requests after errors of the server (503, SlowDown), lost connections and timeouts, with
growing waits, for a bounded time, and reads on where the body of an object was cut off. Repeated here, with growing
random waits: lists that were cut off, answers with too few bytes, uploads that the storage did not wait for. Whether a
conditional write whose answer was lost has been done, the object says, which is read again.
"""

from __future__ import annotations

import mmap
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from nearfield.errors import InputError, StorageFailed
from nearfield.fileio.s3.failures import explain, is_useless
from nearfield.fileio.s3.settings import S3Settings, require_obstore

#: The most bytes that S3 takes in one request.
MAX_UPLOAD_BYTES = 5 * 2**30
_KEYS_PER_LISTING = 1000
#: Attempts of a request whose answer says nothing, and of a conditional write whose outcome is unclear, and the first
#: wait in seconds.
_ATTEMPTS = 6
_FIRST_WAIT = 0.2

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ObjectInfo:
    """An object: its key, its bytes, and the tag that changes with its content."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class ObjectContent:
    """The bytes of an object and their tag."""

    data: bytes
    etag: str


class S3Client:
    """One bucket.

    All methods raise InputError for a bucket that does not exist or denies a request, and StorageFailed if the storage
    gives no useful answer in time.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._obstore = require_obstore()
        settings.check_endpoint()
        self._store = settings.connect()

    # -- reading -----------------------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects in a folder and its subfolders, in the order of their keys."""
        last, attempt = None, 0
        with self._explained("list", prefix):
            while True:
                try:
                    for item in self._items(prefix, last):
                        last, attempt = item.key, 0
                        yield item
                    return
                except self._obstore.exceptions.BaseError as error:
                    self._wait_after(error, attempt)
                    attempt += 1

    def _items(self, prefix: str, last: str | None) -> Iterator[ObjectInfo]:
        """Yield the objects in a folder whose keys are after the last one that is known."""
        for batch in self._obstore.list(self._store, prefix or None, offset=last, chunk_size=_KEYS_PER_LISTING):
            yield from map(_info, batch)

    def find(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object; None if there is none."""
        try:
            with self._explained("read", key):
                return _info(self._repeated(lambda: self._obstore.head(self._store, key)))
        except FileNotFoundError:
            return None
        except InputError:
            next(self.list(key), None)  # the answer to HEAD has no body; that of a listing may say why
            raise

    def get(self, key: str) -> ObjectContent | None:
        """Return the content of an object; None if there is none."""

        def request() -> ObjectContent:
            answer = self._obstore.get(self._store, key)
            return ObjectContent(bytes(answer.bytes()), answer.meta["e_tag"] or "")

        try:
            with self._explained("read", key):
                return self._repeated(request)
        except FileNotFoundError:
            return None

    def read(self, item: ObjectInfo, start: int, stop: int) -> bytes:
        """Return bytes of an object.

        Raises:
            InputError: it is not the same object any more.
        """
        options = {"range": (start, stop), "if_match": item.etag}

        def request() -> bytes:
            return bytes(self._obstore.get(self._store, item.key, options=options).bytes())

        try:
            with self._explained("read", item.key):
                return self._repeated(request)
        except (FileNotFoundError, self._obstore.exceptions.PreconditionError):
            where = f"s3://{self._settings.bucket}/{item.key}"
            raise InputError(f"{where} changed while it was read: run the command again.", param="inputs") from None

    def _repeated(self, request: Callable[[], _Answer]) -> _Answer:
        """Return the answer to a request, which is repeated if the answer says nothing."""
        for attempt in range(_ATTEMPTS):
            try:
                return request()
            except self._obstore.exceptions.BaseError as error:
                self._wait_after(error, attempt)
        raise StorageFailed(f"{self._settings.place}: no useful answer.")  # the last attempt has raised already

    def _wait_after(self, error: Exception, attempt: int) -> None:
        """Wait until a request is worth repeating; raise its error if it is not."""
        if attempt >= _ATTEMPTS - 1 or not is_useless(error):
            raise error
        time.sleep(_wait_seconds(attempt))

    # -- writing -----------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """Write an object, or replace it."""
        self._put(self._store, key, data, "overwrite")

    def put_file(self, key: str, path: Path) -> None:
        """Write a file as an object in a single request, so that a killed run leaves no part of it.

        Raises:
            InputError: the file is too large for that.
        """
        size = path.stat().st_size
        if size > MAX_UPLOAD_BYTES:
            raise InputError(
                f"A shard has {size:,} bytes, and S3 takes {MAX_UPLOAD_BYTES:,} at once: choose fewer --shard-rows.",
                param="shard_rows",
            )
        store = self._settings.connect(size)
        with path.open("rb") as file:
            if not size:  # nothing cannot be mapped
                self._put(store, key, b"", "overwrite")
                return
            # The pages of the file are sent from the disk; nothing is copied to memory first.
            mapped = self._obstore.Bytes(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._put(store, key, mapped, "overwrite")

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one, and return whether ``data`` is its content now."""
        return self._put_if(key, data, None)

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Replace an object unless it has another tag, and return whether ``data`` is its content now."""
        return self._put_if(key, data, etag)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; some may not exist."""
        if existing := list(keys):
            with self._explained("delete", existing[0]):
                self._obstore.delete(self._store, existing)

    def _put_if(self, key: str, data: bytes, etag: str | None) -> bool:
        """Write an object if its tag is ``etag``; None: if there is no object."""
        errors = self._obstore.exceptions
        mode: object = "create" if etag is None else {"e_tag": etag}
        for attempt in range(_ATTEMPTS):
            try:
                self._put(self._store, key, data, mode)
                return True
            except (errors.AlreadyExistsError, errors.PreconditionError, FileNotFoundError, StorageFailed) as error:
                current = self.get(key)
                if current is not None and current.data == data:
                    return True  # the answer to an earlier attempt was lost
                if (current.etag if current is not None else None) != etag:
                    return False
                if attempt == _ATTEMPTS - 1:
                    raise StorageFailed(f"{self._settings.place}: {key} could not be written: {error}") from None
                time.sleep(_wait_seconds(attempt))
        return False

    def _put(self, store: Any, key: str, data: object, mode: object) -> None:
        with self._explained("write", key):
            self._repeated(lambda: self._obstore.put(store, key, data, mode=mode, use_multipart=False))

    @contextmanager
    def _explained(self, action: str, key: str) -> Iterator[None]:
        """Turn errors of the library into our own ones, which are not chained; those of conditions pass."""
        errors = self._obstore.exceptions
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise explain(self._settings, error, action, key) from None
            raise
        except (errors.AlreadyExistsError, errors.PreconditionError):
            raise
        except errors.BaseError as error:
            raise explain(self._settings, error, action, key) from None


def client_of(bucket: str) -> S3Client:
    """Return the client of a bucket, by the environment; connections are used again."""
    return _cached_client(S3Settings.read(bucket))


@lru_cache(maxsize=16)
def _cached_client(settings: S3Settings) -> S3Client:
    return S3Client(settings)


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["e_tag"] or "")


def _wait_seconds(attempt: int) -> float:
    """Return how long to wait after an attempt: longer after each, and not equally long everywhere."""
    return _FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.0)
