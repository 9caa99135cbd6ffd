"""Extractor for DOC (Word 97 to 2003): the text in document order, with numbers of lists, tables and notes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.office.numbering import Numbering
from nearfield.corpus.extractors.office.word_records import ParagraphProperties, WordRecords
from nearfield.corpus.extractors.office.word_tables import edge_cells, table_parts
from nearfield.errors import InputError

_END = re.compile("[\r\x07\x0c]")
#: A field without fields in it: its code, and its result; the start of one that goes on in the next paragraph.
_FIELD = re.compile("\x13[^\x13\x14\x15]*(?:\x14([^\x13\x14\x15]*))?\x15")
_FIELD_START = re.compile("\x13[^\x13\x14\x15]*(?:\x14|$)")
_LETTERS = str.maketrans({"\x0b": "\n", "\x0e": "\n", "\x1e": "-", "\x1f": None, "\x15": None, "\x14": None})
_SPECIAL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PICTURES = re.compile("[\x01\x08]")


class DocExtractor(Extractor):
    """Documents of Word 97 to 2003."""

    suffixes: Mapping[str, str] = {".doc": "application/msword", ".dot": "application/msword"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, without deleted text; headers and footers come last."""
        import olefile

        file = olefile.OleFileIO(io.BytesIO(data))
        if not file.exists("WordDocument"):
            raise InputError(f"{name}: damaged, or no Word document (its text is missing).")
        tables = tuple(_stream(file, part) for part in ("0Table", "1Table"))
        records = WordRecords(_stream(file, "WordDocument"), (tables[0], tables[1]), name)
        writer = _DocWriter(records)
        writer.put_all()
        builder = writer.builder
        builder.see(_plain(writer.text))
        if writer.pictures:
            count = writer.pictures
            builder.losses.append(Loss(f"{count} picture{'s' * (count > 1)} or drawn object{'s' * (count > 1)}"))
        facts = file.get_metadata()
        title, author = (_fact(value, facts.codepage) for value in (facts.title, facts.author))
        return builder.document("markdown", title or builder.first_heading(), {"author": author} if author else {})


def _stream(file: Any, name: str) -> bytes:
    return bytes(file.openstream(name).read()) if file.exists(name) else b""


def _fact(value: bytes | None, code_page: int | None) -> str:
    """Return a fact of the document's summary in its encoding."""
    encoding = "utf-8" if code_page in (65001, -535) else f"cp{code_page}" if code_page else "cp1252"
    try:
        return (value or b"").decode(encoding, "replace").strip("\0 ")
    except LookupError:
        return (value or b"").decode("cp1252", "replace").strip("\0 ")


