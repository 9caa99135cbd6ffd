"""Zip safety: check the zip file of an Office document before it is unpacked, and read as much of it as is sound."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.office.ole_files import is_encrypted
from nearfield.errors import InputError
from nearfield.message_text import count_of

#: The first bytes of a zip file, and of the container of older and of encrypted Office documents.
ZIP, OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Maximum bytes of the parts of a document that are unpacked, and maximum number of files in it.
MAX_BYTES, _MAX_FILES = 2**29, 20_000
#: Suffixes of parts that are never unpacked: pictures, films, sounds and fonts.
_MEDIA_NAMES = (
    "png jpg jpeg jfif gif bmp dib tif tiff emf wmf emz wmz wdp webp svg mp4 m4v mov avi wmv mpg mpeg mkv mp3 m4a "
    "wav wma ogg ttf otf ttc odttf woff woff2 fntdata"
)
_MEDIA = frozenset(f".{name}" for name in _MEDIA_NAMES.split())
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
#: Bytes of a damaged file that are unpacked at a time.
_PIECE = 16
#: Names of parts that a loss lists.
_MAX_NAMED = 3


def check_archive(data: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Return the names of the files in an archive.

    The sizes are those in its directory: no more than that is read of any file. Pictures and other media do not count,
    since they are not unpacked.

    Raises:
        InputError: it is not a zip file, is encrypted, or would unpack to too much.
    """
    if data.startswith(OLD):
        if is_encrypted(data):
            raise InputError(f"{name}: encrypted with a password. Save it without one.")
        raise InputError(
            f"{name}: encrypted, or of Office before 2007. Save it without password as .docx, .pptx or .xlsx."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise InputError(f"{name}: damaged, or no Office document.") from error
    total = sum(entry.file_size for entry in entries if PurePosixPath(entry.filename).suffix.lower() not in _MEDIA)
    if total > max_bytes or len(entries) > _MAX_FILES:
        raise InputError(
            f"{name}: would unpack to {total:,} bytes in {count_of(len(entries), 'file')}; the maximum is "
            f"{max_bytes:,} bytes in {_MAX_FILES:,} files. It may be a zip bomb. If not, save it in several documents."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"{name}: encrypted. Save it without password.")
    return [entry.filename for entry in entries]


class ArchiveFiles:
    """The files of an archive that ``check_archive`` lets pass."""

    def __init__(self, data: bytes, name: str) -> None:
        self.names = frozenset(check_archive(data, name))
        self._data = data
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        #: Names of files that are damaged, encrypted, or compressed by an unknown method.
        self.damaged: set[str] = set()

    def size(self, name: str) -> int:
        """Return the bytes of a file, as the archive states them: no more are unpacked; 0 for a missing one."""
        return self._zip.getinfo(name).file_size if name in self.names else 0

    def read(self, name: str) -> bytes:
        """Return the content of a file; of a damaged one what can be unpacked, of a missing one nothing."""
        if name not in self.names:
            return b""
        try:
            return self._zip.read(name)
        except _DAMAGED:
            self.damaged.add(name)
            return self._sound_part(self._zip.getinfo(name))

    def _sound_part(self, info: zipfile.ZipInfo) -> bytes:
        """Return the content of a file up to the place where it cannot be unpacked, without a check of its sum."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            return b""
        head = self._data[info.header_offset : info.header_offset + 30]
        if len(head) < 30:
            return b""
        start = info.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26))
        packed = self._data[start : start + info.compress_size]
        return packed if info.compress_type == zipfile.ZIP_STORED else _inflated(packed, info.file_size)


def _inflated(packed: bytes, size: int) -> bytes:
    """Return at most so many bytes of deflated data, up to a damaged place."""
    inflater, content = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    try:
        for at in range(0, len(packed), _PIECE):
            content += inflater.decompress(packed[at : at + _PIECE])
            if len(content) >= size:
                break
    except zlib.error:
        pass
    return bytes(content[:size])


def repeated_losses(data: bytes) -> list[Loss]:
    """Return the losses of a document that has several parts of the same name with different contents.

    One of them is read. Names differ in neither case nor slashes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            names = _repeated(file.infolist())
    except _DAMAGED:
        return []
    if not names:
        return []
    shown = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
    parts = "1 part" if len(names) == 1 else f"{len(names)} parts"
    reason = f"other versions of {parts} that the file has several times ({shown})"
    return [Loss(reason, advice="Open and save it in its program.")]


def _repeated(entries: Iterable[zipfile.ZipInfo]) -> list[str]:
    contents: dict[str, set[tuple[int, int]]] = {}
    for info in entries:
        if PurePosixPath(info.filename).suffix.lower() not in _MEDIA:
            name = info.filename.replace("\\", "/").lstrip("/").lower()
            contents.setdefault(name, set()).add((info.CRC, info.file_size))
    return [name for name, versions in contents.items() if len(versions) > 1]
