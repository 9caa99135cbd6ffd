"""The pages of a PDF file as PDFium reads them: text, form values and annotations, and pages that cannot be read."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nearfield.corpus.extractors.pdf.annotations import (
    PdfNote,
    complete,
    count_visible,
    draw,
    place_values,
    read_annotations,
    read_notes,
)
from nearfield.corpus.extractors.pdf.plausibility import damage
from nearfield.corpus.extractors.pdf.segments import HYPHEN, PdfSegment, read_segments
from nearfield.corpus.extractors.pdf.structure import read_alternatives
from nearfield.corpus.word_count import count_words, missing_words
from nearfield.errors import InputError

#: Variables with passwords to try, separated by commas, and with the path of a file of passwords, one per line.
PASSWORDS, PASSWORD_FILE = "NEARFIELD_PDF_PASSWORDS", "NEARFIELD_PDF_PASSWORD_FILE"
#: Words of a page below which its pictures are looked at, and the share of the page from which a picture is a scan.
_FEW_WORDS, _SCAN = 20, 0.5
#: Drawn shapes of a page without text from which they may be letters.
_MANY_SHAPES = 40
#: Words of a scan below which its texts are looked at, and the number and share of texts that have no characters from
#: which a font has none; the number on a page without any character.
_MEDIUM_WORDS, _MANY_EMPTY, _EMPTY, _SOME_EMPTY = 200, 20, 0.3, 3
_LINE_BREAK = re.compile(rf"(?<=\w)(?:[{HYPHEN}\ufffe\u00ad]\s*|-\s*\n\s*)(?=\w)")

#: Letters of a word without a character: each is a word that is not read.
_UNKNOWN = re.compile("(?<=\\w)[\ue000-\uefff\ufffd]+|[\ue000-\uefff\ufffd]+(?=\\w)")

#: Text that can be read; a scan, or drawn letters; nothing at all; a page that PDFium cannot read.
PageState = Literal["text", "picture", "blank", "unreadable"]


@dataclass(frozen=True)
class PdfPage:
    """A page: its segments in the order of the file, notes, the words that a reader sees.

    ``number`` counts from 1. ``damage`` says what is wrong with its text; empty if it is plausible. ``missing`` are
    some of the words that the segments lack.
    """

    number: int
    state: PageState
    segments: tuple[PdfSegment, ...] = ()
    notes: tuple[PdfNote, ...] = ()
    words: int = 0
    damage: str = ""
    missing: tuple[str, ...] = ()

    @property
    def needs_ocr(self) -> bool:
        """Whether its text can only be recognised from its picture. Pages with ``damage`` may be recognised too."""
        return self.state == "picture"


def open_pdf(data: bytes, name: str) -> Any:
    """Open a PDF, with the first of the known passwords that fits.

    Raises:
        InputError: the file has another password, or is damaged.
    """
    from pypdfium2 import PdfDocument, PdfiumError

    # It reports forms that only Adobe's programs show; the document's losses name them.
    logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)
    passwords = ["", *known_passwords()]
    for password in passwords:
        try:
            return PdfDocument(data, password=password or None)
        except PdfiumError as error:
            if "assword" not in str(error):
                raise InputError(f"{name}: damaged, or not a PDF file.") from error
    tried = f" {len(passwords) - 1} passwords were tried." if len(passwords) > 1 else ""
    raise InputError(
        f"{name}: encrypted with a password.{tried} Save it without one, or set {PASSWORDS} or {PASSWORD_FILE}."
    )


def known_passwords() -> list[str]:
    """Return the passwords to try, from the environment and from the file of passwords.

    Raises:
        InputError: the file of passwords cannot be read.
    """
    passwords = os.environ.get(PASSWORDS, "").split(",")
    path = os.environ.get(PASSWORD_FILE, "")
    if path:
        try:
            passwords += Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{PASSWORD_FILE}: {path} cannot be read.") from error
    return [password for password in dict.fromkeys(passwords) if password]


def read_pages(file: Any) -> Iterator[PdfPage]:
    """Yield the pages of a file; those that PDFium cannot read are ``unreadable``."""
    form = _form(file)
    for index in range(len(file)):
        try:
            yield _read_page(file, index, form)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - one damaged page must not cost the others
            yield PdfPage(index + 1, "unreadable")


def _form(file: Any) -> Any:
    """Return PDFium's environment for forms; None if the file has no form."""
    from pypdfium2 import PdfiumError

    try:
        file.init_forms()
    except PdfiumError:
        return None
    return file.formenv


