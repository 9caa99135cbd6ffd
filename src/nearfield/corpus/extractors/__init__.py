"""Text extraction: the table of extractors, one file for each type of file (PDF, DOCX, HTML, Markdown, ...).

An extractor turns a file's bytes into a ``Document``: text, blocks, title. ``reader.py`` chooses the extractor for a
file, and runs it in a worker process (``sandbox.py``) if its parser may hang or crash. To add a type of file, copy
``pptx.py`` and add a row to ``REGISTRY``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import text_encoding
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.errors import InputError, MissingExtra, NearfieldError
from nearfield.registry import Registry

#: Names of the extractors of pictures, sounds and videos.
PICTURE, SOUND, VIDEO = "picture", "sound", "video"
REGISTRY = Registry(
    "extractor",
    {
        "text": "nearfield.corpus.extractors.text:TextExtractor",
        "markdown": "nearfield.corpus.extractors.markdown:MarkdownExtractor",
        "code": "nearfield.corpus.extractors.code:CodeExtractor",
        "html": "nearfield.corpus.extractors.html:HtmlExtractor",
        "rst": "nearfield.corpus.extractors.restructuredtext:RestructuredTextExtractor",
        "org": "nearfield.corpus.extractors.org:OrgExtractor",
        "asciidoc": "nearfield.corpus.extractors.asciidoc:AsciidocExtractor",
        "latex": "nearfield.corpus.extractors.latex:LatexExtractor",
        "subtitles": "nearfield.corpus.extractors.subtitles:SubtitlesExtractor",
        "json": "nearfield.corpus.extractors.json_data:JsonExtractor",
        "xml": "nearfield.corpus.extractors.xml_data:XmlExtractor",
        "pdf": "nearfield.corpus.extractors.pdf:PdfExtractor",
        "docx": "nearfield.corpus.extractors.docx:DocxExtractor",
        "pptx": "nearfield.corpus.extractors.pptx:PptxExtractor",
        "xlsx": "nearfield.corpus.extractors.xlsx:XlsxExtractor",
        "odt": "nearfield.corpus.extractors.opendocument:OdtExtractor",
        "ods": "nearfield.corpus.extractors.opendocument:OdsExtractor",
        "odp": "nearfield.corpus.extractors.opendocument:OdpExtractor",
        "xls": "nearfield.corpus.extractors.xls:XlsExtractor",
        "doc": "nearfield.corpus.extractors.word_binary:DocExtractor",
        "ppt": "nearfield.corpus.extractors.powerpoint_binary:PptExtractor",
        "rtf": "nearfield.corpus.extractors.rtf:RtfExtractor",
        "eml": "nearfield.corpus.extractors.messages.eml:EmlExtractor",
        "msg": "nearfield.corpus.extractors.messages.msg:MsgExtractor",
        "mbox": "nearfield.corpus.extractors.messages.eml:MboxExtractor",
        "notebook": "nearfield.corpus.extractors.notebook:NotebookExtractor",
        "epub": "nearfield.corpus.extractors.epub:EpubExtractor",
        "delimited": "nearfield.corpus.extractors.delimited:DelimitedExtractor",
        "jsonl": "nearfield.corpus.extractors.delimited:JsonLinesExtractor",
        "slack": "nearfield.corpus.extractors.messages.conversation:SlackExtractor",
        "whatsapp": "nearfield.corpus.extractors.messages.conversation:WhatsappExtractor",
        "calendar": "nearfield.corpus.extractors.calendar:CalendarExtractor",
        "contacts": "nearfield.corpus.extractors.calendar:ContactExtractor",
        PICTURE: "nearfield.corpus.extractors.picture:PictureExtractor",
        SOUND: "nearfield.corpus.extractors.recording:SoundExtractor",
        VIDEO: "nearfield.corpus.extractors.recording:VideoExtractor",
    },
    group="nearfield.extractors",
    extras=dict.fromkeys(
        (
            "html",
            "xml",
            "pdf",
            "docx",
            "pptx",
            "xlsx",
            "odt",
            "ods",
            "odp",
            "xls",
            "doc",
            "ppt",
            "eml",
            "msg",
            "mbox",
            "epub",
        ),
        "corpus",
    ),
)


class Extractor(ABC):
    """Reads one type of file. Its libraries are imported in ``parse``: looking up a suffix does not need them."""

    #: Suffixes (or whole names without one), in lower case, and their media types.
    suffixes: Mapping[str, str] = {}
    #: Whether it runs in a worker process with a deadline: its parser may hang, crash or take all memory.
    isolated: bool = True
    #: Whether it recognises text in pictures if ``options.ocr`` is set: its documents are read again when that changes.
    uses_ocr: bool = False
    #: The same for speech in sounds, if ``options.speech`` is set.
    uses_speech: bool = False
    #: Whether ``parse`` takes a ``StoredFile`` in place of bytes: its files may be too large for memory.
    reads_stored: bool = False
    #: The kind of media that its files are too: without text, they are searched as such if ``options.media`` has it.
    medium: str = ""
    #: The options of the collection.
    options: ExtractionOptions = ExtractionOptions()
    #: Called before each page that takes long: the deadline then begins again.
    on_page: Callable[[], None] = staticmethod(lambda: None)

    @property
    def is_searched_without_text(self) -> bool:
        """Whether a file without text is searched all the same: as a picture, or by the pictures of its pages."""
        return self.medium in self.options.media

    @abstractmethod
    def parse(self, data: bytes, name: str) -> Document:
        """Parse a file; ``extract`` raises any exception for a damaged file as ``InputError``."""

    def other_contents(self, data: bytes, name: str) -> Sequence[Loss]:  # noqa: ARG002 - for subclasses
        """Return what a file without text has instead."""
        return ()

    def extract(self, data: bytes, name: str) -> Document:
        """Return the document of a file, with text that can be stored anywhere.

        Raises:
            InputError: the file is damaged, encrypted, without text, or not of this type.
            MissingExtra: the library that reads it is not installed.
        """
        try:
            with text_encoding.recorded_doubts() as doubts:
                document = self.parse(data, name)
        except (NearfieldError, MemoryError):
            raise
        except ModuleNotFoundError as error:
            raise MissingExtra(f"{name} needs {error.name!r}: pip install 'nearfield[corpus]'") from error
        except Exception as error:  # parsers raise anything for a damaged file
            raise InputError(f"{name}: damaged, or not of the type that its name says.") from error
        if not document.text.strip() and not self.is_searched_without_text:
            raise InputError(f"{name}: {_why_empty((*document.losses, *self.other_contents(data, name)))}")
        if data.startswith(_ZIP):
            document = replace(document, losses=(*document.losses, *_repeated_losses(data)))
        if _SURROGATE.search(document.text) or _SURROGATE.search(document.title):
            # One character for another, so that all positions stay valid.
            text, title = (_SURROGATE.sub("\ufffd", value) for value in (document.text, document.title))
            document = replace(document, text=text, title=title)
        losses = text_encoding.decoding_losses(doubts)
        return replace(document, losses=(*document.losses, *losses)) if losses else document


def _why_empty(losses: Sequence[Loss]) -> str:
    """Return why nothing of a file can be searched, and what to do."""
    if not losses:
        return "the file contains no text."
    reasons, advice = "; ".join(loss.reason for loss in losses), dict.fromkeys(loss.advice for loss in losses)
    return " ".join([f"nothing in it can be searched (not read: {reasons}).", *filter(None, advice)])


def _repeated_losses(data: bytes) -> Sequence[Loss]:
    from nearfield.corpus.extractors.zip_safety import repeated_losses

    return repeated_losses(data)


def create_extractor(extractor: type[Extractor], options: ExtractionOptions) -> Extractor:
    """Return an instance of an extractor with options."""
    instance = extractor()
    instance.options = options
    return instance


@cache
def extractors_by_suffix() -> Mapping[str, str]:
    """Return the name of the extractor for each suffix, and for names without one; plugins come first."""
    return {suffix: name for name in reversed(REGISTRY.order()) for suffix in REGISTRY.load(name).suffixes}


def kind_of(name: str) -> str | None:
    """Return the name of the extractor for a file name; None if there is none."""
    last = PurePosixPath(name).name.lower()
    return extractors_by_suffix().get(last) or extractors_by_suffix().get(PurePosixPath(last).suffix)


def media_type_of(name: str) -> str:
    """Return the media type for a file name; an empty string if it is unknown."""
    kind, last = kind_of(name), PurePosixPath(name).name.lower()
    suffixes: Mapping[str, str] = REGISTRY.load(kind).suffixes if kind is not None else {}
    return suffixes.get(last) or suffixes.get(PurePosixPath(last).suffix, "")


def suffix_of(media: str) -> str:
    """Return the suffix for a media type, such as ``.pdf`` for ``application/pdf``; an empty one if it is unknown."""
    return _suffixes().get(_ALIASES.get(media, media), "")


@cache
def _suffixes() -> Mapping[str, str]:
    # The first suffix of each media type counts.
    pairs = [pair for name in reversed(REGISTRY.order()) for pair in reversed(REGISTRY.load(name).suffixes.items())]
    return {media: suffix for suffix, media in pairs if suffix.startswith(".")}


#: Other names of media types.
_ALIASES = {
    "application/xhtml+xml": "text/html",
    "application/javascript": "text/javascript",
    "application/x-pdf": "application/pdf",
    "text/x-markdown": "text/markdown",
}
#: The first bytes of a zip file.
_ZIP = b"PK\x03\x04"
_SURROGATE = re.compile("[\ud800-\udfff]")
