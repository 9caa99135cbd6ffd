"""Build a document's text block by block, for files that are not text themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nearfield.corpus.document import Block, BlockKind, Document, Form, Loss, MissingText
from nearfield.corpus.word_count import MAX_MISSING, count_words, missing_words
from nearfield.stores.filters import Value


class DocumentBuilder:
    """Blocks with blank lines between them. Markup is put before its block, not into it.

    An extractor calls ``see`` with what a reader sees, or sets ``visible_words``, and appends to ``losses``, which
    become those of the document. ``page_unit`` is what the numbers of pages count.
    """

    def __init__(self, *, page_unit: str = "page") -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self.losses: list[Loss] = []
        self.visible_words: int | None = None
        self.missing: list[MissingText] = []
        self._seen: list[str] = []
        self.page_unit = page_unit

    def __len__(self) -> int:
        return self._length

    def add(
        self,
        text: str,
        kind: BlockKind = "paragraph",
        *,
        page: int | None = None,
        markup: str = "",
        times: tuple[float, float] | None = None,
    ) -> None:
        """Add a block after ``markup``, said in the seconds ``times``; one without text is left out."""
        text = text.strip("\n").rstrip()
        start_time, end_time = times or (None, None)
        if text:
            self._put(text, Block(0, 0, kind, page=page, start_time=start_time, end_time=end_time), markup)

    def heading(self, text: str, level: int, *, page: int | None = None, marked: bool = True) -> None:
        """Add a heading on one line, ``marked`` as in Markdown."""
        text, level = " ".join(text.split()), min(max(level, 1), 6)
        if text:
            self._put(text, Block(0, 0, "heading", level, page), "#" * level + " " if marked else "")

    def see(self, text: str) -> None:
        """Count the words of a text that a reader sees; those that the document lacks will be named."""
        self.visible_words = (self.visible_words or 0) + count_words(text)
        self._seen.append(text)

    def append(self, document: Document, *, levels: int = 0) -> None:
        """Add another document with its blocks, losses and visible words; its headings are ``levels`` deeper."""
        self.losses += document.losses
        self.missing += document.missing
        text = document.text.rstrip()
        if not text.strip():
            return
        before = "\n\n" if self._parts else ""
        start = self._length + len(before)
        self._parts += [before, text]
        self._length = start + len(text)
        for block in document.blocks:
            level = min(block.level + levels, 6) if block.level else 0
            self._blocks.append(replace(block, start=start + block.start, end=start + block.end, level=level))
        words = count_words(text) if document.visible_words is None else document.visible_words
        self.visible_words = (self.visible_words or 0) + words

    def _put(self, text: str, block: Block, markup: str) -> None:
        before = ("\n\n" if self._parts else "") + markup
        start = self._length + len(before)
        self._parts += [before, text]
        self._length = start + len(text)
        self._blocks.append(replace(block, start=start, end=self._length))

    def document(self, form: Form, title: str = "", meta: Mapping[str, Value] | None = None) -> Document:
        """Return the document of all blocks."""
        title = " ".join(title.split())
        text = "".join(self._parts)
        self.missing += map(MissingText, missing_words(" ".join(self._seen), text))
        return Document(
            text,
            tuple(self._blocks),
            title,
            form,
            meta=dict(meta or {}),
            visible_words=self.visible_words,
            missing=tuple(self.missing[:MAX_MISSING]),
            losses=tuple(self.losses),
            page_unit=self.page_unit,
        )

    def first_heading(self) -> str:
        """Return the text of the first heading, or nothing."""
        heading = next((block for block in self._blocks if block.kind == "heading"), None)
        return "".join(self._parts)[heading.start : heading.end] if heading else ""


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table with its head in the first row; empty rows are left out."""
    cells = [[_cell(cell) for cell in row] for row in rows if any(cell.strip() for cell in row)]
    width = max(map(len, cells), default=0)
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in cells]
    return "\n".join([*lines[:1], "|" + " --- |" * width, *lines[1:]]) if lines else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