def _read_page(file: Any, index: int, form: Any) -> PdfPage:
    with closing(file[index]) as page:
        with closing(page.get_textpage()) as text:
            content = read_segments(text)
            plain = drawn = text.get_text_bounded(errors="replace")
            own = "\n".join(segment.text for segment in content.segments)
            is_scan = count_words(own) < _MEDIUM_WORDS and _is_picture(page, bool(own.strip()))
            hollow = _count_hollow(page, text, own) if is_scan or not own.strip() else 0
        annotations = read_annotations(page, form)
        alternatives = read_alternatives(page, plain)
        is_picture = is_scan and count_words(own) < _FEW_WORDS
        has_drawings = bool(annotations) and draw(page)
    if has_drawings:
        with closing(file[index]) as page, closing(page.get_textpage()) as text:
            annotations = complete(annotations, text, plain)
            drawn = text.get_text_bounded(errors="replace")
    state: PageState = "picture" if is_picture else "text" if own.strip() else "blank"
    segments = tuple(place_values(content.segments, annotations))
    words = max(0, count_visible(_joined(plain), _joined(drawn), annotations) - content.surplus)
    words += len(_UNKNOWN.findall(own))
    broken = damage(own, content.letters + hollow, content.unmapped + hollow, content.doubtful)
    missing = _missing(plain, drawn, segments, words)
    words += sum(count_words(note.text) for note in alternatives)
    notes = (*read_notes(annotations), *alternatives)
    return PdfPage(index + 1, state, segments, notes, words, broken, missing)


def _missing(plain: str, drawn: str, segments: Sequence[PdfSegment], words: int) -> tuple[str, ...]:
    """Return some of the words of a page that its segments lack."""
    text = _joined("\n".join(segment.text for segment in segments))
    if count_words(text) >= words:
        return ()
    return missing_words(max(_joined(plain), _joined(drawn), key=count_words), text)


def _joined(text: str) -> str:
    """Return a text with the words joined that are broken at the end of a line, so that they are counted once."""
    return _LINE_BREAK.sub("", text)


def _is_picture(page: Any, has_text: bool) -> bool:
    """Return whether a page is a scan, or drawn shapes without any text."""
    from pypdfium2 import raw

    area = max(1.0, float(page.get_width() * page.get_height()))
    largest, shapes = 0.0, 0
    for item in page.get_objects(max_depth=4):
        if item.type == raw.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = item.get_bounds()
            largest = max(largest, (right - left) * (top - bottom) / area)
        shapes += item.type == raw.FPDF_PAGEOBJ_PATH
    if has_text:
        return largest >= _SCAN
    return largest > 0 or shapes >= _MANY_SHAPES


def _count_hollow(page: Any, text: Any, own: str) -> int:
    """Return the number of texts in which PDFium finds no character, as with Chinese fonts that are not embedded.

    It is 0 if there are few: texts that are empty are harmless.
    """
    from pypdfium2 import raw

    items = list(page.get_objects(filter=(raw.FPDF_PAGEOBJ_TEXT,), max_depth=4))
    hollow = [item for item in items if raw.FPDFTextObj_GetText(item, text, None, 0) <= 2]  # with the final zero
    foreign = sum(1 for item in hollow if raw.FPDFFont_GetIsEmbedded(raw.FPDFTextObj_GetFont(item)) == 0)
    least = max(_MANY_EMPTY, _EMPTY * len(items)) if own.strip() else _SOME_EMPTY
    return foreign if foreign >= least else 0


def metadata(file: Any) -> dict[str, str]:
    """Return title and author, without what cannot be decoded."""
    values = {}
    for key in ("Title", "Author"):
        try:
            value = file.get_metadata_value(key)
        except Exception:  # noqa: BLE001 - text in an encoding that is not valid
            value = ""
        values[key] = " ".join(str(value).replace("\0", " ").replace("\ufeff", "").split())
    return values


def attachments(file: Any) -> int:
    """Return the number of attached files."""
    from pypdfium2 import raw

    return max(0, int(raw.FPDFDoc_GetAttachmentCount(file)))


def page_numbers(pages: Sequence[PdfPage]) -> tuple[int, ...]:
    """Return the numbers of pages."""
    return tuple(page.number for page in pages)
