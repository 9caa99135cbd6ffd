"""Annotations of a PDF page: values of form fields, text that was typed on the page, notes, comments and stamps."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from nearfield.corpus.extractors.pdf.segments import PdfSegment
from nearfield.corpus.word_count import count_words

AnnotationKind = Literal["field", "mark", "typed", "stamp", "note"]
#: Flags of annotations that are not shown, and of password fields.
_HIDDEN, _NO_VIEW, _PASSWORD = 1 << 1, 1 << 5, 1 << 13
#: Kinds of annotations that have no text for a reader: links, popups (their text is the parent's), and printers' marks.
_SILENT = frozenset({0, 2, 16, 22, 23})
#: Sounds, films, screens, watermarks, models and other media: their text is only in their drawing.
_DRAWN = frozenset({18, 19, 21, 24, 25, 26})
_WIDGET, _FREE_TEXT, _STAMP = 20, 3, 13
#: Options of a list above which only the selected ones are read.
_MAX_OPTIONS = 20
_BUTTON, _CHECKBOX, _RADIO, _COMBO, _LIST, _TEXT_FIELD, _SIGNATURE = range(1, 8)


@dataclass(frozen=True)
class PageAnnotation:
    """A text that is not part of the page's content, with its box (left, bottom, right, top)."""

    kind: AnnotationKind
    text: str
    box: tuple[float, float, float, float]
    author: str = ""


def read_annotations(page: Any, form: Any) -> list[PageAnnotation]:
    """Return the visible annotations of a page that have a text; ``form`` is PDFium's form environment, or None."""
    from pypdfium2 import raw

    annotations = []
    for number in range(max(0, raw.FPDFPage_GetAnnotCount(page))):
        handle = raw.FPDFPage_GetAnnot(page, number)
        if handle:
            annotation = _AnnotationReader(handle, form).read()
            raw.FPDFPage_CloseAnnot(handle)
            if annotation is not None:
                annotations.append(annotation)
    return annotations


class _AnnotationReader:
    def __init__(self, handle: Any, form: Any) -> None:
        from pypdfium2 import raw

        self._raw, self._handle, self._form = raw, handle, form

    def read(self) -> PageAnnotation | None:
        """Return the annotation; None if it is hidden, or has nothing to read."""
        subtype = self._raw.FPDFAnnot_GetSubtype(self._handle)
        if subtype in _SILENT or self._raw.FPDFAnnot_GetFlags(self._handle) & (_HIDDEN | _NO_VIEW):
            return None
        rect = self._raw.FS_RECTF()
        self._raw.FPDFAnnot_GetRect(self._handle, rect)
        box = (rect.left, min(rect.bottom, rect.top), rect.right, max(rect.bottom, rect.top))
        if subtype == _WIDGET:
            return self._field(box)
        if subtype in _DRAWN:
            return PageAnnotation("field", "", box)
        kind: AnnotationKind = "typed" if subtype == _FREE_TEXT else "stamp" if subtype == _STAMP else "note"
        text = self._string(b"Contents")
        if kind == "stamp" and not text:
            text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self._string(b"Name").removeprefix("SB"))
        return PageAnnotation(kind, _clean(text), box, _clean(self._string(b"T")))

    def _field(self, box: tuple[float, float, float, float]) -> PageAnnotation | None:
        if self._form is None:
            value = self._string(b"V")
            return PageAnnotation("field", _clean(value), box)
        raw, form, handle = self._raw, self._form, self._handle
        kind = raw.FPDFAnnot_GetFormFieldType(form, handle)
        if kind in (_CHECKBOX, _RADIO):
            return PageAnnotation("mark", "[x]" if raw.FPDFAnnot_IsChecked(form, handle) else "[ ]", box)
        if raw.FPDFAnnot_GetFormFieldFlags(form, handle) & _PASSWORD and kind == _TEXT_FIELD:
            return None
        if kind in (_BUTTON, _SIGNATURE):  # their text is only in their drawing
            return PageAnnotation("field", "", box)
        if kind == _LIST:
            return PageAnnotation("field", self._list_options(), box)
        options = [label for label, selected in self._options() if selected] if kind == _COMBO else []
        value = ", ".join(options) or read_wide(raw.FPDFAnnot_GetFormFieldValue, form, handle)
        return PageAnnotation("field", _clean(value), box)

    def _options(self) -> list[tuple[str, bool]]:
        """Return the labels of the options of a list, and whether they are selected."""
        raw, form, handle = self._raw, self._form, self._handle
        return [
            (
                _clean(read_wide(raw.FPDFAnnot_GetOptionLabel, form, handle, at)),
                bool(raw.FPDFAnnot_IsOptionSelected(form, handle, at)),
            )
            for at in range(max(0, raw.FPDFAnnot_GetOptionCount(form, handle)))
        ]

    def _list_options(self) -> str:
        """Return the options of a list that is open: all with marks, or the selected ones of a long list."""
        options = self._options()
        if len(options) > _MAX_OPTIONS:
            return ", ".join(label for label, selected in options if selected)
        return "\n".join(f"[x] {label}" if selected else f"[ ] {label}" for label, selected in options)

    def _string(self, key: bytes) -> str:
        return read_wide(self._raw.FPDFAnnot_GetStringValue, self._handle, key)


