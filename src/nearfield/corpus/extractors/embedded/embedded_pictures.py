"""The pictures that Office files and books embed, as bytes with their places: for features that read pictures."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from nearfield.corpus.extractors.embedded.picture_texts import MAX_PICTURE_BYTES, MAX_PICTURES, PICTURE_SUFFIXES
from nearfield.corpus.extractors.office.odf_package import OdfPackage
from nearfield.corpus.extractors.office.package import OfficePackage, attribute, descendants, local_name
from nearfield.corpus.extractors.zip_safety import ArchiveFiles
from nearfield.errors import InputError

#: Parts of a Word file beside its text that may have pictures.
_WORD_PARTS = ("header", "footer", "footnotes", "endnotes")
#: By extractor of OpenDocument files: the kind of the body, its pages, and what a page is.
_OPEN_DOCUMENT = {"odt": ("text", "", "page"), "odp": ("presentation", "page", "slide")}
_OPEN_DOCUMENT |= {"ods": ("spreadsheet", "table", "sheet")}
_UNITS = {"pptx": "slide", "xlsx": "sheet"}
#: Extractors of the files whose pictures are listed.
WITH_PICTURES = ("docx", "pptx", "xlsx", *_OPEN_DOCUMENT, "epub")


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture in a document: the name of its file there, its bytes, and its slide or sheet, from 1, if it has one."""

    name: str
    data: bytes
    page: int | None = None
    page_unit: str = "page"


def embedded_pictures(data: bytes, name: str, kind: str) -> Iterator[EmbeddedPicture]:
    """Yield the pictures of a document in the order of its pages, each once for each page.

    Those of more than 64 MiB, and those after the first 1,000, are left out; drawings such as EMF and SVG are no
    pictures here.

    Args:
        data: the bytes of the document.
        name: its name, for messages.
        kind: the name of its extractor, one of ``WITH_PICTURES``.

    Raises:
        InputError: the file is damaged, encrypted or of another kind.
    """
    if kind in _OPEN_DOCUMENT:
        pictures = _of_open_document(data, name, kind)
    elif kind == "epub":
        pictures = _of_book(data, name)
    elif kind in WITH_PICTURES:
        pictures = _of_package(data, name, kind)
    else:
        raise InputError(f"{name}: pictures are listed of {', '.join(WITH_PICTURES)}, not of {kind}.")
    seen: set[tuple[str, int | None]] = set()
    for picture in pictures:
        if len(seen) >= MAX_PICTURES:
            return
        if picture.data and (picture.name, picture.page) not in seen:
            seen.add((picture.name, picture.page))
            yield picture


def _is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in PICTURE_SUFFIXES


def _of_package(data: bytes, name: str, kind: str) -> Iterator[EmbeddedPicture]:
    package = OfficePackage(data, name)
    places = {"docx": _word_places, "pptx": _slide_places, "xlsx": _sheet_places}[kind](package)
    for part, page in places:
        for target in package.related(part, "image"):
            if _is_picture(target) and package.size(target) <= MAX_PICTURE_BYTES:
                yield EmbeddedPicture(target, package.read(target), page, _UNITS.get(kind, "page"))


def _word_places(package: OfficePackage) -> Iterator[tuple[str, int | None]]:
    main = package.main()
    yield from ((part, None) for part in (main, *package.related(main, *_WORD_PARTS)))


def _slide_places(package: OfficePackage) -> Iterator[tuple[str, int | None]]:
    main = package.main()
    links = package.relationships(main)
    slides = next(descendants(package.main_tree(), "sldIdLst"), ())
    for number, slide in enumerate(slides, 1):
        ids = [value for key, value in slide.attrib.items() if key.startswith("{")]
        if ids and ids[0] in links:
            yield links[ids[0]].target, number


def _sheet_places(package: OfficePackage) -> Iterator[tuple[str, int | None]]:
    links = package.relationships(package.main())
    for number, sheet in enumerate(next(descendants(package.main_tree(), "sheets"), ()), 1):
        link = links.get(attribute(sheet, "id"))
        for drawing in package.related(link.target, "drawing") if link is not None else ():
            yield drawing, number


def _of_open_document(data: bytes, name: str, kind: str) -> Iterator[EmbeddedPicture]:
    package = OdfPackage(data, name)
    body_kind, page_name, unit = _OPEN_DOCUMENT[kind]
    body = package.body(body_kind)
    pages = [child for child in body if local_name(child) == page_name] if page_name else [body]
    for number, page in enumerate(pages, 1):
        for count, image in enumerate(descendants(page, "image"), 1):
            target, content = package.picture(image)
            if _is_picture(target):
                # Those of a flat file have no names.
                shown = target if attribute(image, "href") else f"{count}-{target}"
                yield EmbeddedPicture(shown, content, number if page_name else None, unit)


def _of_book(data: bytes, name: str) -> Iterator[EmbeddedPicture]:
    book = ArchiveFiles(data, name)
    for path in sorted(book.names):
        if _is_picture(path) and book.size(path) <= MAX_PICTURE_BYTES:
            yield EmbeddedPicture(path, book.read(path))
