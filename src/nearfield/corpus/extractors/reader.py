"""Reading: from what a source lists to a document, by the extractor for its type."""

from __future__ import annotations

from pathlib import PurePosixPath

from nearfield.corpus import extractors
from nearfield.corpus.document import Document, NamedBytes, SourceItem
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.sandbox import DEADLINE, MEMORY, ExtractorSandbox
from nearfield.corpus.extractors.zip_safety import OLD, ZIP, check_archive
from nearfield.errors import InputError

#: Bytes from which on any extractor runs in a process of its own.
_IN_PLACE = 2**18
#: What a table's row is called in place of an extractor's name.
ROW = "row"
#: Extractors that files are recognised for by their content, whatever their names say.
_BINARY = ("pdf", "docx", "pptx", "xlsx")


class DocumentReader:
    """Reads documents. Threads may share it; ``workers`` of them are served at once. Close it after use.

    ``deadline`` (seconds) and ``memory`` (bytes) are what one document may take.
    """

    def __init__(self, *, deadline: float = DEADLINE, memory: int = MEMORY, workers: int = 1) -> None:
        self._sandbox = ExtractorSandbox(deadline=deadline, memory=memory, workers=workers)

    def read(self, item: SourceItem) -> tuple[Document, str]:
        """Return the document that an item is, and the name of the extractor that read it (``row`` for a table's row).

        Raises:
            InputError: it cannot be read; the message says why.
            MissingExtra: the library that reads it is not installed.
        """
        try:
            data = item.read()
        except OSError as error:
            raise InputError(f"{item.name}: cannot be read ({error.strerror or error}).") from error
        return self.document(data, item.name)

    def document(self, data: bytes | Document, name: str) -> tuple[Document, str]:
        """Return the document that a file's content is, and its extractor's name; raises as ``read``."""
        if isinstance(data, Document):
            return data, ROW
        name = data.name if isinstance(data, NamedBytes) else name
        kind = kind_of(data, name)
        extractor = extractors.REGISTRY.load(kind)
        return self.extract(extractor, data, name), kind

    def extract(self, extractor: type[Extractor], data: bytes, name: str) -> Document:
        """Run an extractor, in a process of its own if it wants one or the file is large; raises as ``read``."""
        if not data:
            raise InputError(f"{name}: the file is empty.")
        if extractor.isolated or len(data) > _IN_PLACE:
            return self._sandbox.extract(extractor, data, name)
        try:
            return extractor().extract(data, name)
        except MemoryError as error:
            raise InputError(f"{name}: takes more memory than there is.") from error

    def close(self) -> None:
        """End the processes. The reader may be used again."""
        self._sandbox.close()

    def __enter__(self) -> DocumentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kind_of(data: bytes, name: str) -> str:
    """Return the extractor for a file: by its name, unless its first bytes say that the name lies.

    Raises:
        InputError: it is of no known type, or an Office document that cannot be opened.
    """
    named, found = extractors.kind_of(name), _sniffed(data, name)
    if found is not None and (found in _BINARY or named in (None, *_BINARY)):
        return found
    if named is not None:
        return named
    suffix = PurePosixPath(name).suffix
    if suffix and b"\0" in data[:1024]:
        raise InputError(f"{name}: there is no extractor for {suffix}. Known: {', '.join(sorted(extractors.kinds()))}.")
    return "text"


def _sniffed(data: bytes, name: str) -> str | None:
    """Return what a file's content shows it to be; None where it is text, or unknown."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"%PDF-"):
        return "pdf"
    if data.startswith(ZIP):
        return _office(data, name)
    if data.startswith(OLD):
        check_archive(data, name)
    return "html" if start[:15].lower().startswith((b"<!doctype html", b"<html")) else None


def _office(data: bytes, name: str) -> str | None:
    try:
        files = check_archive(data, name)
    except InputError:  # told by the extractor that its name asks for
        return None
    folders = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
    return next((kind for file, kind in folders.items() if file in files), None)
