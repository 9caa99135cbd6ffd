"""The file of an indexed document, read again from its source."""

from __future__ import annotations

from collections.abc import Sequence

from nearfield.corpus.document import DocumentFile
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.sources import Source
from nearfield.corpus.sources.files import FileSource
from nearfield.errors import NotThere


def document_file(sources: Sequence[Source], record: DocumentRecord) -> DocumentFile:
    """Return the file of a document: one in a folder or an archive, or one that was uploaded.

    Raises:
        NotThere: it is no file, cannot be read, or is not the one that was indexed.
    """
    name = f"{record.id:.200}"
    source = next((source for source in sources if source.name == record.source), None)
    try:
        item = source.file_of(record.key) if isinstance(source, FileSource) else None
    except OSError as error:
        raise NotThere(f"The file of {name!r} cannot be read.", param="id") from error
    if item is None:
        raise NotThere(f"The document {name!r} is no file that can be shown.", param="id")
    if _content_stamp(item.stamp) != _content_stamp(record.stamp):
        raise NotThere(f"The file of {name!r} has changed since it was indexed: index it again.", param="id")
    return DocumentFile(record.key, record.digest, item)


def _content_stamp(stamp: str | None) -> list[str]:
    """Return what a stamp says of the content: size and time of a file, size and checksum of a member of an archive."""
    return (stamp or "").split("-")[:2]
