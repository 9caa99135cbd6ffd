"""``DocumentInfo``: a document of a collection as ``Collection.documents`` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearfield.corpus.document import Loss
from nearfield.corpus.manifest.records import DocumentRecord, kept_share
from nearfield.stores.filters import Value

#: Internal states, by what users see.
_USER_STATES = {"stale": "done", "new": "writing"}


@dataclass(frozen=True)
class DocumentInfo:
    """A document of a collection: where it comes from, its state (done, partial, failed, ...), and why it failed.

    ``share`` is the part of its visible words that searches can reach, 0 to 1; None if they were not counted.
    ``losses`` is what is missing.
    """

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: Mapping[str, Value]
    visible_words: int | None = None
    kept_words: int | None = None
    share: float | None = None
    losses: tuple[Loss, ...] = ()

    @classmethod
    def from_record(cls, record: DocumentRecord) -> DocumentInfo:
        """Return the public form of a manifest's record."""
        return cls(
            id=record.id,
            source=record.source,
            key=record.key,
            title=record.title,
            state=_user_state(record),
            error=record.error,
            chunks=record.chunks,
            tokens=record.tokens,
            fields=record.fields,
            visible_words=record.visible_words,
            kept_words=record.kept_words,
            share=kept_share(record.visible_words, record.kept_words),
            losses=record.losses,
        )


def _user_state(record: DocumentRecord) -> str:
    if record.error:
        return "failed"
    state = _USER_STATES.get(record.state, record.state)
    return "partial" if state == "done" and record.partial else state
