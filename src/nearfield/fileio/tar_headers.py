"""The headers of a tar, read one by one within limits: the list of its members is not in memory.

Python's tarfile takes a damaged header for the end; here the end is only where the blocks of zeros are that POSIX
requires (pax, "ustar Interchange Format").
"""

from __future__ import annotations

import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, Protocol, cast

from nearfield.errors import NearfieldError

_BLOCK = tarfile.BLOCKSIZE
#: Bytes of an extension of a header.
_MAX_EXTENSION = 2**20
#: What reading a tar raises that is damaged, or compressed and damaged.
TAR_ERRORS = (tarfile.TarError, OSError, ValueError, EOFError, zlib.error, lzma.LZMAError)


class ForwardFile(Protocol):
    """What is used of a file; positions only grow."""

    def tell(self) -> int:
        """Return the position."""

    def seek(self, offset: int, /) -> int:
        """Go forwards to a position."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, less at the end."""


class TarHeaders:
    """Reads headers. After ``members``, ``end`` is where reading stopped, and ``problem`` says why if it was no end.

    Args:
        file: the tar, which is read forwards only.
        start: the byte of the first header.
        max_bytes: where reading stops at the latest.
        max_headers: bytes of all headers after which it stops.
    """

    def __init__(
        self, file: ForwardFile, start: int = 0, *, max_bytes: int = sys.maxsize, max_headers: int = sys.maxsize
    ) -> None:
        self._file = _BoundedFile(file, max_bytes, max_headers)
        self.end = start
        self.problem = ""

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members.

        Raises:
            NearfieldError: the storage cannot be read, which says nothing of the tar.
        """
        self._file.start(self.end)
        try:
            with tarfile.open(fileobj=cast(Any, self._file), mode="r:") as archive:
                while (info := archive.next()) is not None:
                    self.end = archive.offset
                    archive.members.clear()  # type: ignore[attr-defined]  # otherwise it has all
                    yield info
                self.end = archive.offset
            self.problem = self._problem_at_end()
        except NearfieldError:
            raise
        except TAR_ERRORS as error:
            self.problem = f"The tar cannot be read from byte {self.end:,} on ({error})."

    def _problem_at_end(self) -> str:
        if self._file.latest == bytes(_BLOCK):
            return ""
        if not self._file.latest:
            return f"The tar is cut off at byte {self.end:,}: members may be missing."
        return f"The tar is damaged at byte {self.end:,}: what follows was not read."


class _BoundedFile:
    """What tarfile uses of a file: forwards only and within limits, whatever sizes headers state."""

    def __init__(self, file: ForwardFile, max_bytes: int, max_headers: int) -> None:
        self._file, self._max_bytes, self._room = file, max_bytes, max_headers
        #: What was read last.
        self.latest = b""

    def start(self, offset: int) -> None:
        self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        if offset < self.tell():
            raise tarfile.ReadError("a header states a negative size")
        if offset > self._max_bytes:
            raise tarfile.ReadError(f"it has more than {self._max_bytes:,} bytes")
        return self._file.seek(offset)

    def read(self, size: int) -> bytes:
        self._room -= size
        if not 0 <= size <= _MAX_EXTENSION or self._room < 0:
            raise tarfile.ReadError("its headers are too large")
        self.latest = self._file.read(size)
        return self.latest
