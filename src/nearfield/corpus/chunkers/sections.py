"""Parts: a document as a tree of what belongs together, and the seams that keep whole what fits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.document import Block, Document

#: Below this share of a chunk, a part does not stand alone beside one that is too large for a chunk.
_SMALL = 1 / 8
_INTRODUCES = re.compile(r":\s*$")


@dataclass(frozen=True)
class Section:
    """A piece of text from ``start`` up to ``end``, the next part's start.

    ``cost`` is that of cutting before it. ``parts`` are what it consists of, and lie in it without gaps. ``apart`` says
    that nothing of it shares a chunk with what stands beside it, unless the whole of it does.
    """

    start: int
    end: int
    kind: str = "paragraph"
    cost: float = boundaries.PARAGRAPH
    parts: Sequence[Section] = field(default=())
    apart: bool = False


def flat_sections(document: Document) -> list[Section]:
    """Return a document's blocks as parts, which hold all of its text; paragraphs, where it has no blocks."""
    blocks = document.blocks or tuple(_paragraphs(document))
    starts = [0, *(_line_start(document.text, block, before) for before, block in pairwise(blocks))]
    ends = [*starts[1:], len(document.text)]
    found: list[Section] = []
    for block, start, end in zip(blocks, starts, ends, strict=False):
        cost = _cost(document.text, block, found[-1].kind if found else "", start)
        found.append(Section(start, end, block.kind, cost))
    return found


def _paragraphs(document: Document) -> Iterator[Block]:
    starts = [0, *boundaries.paragraphs(document.text, 0, len(document.text))]
    for start, end in zip(starts, [*starts[1:], len(document.text)], strict=True):
        yield Block(start, end, "table" if document.form == "table" else "paragraph")


def _line_start(text: str, block: Block, before: Block) -> int:
    """Return where a block's markup begins: with its line, where the block before does not end on it."""
    return max(text.rfind("\n", before.end, block.start) + 1, before.end) if before.end <= block.start else block.start


def _cost(text: str, block: Block, before: str, start: int) -> float:
    if before == "heading":
        return boundaries.TIED
    if block.kind == "heading":
        return boundaries.SECTION
    return boundaries.SENTENCE if _INTRODUCES.search(text, max(0, start - 8), start) else boundaries.PARAGRAPH


def inside(part: Section, scale: TextScale, language: str) -> Iterator[Boundary]:
    """Yield the seams within a block: lines of tables and code, items of lists, else sentences."""
    text, start, end = scale.text, part.start, part.end
    if part.kind in ("table", "code"):
        yield from (Boundary(at, boundaries.LINE) for at in boundaries.lines(text, start, end))
        yield from (Boundary(at, boundaries.SENTENCE) for at in boundaries.paragraphs(text, start, end))
        return
    if part.kind == "heading":
        return
    yield from (Boundary(at, boundaries.ITEM) for at in boundaries.items(text, start, end))
    yield from (Boundary(at, boundaries.SENTENCE) for at in boundaries.sentences(text, start, end, language))


def sections(document: Document) -> list[Section]:
    """Return a document's parts, each heading as one part with what stands under it."""
    blocks, levels = (
        flat_sections(document),
        [block.level if block.kind == "heading" else 0 for block in document.blocks],
    )
    return _nested(blocks, levels or [0] * len(blocks))


def _nested(blocks: Sequence[Section], levels: Sequence[int]) -> list[Section]:
    """Put into each section whatever follows its heading, up to the next of its level or above."""
    found: list[Section] = []
    open_ones: list[tuple[int, list[Section]]] = [(0, found)]
    for block, level in zip(blocks, levels, strict=True):
        while level and open_ones[-1][0] >= level:
            _close(open_ones)
        if level:
            open_ones.append((level, []))
        open_ones[-1][1].append(block)
    while len(open_ones) > 1:
        _close(open_ones)
    return found


def _close(open_ones: list[tuple[int, list[Section]]]) -> None:
    _, held = open_ones.pop()
    made = Section(held[0].start, held[-1].end, "section", held[0].cost, tuple(held), apart=True)
    open_ones[-1][1].append(made)


def section_boundaries(parts: Sequence[Section], scale: TextScale, size: int, language: str) -> Iterator[Boundary]:
    """Yield seams such that a part is cut only where it is larger than ``size``.

    Parts side by side that fit may be joined. One that does not fit shares no chunk with those beside it, where it is
    ``apart`` and they are not small.
    """
    large = [scale(part.start, part.end) > size for part in parts]
    for number, part in enumerate(parts):
        if number:
            alone = _alone(parts, large, number, scale, size)
            yield Boundary(part.start, boundaries.ALWAYS if alone else part.cost)
        if large[number]:
            yield from (
                section_boundaries(part.parts, scale, size, language) if part.parts else inside(part, scale, language)
            )


def _alone(parts: Sequence[Section], large: Sequence[bool], number: int, scale: TextScale, size: int) -> bool:
    """Tell whether the seam before a part must be cut."""
    left, right = number - 1, number
    if not (large[left] and parts[left].apart) and not (large[right] and parts[right].apart):
        return False
    sides = (_weight(parts, large, left, -1, scale), _weight(parts, large, right, 1, scale))
    return min(sides) >= size * _SMALL


def _weight(parts: Sequence[Section], large: Sequence[bool], at: int, step: int, scale: TextScale) -> float:
    """Weigh what stands together on one side of a seam: one large part, or all small ones up to the next large one."""
    if large[at]:
        return scale(parts[at].start, parts[at].end)
    far = at
    while 0 <= far + step < len(parts) and not large[far + step]:
        far += step
    low, high = min(at, far), max(at, far)
    return scale(parts[low].start, parts[high].end)
