"""Clean: signs that nobody sees, lines that stand everywhere, and chunks that say nothing are left out, and told."""

from __future__ import annotations

import bisect
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.corpus.document import Block, Document, Span

#: A line or block is boilerplate on more than this share of pages or documents, and on at least so many.
SHARE, LEAST = 0.3, 4
#: A document of which less than this share of its letters would be left is no boilerplate, but one of many versions.
_LEFT = 0.1
#: A chunk with fewer words says nothing alone.
LEAST_WORDS = 3
#: Lines from a page's top and bottom in which digits count as page numbers.
_EDGE = 2
_SHOWN = 200

_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
#: Zero-width signs, soft hyphens, byte order marks, directions, tags. Joiners stay: Persian, Hindi and emoji need them.
_UNSEEN = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CONTROL = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_LONE = "\ud800-\udfff"
_DIRTY = re.compile(f"\r\n?|[{_LINE_ENDS}{_SPACES}{_UNSEEN}{_CONTROL}{_LONE}]")
#: Source code keeps all that its language may see.
_DIRTY_CODE = re.compile(f"\r\n?|[{_CONTROL}{_LONE}\ufeff]")
_BLANK_RUN = re.compile(r"(?<=\n)(?:[^\S\n]*\n){2,}")
_DIGITS = re.compile(r"\d+")
_WORDS = re.compile(r"\w+")
#: Scripts that put no spaces between words.
WIDE = "\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WIDE = re.compile(f"[{WIDE}]")

Edit = tuple[int, int, str]


class EditedText:
    """A text after edits, each ``(start, end, replacement)`` in the text before, in order and apart."""

    def __init__(self, text: str, edits: Sequence[Edit]) -> None:
        parts, at, shift = [], 0, 0
        #: Where each edit begins and ends, before and after.
        self._old: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []
        for start, end, put in edits:
            parts += [text[at:start], put]
            self._old.append((start, end))
            self._new.append((start + shift, start + shift + len(put)))
            at, shift = end, shift + len(put) - (end - start)
        self.text = "".join([*parts, text[at:]])

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return the place before the edits of what stands from ``start`` up to ``end`` after them."""
        first = _moved(self._new, self._old, start, last=False)
        return first, max(first, _moved(self._new, self._old, end, last=True))

    def now(self, start: int, end: int) -> tuple[int, int]:
        """Return the place after the edits of what stood from ``start`` up to ``end`` before them."""
        first = _moved(self._old, self._new, start, last=False)
        return first, max(first, _moved(self._old, self._new, end, last=True))


def _moved(here: Sequence[tuple[int, int]], there: Sequence[tuple[int, int]], at: int, *, last: bool) -> int:
    """Return a place on the other side; ``last`` says that it ends a part, to which no removal after it belongs."""
    number = bisect.bisect_right(here, (at, -1) if last else (at, at)) - 1
    if number < 0:
        return at
    (low, high), (other_low, other_high) = here[number], there[number]
    if at >= high:
        return at - high + other_high
    return other_high if last and at > low else other_low


@dataclass(frozen=True)
class CleanedText:
    """A document after cleaning; ``dropped`` tells the lines that were left out, and how often."""

    document: Document
    dropped: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[EditedText, ...] = ()

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return where a part of the cleaned text stands in the text as it was."""
        for step in reversed(self.steps):
            start, end = step.origin(start, end)
        return start, end


def clean(document: Document, boilerplate: Collection[bytes] = frozenset()) -> CleanedText:
    """Leave out what nobody sees, runs of blank lines, and lines or blocks that repeat.

    Text is brought to NFC, not NFKC, which would change code and formulas. Source code keeps all but control
    characters.
    ``boilerplate`` are digests (see ``Boilerplate``); what repeats on the document's own pages is found here.
    """
    steps: list[EditedText] = []
    document = _applied(document, _unseen(document), steps)
    document = _applied(document, _front(document), steps)
    if document.form == "code":
        return CleanedText(document, steps=tuple(steps))
    document = _applied(document, list(_composed(document.text)), steps)
    repeated = frozenset(boilerplate) | pages(document).digests
    drops, dropped = _drops(document, repeated) if repeated else ([], Counter[str]())
    document = _applied(document, drops, steps)
    document = _applied(document, _blank_runs(document), steps)
    return CleanedText(document, dropped, tuple(steps))