def read_wide(function: Any, *arguments: Any) -> str:
    """Return the UTF-16 text that a C function writes into a buffer."""
    size = function(*arguments, None, 0)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    function(*arguments, buffer, size)
    return bytes(buffer)[: size - 2].decode("utf-16-le", "replace")


def _clean(text: str) -> str:
    """Return a text with plain line ends and without control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return re.sub(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]", "", text)


# -- appearance ------------------------------------------------------------------------------------------------------


def draw(page: Any) -> bool:
    """Draw the annotations into the page, which must then be opened again; return whether there was one to draw."""
    from pypdfium2 import raw

    return bool(raw.FPDFPage_Flatten(page, 0) == 1)


def complete(annotations: Sequence[PageAnnotation], text: Any, plain: str) -> list[PageAnnotation]:
    """Return annotations with the texts that only their drawing has, and without those that have no text.

    Stamps and signatures often have no text but their drawing. ``text`` is PDFium's text of the page with the drawings,
    ``plain`` the text of the page without them.
    """
    texts = [_shown(annotation, text, plain) for annotation in annotations]
    return [replace(one, text=text) for one, text in zip(annotations, texts, strict=True) if text]


def _shown(annotation: PageAnnotation, text: Any, plain: str) -> str:
    """Return the text of an annotation; of a field with a number, the number as it is drawn, such as 1,200.00.

    A field whose drawing is older than its value has both: programs show the one or the other.
    """
    is_number = annotation.kind == "field" and re.fullmatch(r"-?\d+(?:[.,]\d+)?", annotation.text)
    if annotation.text and annotation.kind != "field":
        return annotation.text
    drawn = _new_text(text, annotation, plain)
    if annotation.text and not is_number:
        return annotation.text if _has_shared_word(annotation.text, drawn) else f"{annotation.text} {drawn}"
    return drawn if drawn and (not is_number or any(map(str.isdigit, drawn))) else annotation.text


def _has_shared_word(value: str, drawn: str) -> bool:
    """Return whether a drawing shows a part of a value; also if it has no word, or the letters in boxes."""
    words, value_words = (set(re.findall(r"\w+", part.casefold())) for part in (drawn, value))
    letters = "".join(drawn.casefold().split())
    return not words or not words.isdisjoint(value_words) or letters in "".join(value.casefold().split())


def _new_text(text: Any, annotation: PageAnnotation, plain: str) -> str:
    """Return the text in the annotation's box that the page did not have."""
    value = _clean(text.get_text_bounded(*annotation.box, errors="replace"))
    known = " ".join(plain.split())
    return "\n".join(line for line in value.splitlines() if " ".join(line.split()) not in known)