class _DocWriter:
    """Adds paragraphs, lists, tables and notes to a document."""

    def __init__(self, records: WordRecords) -> None:
        self.builder = DocumentBuilder()
        self.pictures = 0
        self._records = records
        self.text = records.without_deleted(records.text())
        self._numbering = Numbering(None, None)
        for use, identity, levels in records.lists():
            self._numbering.add_list(str(use), str(identity), levels)
        self._lines: list[str] = []
        self._cell: list[str] = []
        self._row: list[str] = []
        self._rows: list[tuple[list[str], tuple[int, ...], tuple[str, ...]]] = []
        self._notes = self._read_notes()

    def put_all(self) -> None:
        """Add the text of the document, then that of headers, footers and boxes."""
        main, footnotes, headers, macros, comments, endnotes, boxes, header_boxes = self._records.sizes
        at = 0
        while at < main:
            match = _END.search(self.text, at, main)
            end = match.start() if match else main
            self._put(at, end)
            at = end + 1
        self._end_table()
        self._end_list()
        self._put_notes(main)
        start = main + footnotes
        after = start + headers + macros + comments + endnotes
        seen: set[str] = set()
        for first, size in ((after, boxes), (start, headers), (after + boxes, header_boxes)):
            for line in _clean(self.text[first : first + size]).split("\n"):
                line = " ".join(line.split())
                if line not in seen and any(map(str.isalpha, line)):
                    seen.add(line)
                    self.builder.add(line)

    def _put(self, start: int, end: int) -> None:
        """Add the paragraph from a place up to its end, or take it as a part of a table."""
        properties = self._records.properties(end)
        raw = self.text[start:end]
        self.pictures += len(_PICTURES.findall(_results(raw)))
        text = _clean(raw).strip()
        ends_cell = end < len(self.text) and self.text[end] == "\x07"
        if ends_cell and properties.ends_row:
            self._rows.append((self._row, properties.edges, properties.merged))
            self._row = []
        elif ends_cell or properties.in_table:
            label = self._label(properties)
            self._cell.append(f"{label} {text}" if label and text else text)
            if ends_cell:
                self._row.append("\n".join(filter(None, self._cell)))
                self._cell = []
        else:
            self._end_table()
            self._put_paragraph(text, properties)
            if not self._lines:
                self._put_notes(end)

    def _label(self, properties: ParagraphProperties) -> str:
        if not properties.list_use or properties.list_use > 0x7FFF:
            return ""
        return self._numbering.number_at(str(properties.list_use), properties.level).label

    def _put_paragraph(self, text: str, properties: ParagraphProperties) -> None:
        level = self._records.levels.get(properties.style, 0)
        if properties.outline is not None and properties.outline < 9:
            level = properties.outline + 1
        label = self._label(properties)
        if not text:
            if not label:
                self._end_list()
        elif level:
            self._end_list()
            self.builder.heading(f"{'' if label == '-' else label} {text}", level)
        elif label:
            self._lines.append("  " * properties.level + f"{label} " + " ".join(text.split()))
        else:
            self._end_list()
            self.builder.add(text)

    def _end_list(self) -> None:
        if self._lines:
            self.builder.add("\n".join(self._lines), "list")
            self._lines = []

    def _end_table(self) -> None:
        if self._row:
            self._rows.append((self._row, (), ()))
            self._row = []
        if self._rows:
            self._end_list()
            rows, self._rows = self._rows, []
            titles, table = table_parts(edge_cells(rows))
            for title in titles:
                self.builder.add(title)
            self.builder.add(markdown_table(table), "table")

    def _read_notes(self) -> list[tuple[int, str, str]]:
        """Return the place of reference, the kind and the text of all notes, in order."""
        sizes = self._records.sizes
        starts = {"footnote": sizes[0], "comment": sum(sizes[:4]), "endnote": sum(sizes[:5])}
        names = {"footnote": "Footnote", "comment": "Comment", "endnote": "Endnote"}
        notes = []
        for kind, start in starts.items():
            for number, (place, first, last) in enumerate(self._records.notes(kind), 1):
                text = " ".join(_clean(self.text[start + first : start + last]).split())
                label = names[kind] if kind == "comment" else f"{names[kind]} {number}"
                if text:
                    notes.append((place, kind, f"{label}: {text}"))
        return sorted(notes)

    def _put_notes(self, end: int) -> None:
        while self._notes and self._notes[0][0] <= end:
            _, kind, text = self._notes.pop(0)
            if kind == "comment":
                self.builder.add(text, "quote", markup="> ")
            else:
                self.builder.add(text)


def _clean(text: str) -> str:
    """Return a text without codes of fields and special characters."""
    text = _results(text)
    text = re.sub("[\r\x07\x0c]", "\n", text)
    text = _SPECIAL.sub("", text.translate(_LETTERS))
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _results(text: str) -> str:
    """Return a text with the results of its fields only."""
    before = ""
    while before != text:  # fields in fields
        before, text = text, _FIELD.sub(lambda match: match[1] or "", text)
    return _FIELD_START.sub("", text)


def _plain(text: str) -> str:
    """Return all text of the file for the count of words, without codes of fields."""
    return _SPECIAL.sub("", re.sub("\x13[^\x14\x15]*", "", re.sub("[\x07\x0b-\x0e\r]", " ", text)))