def _applied(document: Document, edits: Sequence[Edit], steps: list[EditedText]) -> Document:
    if not edits:
        return document
    edited = EditedText(document.text, edits)
    steps.append(edited)
    places = [edited.now(block.start, block.end) for block in document.blocks]
    moved = (
        replace(block, start=start, end=end)
        for block, (start, end) in zip(document.blocks, places, strict=True)
        if start < end
    )
    return replace(document, text=edited.text, blocks=tuple(moved))


def _unseen(document: Document) -> list[Edit]:
    text = document.text
    pattern = _DIRTY_CODE if document.form == "code" else _DIRTY
    return [(match.start(), match.end(), _instead(match[0])) for match in pattern.finditer(text)]


def _front(document: Document) -> list[Edit]:
    """Return the edit that leaves out a Markdown file's front matter: what it says is title and fields."""
    text = document.text
    if document.form != "markdown" or not document.blocks or not text.startswith(("---", "+++")):
        return []
    return [(0, text.rfind("\n", 0, document.blocks[0].start) + 1, "")]


def _instead(found: str) -> str:
    if found[0] == "\r" or found in _LINE_ENDS:
        return "\n"
    if "\ud800" <= found <= "\udfff":
        return "\ufffd"
    return " " if found.isspace() and unicodedata.category(found) == "Zs" else ""


def _composed(text: str) -> Iterator[Edit]:
    """Yield an edit for each base with its marks that NFC writes in another way."""
    start = 0
    if unicodedata.is_normalized("NFC", text):
        return
    for line in text.splitlines(keepends=True):
        if not unicodedata.is_normalized("NFC", line):
            yield from _clusters(line, start)
        start += len(line)


def _clusters(line: str, offset: int) -> Iterator[Edit]:
    starts = [at for at, sign in enumerate(line) if not at or not _joins(sign)]
    for low, high in zip(starts, [*starts[1:], len(line)], strict=True):
        composed = unicodedata.normalize("NFC", line[low:high])
        if composed != line[low:high]:
            yield offset + low, offset + high, composed


def _joins(sign: str) -> bool:
    """Tell marks, and the vowels and finals of Hangul, which NFC joins to what stands before."""
    return unicodedata.category(sign)[0] == "M" or "\u1160" <= sign <= "\u11ff"


def _blank_runs(document: Document) -> list[Edit]:
    code = [block for block in document.blocks if block.kind == "code"]
    found = [(match.start(), match.end(), "\n") for match in _BLANK_RUN.finditer(document.text)]
    return [edit for edit in found if not any(block.start < edit[1] and edit[0] < block.end for block in code)]


# -- boilerplate -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repeated:
    """A line or block that repeats, as first seen, and on which share of pages or documents."""

    line: str
    share: float
    digest: bytes


@dataclass(frozen=True)
class Boilerplate:
    """What repeats over the pages of a document or the documents of a source, the most frequent first."""

    repeated: tuple[Repeated, ...] = ()

    @property
    def digests(self) -> frozenset[bytes]:
        """What ``clean`` is to leave out."""
        return frozenset(each.digest for each in self.repeated)

    @property
    def lines(self) -> list[tuple[str, float]]:
        """Each line and its share, for reports."""
        return [(each.line, each.share) for each in self.repeated]

    def told(self) -> list[list[Any]]:
        """Return it as JSON can say it."""
        return [[each.line, each.share, each.digest.hex()] for each in self.repeated]

    @classmethod
    def read(cls, told: Iterable[Sequence[Any]]) -> Boilerplate:
        """Return what ``told`` said."""
        return cls(tuple(Repeated(str(line), float(share), bytes.fromhex(digest)) for line, share, digest in told))


class Repeats:
    """Counts lines and blocks over documents; the same text given twice counts once."""

    def __init__(self, share: float = SHARE, least: int = LEAST) -> None:
        self._share, self._least = share, least
        self._counts: Counter[bytes] = Counter()
        self._shown: dict[bytes, str] = {}
        self._texts: set[bytes] = set()

    def add(self, document: Document) -> None:
        """Count a document's lines and blocks, each once."""
        whole = _digest("t", document.text)
        if whole in self._texts:
            return
        self._texts.add(whole)
        self._count(_marked(document))

    def _count(self, marked: Iterable[_Marked]) -> None:
        seen: dict[bytes, str] = {}
        for each in marked:
            for digest in each.digests:
                seen.setdefault(digest, each.text)
        self._counts.update(seen.keys())
        for digest, text in seen.items():
            self._shown.setdefault(digest, text[:_SHOWN])

    def found(self, total: int | None = None) -> Boilerplate:
        """Return what stands on more than the share of them."""
        total = len(self._texts) if total is None else total
        often = [
            (digest, count)
            for digest, count in self._counts.items()
            if count >= self._least and count > self._share * total
        ]
        rows = [Repeated(self._shown[digest], round(count / total, 4), digest) for digest, count in often]
        return Boilerplate(tuple(sorted(rows, key=lambda row: (-row.share, row.line, row.digest))))


