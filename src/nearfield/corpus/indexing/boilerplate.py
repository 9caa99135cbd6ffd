"""Boilerplate: lines and blocks that repeat in many documents of a source, or on many pages of a document."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nearfield.corpus.document import Block, Document
from nearfield.corpus.indexing.text_edits import Edit

#: A line or block is boilerplate if it is in more than this share of documents or pages, and in at least this many.
MIN_SHARE, MIN_COUNT = 0.3, 4
#: If less than this share of a document's letters would remain, the document is a version of others: keep all of it.
_MIN_REMAINING = 0.1
#: Lines at the top and bottom of a page in which digits count as page numbers.
_EDGE_LINES = 2
#: Characters of a line that reports show.
_MAX_SHOWN = 200
_DIGITS = re.compile(r"\d+")
#: Kinds of blocks that are never boilerplate.
_NEVER = frozenset({"heading", "code", "table"})


@dataclass(frozen=True)
class RepeatedText:
    """A line or block of boilerplate as it was first seen, and its share of pages or documents."""

    line: str
    share: float
    digest: bytes


@dataclass(frozen=True)
class Boilerplate:
    """The boilerplate of a document's pages or of a source's documents, the most frequent first."""

    repeated: tuple[RepeatedText, ...] = ()

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
        return Boilerplate(tuple(sorted(rows, key=lambda row: (-row.share, row.line, row.digest))))


def page_boilerplate(document: Document) -> Boilerplate:
    """Return what repeats on the pages of a document: running headers and footers, and page numbers."""
    numbers = {block.page for block in document.blocks if block.page is not None}
    if len(numbers) < MIN_COUNT:
        return Boilerplate()
    detector, by_page = BoilerplateDetector(), {number: list[BoilerplateCandidate]() for number in numbers}
    for part in candidates(document):
        if part.page is not None:
            by_page[part.page].append(part)
    for parts in by_page.values():
        detector.count(parts)
    return detector.result(len(numbers))


def drop_repeated(document: Document, repeated: Collection[bytes]) -> tuple[list[Edit], Counter[str]]:
    """Return the edits that remove boilerplate, and the removed lines; none if little else would remain."""
    parts = sorted(
        (part for part in candidates(document) if any(digest in repeated for digest in part.digests)),
        key=lambda part: (part.start, -part.end),
    )
    edits: list[Edit] = []
    dropped: Counter[str] = Counter()
    for part in parts:
        if edits and part.start < edits[-1][1]:
            continue
        edits.append((part.start, part.end, ""))
        dropped[part.text[:_MAX_SHOWN]] += 1
    removed = sum(_count_letters(document.text[start:end]) for start, end, _ in edits)
    total = _count_letters(document.text)
    return (edits, dropped) if total - removed >= _MIN_REMAINING * total else ([], Counter())


@dataclass(frozen=True)
class BoilerplateCandidate:
    """A line, or a block of several lines, that may be boilerplate, and the digests by which it is recognised."""

    start: int
    end: int
    text: str
    digests: tuple[bytes, ...]
    page: int | None = None


def candidates(document: Document) -> Iterator[BoilerplateCandidate]:
    """Yield the lines and blocks that may be boilerplate: those with letters, without headings, tables and code."""
    if document.form in ("code", "table"):
        return
    text = document.text
    blocks = document.blocks or (Block(0, len(text)),)
    edges = _edge_lines(document)
    for block in blocks:
        if block.kind in _NEVER:
            continue
        yield from _line_candidates(text, block, edges)
        content = text[block.start : block.end].strip()
        if document.blocks and "\n" in content and _has_letters(content):
            yield BoilerplateCandidate(block.start, block.end, content, (_digest("block", content),), block.page)


def _line_candidates(text: str, block: Block, edges: Collection[int]) -> Iterator[BoilerplateCandidate]:
    at = block.start
    for line in text[block.start : block.end].splitlines(keepends=True):
        start, at = at, at + len(line)
        content = line.strip()
        digests = [_digest("line", content)] if _has_letters(content) else []
        if start in edges and _DIGITS.search(content):
            digests.append(_digest("edge", _DIGITS.sub("0", content)))
        if digests:
            yield BoilerplateCandidate(start, at, content, tuple(digests), block.page)


def _edge_lines(document: Document) -> frozenset[int]:
    """Return the starts of the first and last lines of pages."""
    starts: dict[int, list[int]] = {}
    for block in document.blocks:
        if block.page is None:
            continue
        at = block.start
        for line in document.text[block.start : block.end].splitlines(keepends=True):
            if line.strip():
                starts.setdefault(block.page, []).append(at)
            at += len(line)
    return frozenset(at for page in starts.values() for at in _ends(page))


def _ends(starts: Sequence[int]) -> tuple[int, ...]:
    return (*starts[:_EDGE_LINES], *starts[-_EDGE_LINES:])


def _has_letters(text: str) -> bool:
    return any(sign.isalpha() for sign in text)


def _count_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _digest(kind: str, text: str) -> bytes:
    """Return the digest of a text; case, spaces and forms of the same letters make no difference."""
    normalized = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.blake2b(f"{kind} {normalized}".encode("utf-8", "replace"), digest_size=10).digest()
