"""Paragraphs of what is said: of the cues of subtitles and of the segments of a transcript."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.units import format_clock

_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u00bb)\]]*$")
#: Seconds without speech after which a paragraph begins; length of a paragraph at whose next sentence another one
#: begins; maximum length.
_PAUSE, _LONG, _LONGEST = 3.0, 30.0, 60.0


@dataclass
class SpokenCue:
    """What is said from ``start`` to ``end`` (seconds), by ``voice`` if that is known."""

    start: float
    end: float
    lines: list[str]
    voice: str = ""


@dataclass
class SpokenPassage:
    """Cues of one voice without a long pause, from ``start`` to ``end`` (seconds)."""

    start: float
    voice: str
    parts: list[str] = field(default_factory=list)
    end: float = 0.0


def spoken_passages(cues: Iterable[SpokenCue]) -> Iterator[SpokenPassage]:
    """Yield the paragraphs of cues, which are in order."""
    passage: SpokenPassage | None = None
    for cue in cues:
        if passage is None or _begins_another(passage, cue):
            if passage is not None:
                yield passage
            passage = SpokenPassage(cue.start, cue.voice)
        passage.parts += cue.lines
        passage.end = cue.end
    if passage is not None:
        yield passage


def _begins_another(passage: SpokenPassage, cue: SpokenCue) -> bool:
    length = cue.start - passage.start
    ended = bool(passage.parts) and _SENTENCE_END.search(passage.parts[-1]) is not None
    return (
        cue.voice != passage.voice
        or cue.start - passage.end >= _PAUSE
        or (length >= _LONG and ended)
        or length >= _LONGEST
    )


def add_passages(builder: DocumentBuilder, passages: Iterable[SpokenPassage]) -> None:
    """Add passages to a document, each as a paragraph after the time at which it begins."""
    for passage in passages:
        voice = f"{passage.voice}: " if passage.voice else ""
        builder.add(
            voice + " ".join(passage.parts),
            markup=f"[{format_clock(passage.start)}] ",
            times=(passage.start, max(passage.start, passage.end)),
        )
