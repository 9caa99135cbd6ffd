"""Archive: the zip file that an Office document is, looked at before anything of it is unpacked."""

from __future__ import annotations

import io
import zipfile

from nearfield.errors import InputError

#: The first bytes of a zip file, and of the container that Office used before, and uses for what is encrypted.
ZIP, OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: Bytes that a document may unpack to, and files it may hold.
LARGEST, _MOST = 2**29, 20_000


def check_archive(data: bytes, name: str, *, largest: int = LARGEST) -> list[str]:
    """Return the names of the files in it.

    The sizes are those that its directory states: no more than that is read of any file, whatever else it holds.

    Raises:
        InputError: it is no zip file, encrypted, or would unpack to more than it may.
    """
    if data.startswith(OLD):
        raise InputError(
            f"{name}: encrypted, or of Office before 2007. Save it without password as .docx, .pptx or .xlsx."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise InputError(f"{name}: damaged, or no Office document ({error}).") from error
    total = sum(entry.file_size for entry in entries)
    if total > largest or len(entries) > _MOST:
        raise InputError(
            f"{name}: would unpack to {total:,} bytes in {len(entries):,} files; at most {largest:,} and {_MOST:,} "
            "are read. A zip bomb, or far too many pictures: save the text alone."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"{name}: encrypted. Save it without password.")
    return [entry.filename for entry in entries]
