"""The account of a document: how many of its visible words searches can reach, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.manifest.records import DocumentRecord, kept_share

#: A document with less than this share of its visible words is partial.
MIN_SHARE = 0.95
#: The reason of a loss of pictures. They may be decoration: without other losses, the document is not partial.
_PICTURES = "without a description"


@dataclass
class WordCount:
    """Words of a document's text, added up over its parts.

    ``text`` are those that the extractor returned, ``tiny`` those in chunks that are too small, ``lost`` those of
    boilerplate that is stored nowhere.
    """

    text: int = 0
    tiny: int = 0
    lost: int = 0

    def add(self, other: WordCount) -> None:
        """Add the words of another part."""
        self.text += other.text
        self.tiny += other.tiny
        self.lost += other.lost

    @property
    def searchable(self) -> int:
        """The words in chunks, also in those that are stored once for several documents."""
        return max(0, self.text - self.tiny - self.lost)


def account(record: DocumentRecord, document: Document, words: WordCount, *, has_chunks: bool) -> DocumentRecord:
    """Return a document's record with its share of visible words, and with what is missing."""
    declared = sum(loss.words for loss in document.losses)
    counted = words.text if document.visible_words is None else document.visible_words
    visible = max(counted, words.searchable + declared) if document.visible_words is not None else counted + declared
    share = kept_share(visible, words.searchable)
    is_short = share is not None and share < MIN_SHARE
    losses = list(document.losses)
    if not has_chunks:
        losses += [] if losses else [Loss("anything: no words were recognised in it")]
    elif is_short:
        losses += _unexplained(visible - declared - words.text, words)
    partial = is_short or not has_chunks or any(loss.words or _PICTURES not in loss.reason for loss in losses)
    return replace(record, visible_words=visible, kept_words=words.searchable, losses=tuple(losses), partial=partial)


def _unexplained(not_extracted: int, words: WordCount) -> list[Loss]:
    """Return the losses that no extractor has declared."""
    losses = []
    if not_extracted > 0:
        losses.append(Loss(f"about {_count(not_extracted)} that the file shows", words=not_extracted))
    if words.tiny:
        losses.append(Loss(f"{_count(words.tiny)} in parts that are too short to be searched", words=words.tiny))
    if words.lost:
        losses.append(Loss(f"{_count(words.lost)} of repeated lines", words=words.lost))
    return losses


def _count(words: int) -> str:
    return "1 word" if words == 1 else f"{words:,} words"
