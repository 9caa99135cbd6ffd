"""Files of pictures and sounds: absolute paths, and regular files that are opened without waiting."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nearfield.errors import InputError, NearfieldError, TooLarge


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
