"""Sections: a document as a tree of headings and blocks, and the boundaries that leave whole what fits into a chunk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.document import Block, Document

#: A section below this share of a chunk is joined to an adjacent section that is too large for one.
_SMALL = 1 / 8
_INTRODUCES = re.compile(r":\s*$")


@dataclass(frozen=True)
class Section:
    """A part of a text from ``start`` to ``end``, the start of the next section.

    ``cost`` is that of a split before it. ``parts`` are its own sections, without gaps. ``apart`` says that it shares
    no chunk with adjacent sections unless all of it does.
    """

    start: int
    end: int
    kind: str = "paragraph"
    cost: float = boundaries.PARAGRAPH
    parts: Sequence[Section] = field(default=())
    apart: bool = False


def flat_sections(document: Document) -> list[Section]:
    """Return a section for each block, which together contain all of the text; paragraphs, if there are no blocks."""
    blocks = document.blocks or tuple(_paragraphs(document))
    starts = [0, *(_line_start(document.text, block, before) for before, block in pairwise(blocks))]
    ends = [*starts[1:], len(document.text)]
    sections: list[Section] = []
    for block, start, end in zip(blocks, starts, ends, strict=False):
        cost = _cost(document.text, block, sections[-1].kind if sections else "", start)
        sections.append(Section(start, end, block.kind, cost))
    return sections


def _paragraphs(document: Document) -> Iterator[Block]:
    starts = [0, *boundaries.paragraphs(document.text, 0, len(document.text))]
    for start, end in zip(starts, [*starts[1:], len(document.text)], strict=True):
        yield Block(start, end, "table" if document.form == "table" else "paragraph")


def _line_start(text: str, block: Block, before: Block) -> int:
    """Return the start of a block's markup: that of its line, unless the block before ends on it."""
    return max(text.rfind("\n", before.end, block.start) + 1, before.end) if before.end <= block.start else block.start


def _cost(text: str, block: Block, before: str, start: int) -> float:
    if before == "heading":
        return boundaries.TIED
    if block.kind == "heading":
        return boundaries.SECTION
    return boundaries.SENTENCE if _INTRODUCES.search(text, max(0, start - 8), start) else boundaries.PARAGRAPH


def inner_boundaries(section: Section, scale: TextScale, language: str) -> Iterator[Boundary]:
    """Yield the boundaries within a block: lines of tables and code, items of lists, else sentences."""
    text, start, end = scale.text, section.start, section.end
    if section.kind in ("table", "code"):
        yield from (Boundary(at, boundaries.LINE) for at in boundaries.lines(text, start, end))
        yield from (Boundary(at, boundaries.SENTENCE) for at in boundaries.paragraphs(text, start, end))
        return
    if section.kind == "heading":
        return
    yield from (Boundary(at, boundaries.ITEM) for at in boundaries.items(text, start, end))
    yield from (Boundary(at, boundaries.SENTENCE) for at in boundaries.sentences(text, start, end, language))


def section_tree(document: Document) -> list[Section]:
    """Return a document's sections, each heading with all that it covers as one section."""
    blocks = flat_sections(document)
    levels = [block.level if block.kind == "heading" else 0 for block in document.blocks]
    return _nest(blocks, levels or [0] * len(blocks))


def _nest(blocks: Sequence[Section], levels: Sequence[int]) -> list[Section]:
    """Put the blocks after each heading into its section, up to the next heading of its level or above."""
    top: list[Section] = []
    open_sections: list[tuple[int, list[Section]]] = [(0, top)]
    for block, level in zip(blocks, levels, strict=True):
        while level and open_sections[-1][0] >= level:
            _close(open_sections)
        if level:
            open_sections.append((level, []))
        open_sections[-1][1].append(block)
    while len(open_sections) > 1:
        _close(open_sections)
    return top


def _close(open_sections: list[tuple[int, list[Section]]]) -> None:
    _, parts = open_sections.pop()
    section = Section(parts[0].start, parts[-1].end, "section", parts[0].cost, tuple(parts), apart=True)
    open_sections[-1][1].append(section)


def section_boundaries(sections: Sequence[Section], scale: TextScale, size: int, language: str) -> Iterator[Boundary]:
    """Yield boundaries such that a section is split only if it is larger than ``size``.

    Adjacent sections that fit may be joined. One that does not fit shares no chunk with adjacent ones if it is
    ``apart`` and they are not small.
    """
    large = [scale(section.start, section.end) > size for section in sections]
    for number, section in enumerate(sections):
        if number:
            required = _must_split(sections, large, number, scale, size)
            yield Boundary(section.start, boundaries.ALWAYS if required else section.cost)
        if large[number] and section.parts:
            yield from section_boundaries(section.parts, scale, size, language)
        elif large[number]:
            yield from inner_boundaries(section, scale, language)


def _must_split(sections: Sequence[Section], large: Sequence[bool], number: int, scale: TextScale, size: int) -> bool:
    """Return whether there must be a split before a section."""
    left, right = number - 1, number
    if not (large[left] and sections[left].apart) and not (large[right] and sections[right].apart):
        return False
    sides = (_weight(sections, large, left, -1, scale), _weight(sections, large, right, 1, scale))
    return min(sides) >= size * _SMALL


def _weight(sections: Sequence[Section], large: Sequence[bool], at: int, step: int, scale: TextScale) -> float:
    """Return the weight of one side of a boundary: one large section, or all small ones up to the next large one."""
    if large[at]:
        return scale(sections[at].start, sections[at].end)
    far = at
    while 0 <= far + step < len(sections) and not large[far + step]:
        far += step
    low, high = min(at, far), max(at, far)
    return scale(sections[low].start, sections[high].end)
