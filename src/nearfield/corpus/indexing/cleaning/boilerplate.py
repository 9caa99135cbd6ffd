"""Boilerplate: lines and blocks that repeat in many documents of a source, or on many pages of a document.

Only units that a reader sees as such are counted: whole blocks, and lines at the edges of pages. A line inside a
paragraph is never boilerplate. Boilerplate is taken out of the text around it, but not lost: it is stored once.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearfield.corpus.document import Block, Document
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.indexing.cleaning.page_numbers import EdgeLine, find_page_numbers
from nearfield.corpus.word_count import has_meaning

#: A line or block is boilerplate if it is in more than this share of documents or pages, and in at least this many.
MIN_SHARE, MIN_COUNT = 0.3, 4
#: If less than this share of a document's letters would remain, the document is a version of others: keep all of it.
_MIN_REMAINING = 0.1
#: Lines at the top and bottom of a page, or of a document without pages, that count as its edges: at most this many,
#: and of a short one at most this share.
_EDGE_LINES, _EDGE_SHARE = 2, 1 / 3
#: Lines of a block are those of a wrapped paragraph if the longest has at least this many characters; a line fills it
#: from this share of the longest on.
_MIN_WRAP, _FULL = 30, 0.6
#: White space and marks between adjacent blocks.
_BETWEEN = " \t\n#>*-+"
_SENTENCE_END = re.compile(r"[.!?:…。！？：][\"'”’»)\]]*$")
#: Characters of a line that reports show.
_MAX_SHOWN = 200
#: Kinds of blocks that are never boilerplate.
_NEVER = frozenset({"heading", "code", "table"})
#: Forms of documents without boilerplate: a licence in each file of code stays there.
_UNTOUCHED = frozenset({"code", "table"})


@dataclass(frozen=True)
class RepeatedText:
    """A line or block of boilerplate as it was first seen, and its share of pages or documents."""

    line: str
    share: float
    digest: bytes


@dataclass(frozen=True)
class Boilerplate:
    """The boilerplate of a document's pages or of a source's documents, the most frequent first.

    ``numbered`` are the positions of the document's page numbers, each with the text beside it (its running title).
    """

    repeated: tuple[RepeatedText, ...] = ()
    numbered: Mapping[int, str] = field(default_factory=dict)

    @property
    def digests(self) -> frozenset[bytes]:
        """The digests by which ``clean`` recognises it."""
        return frozenset(text.digest for text in self.repeated)

    @property
    def lines(self) -> list[tuple[str, float]]:
        """Lines and their shares, for reports."""
        return [(text.line, text.share) for text in self.repeated]

    def to_rows(self) -> list[tuple[str, float, str]]:
        """Return it as JSON data."""
        return [(text.line, text.share, text.digest.hex()) for text in self.repeated]

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, float, str]]) -> Boilerplate:
        """Return the boilerplate that ``to_rows`` wrote."""
        return cls(tuple(RepeatedText(line, share, bytes.fromhex(digest)) for line, share, digest in rows))


class BoilerplateDetector:
    """Counts lines and blocks of documents; documents with the same text count once."""

    def __init__(self, min_share: float = MIN_SHARE, min_count: int = MIN_COUNT) -> None:
        self._min_share, self._min_count = min_share, min_count
        self._counts: Counter[bytes] = Counter()
        self._shown: dict[bytes, str] = {}
        self._texts: set[bytes] = set()

    def add(self, document: Document) -> None:
        """Count the distinct lines and blocks of a document."""
        digest = _digest("t", document.text)
        if digest in self._texts:
            return
        self._texts.add(digest)
        self.count(candidates(document))

    def count(self, parts: Iterable[BoilerplateCandidate]) -> None:
        """Count the distinct lines and blocks of one document or page."""
        seen: dict[bytes, str] = {}
        for part in parts:
            for digest in part.digests:
                seen.setdefault(digest, part.text)
        self._counts.update(seen.keys())
        for digest, text in seen.items():
            self._shown.setdefault(digest, text[:_MAX_SHOWN])

    def result(self, total: int | None = None) -> Boilerplate:
        """Return what repeats; ``total`` is the number of pages, and by default that of documents."""
        total = len(self._texts) if total is None else total
        frequent = [
            (digest, count)
            for digest, count in self._counts.items()
            if count >= self._min_count and count > self._min_share * total
        ]
        rows = [RepeatedText(self._shown[digest], round(count / total, 4), digest) for digest, count in frequent]
        return Boilerplate(tuple(sorted(rows, key=_order)))


def page_boilerplate(document: Document) -> Boilerplate:
    """Return what repeats on the pages of a document: running headers and footers, and page numbers."""
    numbers = {block.page for block in document.blocks if block.page is not None}
    if len(numbers) < MIN_COUNT or document.form in _UNTOUCHED:
        return Boilerplate()
    detector, by_page = BoilerplateDetector(), {number: list[BoilerplateCandidate]() for number in numbers}
    for part in candidates(document):
        if part.page is not None:
            by_page[part.page].append(part)
    for parts in by_page.values():
        detector.count(parts)
    lines = (line for block in document.blocks if block.kind not in _NEVER for line in _block_lines(document, block))
    edges = _edge_lines(document, document.blocks)
    headings = (document.text[block.start : block.end] for block in document.blocks if block.kind == "heading")
    sequences = find_page_numbers(
        (EdgeLine(line.page, line.start, line.text) for line in lines if line.page and line.start in edges),
        [document.title, *headings],
    )
    rows = [
        RepeatedText(
            sequence.lines[0].text[:_MAX_SHOWN],
            round(len(sequence.lines) / len(numbers), 4),
            _digest("number", sequence.title),
        )
        for sequence in sequences
    ]
    return Boilerplate(
        tuple(sorted([*detector.result(len(numbers)).repeated, *rows], key=_order)),
        {line.start: sequence.title for sequence in sequences for line in sequence.lines},
    )


@dataclass(frozen=True)
class BoilerplateCandidate:
    """A whole block, or a line at the edge of a page, that may be boilerplate, and its digests.

    ``text`` is without the white space around it. ``has_content`` is false for a page number alone. ``at_edge`` is true
    for the first and last lines of a page, or of a document without pages.
    """

    start: int
    end: int
    text: str
    digests: tuple[bytes, ...]
    page: int | None = None
    has_content: bool = True
    at_edge: bool = False


def find_repeated(document: Document, boilerplate: Boilerplate) -> list[list[BoilerplateCandidate]]:
    """Return the boilerplate in a document, in order; none if little else would remain.

    Adjacent texts of one or two words, such as the items of a menu, are a group. Such a text alone is boilerplate only
    at an edge: elsewhere it may be the label of what follows it.
    """
    digests = boilerplate.digests
    matches = [part for part in candidates(document) if not digests.isdisjoint(part.digests)]
    if boilerplate.numbered:
        matches += _numbered(document, boilerplate.numbered)
    parts: list[BoilerplateCandidate] = []
    for part in sorted(matches, key=lambda part: (part.start, -part.end)):
        if not parts or part.start >= parts[-1].end:
            parts.append(part)
    groups = [
        group
        for group in _groups(document.text, parts)
        if has_meaning(" ".join(part.text for part in group)) or all(part.at_edge for part in group)
    ]
    removed = sum(_count_letters(document.text[part.start : part.end]) for group in groups for part in group)
    total = _count_letters(document.text)
    return groups if total - removed >= _MIN_REMAINING * total else []


def _groups(text: str, parts: Iterable[BoilerplateCandidate]) -> Iterator[list[BoilerplateCandidate]]:
    """Yield each part alone, and adjacent ones of one or two words together."""
    group: list[BoilerplateCandidate] = []
    for part in parts:
        is_small = part.has_content and not has_meaning(part.text)
        if group and not (is_small and not text[group[-1].end : part.start].strip(_BETWEEN)):
            yield group
            group = []
        if is_small:
            group.append(part)
        else:
            yield [part]
    if group:
        yield group


def _numbered(document: Document, titles: Mapping[int, str]) -> Iterator[BoilerplateCandidate]:
    """Yield the lines with page numbers. Those with the same title are the same text."""
    for block in document.blocks:
        for line in _block_lines(document, block):
            if line.start in titles:
                title = titles[line.start]
                yield replace(line, digests=(_digest("number", title),), has_content=_has_letters(title), at_edge=True)


def count_lines(parts: Iterable[BoilerplateCandidate]) -> Counter[str]:
    """Count boilerplate by its text, as reports show it."""
    return Counter(part.text[:_MAX_SHOWN] for part in parts)


def candidates(document: Document) -> Iterator[BoilerplateCandidate]:
    """Yield what may be boilerplate and has letters: whole blocks, and lines at edges that continue no paragraph.

    Headings, tables and code are never boilerplate.
    """
    if document.form in _UNTOUCHED:
        return
    blocks = document.blocks or tuple(paragraphs(document.text))
    edges = _edge_lines(document, blocks)
    for block in blocks:
        if block.kind in _NEVER:
            continue
        lines = list(_block_lines(document, block))
        if len(lines) > 1:
            content = document.text[block.start : block.end].strip()
            if _has_letters(content):
                at_edge = all(line.start in edges for line in lines)
                digests = (_digest("block", content),)
                yield BoilerplateCandidate(block.start, block.end, content, digests, block.page, at_edge=at_edge)
        width = max((len(line.text) for line in lines), default=0)
        for number, line in enumerate(lines):
            if not _has_letters(line.text):
                continue
            if len(lines) == 1 or (line.start in edges and not _is_inside(lines, number, width)):
                yield replace(line, digests=(_digest("line", line.text),), at_edge=line.start in edges)


def _block_lines(document: Document, block: Block) -> Iterator[BoilerplateCandidate]:
    """Yield the lines of a block that have text, without digests."""
    at = block.start
    for line in document.text[block.start : block.end].splitlines(keepends=True):
        start, at = at, at + len(line)
        if line.strip():
            yield BoilerplateCandidate(start, at, line.strip(), (), block.page)


def _is_inside(lines: Sequence[BoilerplateCandidate], number: int, width: int) -> bool:
    """Return whether a line continues the one before it in its block, or is continued by the one after it."""
    line = lines[number]
    before, after = lines[max(number - 1, 0) : number], lines[number + 1 : number + 2]
    if any(_is_unfinished(other) and (line.text[0].islower() or _is_wrapped(other, line, width)) for other in before):
        return True
    # The first line of a page may be a title above a sentence that began on the page before.
    is_title = line.page is not None
    return _is_unfinished(line) and any(
        (not is_title and other.text[0].islower()) or _is_wrapped(line, other, width) for other in after
    )


def _is_unfinished(line: BoilerplateCandidate) -> bool:
    return not _SENTENCE_END.search(line.text)


def _is_wrapped(line: BoilerplateCandidate, following: BoilerplateCandidate, width: int) -> bool:
    """Return whether a sentence may go on from a line to the following one; ``width`` is that of their block.

    A paragraph may be broken at the end of a page: there, a short line without the end of a sentence is a footer.
    """
    if width < _MIN_WRAP or len(line.text) < _FULL * width:
        return False
    if line.page is None or following.text[0].islower():
        return True
    return len(following.text) >= _FULL * width or not _is_unfinished(following)


def _edge_lines(document: Document, blocks: Iterable[Block]) -> frozenset[int]:
    """Return the starts of the first and last lines of pages, or of a document without pages."""
    starts: dict[int | None, list[int]] = {}
    for block in blocks:
        starts.setdefault(block.page, []).extend(line.start for line in _block_lines(document, block))
    return frozenset(at for page in starts.values() for at in _ends(page))


def _ends(starts: Sequence[int]) -> tuple[int, ...]:
    count = min(_EDGE_LINES, max(1, int(len(starts) * _EDGE_SHARE)))
    return (*starts[:count], *starts[-count:])


def _order(text: RepeatedText) -> tuple[float, str, bytes]:
    return -text.share, text.line, text.digest


def _has_letters(text: str) -> bool:
    return any(sign.isalpha() for sign in text)


def _count_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _digest(kind: str, text: str) -> bytes:
    """Return the digest of a text; case, spaces and forms of the same letters make no difference."""
    normalized = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.blake2b(f"{kind} {normalized}".encode("utf-8", "replace"), digest_size=10).digest()
