"""Clean documents before chunking: remove invisible characters, boilerplate and chunks without content."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearfield.corpus.document import Block, Document, Span
from nearfield.corpus.indexing.cleaning.boilerplate import (
    Boilerplate,
    BoilerplateCandidate,
    count_lines,
    find_repeated,
    page_boilerplate,
)
from nearfield.corpus.indexing.cleaning.text_edits import Edit, EditedText
from nearfield.corpus.word_count import WORDS, count_words, has_meaning

_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
#: Zero-width characters, soft hyphens, byte order marks, directions, tags. Joiners stay: Persian, Hindi and emoji need
#: them.
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CONTROL = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_SURROGATES = "\ud800-\udfff"
_DIRTY = re.compile(f"\r\n?|[{_LINE_ENDS}{_SPACES}{_INVISIBLE}{_CONTROL}{_SURROGATES}]")
#: In source code, only what no compiler reads is removed.
_DIRTY_CODE = re.compile(f"\r\n?|[{_CONTROL}{_SURROGATES}\ufeff]")
_BLANK_RUN = re.compile(r"(?<=\n)(?:[^\S\n]*\n){2,}")


@dataclass(frozen=True)
class CleanedText:
    """A document after cleaning. ``dropped`` counts the boilerplate lines that were removed.

    ``passages`` are the different removed texts, each where it was first in the document ``before`` their removal.
    """

    document: Document
    dropped: Mapping[str, int] = field(default_factory=dict)
    steps: tuple[EditedText, ...] = ()
    passages: tuple[tuple[int, int], ...] = ()
    before: CleanedText | None = None

    @property
    def words(self) -> int:
        """The number of words before the removal of boilerplate."""
        return count_words((self.before or self).document.text)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return the range in the original text for a range in the cleaned text."""
        for step in reversed(self.steps):
            start, end = step.to_old(start, end)
        return start, end


def clean(document: Document, boilerplate: Boilerplate | None = None) -> CleanedText:
    """Remove invisible characters, runs of blank lines and boilerplate from a document.

    Text is normalised to NFC, not NFKC, which would change code and formulas. In source code, only control characters
    are removed. ``boilerplate`` is the source's; that of the document's pages is detected here.
    """
    steps: list[EditedText] = []
    document = without_markup(document, steps)
    document = _apply(document, _invisible(document), steps)
    if document.form == "code":
        return CleanedText(document, steps=tuple(steps))
    document = _apply(document, list(_not_composed(document.text)), steps)
    pages = page_boilerplate(document)
    repeated = pages.repeated if boilerplate is None else (*boilerplate.repeated, *pages.repeated)
    groups = find_repeated(document, Boilerplate(repeated, pages.numbered)) if repeated else []
    parts = [part for group in groups for part in group]
    before = CleanedText(document, steps=tuple(steps)) if parts else None
    document = _apply(document, [(part.start, part.end, "") for part in parts], steps)
    document = _apply(document, _blank_runs(document), steps)
    return CleanedText(document, count_lines(parts), tuple(steps), tuple(_passages(groups)), before)


def without_markup(document: Document, steps: list[EditedText] | None = None) -> Document:
    """Return a document as a reader sees it: with its markup edited out."""
    if not document.markup:
        return document
    edited = _apply(document, document.markup, [] if steps is None else steps)
    blocks = (_trimmed(edited.text, block) for block in edited.blocks)
    return replace(edited, blocks=tuple(block for block in blocks if block.start < block.end), markup=())


def _trimmed(text: str, block: Block) -> Block:
    """Return a block without the white space that its markup left at its ends."""
    part = text[block.start : block.end]
    lead = len(part) - len(part.lstrip() if block.kind != "code" else part.lstrip("\r\n"))
    end = block.start + len(part.rstrip())
    return replace(block, start=min(block.start + lead, end), end=end)


def _passages(groups: Sequence[Sequence[BoilerplateCandidate]]) -> Iterator[tuple[int, int]]:
    """Yield the first place of each text among removed boilerplate; page numbers are no texts.

    A line of one word counts too: invoices may have the stamp "Paid".
    """
    seen: set[bytes] = set()
    for group in groups:
        digests = {digest for part in group for digest in part.digests}
        if not digests <= seen and any(part.has_content for part in group):
            yield group[0].start, group[-1].end
        seen |= digests


def _apply(document: Document, edits: Sequence[Edit], steps: list[EditedText]) -> Document:
    """Return the document after edits, with its blocks at their new places; blocks that became empty are dropped."""
    if not edits:
        return document
    edited = EditedText(document.text, edits)
    steps.append(edited)
    places = [edited.to_new(block.start, block.end) for block in document.blocks]
    moved = (
        replace(block, start=start, end=end)
        for block, (start, end) in zip(document.blocks, places, strict=True)
        if start < end
    )
    return replace(document, text=edited.text, blocks=tuple(moved))


def _invisible(document: Document) -> list[Edit]:
    pattern = _DIRTY_CODE if document.form == "code" else _DIRTY
    return [(match.start(), match.end(), _replacement(match[0])) for match in pattern.finditer(document.text)]


def _replacement(sign: str) -> str:
    if sign[0] == "\r" or sign in _LINE_ENDS:
        return "\n"
    if "\ud800" <= sign <= "\udfff":
        return "\ufffd"
    return " " if sign.isspace() and unicodedata.category(sign) == "Zs" else ""


def _not_composed(text: str) -> Iterator[Edit]:
    """Yield an edit for each base letter with marks that NFC writes differently."""
    start = 0
    if unicodedata.is_normalized("NFC", text):
        return
    for line in text.splitlines(keepends=True):
        if not unicodedata.is_normalized("NFC", line):
            yield from _clusters(line, start)
        start += len(line)


def _clusters(line: str, offset: int) -> Iterator[Edit]:
    starts = [at for at, sign in enumerate(line) if not at or not _combines(sign)]
    for low, high in zip(starts, [*starts[1:], len(line)], strict=True):
        composed = unicodedata.normalize("NFC", line[low:high])
        if composed != line[low:high]:
            yield offset + low, offset + high, composed


def _combines(sign: str) -> bool:
    """Return whether NFC combines a character with the one before: marks, and vowels and finals of Hangul."""
    return unicodedata.category(sign)[0] == "M" or "\u1160" <= sign <= "\u11ff"


def _blank_runs(document: Document) -> list[Edit]:
    code = [block for block in document.blocks if block.kind == "code"]
    edits = [(match.start(), match.end(), "\n") for match in _BLANK_RUN.finditer(document.text)]
    return [edit for edit in edits if not any(block.start < edit[1] and edit[0] < block.end for block in code)]


# -- chunks ------------------------------------------------------------------------------------------------------


def drop_tiny(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return the spans with at least three words, or all spans with a word if none has three."""
    meaningful = [span for span in spans if has_meaning(text[span.start : span.end])]
    return meaningful or [span for span in spans if WORDS.search(text, span.start, span.end)]
