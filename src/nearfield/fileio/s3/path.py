"""Paths of objects, which can be read where paths of files can."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias, cast

from nearfield.errors import InputError
from nearfield.fileio.s3.client import ObjectInfo, S3Client, client_of
from nearfield.fileio.s3.reader import ObjectReader

_SCHEME = "s3://"
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_OBJECT_AS_PATH = re.compile(r"s3:/+", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
#: Bytes that are requested at once when a file is read from start to end.
_READ_BYTES = 4 * 2**20
#: The most bytes of one request: each has to be answered within a minute.
_PIECE_BYTES = 16 * 2**20
_THREADS = 16


@dataclass(frozen=True, order=True)
class S3Path:
    """An object or a folder of objects; ``key`` neither begins nor ends with a slash, and is empty for the bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key; of a bucket its name."""
        return PurePosixPath(self.key).name or self.bucket

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def client(self) -> S3Client:
        """The client of the bucket."""
        return client_of(self.bucket)

    def is_file(self) -> bool:
        """Return whether there is an object."""
        return self.client.find(self.key) is not None

    def is_within(self, folder: S3Path) -> bool:
        """Return whether this is a folder or lies in it."""
        inside = not folder.key or f"{self.key}/".startswith(f"{folder.key}/")
        return self.bucket == folder.bucket and inside

    def child(self, name: str) -> S3Path:
        """Return the path of what is in this folder."""
        return S3Path(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def parent(self) -> S3Path:
        """The folder of this object; of a bucket itself."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def name_in(self, folder: S3Path) -> str:
        """Return the path below a folder in which this object lies."""
        return self.key[len(folder.key) + 1 :] if folder.key else self.key

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open an object for reading; pieces are requested as they are read.

        Raises:
            InputError: there is no object, or it changes while it is read.
        """
        if mode != "rb":
            raise ValueError(f"Objects are opened with mode 'rb', not {mode!r}.")
        return cast(BinaryIO, io.BufferedReader(ObjectReader(self.client, self.current()), _READ_BYTES))

    def current(self) -> ObjectInfo:
        """Return what is known of the object.

        Raises:
            InputError: there is no object.
        """
        item = self.client.find(self.key)
        if item is None:
            raise InputError(f"There is no object {self}.", param="inputs")
        return item

    def version(self) -> list[object]:
        """Return what changes with the content of the object: path, size and tag. Raises as ``current``."""
        item = self.current()
        return [str(self), item.size, item.etag]


@dataclass(frozen=True, order=True)
class ObjectVersion(S3Path):
    """An object with its size and tag. Shards are planned by this version; to read another one raises InputError."""

    size: int
    etag: str

    def current(self) -> ObjectInfo:
        """Return what was known of the object; nothing is requested."""
        return ObjectInfo(self.key, self.size, self.etag)

    @property
    def state(self) -> str:
        """Size and tag: a text that changes with the content."""
        return f"{self.size}:{self.etag}"

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the object, as many of them as it has, requested in pieces.

        Raises:
            ObjectDenied: the storage denies to read this object.
            InputError: it is another version now, or the bucket cannot be read.
        """
        item, stop = self.current(), min(offset + size, self.size)
        starts = range(offset, stop, _PIECE_BYTES)
        return b"".join(self.client.read(item, start, min(start + _PIECE_BYTES, stop)) for start in starts)


#: Where a file or a folder is.
Location: TypeAlias = Path | S3Path


def parse_location(text: str) -> Location:
    """Return the path that a text means: one that begins with ``s3://`` is an object.

    Raises:
        InputError: it is a URL of something else, or names no bucket, or a key with an empty part.
    """
    if not (match := _URL.match(text)):
        return Path(text)
    if match[1].lower() != "s3":
        raise InputError(f"{text} cannot be read or written: only s3:// URLs and paths can.", param="inputs")
    bucket, _, key = text[len(_SCHEME) :].partition("/")
    key = key.removesuffix("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"{text} names no bucket: write s3://BUCKET/FOLDER/.", param="inputs")
    if any(part in ("", ".", "..") for part in key.split("/") if key):
        raise InputError(f"{text}: the parts of a key are names, and none is empty, '.' or '..'.", param="inputs")
    return S3Path(bucket, key)


def refuse_object(text: str, param: str) -> None:
    """Raise InputError if a path, of which ``Path`` may have shortened the slashes, is the URL of an object."""
    if match := _OBJECT_AS_PATH.match(text):
        raise InputError(
            f"{_SCHEME}{text[match.end() :]} is on S3, which only `nearfield embed` reads and writes: copy it to this "
            "machine first.",
            param=param,
        )


def pin_versions(paths: Sequence[Location]) -> tuple[Location, ...]:
    """Return the paths, those of objects with their versions; raises as ``S3Path.current``."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(pool.map(_pinned, paths))


def _pinned(path: Location) -> Location:
    return pinned(path) if isinstance(path, S3Path) else path


def pinned(path: S3Path) -> ObjectVersion:
    """Return an object with its version: the one that is known, or else the present one; raises as ``current``."""
    if isinstance(path, ObjectVersion):
        return path
    item = path.current()
    return ObjectVersion(path.bucket, path.key, item.size, item.etag)
