"""Files of media: absolute paths, regular files that are opened without waiting, and bytes as files."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nearfield.errors import InputError, NearfieldError, TooLarge

#: Bytes of a file that are hashed at once.
_PART = 2**20


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that means the same file in another folder and process.

    Raises:
        InputError: it is no path.
    """
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay links
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path!r:.200} is no path ({error}).", param="path") from error


@contextmanager
def open_regular_file(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a regular file for reading: devices and pipes may never end.

    Raises:
        InputError: it does not exist, cannot be read, or is no regular file.
        TooLarge: it has more than ``max_bytes`` bytes.
    """
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # noqa: PTH123 - see above
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} is no regular file.", param="path")
            if status.st_size > max_bytes:
                raise TooLarge(f"{path} has {status.st_size:,} bytes. At most {max_bytes:,} bytes are read.")
            yield file
    except NearfieldError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}.", param="path") from error


def file_in_memory(data: bytes) -> BinaryIO:
    """Return bytes as a file that has a descriptor, which another process can read. The caller closes it."""
    if hasattr(os, "memfd_create"):
        file: Any = os.fdopen(os.memfd_create("nearfield-media"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - see above
    file.write(data)
    file.seek(0)
    result: BinaryIO = file
    return result


def file_digest(file: BinaryIO) -> bytes:
    """Return the SHA-256 of an open file from its position on, which is read in parts."""
    digest = hashlib.sha256()
    while part := file.read(_PART):
        digest.update(part)
    return digest.digest()
