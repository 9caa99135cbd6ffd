"""``OcrPageReader``: the text of pictures for extractors, from the cache or recognised, and what could not be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.ocr import SCRIPTS, engine, require_ocr
from nearfield.corpus.extractors.ocr.engine import OcrLine
from nearfield.corpus.extractors.ocr.layout import OcrParagraph, paragraphs
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.recognition_cache import RecognitionCache

#: Version of the layout and of the thresholds: a change makes cached pages invalid.
_VERSION = 2
#: Score of the model below which a line is declared as hard to read, and below which it is left out. On 103 lines of
#: clean, small, blurred and noisy pages, 3 lines below 0.7 had 15% of their words right. All words were right in none
#: of the 23 lines below 0.95, in 2 of 8 from 0.95 to 0.97, and in 94% of 52 from 0.99. Chosen on these lines.
HARD_SCORE, MIN_SCORE = 0.97, 0.7
#: Characters of a word, and width of a character relative to its height, for estimates of words that were not read.
_WORD_LENGTH, _CHARACTER_SHAPE = 6, 0.5
#: Width relative to the height, and score, from which a box without recognised letters counts as a line.
_MIN_SHAPE, _MIN_LINE_SCORE = 2.0, 0.3


class OcrPage(msgspec.Struct, frozen=True):
    """The text of a page.

    ``hard`` lines are in the text, but may be wrong. ``unread`` and ``foreign`` lines are not: their score was too low,
    or the model does not know their script; ``missing_words`` is an estimate of their words.
    """

    paragraphs: list[OcrParagraph] = []
    hard: int = 0
    unread: int = 0
    foreign: int = 0
    missing_words: int = 0

    @property
    def text(self) -> str:
        """The text of all paragraphs."""
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs)


class OcrPageReader:
    """Reads pictures of pages. ``on_page`` is called before each page.

    Raises:
        MissingExtra: the packages of the extra ``ocr`` are missing; ``name`` is the file that needs them.
    """

    def __init__(
        self, options: ExtractionOptions, on_page: Callable[[], None] = lambda: None, *, name: str = ""
    ) -> None:
        require_ocr(name)
        self._on_page = on_page
        self._cache = RecognitionCache(Path(options.ocr_cache) if options.ocr_cache else None)

    def read(self, picture: Any) -> OcrPage:
        """Return the text of a picture: a Pillow image, or an array of rows, columns and RGB."""
        pixels: Array = np.ascontiguousarray(
            picture if isinstance(picture, np.ndarray) else np.asarray(picture.convert("RGB"))
        )
        digest = hashlib.sha256(f"{_VERSION} {engine.identity()} {pixels.shape}".encode())
        digest.update(pixels.data)
        key = digest.hexdigest()
        self._on_page()
        cached = self._cache.get(key)
        if cached is not None:
            try:
                return msgspec.json.decode(cached, type=OcrPage)
            except msgspec.DecodeError:
                pass
        page = page_of(engine.recognise(np.ascontiguousarray(pixels[..., ::-1])))
        self._cache.put(key, msgspec.json.encode(page))
        return page


def page_of(lines: Iterable[OcrLine]) -> OcrPage:
    """Return the page of recognised lines."""
    readable, counts = [], {"hard": 0, "unread": 0, "foreign": 0}
    missing = 0.0
    for line in lines:
        if line.is_foreign or line.score < MIN_SCORE or not line.text:
            if not _is_drawing(line):
                counts["foreign" if line.is_foreign else "unread"] += 1
                missing += line.shape / _CHARACTER_SHAPE / _WORD_LENGTH
            continue
        if line.score < HARD_SCORE and _is_drawing(line):
            continue
        counts["hard"] += line.score < HARD_SCORE
        readable.append(line)
    return OcrPage(paragraphs(readable), **counts, missing_words=round(missing))


def _is_drawing(line: OcrLine) -> bool:
    """Return whether a box without letters is a part of a drawing rather than a line of text."""
    has_letters = any(map(str.isalnum, line.text))
    return not has_letters and (line.shape < _MIN_SHAPE or line.score < _MIN_LINE_SCORE)


def add_page(builder: DocumentBuilder, page: OcrPage, number: int | None) -> None:
    """Add the paragraphs of a page to a document, with the number of the page."""
    for paragraph in page.paragraphs:
        if paragraph.kind == "heading":
            builder.heading(paragraph.text, paragraph.level, page=number, marked=False)
        else:
            builder.add(paragraph.text, paragraph.kind, page=number)


def page_losses(pages: Mapping[int, OcrPage]) -> list[Loss]:
    """Return what could not be read of pages, by their numbers; the number of a single picture is 0."""
    losses = []
    for counter, reason, advice in (
        ("hard", "{} hard to read, with text that may be wrong", "Compare them with the picture."),
        ("unread", "{} that OCR could not read", "A scan with 300 dots per inch or more can help."),
        ("foreign", "{} in a script that OCR does not read", f"It reads {SCRIPTS} script."),
    ):
        numbers = tuple(sorted(number for number, page in pages.items() if getattr(page, counter)))
        count = sum(getattr(pages[number], counter) for number in numbers)
        if not count:
            continue
        words = 0 if counter == "hard" else sum(pages[number].missing_words for number in numbers)
        lines = f"{count:,} line{'s' if count > 1 else ''}"
        losses.append(Loss(reason.format(lines), words, tuple(filter(None, numbers)), advice))
    return losses
