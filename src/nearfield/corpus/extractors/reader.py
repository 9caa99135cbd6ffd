"""Document reader: choose the extractor for a file by its name and first bytes, and extract its document."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nearfield.corpus import extractors
from nearfield.corpus.document import Document, NamedBytes, SourceItem
from nearfield.corpus.extractors import Extractor, create_extractor
from nearfield.corpus.extractors.messages import conversation
from nearfield.corpus.extractors.office.ole_files import is_encrypted, kinds_of_ole
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.sandbox import (
    DEADLINE,
    MEMORY,
    OCR_MEMORY,
    SPEECH_COPIES,
    SPEECH_MEMORY,
    ExtractorSandbox,
)
from nearfield.corpus.extractors.speech.speech_model import model_bytes
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.corpus.extractors.zip_safety import OLD, ZIP, check_archive
from nearfield.errors import InputError

#: Bytes of a file above which any extractor runs in a worker process.
_IN_PROCESS = 2**18
#: Stands for the extractor's name of a table's row.
ROW = "row"
#: Extractors of files that are recognised by content, whatever their names.
_BINARY = ("pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "rtf", "xls", "doc", "ppt")
#: Extractors of OpenDocument files by the last words of their media types.
_OPEN_DOCUMENT = {"text": "odt", "spreadsheet": "ods", "presentation": "odp", "graphics": "odp"}
#: What to do with files of known types that no extractor reads.
_ADVICE = {
    **dict.fromkeys((".xlsb",), "Save it as .xlsx."),
    **dict.fromkeys((".pages", ".wpd", ".wps", ".hwp", ".sxw"), "Save it as .docx or .pdf."),
    **dict.fromkeys((".numbers", ".sxc", ".wk1", ".123"), "Save it as .xlsx."),
    **dict.fromkeys((".key", ".sxi"), "Save it as .pptx or .pdf."),
    **dict.fromkeys((".pub", ".vsd", ".vsdx", ".one", ".xps", ".djvu"), "Save it as .pdf."),
    **dict.fromkeys((".mobi", ".azw", ".azw3"), "Save it as .epub."),
}
#: The media type of an OpenDocument file, which is its first entry, uncompressed.
_MIMETYPE = re.compile(rb"application/vnd\.oasis\.opendocument\.([a-z]+)")
#: Extractors whose documents have the lines of the file, unless they change its line breaks.
_LINES = ("text", "markdown", "code")


class DocumentReader:
    """Reads documents. Threads may share it; ``workers`` documents are read at a time. Close it after use.

    ``deadline`` (seconds) and ``memory`` (bytes) are the limits for one document. With OCR the deadline is that of each
    page, and with speech recognition that of each half minute; the memory is more by that of the models. ``options``
    are those of the collection.
    """

    def __init__(
        self,
        *,
        deadline: float = DEADLINE,
        memory: int = MEMORY,
        workers: int = 1,
        options: ExtractionOptions = ExtractionOptions(),  # noqa: B008 - it is frozen
    ) -> None:
        self.options = options
        memory += OCR_MEMORY if options.ocr else 0
        if options.speech:
            memory += SPEECH_MEMORY + SPEECH_COPIES * model_bytes(Path(options.speech))
        self._sandbox = ExtractorSandbox(deadline=deadline, memory=memory, workers=workers)

    def read(self, item: SourceItem) -> tuple[Document, str]:
        """Return the document of an item, and the name of the extractor that read it (``row`` for a table's row).

        Raises:
            InputError: the item cannot be read; the message says why.
            MissingExtra: the library that reads it is not installed.
        """
        try:
            data = item.read()
        except OSError as error:
            raise InputError(f"{item.name}: cannot be read ({error.strerror or error}).") from error
        return self.document(data, item.name)

    def document(self, data: bytes | Document, name: str) -> tuple[Document, str]:
        """Return the document of a file's content, and the extractor's name; raises the same errors as ``read``."""
        if isinstance(data, Document):
            return data, ROW
        name = data.name if isinstance(data, NamedBytes) else name
        kind = kind_of(data, name)
        document = self.extract(extractors.REGISTRY.load(kind), data, name)
        if kind in _LINES and document.text.count("\n") == data.count(b"\n"):
            document = replace(document, has_lines=True)
        return document, kind

    def windows(self, data: bytes | Document, name: str) -> tuple[WindowedDocument, str]:
        """Return the document of a file's content as windows, of which one is in memory; else as ``document``."""
        if isinstance(data, Document):
            return WindowedDocument.from_document(data), ROW
        name = data.name if isinstance(data, NamedBytes) else name
        kind = kind_of(data, name)
        document = self._windows(extractors.REGISTRY.load(kind), data, name)
        if kind in _LINES and document.line_ends == data.count(b"\n"):
            document = document.with_lines()
        return document, kind

    def _windows(self, extractor: type[Extractor], data: bytes, name: str) -> WindowedDocument:
        if not data or _in_process(extractor, data):
            return WindowedDocument.from_document(self.extract(extractor, data, name))
        return self._sandbox.extract_windows(extractor, data, name, self.options)

    def extract(self, extractor: type[Extractor], data: bytes, name: str) -> Document:
        """Run an extractor, in a worker process if its parser may crash or the file is large; raises as ``read``."""
        if not data:
            raise InputError(f"{name}: the file is empty.")
        if not _in_process(extractor, data):
            return self._sandbox.extract(extractor, data, name, self.options)
        try:
            return create_extractor(extractor, self.options).extract(data, name)
        except MemoryError as error:
            raise InputError(f"{name}: takes more memory than is available.") from error

    def close(self) -> None:
        """End the worker processes. The reader may be used again."""
        self._sandbox.close()

    def __enter__(self) -> DocumentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_process(extractor: type[Extractor], data: bytes) -> bool:
    """Return whether an extractor runs in this process: its parser cannot crash, and the file is not large."""
    return not extractor.isolated and len(data) <= _IN_PROCESS


def kind_of(data: bytes, name: str) -> str:
    """Return the extractor's name for a file: by its name, unless its first bytes are of another type.

    Raises:
        InputError: the type is unknown, or it is an Office document that cannot be opened.
    """
    by_name, by_content = extractors.kind_of(name), _sniff(data, name)
    if by_content is not None and (by_content in _BINARY or by_name in (None, *_BINARY)):
        return by_content
    if by_name == "text" and conversation.looks_like_chat(data[:2048]):
        return "whatsapp"
    if by_name is not None:
        return by_name
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in _ADVICE:
        raise InputError(f"{name}: {suffix} files are not read. {_ADVICE[suffix.lower()]}")
    if suffix and b"\0" in data[:1024]:
        known = ", ".join(sorted(extractors.extractors_by_suffix()))
        raise InputError(f"{name}: there is no extractor for {suffix}. Known: {known}.")
    return "text"


def uses_ocr(data: bytes, name: str) -> bool:
    """Return whether the extractor for a file recognises text in pictures."""
    extractor = _extractor_of(data, name)
    return extractor is not None and extractor.uses_ocr


def uses_speech(data: bytes, name: str) -> bool:
    """Return whether the extractor for a file recognises speech."""
    extractor = _extractor_of(data, name)
    return extractor is not None and extractor.uses_speech


def _extractor_of(data: bytes, name: str) -> type[Extractor] | None:
    """Return the extractor for a file; None if there is none."""
    try:
        return extractors.REGISTRY.load(kind_of(data, data.name if isinstance(data, NamedBytes) else name))
    except InputError:
        return None


def _sniff(data: bytes, name: str) -> str | None:
    """Return the extractor's name by a file's content; None if it is text or unknown."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"%PDF-"):
        return "pdf"
    if start.startswith(b"{\\rtf"):
        return "rtf"
    if data.startswith(ZIP):
        return _office(data, name)
    if data.startswith(OLD):
        return _old_office(data, name)
    return "html" if start[:15].lower().startswith((b"<!doctype html", b"<html")) else None


def _old_office(data: bytes, name: str) -> str | None:
    """Return the extractor's name for a compound file: by its streams, and by its name if it has those of several."""
    kinds = kinds_of_ole(data)
    if is_encrypted(data) or not kinds:
        check_archive(data, name)  # says what it is
    if kinds[0] not in extractors.REGISTRY.names():
        raise InputError(f"{name}: .{kinds[0]} files are not read. Save it as .eml.")
    by_name = extractors.kind_of(name)
    return by_name if by_name in kinds else kinds[0]


def _office(data: bytes, name: str) -> str | None:
    try:
        files = check_archive(data, name)
    except InputError:  # the extractor for its name reports the error
        return None
    folders = {
        "word/document.xml": "docx",
        "ppt/presentation.xml": "pptx",
        "xl/workbook.xml": "xlsx",
        "META-INF/container.xml": "epub",
    }
    kind = next((kind for file, kind in folders.items() if file in files), None)
    if kind in (None, "epub") and "mimetype" in files:
        media = _MIMETYPE.search(data[:200])
        return _OPEN_DOCUMENT.get(media[1].decode(), kind) if media else kind
    return kind
