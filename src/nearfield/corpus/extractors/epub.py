"""Extractor for EPUB books: their chapters in reading order, each one read as a page of HTML."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.zip_safety import check_archive
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
        check_archive(data, name)
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            _check_rights(book, name)
            path = _package_path(book, name)
            package = _xml(book.read(path))
            builder = DocumentBuilder()
            missing = []
            for chapter in _chapters(package, posixpath.dirname(path)):
                try:
                    builder.append(HtmlExtractor().parse(book.read(chapter), chapter))
                except (KeyError, InputError, zipfile.BadZipFile) as error:
                    if "contains no text" not in str(error):
                        missing.append(posixpath.basename(chapter))
        if missing:
            plural = "s" if len(missing) > 1 else ""
            builder.losses.append(
                Loss(f"{len(missing)} chapter{plural} (damaged or missing: {', '.join(missing[:5])})")
            )
        builder.losses = _joined_losses(builder.losses)
        title, meta = _facts(package)
        return builder.document("markdown", title or builder.first_heading(), meta)


def _check_rights(book: zipfile.ZipFile, name: str) -> None:
    """Raise InputError if the chapters are encrypted."""
    if "META-INF/encryption.xml" not in book.namelist():
        return
    methods = _xml(book.read("META-INF/encryption.xml")).iter("{*}EncryptionMethod")
    if any(method.get("Algorithm") not in _FONT_ALGORITHMS for method in methods):
        raise InputError(f"{name}: encrypted with digital rights management (DRM).")


def _package_path(book: zipfile.ZipFile, name: str) -> str:
    try:
        root = next(_xml(book.read("META-INF/container.xml")).iter("{*}rootfile"))
        return str(root.get("full-path"))
    except (KeyError, StopIteration):
        path = next((path for path in book.namelist() if path.endswith(".opf")), None)
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


def _xml(data: bytes) -> Element:
    from lxml import etree

    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