def pages(document: Document) -> Boilerplate:
    """Return what repeats over a document's own pages: running heads and feet, and page numbers."""
    numbers = {block.page for block in document.blocks if block.page is not None}
    if len(numbers) < LEAST:
        return Boilerplate()
    repeats, by_page = Repeats(), {number: list[_Marked]() for number in numbers}
    for each in _marked(document):
        if each.page is not None:
            by_page[each.page].append(each)
    for marked in by_page.values():
        repeats._count(marked)
    return repeats.found(len(numbers))


@dataclass(frozen=True)
class _Marked:
    """A line, or a block of several, that may be boilerplate, and all digests it may be known by."""

    start: int
    end: int
    text: str
    digests: tuple[bytes, ...]
    page: int | None = None


#: Kinds of blocks that never are boilerplate.
_KEPT = frozenset({"heading", "code", "table"})


def _marked(document: Document) -> Iterator[_Marked]:
    """Yield lines and blocks that may be boilerplate: with letters, and never headings, tables or code."""
    if document.form in ("code", "table"):
        return
    text = document.text
    blocks = document.blocks or (Block(0, len(text)),)
    edges = _edges(document)
    for block in blocks:
        if block.kind in _KEPT:
            continue
        yield from _lines(text, block, edges)
        whole = text[block.start : block.end].strip()
        if document.blocks and "\n" in whole and _lettered(whole):
            yield _Marked(block.start, block.end, whole, (_digest("block", whole),), block.page)


def _lines(text: str, block: Block, edges: Collection[int]) -> Iterator[_Marked]:
    at = block.start
    for line in text[block.start : block.end].splitlines(keepends=True):
        start, at = at, at + len(line)
        shown = line.strip()
        digests = [_digest("line", shown)] if _lettered(shown) else []
        if start in edges and _DIGITS.search(shown):
            digests.append(_digest("edge", _DIGITS.sub("0", shown)))
        if digests:
            yield _Marked(start, at, shown, tuple(digests), block.page)


def _edges(document: Document) -> frozenset[int]:
    """Return where lines begin that are among the first or last of a page."""
    starts: dict[int, list[int]] = {}
    for block in document.blocks:
        if block.page is None:
            continue
        at = block.start
        for line in document.text[block.start : block.end].splitlines(keepends=True):
            if line.strip():
                starts.setdefault(block.page, []).append(at)
            at += len(line)
    return frozenset(at for found in starts.values() for at in (*found[:_EDGE], *found[-_EDGE:]))


def _lettered(text: str) -> bool:
    return any(sign.isalpha() for sign in text)


def _digest(kind: str, text: str) -> bytes:
    told = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.blake2b(f"{kind} {told}".encode("utf-8", "replace"), digest_size=10).digest()


def _drops(document: Document, repeated: Collection[bytes]) -> tuple[list[Edit], Counter[str]]:
    """Return the edits that leave out what repeats, and the lines; none where hardly anything would stay."""
    found = sorted(
        (each for each in _marked(document) if any(digest in repeated for digest in each.digests)),
        key=lambda each: (each.start, -each.end),
    )
    edits: list[Edit] = []
    dropped: Counter[str] = Counter()
    for each in found:
        if edits and each.start < edits[-1][1]:
            continue
        edits.append((each.start, each.end, ""))
        dropped[each.text[:_SHOWN]] += 1
    lost = sum(_letters(document.text[start:end]) for start, end, _ in edits)
    whole = _letters(document.text)
    return (edits, dropped) if whole - lost >= _LEFT * whole else ([], Counter())


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


# -- chunks ------------------------------------------------------------------------------------------------------


def telling(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return the spans with at least three words, or all of them where none has; in Chinese, each sign is a word."""
    kept = [span for span in spans if _says(text[span.start : span.end])]
    return kept or [span for span in spans if _WORDS.search(text, span.start, span.end)]


def _says(text: str) -> bool:
    if len(_WIDE.findall(text)) >= LEAST_WORDS:
        return True
    return sum(1 for _, word in zip(range(LEAST_WORDS), _WORDS.finditer(text), strict=False)) >= LEAST_WORDS