def count_visible(plain: str, drawn: str, annotations: Sequence[PageAnnotation]) -> int:
    """Return the words that a reader of the page sees: those of the drawn page, and of notes, which open on a click."""
    notes = sum(count_words(f"{note.author} {note.text}") for note in annotations if note.kind == "note")
    spaced = sum(_count_spaced(one.text, drawn) for one in annotations if one.kind == "field")
    return max(count_words(plain), count_words(drawn) - spaced) + notes


def _count_spaced(value: str, drawn: str) -> int:
    """Return how many words a value seems to have more because each of its letters has a box."""
    letters = [letter for letter in value if not letter.isspace()]
    if len(letters) < 2 or " ".join(letters) not in " ".join(drawn.split()):
        return 0
    return sum(map(count_words, letters)) - count_words(value)


# -- places ----------------------------------------------------------------------------------------------------------


def place_values(segments: Sequence[PdfSegment], annotations: Sequence[PageAnnotation]) -> list[PdfSegment]:
    """Return the segments of a page with the values of fields, marks and typed texts at their places."""
    placed = list(segments)
    for annotation in annotations:
        if annotation.text and annotation.kind in ("field", "mark", "typed"):
            _place(placed, annotation)
    return placed


def _place(segments: list[PdfSegment], annotation: PageAnnotation) -> None:
    left, bottom, right, top = annotation.box
    lines = annotation.text.split("\n")
    height = max(1.0, (top - bottom) / len(lines))
    middle = top - height / 2
    beside = (top - height, top) if len(lines) == 1 else (bottom, top)
    row = [at for at, one in enumerate(segments) if one.upright and _is_beside(one, beside)]
    before = max((at for at in row if segments[at].left < left + 1), key=lambda at: segments[at].left, default=None)
    after = min((at for at in row if segments[at].left >= left + 1), key=lambda at: segments[at].left, default=None)
    sizes = [one.size for one in segments]
    size = min(height * 0.8, median(sizes) if sizes else 10.0)
    if annotation.kind == "mark" and after is not None:
        label = segments[after]
        if before is None or label.left - right <= left - segments[before].right + 1 or segments[before].text == "[ ]":
            segments[after] = replace(label, text=f"{annotation.text} {label.text}", left=left)
            return
    number, at, base = _neighbour(segments, before, after, top, middle - size / 2)
    for offset, text in enumerate(lines):
        line = number if number is not None else -1 - len(segments)
        line = line if not offset else -1 - len(segments)
        place = PdfSegment(text, left, right, base - offset * height, size, line, is_value=True)
        segments.insert(at + offset, place)


def _is_beside(segment: PdfSegment, span: tuple[float, float]) -> bool:
    """Return whether a segment is at the height of a span."""
    overlap = min(segment.top, span[1]) - max(segment.bottom, span[0])
    return overlap >= 0.4 * min(segment.size, span[1] - span[0])


def _neighbour(
    segments: Sequence[PdfSegment], before: int | None, after: int | None, top: float, bottom: float
) -> tuple[int | None, int, float]:
    """Return the line for a value, its index and its baseline: after its label, before the next one, or below."""
    if before is not None:
        return segments[before].line, before + 1, segments[before].bottom
    if after is not None:
        return segments[after].line, after, segments[after].bottom
    above = [at for at, one in enumerate(segments) if one.upright and one.bottom >= top - 2]
    lowest = min(above, key=lambda at: (segments[at].bottom, -at), default=None)
    return None, len(segments) if lowest is None and not segments else (lowest + 1 if lowest is not None else 0), bottom


@dataclass(frozen=True)
class PdfNote:
    """The text of a note, comment or stamp, and its height on the page."""

    text: str
    height: float


def read_notes(annotations: Sequence[PageAnnotation]) -> Iterator[PdfNote]:
    """Yield the notes, comments and stamps."""
    for annotation in annotations:
        height = (annotation.box[1] + annotation.box[3]) / 2
        if not annotation.text:
            continue
        if annotation.kind == "stamp":
            yield PdfNote(f"Stamp: {annotation.text}", height)
        elif annotation.kind == "note":
            author = f" by {annotation.author}" if annotation.author else ""
            yield PdfNote(f"Note{author}: {annotation.text}", height)
