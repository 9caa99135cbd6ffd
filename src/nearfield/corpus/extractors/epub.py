"""Extractor for EPUB books: their chapters in reading order, each one read as a page of HTML."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.embedded.picture_texts import MAX_PICTURE_BYTES, PictureTexts
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.zip_safety import ArchiveFiles
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: An element of lxml, which has no types.
Element = Any
_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
#: Words of a page beside a table of contents that are only its title.
_TITLE_WORDS = 4
_DRAWING = "image/svg+xml"
_LINK = re.compile(rb"""href\s*=\s*["']([^"'#]+)""", re.IGNORECASE)
#: Algorithms that hide fonts only: the text of the book is not encrypted.
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


class EpubExtractor(Extractor):
    """EPUB books."""

    uses_ocr = True

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
        manifest = BookManifest.from_package(package, posixpath.dirname(path))
        pictures, missing, read = PictureTexts(self), list[str](), 0
        for chapter in (*manifest.chapters, *_linked(book, manifest)):
            if not _put_chapter(builder, book, chapter, manifest):
                missing.append(posixpath.basename(chapter))
            read += _put_pictures(builder, book, chapter, pictures) if self.options.ocr else 0
        if manifest.unread:
            count = len(manifest.unread)
            reason = f"{count} chapter{'s' * (count > 1)} of another type ({', '.join(manifest.unread[:5])})"
            builder.losses.append(Loss(reason))
        if missing:
            plural = "s" if len(missing) > 1 else ""
            reason = f"{len(missing)} chapter{plural} (damaged or missing: {', '.join(missing[:5])})"
            builder.losses.append(Loss(reason))
        if path in book.damaged:
            builder.losses.append(Loss("the end of the list of chapters, which is damaged"))
        builder.losses = [*_joined_losses(builder.losses, read), *pictures.losses()]
        title, meta = _facts(package)
        return builder.document("markdown", title or builder.first_heading(), meta)


@dataclass
class BookManifest:
    """The chapters of a book in reading order, the media types of all its pages, and its tables of contents.

    ``unread`` are the names of chapters of types that are not read.
    """

    chapters: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    contents: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    @classmethod
    def from_package(cls, package: Element, folder: str) -> BookManifest:
        """Return the manifest of a package document in a folder."""
        items = {item.get("id"): item for item in package.iter("{*}item")}
        manifest = cls()
        for item in items.values():
            path = _path(folder, item)
            manifest.types[path] = item.get("media-type") or ""
            if "nav" in (item.get("properties") or "").split():
                manifest.contents.add(path)
        for reference in package.iter("{*}itemref"):
            manifest._add_chapter(_readable(items, reference.get("idref")), folder)
        return manifest

    def _add_chapter(self, item: Element | None, folder: str) -> None:
        if item is None:
            return
        path = _path(folder, item)
        known = self.types[path] in (*_CHAPTERS, _DRAWING)
        (self.chapters if known else self.unread).append(path if known else posixpath.basename(path))


def _readable(items: Mapping[str, Element], identity: str) -> Element | None:
    """Return an item, or the first of its fallbacks that can be read."""
    first = item = items.get(identity)
    for _ in range(len(items)):
        if item is None or item.get("media-type") in (*_CHAPTERS, _DRAWING):
            break
        item = items.get(item.get("fallback"))
    return first if item is None else item


def _path(folder: str, item: Element) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(item.get("href") or "")))


def _linked(book: ArchiveFiles, manifest: BookManifest) -> Iterator[str]:
    """Yield the pages that chapters link to, such as notes, and that are not in the reading order."""
    seen = {*manifest.chapters, *manifest.contents}
    waiting = list(manifest.chapters)
    while waiting:
        page = waiting.pop(0)
        for link in _LINK.findall(book.read(page)) if page in book.names else ():
            name = unquote(link.decode("utf-8", "replace"))
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), name))
            if target not in seen and manifest.types.get(target) in _CHAPTERS:
                seen.add(target)
                waiting.append(target)
                yield target


def _put_chapter(builder: DocumentBuilder, book: ArchiveFiles, chapter: str, manifest: BookManifest) -> bool:
    """Add a chapter, or what can be read of it; return whether it is whole."""
    data = book.read(chapter)
    if manifest.types.get(chapter) == _DRAWING:
        text = "\n".join(_drawn_texts(data))
        builder.see(text)
        builder.add(text)
        return chapter not in book.damaged and chapter in book.names
    try:
        document = HtmlExtractor().parse(_without_contents(data) if chapter in manifest.contents else data, chapter)
        if chapter not in manifest.contents or count_words(document.text) > _TITLE_WORDS:
            builder.append(document)
    except InputError as error:  # one with pictures alone has nothing to add
        return chapter not in book.damaged and chapter in book.names and "contains no text" in str(error)
    return chapter not in book.damaged


def _put_pictures(builder: DocumentBuilder, book: ArchiveFiles, chapter: str, pictures: PictureTexts) -> int:
    """Add the texts of a chapter's pictures; return how many of these have no description."""
    read = 0
    for link, is_described in _picture_links(book.read(chapter)):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(chapter), unquote(link)))
        data = b"" if book.size(name) > MAX_PICTURE_BYTES else book.read(name)
        read += int(pictures.put(builder, data, name) and not is_described)
    return read


def _picture_links(data: bytes) -> Iterator[tuple[str, bool]]:
    """Yield the links of a page's pictures, and whether each has a description."""
    root = _xml(data)
    for item in root.iter("{*}img", "{*}image") if root is not None else ():
        links = (str(value) for key, value in item.attrib.items() if key.rpartition("}")[2] in ("src", "href"))
        link = next(links, "")
        if link and not link.startswith("data:"):
            yield link, bool((item.get("alt") or "").strip())


def _drawn_texts(data: bytes) -> Sequence[str]:
    """Return the texts of a drawing (SVG)."""
    root = _xml(data)
    texts = () if root is None else root.iter("{*}title", "{*}desc", "{*}text")
    return list(filter(None, (" ".join("".join(item.itertext()).split()) for item in texts)))


def _without_contents(data: bytes) -> bytes:
    """Return a page without its tables of contents: the chapters have these headings."""
    from lxml import etree

    root = _xml(data)
    if root is None:
        return data
    etree.strip_elements(root, "{*}nav", with_tail=False)
    return bytes(etree.tostring(root, encoding="utf-8", xml_declaration=True))


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


def _joined_losses(losses: list[Loss], read: int) -> list[Loss]:
    """Return the losses of all chapters; pictures without a description are counted together, but those ``read``."""
    pictures = [loss for loss in losses if loss.reason.endswith("without a description")]
    count = sum(int(loss.reason.split()[0]) for loss in pictures if loss.reason.split()[0].isdigit()) - read
    others = [loss for loss in losses if loss not in pictures]
    plural = "s" if count > 1 else ""
    return [*others, Loss(f"{count} picture{plural} without a description")] if count > 0 else others


def _xml(data: bytes) -> Element | None:
    """Return the root element of XML as far as it can be read; None without any."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    return etree.fromstring(data, parser) if data.strip() else None
