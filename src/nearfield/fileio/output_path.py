"""Checks that a file or folder can be written, before the work whose results it is for."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from nearfield.errors import InputError


def require_writable(path: Path | None, param: str = "output") -> None:
    """Check before hours of work that a file can be written; its folder is created.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file to write.", param=param)
    try:
        try_writing_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", param=param) from error


def require_writable_folder(folder: Path | None, param: str = "output") -> None:
    """Check before hours of work that files can be written to a folder; it is created if it does not exist.

    Raises:
        InputError: they cannot.
    """
    if folder is None:
        return
    try:
        try_writing(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.", param=param) from error


def try_writing_file(path: Path) -> None:
    """Open an existing file for writing, or write a small file to its folder. Raises OSError if that fails."""
    if path.exists():
        with path.open("ab"):
            return
    try_writing(path.parent)


def probe_writing_file(path: Path) -> None:
    """Do what ``try_writing_file`` does, and remove the folders that it had to create."""
    if path.exists():
        try_writing_file(path)
    else:
        probe_writing(path.parent)


def try_writing(folder: Path, mode: int = 0o777) -> None:
    """Create a folder, and write and delete a small file in it. Raises OSError if that fails."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileExistsError as error:  # of a file, where "File exists" would say nothing
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())


def probe_writing(folder: Path) -> None:
    """Do what ``try_writing`` does, and remove the folders that it had to create."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try_writing(folder)
    finally:
        with suppress(OSError):  # another process uses it already
            for path in missing:
                path.rmdir()
