"""An object as a file that is read."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from nearfield.fileio.s3.client import ObjectInfo, S3Client

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ObjectReader(io.RawIOBase):
    """One version of an object; each read is a request, so read it through a buffer."""

    def __init__(self, client: S3Client, item: ObjectInfo) -> None:
        self._client = client
        self._item = item
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._item.size}[whence]
        if origin + offset < 0:
            raise ValueError(f"Position {origin + offset} is before the start.")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Read the next bytes; raises InputError if the object has changed."""
        view = memoryview(buffer).cast("B")
        stop = min(self._item.size, self._position + len(view))
        if stop <= self._position:
            return 0
        data = self._client.read(self._item, self._position, stop)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
