"""Atomic writes: a file is written beside its place and renamed, so that a reader sees the old or the new one whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO


@contextmanager
def atomic_file(path: Path, *, durable: bool = False, shared: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of ``path`` at the end of the block, unless the block raises.

    Args:
        path: the file to create or replace; its directory must exist.
        durable: wait until the bytes and the new name are on the disk.
        shared: use a temporary name of which there is only one, because several processes may write this file at the
            same time. Otherwise the name is fixed, and what a killed process left is overwritten by the next one.
    """
    unique = f"{os.getpid()}-{secrets.token_hex(4)}." if shared else ""
    temporary = path.with_name(f".{path.name}.{unique}partial")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_directory(path.parent)


@contextmanager
def atomic_text_file(path: Path, *, durable: bool = False) -> Iterator[TextIO]:
    """Yield a UTF-8 text file, without translation of line ends; otherwise as ``atomic_file``."""
    with atomic_file(path, durable=durable) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def write_atomic(path: Path, data: bytes | memoryview | str, *, durable: bool = False, shared: bool = False) -> None:
    """Write bytes, or a text as UTF-8, in one step; the arguments are those of ``atomic_file``."""
    with atomic_file(path, durable=durable, shared=shared) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def move_folder(source: Path, place: Path) -> None:
    """Rename a complete folder to its place, unless another process put one there first; only then it stays."""
    try:
        source.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def fsync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
