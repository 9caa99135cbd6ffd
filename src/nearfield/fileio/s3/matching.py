"""Objects that a folder or a pattern stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from glob import has_magic
from itertools import takewhile

from nearfield.fileio.s3.path import ObjectVersion, S3Path


@dataclass(frozen=True)
class ListedObject:
    """An object with its version; ``is_named`` if the path or pattern is its name, and not that of a folder of it."""

    file: ObjectVersion
    is_named: bool


@dataclass(frozen=True, order=True)
class ListedPath(S3Path):
    """A path or pattern whose objects are listed once, however often they are looked for."""

    @cached_property
    def objects(self) -> list[ListedObject]:
        """All objects that it may stand for, by key; see ``find_objects``."""
        return list(_list(self))


def listed(path: S3Path) -> ListedPath:
    """Return a path whose objects are listed once."""
    return path if isinstance(path, ListedPath) else ListedPath(path.bucket, path.key)


def find_objects(path: S3Path, suffixes: tuple[str, ...]) -> list[ObjectVersion]:
    """Return an object, the objects in a folder, or those that match a pattern, sorted, with their present versions.

    A pattern is matched part by part; ``**`` stands for any number of parts. Of a folder, and of folders that match,
    only objects with the suffixes are taken, and none below a name that begins with a dot or an underscore.
    """
    objects = listed(path).objects
    return [item.file for item in objects if item.is_named or item.file.name.lower().endswith(suffixes)]


def is_folder(path: S3Path) -> bool:
    """Return whether a path is neither a pattern nor the key of an object."""
    return not has_magic(path.key) and not any(item.is_named for item in listed(path).objects)


def _list(path: S3Path) -> Iterator[ListedObject]:
    is_pattern = has_magic(path.key)
    if path.key and not is_pattern and (item := path.client.find(path.key)) is not None:
        yield ListedObject(ObjectVersion(path.bucket, item.key, item.size, item.etag), is_named=True)
        return
    pattern = _parts(path.key)
    start = "/".join(takewhile(lambda part: not has_magic(part), pattern)) if is_pattern else path.key
    for item in sorted(path.client.list(start), key=lambda item: item.key):
        parts = item.key.split("/")
        is_named = bool(pattern) and _matches(parts, pattern)
        if is_named or _is_within(parts, pattern):
            yield ListedObject(ObjectVersion(path.bucket, item.key, item.size, item.etag), is_named)


def _parts(key: str) -> list[str]:
    return key.split("/") if key else []


def _is_within(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether an object lies in a folder that matches, and not below a name that is hidden there."""
    for size in range(len(parts)):
        hidden = any(part.startswith((".", "_")) for part in parts[size:])
        if not hidden and _matches(parts[:size], pattern):
            return True
    return False


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a pattern stands for all the parts; as in a shell, ``*`` stands for no name with a dot first."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        skips = bool(parts) and not parts[0].startswith(".") and _matches(parts[1:], pattern)
        return _matches(parts, pattern[1:]) or skips
    hidden = bool(parts) and parts[0].startswith(".") and not pattern[0].startswith(".")
    return bool(parts) and not hidden and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
