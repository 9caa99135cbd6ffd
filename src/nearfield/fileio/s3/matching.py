"""Objects that a folder or a pattern stands for."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import takewhile

from nearfield.fileio.s3.path import S3Path


def find_objects(path: S3Path, suffixes: tuple[str, ...]) -> list[S3Path]:
    """Return an object, the objects in a folder, or those that match a pattern, sorted.

    A pattern is matched part by part; ``**`` stands for any number of parts. Of a folder, and of folders that match,
    only objects with the suffixes are taken, and none below a name that begins with a dot or an underscore.
    """
    if not has_magic(path.key):
        if path.key and path.is_file():
            return [path]
        pattern, start = _parts(path.key), path.key
    else:
        pattern = _parts(path.key)
        start = "/".join(takewhile(lambda part: not has_magic(part), pattern))
    keys = (item.key for item in path.client.list(start))
    return sorted(S3Path(path.bucket, key) for key in keys if _is_chosen(key.split("/"), pattern, suffixes))


def _parts(key: str) -> list[str]:
    return key.split("/") if key else []


def _is_chosen(parts: Sequence[str], pattern: Sequence[str], suffixes: tuple[str, ...]) -> bool:
    if pattern and _matches(parts, pattern):
        return True
    visible = parts[-1].lower().endswith(suffixes)
    for size in range(len(parts)):
        rest = parts[size:]
        hidden = any(part.startswith((".", "_")) for part in rest)
        if visible and not hidden and _matches(parts[:size], pattern):
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
