"""Extractor for EPUB books: their chapters in reading order, each one read as a page of HTML."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.zip_safety import ArchiveFiles
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: An element of lxml, which has no types.
Element = Any
_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
#: Algorithms that hide fonts only: the text of the book is not encrypted.
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


class EpubExtractor(Extractor):
    """EPUB books."""

    suffixes = dict.fromkeys((".epub",), "application/epub+zip")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the chapters as Markdown; author and language are fields."""
        book = ArchiveFiles(data, name)
        _check_rights(book, name)
        path = _package_path(book, name)
        package = _xml(book.read(path))
        if package is None:
            raise InputError(f"{name}: damaged: its package document cannot be read.")
        builder = DocumentBuilder()
        missing = [
            posixpath.basename(chapter)
            for chapter in _chapters(package, posixpath.dirname(path))
            if not _put_chapter(builder, book, chapter)
        ]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            reason = f"{len(missing)} chapter{plural} (damaged or missing: {', '.join(missing[:5])})"
            builder.losses.append(Loss(reason))
        if path in book.damaged:
            builder.losses.append(Loss("the end of the list of chapters, which is damaged"))
        builder.losses = _joined_losses(builder.losses)
        title, meta = _facts(package)
        return builder.document("markdown", title or builder.first_heading(), meta)


def _put_chapter(builder: DocumentBuilder, book: ArchiveFiles, chapter: str) -> bool:
    """Add a chapter, or what can be read of it; return whether it is whole."""
    data = book.read(chapter)
    try:
        builder.append(HtmlExtractor().parse(data, chapter))
    except InputError as error:  # one with pictures alone has nothing to add
        return chapter not in book.damaged and chapter in book.names and "contains no text" in str(error)
    return chapter not in book.damaged


def _check_rights(book: ArchiveFiles, name: str) -> None:
    """Raise InputError if the chapters are encrypted."""
    encryption = _xml(book.read("META-INF/encryption.xml"))
    methods = () if encryption is None else encryption.iter("{*}EncryptionMethod")
    if any(method.get("Algorithm") not in _FONT_ALGORITHMS for method in methods):
        raise InputError(f"{name}: encrypted with digital rights management (DRM).")


def _package_path(book: ArchiveFiles, name: str) -> str:
    container = _xml(book.read("META-INF/container.xml"))
    roots = () if container is None else container.iter("{*}rootfile")
    paths = [str(root.get("full-path")) for root in roots] + sorted(
        path for path in book.names if path.endswith(".opf")
    )
    path = next((path for path in paths if path in book.names), None)
    if path is None:
        raise InputError(f"{name}: damaged, or no EPUB book (it has no package document).")
    return path


def _chapters(package: Element, folder: str) -> Iterator[str]:
    """Yield the paths of the chapters in reading order, without tables of contents."""
    items = {item.get("id"): item for item in package.iter("{*}item")}
    for reference in package.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _CHAPTERS:
            continue
        if "nav" not in (item.get("properties") or "").split():
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href") or "")))


def _facts(package: Element) -> tuple[str, dict[str, Value]]:
    def values(field: str) -> list[str]:
        return [" ".join(element.itertext()).strip() for element in package.iter(f"{{*}}{field}")]

    facts = {
        "author": ", ".join(filter(None, values("creator"))),
        "lang": next(iter(values("language")), ""),
        "publisher": next(iter(values("publisher")), ""),
        "date": next(iter(values("date")), ""),
    }
    return next(iter(values("title")), ""), {name: value for name, value in facts.items() if value}


def _joined_losses(losses: list[Loss]) -> list[Loss]:
    """Return the losses of all chapters; pictures without a description are counted together."""
    pictures = [loss for loss in losses if loss.reason.endswith("without a description")]
    count = sum(int(loss.reason.split()[0]) for loss in pictures if loss.reason.split()[0].isdigit())
    others = [loss for loss in losses if loss not in pictures]
    plural = "s" if count > 1 else ""
    return [*others, Loss(f"{count} picture{plural} without a description")] if count else others


def _xml(data: bytes) -> Element | None:
    """Return the root element of XML as far as it can be read; None without any."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    return etree.fromstring(data, parser) if data.strip() else None
