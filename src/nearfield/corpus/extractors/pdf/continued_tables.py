"""Tables that go on on the next page: their second part has the names of the columns too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from nearfield.corpus.extractors.pdf.layout import PdfTable
from nearfield.corpus.extractors.pdf.paragraphs import Paragraph

#: Paragraphs and lines between a table and the edge of the page: headers, footers and numbers of pages.
_MAX_PARAGRAPHS, _MAX_LINES = 3, 2
#: Points by which the edges of a column may differ.
_TOLERANCE = 6.0
_CAPTION = re.compile(r"\s*(?:tab(?:le|elle|ella|la|leau)?|tbl)\b\.?\s*[\dIVX]", re.IGNORECASE)
_CONTINUED = re.compile(r"contin|cont['.]|forts|suite|segue|seguito", re.IGNORECASE)

PageParts = list[Paragraph | PdfTable]


def repeat_heads(pages: Sequence[PageParts]) -> None:
    """Give the names of the columns to tables at the top of a page that continue the one on the page before."""
    for page, after in pairwise(pages):
        last = next((at for at in reversed(range(len(page))) if isinstance(page[at], PdfTable)), None)
        first = next((at for at, part in enumerate(after) if isinstance(part, PdfTable)), None)
        if last is None or first is None or not (_is_edge(page[last + 1 :]) and _is_edge(after[:first])):
            continue
        table, other = page[last], after[first]
        if isinstance(table, PdfTable) and isinstance(other, PdfTable) and _continues(table, other):
            after[first] = _with_head(other, table.rows[0])


def _is_edge(parts: Sequence[Paragraph | PdfTable]) -> bool:
    """Return whether parts are a few lines above or below the text of a page, without the caption of another table."""
    texts = ["\n".join(line.text for line in part) for part in parts if not isinstance(part, PdfTable)]
    if len(texts) > _MAX_PARAGRAPHS or any(text.count("\n") >= _MAX_LINES for text in texts):
        return False
    return not any(_CAPTION.match(text) and not _CONTINUED.search(text) for text in texts)


def _continues(table: PdfTable, other: PdfTable) -> bool:
    """Return whether the columns of two tables are the same, and the second has no other names for them."""
    if not table.head or len(table.columns) != len(other.columns) or other.has_sure_head:
        return False
    return all(
        abs(one[0] - two[0]) <= _TOLERANCE or abs(one[1] - two[1]) <= _TOLERANCE
        for one, two in zip(table.columns, other.columns, strict=True)
    )


def _with_head(table: PdfTable, head: tuple[str, ...]) -> PdfTable:
    if table.rows and _plain(table.rows[0]) == _plain(head):
        return replace(table, head=True)
    return replace(table, rows=(head, *table.rows), head=True)


def _plain(row: Sequence[str]) -> list[str]:
    return [" ".join(cell.split()).casefold() for cell in row]
