"""Extractors: one file, one type of file: from bytes to a document."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath

from nearfield.corpus.document import Document
from nearfield.errors import InputError, MissingExtra, NearfieldError
from nearfield.registry import Registry

REGISTRY = Registry(
    "extractor",
    {
        "text": "nearfield.corpus.extractors.text:TextExtractor",
        "markdown": "nearfield.corpus.extractors.markdown:MarkdownExtractor",
        "code": "nearfield.corpus.extractors.code:CodeExtractor",
        "html": "nearfield.corpus.extractors.html:HtmlExtractor",
        "pdf": "nearfield.corpus.extractors.pdf:PdfExtractor",
        "docx": "nearfield.corpus.extractors.docx:DocxExtractor",
        "pptx": "nearfield.corpus.extractors.pptx:PptxExtractor",
        "xlsx": "nearfield.corpus.extractors.xlsx:XlsxExtractor",
    },
    group="nearfield.extractors",
    extras=dict.fromkeys(("html", "pdf", "docx", "pptx", "xlsx"), "corpus"),
)


class Extractor(ABC):
    """Reads one type of file. Libraries are imported where they are used: a suffix is looked up without them."""

    #: Suffixes of names (or whole names that have none), in lower case, and the media type that each stands for.
    suffixes: Mapping[str, str] = {}
    #: Whether it runs in a process of its own, with a deadline: a parser that may hang, crash or take all memory.
    isolated: bool = True

    @abstractmethod
    def parse(self, data: bytes, name: str) -> Document:
        """Read a file; whatever is raised for a damaged one is an ``InputError`` to those who ask for a document."""

    def extract(self, data: bytes, name: str) -> Document:
        """Read a file into a document whose text can be stored anywhere.

        Raises:
            InputError: it is damaged, encrypted, empty of text, or not of this type.
            MissingExtra: the library that reads it is not installed.
        """
        try:
            document = self.parse(data, name)
        except (NearfieldError, MemoryError):
            raise
        except ModuleNotFoundError as error:
            raise MissingExtra(f"{name} needs {error.name!r}: pip install 'nearfield[corpus]'") from error
        except Exception as error:  # parsers raise whatever they like at a damaged file
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{name}: damaged, or not what its name says ({told}).") from error
        if not document.text.strip():
            raise InputError(f"{name}: there is no text in it.")
        if _SURROGATE.search(document.text) or _SURROGATE.search(document.title):
            # One character for another, so that all places stay.
            text, title = (_SURROGATE.sub("\ufffd", told) for told in (document.text, document.title))
            return replace(document, text=text, title=title)
        return document


@cache
def kinds() -> Mapping[str, str]:
    """Return all suffixes, and names without one, with the extractor that reads each; plugins before our own."""
    return {suffix: name for name in reversed(REGISTRY.order()) for suffix in REGISTRY.load(name).suffixes}


def kind_of(name: str) -> str | None:
    """Return the extractor for a file by its name; None where there is none."""
    last = PurePosixPath(name).name.lower()
    return kinds().get(last) or kinds().get(PurePosixPath(last).suffix)


def suffix_of(media: str) -> str:
    """Return the suffix of files of a media type, such as ``.pdf`` of ``application/pdf``; nothing for unknown ones."""
    return _suffixes().get(_ALIASES.get(media, media), "")


@cache
def _suffixes() -> Mapping[str, str]:
    # The first of each media type counts.
    told = [pair for name in reversed(REGISTRY.order()) for pair in reversed(REGISTRY.load(name).suffixes.items())]
    return {media: suffix for suffix, media in told if suffix.startswith(".")}


#: Other names of media types.
_ALIASES = {
    "application/xhtml+xml": "text/html",
    "application/javascript": "text/javascript",
    "application/x-pdf": "application/pdf",
    "text/x-markdown": "text/markdown",
}
_SURROGATE = re.compile("[\ud800-\udfff]")
