"""Search hits: the chunks that a search returns, with their documents, places and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.records import ChunkRecord
from nearfield.media.video.time_ranges import FramePlace
from nearfield.stores.filters import Value
from nearfield.units import format_clock


def place_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a hit or location that say where a chunk is, from the chunk's payload.

    The payload of a chunk of an older version has no place in the text that ``Collection.text`` returns, no last page
    and no lines; ``start`` and ``end`` are then positions in the text as extracted.
    """
    start, end = payload.get("place") or (payload.get("start", 0), payload.get("end", 0))
    page, lines = payload.get("page"), payload.get("lines")
    return {
        "start": start,
        "end": end,
        "page": page,
        "last_page": payload.get("last_page", page),
        "page_unit": payload.get("page_unit", "page"),
        "lines": None if lines is None else (lines[0], lines[1]),
        "start_time": payload.get("start_time"),
        "end_time": payload.get("end_time"),
        "kind": payload.get("kind", TEXT),
    }


def frames_of(payload: Mapping[str, Any]) -> tuple[FramePlace, ...]:
    """Return the frames of a video that the vector of a chunk comes from, from the payload of its record."""
    return tuple(FramePlace(number, seconds) for number, seconds in payload.get("frames", ()))


@dataclass(frozen=True)
class Location:
    """A place in a document.

    ``start`` and ``end`` are characters of the text that ``Collection.text`` returns. ``page`` and ``last_page`` count
    from 1 in units of ``page_unit``: page, slide or sheet. ``lines`` are the first and last line in the file, from 1;
    None if the file is no text. ``start_time`` and ``end_time`` are the seconds of a recording; None without one.
    ``kind`` is text, image, page, audio or video.
    """

    document: str
    start: int
    end: int
    page: int | None = None
    last_page: int | None = None
    page_unit: str = "page"
    lines: tuple[int, int] | None = None
    start_time: float | None = None
    end_time: float | None = None
    kind: str = TEXT

    def describe(self) -> str:
        """Return the place as a person looks for it: ``lines 3-9``, ``page 4``, ``0:12-0:22``; empty if unknown."""
        if self.lines is not None:
            return _range("line", *self.lines)
        if self.start_time is not None:
            return format_times(self.start_time, self.end_time)
        return "" if self.page is None else _range(self.page_unit, self.page, self.last_page or self.page)


def _range(unit: str, first: int, last: int) -> str:
    return f"{unit} {first}" if first == last else f"{unit}s {first}-{last}"


def format_times(start: float, end: float | None) -> str:
    """Return a part of a recording for people: ``0:12-0:22``, or ``0:12`` within a second."""
    first, last = format_clock(start), format_clock(max(start, end or 0.0))
    return first if first == last else f"{first}-{last}"


def hide_shared(text: str, shared: Sequence[Sequence[int]]) -> str:
    """Return a hit's text with ``[...]`` instead of its shared passages."""
    for start, end in reversed(shared):
        text = f"{text[:start]}{_mark(text[start:end])}{text[end:]}"
    return text


def _mark(passage: str) -> str:
    """Return the mark that replaces a shared passage, with the white space around it."""
    lead = passage[: len(passage) - len(passage.lstrip())]
    return f"{lead or ' '}[...]{passage[len(passage.rstrip()) :] or ' '}"


@dataclass(frozen=True)
class PlacedChunk(Location):
    """A chunk of a document, at its place. ``context`` is put in front of its text when it is embedded."""

    id: str = ""
    tokens: int = 0
    context: str = ""

    @classmethod
    def from_record(cls, record: ChunkRecord) -> PlacedChunk:
        """Return the public form of a manifest's record."""
        place = place_of(record.payload)
        return cls(record.document, id=record.id, tokens=record.tokens, context=record.context, **place)


@dataclass(frozen=True)
class SearchHit:
    """A chunk that matches a query; the best hit is first.

    ``score`` is the relevance, from 0 (unrelated) to 1, by ``search.relevance``; of a ``Searcher`` without that scale,
    the score of the last stage. ``document`` is the document's id, which names its source and key. ``start``, ``end``,
    pages, lines and times are its place, as in ``Location``: ``Collection.text(document)[start:end]`` is the text.
    ``highlights`` are the sentences of ``text`` that match best, each from start to end in characters of it, the best
    first. ``also`` are other places with nearly the same text, or with copies of a picture or clip. ``stages`` are the
    score and rank (from 1) by stage, such as ``{"dense": {"score": 0.71, "rank": 2}}``. ``shared`` are the parts of
    ``text`` that were not compared with the query: passages that documents or pages share, which are separate chunks.
    ``bridge`` says what the search loses if it went through a bridge into the vectors of an earlier model; else it is
    empty. ``kind`` is that of the chunk: a picture, page, sound or video has no text. ``others`` are further hits that
    are folded into this one: other parts of its document with ``group_by``, or the page whose text it is; they have no
    highlights. ``frames`` are those of a video that the vector comes from, each with its number in the video (from 0;
    None if it is unknown) and its second; ``segment`` is the number of the part of a sound or video, from 1.
    """

    id: str
    document: str
    score: float
    text: str
    title: str = ""
    start: int = 0
    end: int = 0
    page: int | None = None
    headings: tuple[str, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
    highlights: tuple[tuple[int, int], ...] = ()
    also: tuple[Location, ...] = ()
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    last_page: int | None = None
    page_unit: str = "page"
    lines: tuple[int, int] | None = None
    shared: tuple[tuple[int, int], ...] = ()
    bridge: str = ""
    start_time: float | None = None
    end_time: float | None = None
    kind: str = TEXT
    others: tuple[SearchHit, ...] = ()
    frames: tuple[FramePlace, ...] = ()
    segment: int | None = None

    @property
    def own_text(self) -> str:
        """The text that was compared with the query: ``[...]`` stands for shared passages."""
        return hide_shared(self.text, self.shared)

    def without_shared(self) -> SearchHit:
        """Return the hit with its own text; its place stays the same."""
        marks = [(end, len(_mark(self.text[start:end])) - (end - start)) for start, end in self.shared]
        highlights = tuple(
            (
                low + sum(moved for end, moved in marks if end <= low),
                high + sum(moved for end, moved in marks if end <= low),
            )
            for low, high in self.highlights
        )
        return replace(self, text=self.own_text, highlights=highlights, shared=())

    @property
    def location(self) -> Location:
        """The place of the chunk."""
        return Location(
            self.document,
            self.start,
            self.end,
            self.page,
            self.last_page,
            self.page_unit,
            self.lines,
            self.start_time,
            self.end_time,
            self.kind,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)
