"""Compound files (OLE) of Office before 2007 and of Outlook: which kind a file is."""

from __future__ import annotations

#: Names of streams by the kind of their file; the first that a file has counts, unless its name says another.
_STREAMS = {
    "msg": "__substg1.0_",
    "doc": "WordDocument",
    "ppt": "PowerPoint Document",
    "xls": "Workbook",
}
_NAMES = {kind: name.encode("utf-16-le") for kind, name in _STREAMS.items()}
_BOOK = "Book\0".encode("utf-16-le")
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


def kinds_of_ole(data: bytes) -> tuple[str, ...]:
    """Return the kinds that a compound file may have, by the names of its streams; it may contain other files."""
    kinds = [kind for kind, name in _NAMES.items() if name in data]
    if "xls" not in kinds and _BOOK in data:
        kinds.append("xls")
    return tuple(kinds)


def is_encrypted(data: bytes) -> bool:
    """Return whether a compound file is an Office document of today with a password."""
    return _ENCRYPTED in data
