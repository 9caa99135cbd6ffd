"""The places of search hits: in the text that is read, and in other documents with nearly the same text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest.keyword_index import PAGE
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.reading_text import ReadingText, read_text, shared_ranges, shift_highlights
from nearfield.corpus.manifest.records import ChunkRecord
from nearfield.corpus.search.content.media_filters import with_text_kind
from nearfield.corpus.search.hit import Location, SearchHit, place_of
from nearfield.stores.filters import BUILT_IN, All, Compare, Either, Filter, Not, matches, parse_filter


class HitPlaces:
    """Completes the hits of one search: their places, and the places of their near-duplicates.

    Args:
        manifest: the collection's manifest.
        where: the filter of the search, as the caller wrote it or parsed.
        config: the definition of the collection, with the fields for filters.
    """

    def __init__(self, manifest: Manifest, where: object, config: CollectionConfig) -> None:
        self._manifest = manifest
        parsed = isinstance(where, (Compare, All, Either, Not))
        self._where = cast("Filter", where) if parsed else parse_filter(where, config.all_fields)
        if self._where is not None and config.media_kinds:
            self._where = with_text_kind(self._where)
        #: Texts of documents whose chunks were stored by version 0.1, without their places in them.
        self._texts: dict[str, ReadingText] = {}

    def complete(self, hit: SearchHit) -> SearchHit:
        """Return a hit with its place and those of its near-duplicates (``also``).

        If the filter matches a near-duplicate only, the hit is that one: its document, place, title and fields.
        """
        own = self._manifest.chunk(hit.id)
        duplicates = self._manifest.duplicates_of(hit.id)
        if own is None:
            return hit
        chosen = own
        if self._where is not None and duplicates and not self._matches(own):
            chosen = next((chunk for chunk in duplicates if self._matches(chunk)), own)
        others = [chunk for chunk in (own, *duplicates) if chunk is not chosen]
        location = self._location(chosen)
        shown = hit if chosen is own else _as_duplicate(hit, chosen)
        if cuts := chosen.payload.get("cuts"):  # passages that the document shares with others are inside of it
            text = self._text(chosen.document).text[location.start : location.end]
            highlights = shift_highlights(shown.highlights, cuts)
            shown = replace(shown, text=text, highlights=highlights, shared=shared_ranges(cuts))
        return replace(
            shown,
            start=location.start,
            end=location.end,
            also=tuple(self._location(chunk) for chunk in others),
            others=tuple(map(self.complete, hit.others)),
        )

    def _matches(self, chunk: ChunkRecord) -> bool:
        values: dict[str, Any] = {name: getattr(chunk, name) for name in BUILT_IN}
        if (page := chunk.fields.get(PAGE)) is not None:
            values[PAGE] = range(int(page), int(chunk.payload.get("last_page", page)) + 1)
        return matches(self._where, {**chunk.fields, **values})

    def _location(self, chunk: ChunkRecord) -> Location:
        location = Location(chunk.document, **place_of(chunk.payload))
        if "place" in chunk.payload or chunk.kind != TEXT:
            return location
        start, end = self._text(chunk.document).places.get(chunk.id, (location.start, location.end))
        return replace(location, start=start, end=end)

    def _text(self, document: str) -> ReadingText:
        if document not in self._texts:
            self._texts[document] = read_text(self._manifest, document)
        return self._texts[document]


def _as_duplicate(hit: SearchHit, chunk: ChunkRecord) -> SearchHit:
    """Return the hit of a near-duplicate; its text may differ in a few words, so that highlights do not fit it."""
    return replace(
        hit,
        document=chunk.document,
        text=chunk.text,
        title=chunk.payload.get("title", ""),
        headings=tuple(chunk.payload.get("headings", ())),
        fields=dict(chunk.fields),
        highlights=hit.highlights if chunk.text == hit.text else (),
        frames=(),
        segment=chunk.payload.get("segment"),
        **place_of(chunk.payload),
    )
