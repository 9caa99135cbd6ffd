"""``UnpackedFile``: a file that may be compressed as a whole, read forwards."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

#: Bytes that are skipped, and that are decompressed, at once.
_PIECE = 2**16
#: Bytes of memory for decompressing xz, which a file may ask for without end.
_XZ_MEMORY = 2**28

#: Returns at most so many of the next bytes, and none at the end.
_Read = Callable[[int], bytes]


class UnpackedFile:
    """The content of a file, decompressed by its first bytes: gzip, bzip2, xz, Zstandard, or none of these."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position = file, 0
        start = file.read(len(max(_UNPACKERS, key=len)))
        file.seek(0)
        unpack = next((unpack for magic, unpack in _UNPACKERS.items() if start.startswith(magic)), None)
        self._read = file.read if unpack is None else unpack(file)
        self._can_seek = unpack is None

    def tell(self) -> int:
        """Return the position in the content."""
        return self._position

    def seek(self, offset: int) -> int:
        """Go forwards to a position.

        Raises:
            ValueError: it is behind the current one.
        """
        if offset < self._position:
            raise ValueError("an unpacked file is read forwards only")
        if self._can_seek:
            self._position = self._file.seek(offset)
        while self._position < offset and self.read(min(_PIECE, offset - self._position)):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        """Return so many bytes, less only at the end."""
        parts = []
        while size > 0 and (part := self._read(size)):
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file too."""
        self._file.close()


class _XzStream:
    """Decompresses xz in bounded memory; Python's ``LZMAFile`` has no limit."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._stream = file, _xz_decompressor()

    def read(self, size: int) -> bytes:
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0")
                if not packed:
                    return b""
                self._stream = _xz_decompressor()
            elif self._stream.needs_input:
                packed = self._file.read(_PIECE)
                if not packed:
                    raise EOFError("it is cut off")
            data = self._stream.decompress(packed, size)
            if data:
                return data


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _unpack_zstandard(file: BinaryIO) -> _Read:
    import pyarrow as pa

    stream: Any = pa.input_stream(pa.PythonFile(file, mode="r"), compression="zstd")
    return lambda size: bytes(stream.read(size))


_UNPACKERS: Mapping[bytes, Callable[[BinaryIO], _Read]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file).read,
    b"BZh": lambda file: bz2.BZ2File(file).read,
    b"\xfd7zXZ\0": lambda file: _XzStream(file).read,
    b"\x28\xb5\x2f\xfd": _unpack_zstandard,
}
