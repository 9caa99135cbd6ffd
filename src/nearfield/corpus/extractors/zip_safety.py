"""Zip safety: check the zip file of an Office document for bombs and encryption before it is unpacked."""

from __future__ import annotations

import io
import zipfile

from nearfield.corpus.extractors.office.ole_files import is_encrypted
from nearfield.errors import InputError

#: The first bytes of a zip file, and of the container of older and of encrypted Office documents.
ZIP, OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Maximum bytes of an unpacked document, and maximum number of files in it.
MAX_BYTES, _MAX_FILES = 2**29, 20_000


def check_archive(data: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Return the names of the files in an archive.

    The sizes are those in its directory: no more than that is read of any file.

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
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes or len(entries) > _MAX_FILES:
        raise InputError(
            f"{name}: would unpack to {total:,} bytes in {len(entries):,} files; the maximum is {max_bytes:,} bytes in "
            f"{_MAX_FILES:,} files. It is a zip bomb, or has far too many pictures: save the text alone."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"{name}: encrypted. Save it without password.")
    return [entry.filename for entry in entries]
