"""The files of a tar, which may be compressed, by its headers."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

from nearfield.corpus.sources.archives.members import (
    DAMAGED,
    ArchiveContent,
    ArchiveMember,
    Opener,
    by_name,
    relative_name,
    too_large,
)
from nearfield.corpus.sources.archives.unpacking import UnpackedFile
from nearfield.errors import InputError
from nearfield.fileio.tar_headers import TarHeaders

#: Files, folders, links and devices that are listed, and bytes of their headers.
_MAX_ENTRIES, _MAX_HEADERS = 100_000, 2**28


@contextmanager
def open_tar(opener: Opener, key: str, stamp: str, max_bytes: int) -> Iterator[ArchiveContent]:
    """Yield the files of a tar, in their order in it. They are read faster while the context is open.

    Args:
        opener: opens the tar.
        key: its name in messages.
        stamp: what changes with the tar: a header has no checksum of the content.
        max_bytes: unpacked bytes after which nothing more is listed.

    Raises:
        InputError: it is no tar, or damaged from its start.
    """
    reader = _TarReader(opener)
    try:
        yield _list(reader, key, stamp, max_bytes)
    finally:
        reader.close()


def _list(reader: _TarReader, key: str, stamp: str, max_bytes: int) -> ArchiveContent:
    try:
        file = reader.open()
    except DAMAGED as error:
        raise InputError(f"{key}: damaged, or no tar archive.") from error
    headers = TarHeaders(file, max_bytes=max_bytes, max_headers=_MAX_HEADERS)
    entries = headers.members()
    members = by_name(_member(reader, info, stamp) for info in islice(entries, _MAX_ENTRIES) if not info.isdir())
    problem = f"It has more than {_MAX_ENTRIES:,} entries." if next(entries, None) else headers.problem
    if problem and not members:
        raise InputError(f"{key}: damaged, or no tar archive. {problem}")
    return ArchiveContent(members, headers.end, problem)


def _member(reader: _TarReader, info: tarfile.TarInfo, stamp: str) -> ArchiveMember:
    mark = f"{info.mtime}-{info.offset}-{stamp}"
    read = partial(_read, reader, info.offset_data, info.size)
    return ArchiveMember(relative_name(info.name), info.size, mark, f"{info.size}-{mark}", read, _left_out(info))


def _left_out(info: tarfile.TarInfo) -> str:
    """Return what a member is, if it is not the bytes of a file."""
    if info.issym() or info.islnk():
        return "a link"
    if info.type == tarfile.GNUTYPE_SPARSE or info.sparse:
        return "a sparse file"
    return "" if info.isreg() else "not a regular file"


def _read(reader: _TarReader, offset: int, size: int, key: str, max_bytes: int) -> bytes:
    """Return a member's content.

    Raises:
        InputError: it is damaged or too large.
    """
    if size > max_bytes:
        raise too_large(key, max_bytes)
    try:
        data = reader.read(offset, size)
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        raise InputError(f"{key}: damaged in the archive.") from error
    if len(data) < size:
        raise InputError(f"{key}: damaged in the archive.")
    return data


class _TarReader:
    """Reads members: in their order without unpacking anything twice, until it is closed; then each by itself."""

    def __init__(self, opener: Opener) -> None:
        self._opener, self._lock = opener, threading.Lock()
        self._file: UnpackedFile | None = None
        self._is_closed = False

    def open(self) -> UnpackedFile:
        """Open the tar from its start."""
        self._end()
        self._file = UnpackedFile(self._opener())
        return self._file

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            file = self._file
            if file is None or file.tell() > offset:
                file = self.open()
            file.seek(offset)
            data = file.read(size)
            if self._is_closed:
                self._end()
            return data

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
