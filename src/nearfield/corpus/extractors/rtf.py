"""Extractor for RTF: headings, paragraphs, lists and tables in order, with notes, comments, headers and footers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder, markdown_table
from nearfield.corpus.extractors.office.rtf_parser import SKIPPED, RtfEvent, RtfParser
from nearfield.corpus.extractors.office.word_tables import edge_cells, table_parts
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

_BULLETS = "\u2022\u00b7\uf0b7\u25cf\u25cb\u25aa\u25e6\u2023\u2013\u00a7o-"
_BULLET = re.compile(rf"([{_BULLETS}])[\t ]\s*(?=\S)")
#: Groups that have no text of the document, and what is left of a file without them, for the count of words.
_NO_TEXT = re.compile(
    rb"\{\s*\\(?:\*|(?:fonttbl|stylesheet|info|listtext|header[lrf]?|footer[lrf]?|deleted|"
    + "|".join(sorted({*SKIPPED, "sp"})).encode()
    + rb")(?![a-z]))"
)
_CONTROL = re.compile(
    rb"\\u(-?\d+) ?\??|\\'([0-9a-f]{2})|\\(par|tab|line|cell|row|sect|page)\b ?|\\[a-zA-Z]+-?\d* ?|\\.|[{}\r\n]"
)


class RtfExtractor(Extractor):
    """Rich text."""

    suffixes: Mapping[str, str] = {".rtf": "application/rtf"}

    def parse(self, data: bytes, name: str) -> Document:
        """Return the text in document order, without deleted text; headers come first and footers last."""
        start = data.find(b"{\\rtf")
        if not 0 <= start < 1024:
            raise InputError(f"{name}: damaged, or no rich text (it does not begin with {{\\rtf).")
        parser = RtfParser(data[start:])
        writer = _RtfWriter(parser)
        events = list(parser.events())
        for event in events:
            if event.kind.startswith("header"):
                writer.put_page_text(event.text)
        for event in events:
            writer.put(event)
        writer.finish()
        for event in events:
            if event.kind.startswith("footer") and event.kind != "footnote":
                writer.put_page_text(event.text)
        builder = writer.builder
        builder.visible_words = count_plain_words(data[start:])
        for count, reason in ((parser.pictures, "picture"), (parser.objects, "embedded object")):
            if count:
                builder.losses.append(Loss(f"{count} {reason}{'s' * (count > 1)} without a description"))
        title = next((event.text for event in events if event.kind == "title"), "")
        author = next((event.text for event in events if event.kind == "author"), "")
        return builder.document("markdown", title or builder.first_heading(), {"author": author} if author else {})


class _RtfWriter:
    """Adds the events of a file to a document."""

    def __init__(self, parser: RtfParser) -> None:
        self.builder = DocumentBuilder()
        self._parser = parser
        self._lines: list[str] = []
        self._cell: list[str] = []
        self._row: list[str] = []
        self._rows: list[tuple[list[str], tuple[int, ...], tuple[str, ...]]] = []
        #: Notes of the paragraph that is open, and those of blocks that have ended.
        self._pending: list[tuple[str, str]] = []
        self._after: list[tuple[str, str]] = []
        self._author = ""
        self._notes = 0
        self._page_texts: set[str] = set()

    def put(self, event: RtfEvent) -> None:
        """Add a paragraph, a cell or a row, or remember what follows the block."""
        kind = event.kind
        if kind == "cell":
            self._row.append("\n".join([*self._cell, event.text]).strip())
            self._cell = []
            self._end_notes()
        elif kind == "row":
            self._rows.append((self._row, event.edges, event.merged))
            self._row, self._cell = [], []
        elif kind == "nestcell":
            self._cell.append(event.text)
        elif kind in ("par", "sect", "page", "column", "nestrow"):
            if event.in_table and event.kind != "sect":
                self._cell.append(event.text)
            else:
                self._end_table()
                if not self._lines:
                    self._put_after()
                self._put_paragraph(event)
        else:
            self._remember(event)

    def finish(self) -> None:
        """Add what is open: a table, a list, and notes."""
        if self._row or self._cell:
            self._rows.append(([*self._row, *filter(None, self._cell)], (), ()))
        self._end_table()
        self._end_list()
        self._end_notes()
        self._put_after()

    def put_page_text(self, text: str) -> None:
        """Add a header or footer unless it was added before or has a number only."""
        for line in text.split("\n"):
            line = " ".join(line.split())
            if line and line not in self._page_texts and any(map(str.isalpha, line)):
                self._page_texts.add(line)
                self.builder.add(line)

    def _remember(self, event: RtfEvent) -> None:
        text = " ".join(event.text.split())
        if event.kind == "footnote":
            self._notes += 1
            self._pending.append(("paragraph", f"Footnote {self._notes}: {text}"))
        elif event.kind == "atnauthor":
            self._author = text
        elif event.kind == "annotation":
            author, self._author = self._author, ""
            self._pending.append(("quote", f"Comment by {author}: {text}" if author else f"Comment: {text}"))
        elif event.kind == "wzDescription":
            self._pending.append(("paragraph", f"Picture: {text}"))
        elif event.kind in ("shptxt", "dptxbxtext", "gtextUNICODE"):
            self._pending.append(("paragraph", event.text))

    def _put_paragraph(self, event: RtfEvent) -> None:
        text = event.text.strip()
        level = self._heading_level(event)
        bullet = _BULLET.match(text)
        if not text:
            self._end_list_for(event)
        elif level:
            self._end_list()
            label = event.label if event.label.strip(_BULLETS) else ""
            self.builder.heading(f"{label} {text}", level)
        elif event.label or bullet:
            label = event.label if event.label.strip(_BULLETS) else "-"
            text = text[bullet.end() :] if bullet and not event.label else text
            self._lines.append("  " * min(event.level, 8) + f"{label} " + " ".join(text.split()))
            self._end_notes()
            return
        else:
            self._end_list()
            self.builder.add(text)
        self._end_notes()
        if not self._lines:
            self._put_after()

    def _end_notes(self) -> None:
        self._after += self._pending
        self._pending = []

    def _end_list_for(self, event: RtfEvent) -> None:
        if not event.label:
            self._end_list()

    def _heading_level(self, event: RtfEvent) -> int:
        outline = event.outline
        if outline is None:
            outline = self._parser.styles.get(event.style, ("", None))[1] if event.style else None
        return outline + 1 if outline is not None and 0 <= outline < 9 else 0

    def _end_list(self) -> None:
        if self._lines:
            self.builder.add("\n".join(self._lines), "list")
            self._lines = []
            self._put_after()

    def _put_after(self) -> None:
        after, self._after = self._after, []
        for kind, text in after:
            if kind == "quote":
                self.builder.add(text, "quote", markup="> ")
            else:
                self.builder.add(text)

    def _end_table(self) -> None:
        if not self._rows:
            return
        self._end_list()
        rows, self._rows = self._rows, []
        titles, table = table_parts(edge_cells(rows))
        for title in titles:
            self.builder.add(title)
        self.builder.add(markdown_table(table), "table")
        self._put_after()


def count_plain_words(data: bytes) -> int:
    """Return the number of words that are left without control words and groups that have no text."""
    position, parts = 0, []
    while match := _NO_TEXT.search(data, position):
        parts.append(data[position : match.start()])
        depth, at = 1, match.end()
        while depth and at < len(data):
            letter = data[at]
            if letter == 0x5C:
                at += 1
            else:
                depth += (letter == 0x7B) - (letter == 0x7D)
            at += 1
        position = at
    parts.append(data[position:])
    text = _CONTROL.sub(_replaced, b"".join(parts)).decode("utf-8", "replace")
    return count_words(text)


def _replaced(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return chr(int(match[1]) % 65536).encode("utf-8", "replace")
    if match[2] is not None:
        return bytes([int(match[2], 16)]).decode("cp1252", "replace").encode()
    return b" " if match[3] is not None else b""
