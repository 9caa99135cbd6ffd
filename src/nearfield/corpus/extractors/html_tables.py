"""Tables of HTML pages as Markdown: merged cells are filled, the rows of a head are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearfield.corpus.document import BlockKind
from nearfield.corpus.extractors.document_builder import markdown_table

#: Maximum number of columns and rows that a merged cell covers, and of cells that merged cells are repeated in.
_MAX_COLUMNS, _MAX_ROWS, _MAX_REPEATED = 100, 1000, 20_000
_ITEM = re.compile(r"^\s*(?:-|\d+\.) ", re.MULTILINE)
_FENCE = re.compile(r"^(?:```|~~~~).*$", re.MULTILINE)


@dataclass
class HtmlBlock:
    """A block of a page; ``level`` is that of a heading."""

    kind: BlockKind
    text: str
    level: int = 0


@dataclass(frozen=True)
class TableCell:
    """A cell: its blocks, its attributes, and whether it is a head of a row or column."""

    blocks: Sequence[HtmlBlock]
    attributes: Mapping[str, str]
    is_head: bool = False


def table_text(rows: Sequence[Sequence[TableCell]]) -> str:
    """Return the rows of a table as Markdown, with the head in the first row."""
    texts = _filled(rows)
    heads = 0
    while heads < len(rows) and rows[heads] and all(cell.is_head for cell in rows[heads]):
        heads += 1
    if 1 < heads < len(rows):
        width = max(len(row) for row in texts[:heads])
        columns = ([row[number] for row in texts[:heads] if number < len(row)] for number in range(width))
        head = [" ".join(dict.fromkeys(part for part in column if part)) for column in columns]
        texts = [head, *texts[heads:]]
    return markdown_table(texts)


def _filled(rows: Sequence[Sequence[TableCell]]) -> list[list[str]]:
    """Return the texts of all cells. A cell over several rows is repeated in each; a head in each of its columns."""
    texts: list[list[str]] = []
    #: Cells of earlier rows that go on: column to rows that are left, and text.
    pending: dict[int, tuple[int, str]] = {}
    repeated = 0
    for row in rows:
        line: list[str] = []
        for cell in row:
            _fill_pending(line, pending)
            text = _cell_text(cell.blocks)
            columns = _span(cell.attributes, "colspan", _MAX_COLUMNS)
            below = _span(cell.attributes, "rowspan", _MAX_ROWS) - 1
            repeated += columns * (below + 1) - 1
            columns, below = (columns, below) if repeated < _MAX_REPEATED else (1, 0)
            for number in range(columns):
                value = text if cell.is_head or not number else ""
                if below > 0:
                    pending[len(line)] = (below, value)
                line.append(value)
        _fill_pending(line, pending)
        texts.append(line)
    return texts


def _fill_pending(line: list[str], pending: dict[int, tuple[int, str]]) -> None:
    while len(line) in pending:
        left, text = pending.pop(len(line))
        if left > 1:
            pending[len(line)] = (left - 1, text)
        line.append(text)


def _span(attributes: Mapping[str, str], name: str, maximum: int) -> int:
    value = attributes.get(name, "").strip()
    return min(max(int(value), 1), maximum) if value.isascii() and value.isdigit() and len(value) < 6 else 1


def _cell_text(blocks: Sequence[HtmlBlock]) -> str:
    parts = []
    for block in blocks:
        if block.kind == "list":
            parts.append(_ITEM.sub("", block.text).replace("\n", "; "))
        elif block.kind == "code":
            parts.append("`" + " ".join(_FENCE.sub("", block.text).split()) + "`")
        else:
            parts.append(block.text.replace("\n", " "))
    return " ".join(parts)
