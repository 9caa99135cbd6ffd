"""The account of a document: how many of its visible words searches can reach, and what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from nearfield.corpus.document import Document, Loss, MissingText
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, kept_share
from nearfield.corpus.search.hit import format_times
from nearfield.corpus.word_count import count_words

#: A document with less than this share of its visible words is partial.
MIN_SHARE = 0.95
#: Ends the reasons of segments that cannot be decoded.
_UNDECODED = "which cannot be decoded"
#: Missing texts of a kind that are named, characters of each, and pages.
_MAX_NAMED, _MAX_SHOWN, _MAX_PAGES = 4, 40, 50


@dataclass
class MissingTexts:
    """Texts of one kind that are missing: the number of their words, the first of them, and the first pages."""

    words: int = 0
    named: list[str] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)

    @classmethod
    def from_texts(cls, texts: Iterable[MissingText]) -> MissingTexts:
        """Return the account of some texts."""
        result = cls()
        for missing in texts:
            page = () if missing.page is None else (missing.page,)
            result.add(cls(count_words(missing.text), [_shorten(missing.text)], list(page)))
        return result

    def add(self, other: MissingTexts) -> None:
        """Add the texts of another part."""
        self.words += other.words
        self.named = list(dict.fromkeys([*self.named, *other.named]))[: _MAX_NAMED + 1]
        self.pages = list(dict.fromkeys([*self.pages, *other.pages]))[:_MAX_PAGES]

    def loss(self, reason: str) -> Loss:
        """Return what is missing; ``reason`` says what kind of text it is."""
        return Loss(f"{reason}{_name(self.named)}", self.words, tuple(self.pages))


@dataclass
class WordCount:
    """Words of a document's text, added up over its parts.

    ``text`` are those that the extractor returned, ``tiny`` those in chunks that are too small.
    """

    text: int = 0
    tiny: MissingTexts = field(default_factory=MissingTexts)

    def add(self, other: WordCount) -> None:
        """Add the words of another part."""
        self.text += other.text
        self.tiny.add(other.tiny)

    @property
    def searchable(self) -> int:
        """The words in chunks, also in those that are stored once for several documents."""
        return max(0, self.text - self.tiny.words)


def account(record: DocumentRecord, document: Document, words: WordCount, *, has_chunks: bool) -> DocumentRecord:
    """Return a document's record with its share of visible words, and with what is missing.

    Losses that the extractor did not declare make a document partial only if its share is low.
    """
    declared = sum(loss.words for loss in document.losses)
    counted = words.text if document.visible_words is None else document.visible_words
    visible = max(counted, words.searchable + declared) if document.visible_words is not None else counted + declared
    share = kept_share(visible, words.searchable)
    is_short = share is not None and share < MIN_SHARE
    losses = list(document.losses)
    if has_chunks:
        losses += _unexplained(visible - declared - words.text, document.missing, words)
    elif not losses:
        losses = [Loss("anything: no words were recognised in it")]
    partial = is_short or not has_chunks or not all(loss.may_be_decoration for loss in document.losses)
    return replace(record, visible_words=visible, kept_words=words.searchable, losses=tuple(losses), partial=partial)


def account_again(record: DocumentRecord, listed: Sequence[Loss], pages: Collection[int | None]) -> DocumentRecord:
    """Return the record of a document whose segments were listed again, and whose text is unchanged.

    Losses of the earlier segments are left out, and those of scanned pages that are now searched as pictures.
    """
    remaining = (loss for loss in record.losses if _UNDECODED not in loss.reason)
    losses = tuple(dict.fromkeys((*(loss for loss in remaining if not _is_covered(loss, pages)), *listed)))
    share = kept_share(record.visible_words, record.kept_words)
    is_short = share is not None and share < MIN_SHARE
    partial = is_short or not all(loss.may_be_decoration for loss in losses)
    return replace(record, losses=losses, partial=partial)


def _is_covered(loss: Loss, pages: Collection[int | None]) -> bool:
    return not loss.words and bool(loss.pages) and "OCR" in loss.advice and all(page in pages for page in loss.pages)


def with_undecoded(record: DocumentRecord, losses: Sequence[Loss]) -> DocumentRecord:
    """Return the record of a document of which some segments cannot be decoded."""
    return replace(record, losses=(*record.losses, *losses), partial=True)


def undecoded(chunk: ChunkRecord, error: str) -> Loss:
    """Return the loss of a segment that cannot be decoded."""
    page = chunk.payload.get("page")
    start, end = chunk.payload.get("start_time"), chunk.payload.get("end_time")
    place = "the picture" if page is None else f"page {page}"
    place = place if start is None else format_times(start, end)
    return Loss(f"{place}, {_UNDECODED} ({error})", pages=() if page is None else (page,))


def _unexplained(not_extracted: int, missing: Sequence[MissingText], words: WordCount) -> list[Loss]:
    """Return the losses that no extractor has declared."""
    losses = []
    if not_extracted > 0:
        texts = replace(MissingTexts.from_texts(missing), words=not_extracted)
        losses.append(texts.loss(f"about {_count(not_extracted)} that the file shows"))
    if words.tiny.words:
        losses.append(words.tiny.loss(f"{_count(words.tiny.words)} in parts that are too short to be searched"))
    return losses


def _name(texts: Sequence[str]) -> str:
    """Return the first of some texts in quotes, after a colon."""
    if not texts:
        return ""
    more = ", ..." if len(texts) > _MAX_NAMED else ""
    return ": " + ", ".join(f'"{text}"' for text in texts[:_MAX_NAMED]) + more


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN].rstrip()}..."


def _count(words: int) -> str:
    return "1 word" if words == 1 else f"{words:,} words"
