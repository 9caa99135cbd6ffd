"""Queries: a text, a picture, sound or video, chunks of the collection, or several of these with weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nearfield.corpus.document import TEXT
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image, is_image
from nearfield.media.video.video import Video
from nearfield.text_inputs import describe, many_texts

#: What a caller may search for.
SearchQuery: TypeAlias = "str | Image | Audio | Video | MixedContent | Sequence[Any]"
#: The kind of a part that is chunks of the collection.
LIKE = "like"
_MODALITIES: tuple[tuple[type[Any], str], ...] = ((Image, "image"), (Audio, "audio"), (Video, "video"))
_MAX_PARTS, _MAX_WEIGHT = 32, 1e6


@dataclass(frozen=True)
class LikeChunks:
    """Chunks whose stored vectors are searched for, in place of something that a model encodes.

    ``name`` is what messages call them. ``kinds`` are those of the chunks. The results leave out these chunks, or
    ``document`` if they are one.
    """

    name: str
    ids: tuple[str, ...]
    kinds: tuple[str, ...] = (TEXT,)
    document: str | None = None


@dataclass(frozen=True)
class QueryPart:
    """A part of a query: its value, and how much it counts."""

    value: str | Image | Audio | Video | MixedContent | LikeChunks
    weight: float = 1.0

    @property
    def modalities(self) -> tuple[str, ...]:
        """What a model must read: text, image, audio, video; ``like`` for stored vectors."""
        value = self.value
        if isinstance(value, MixedContent):
            return tuple(dict.fromkeys(modality_of(part) for part in value.parts))
        return (LIKE,) if isinstance(value, LikeChunks) else (modality_of(value),)

    def split(self) -> tuple[QueryPart, ...]:
        """Return the parts of content that a model does not read together, of equal weight."""
        if not isinstance(self.value, MixedContent):
            return (self,)
        share = self.weight / len(self.value.parts)
        return tuple(QueryPart(part, share) for part in self.value.parts)


@dataclass(frozen=True)
class ContentQuery:
    """A query of one part or several."""

    parts: tuple[QueryPart, ...]

    @property
    def modalities(self) -> frozenset[str]:
        """Those of all parts."""
        return frozenset(name for part in self.parts for name in part.modalities)

    @property
    def likes(self) -> tuple[LikeChunks, ...]:
        """The parts that are chunks of the collection."""
        return tuple(part.value for part in self.parts if isinstance(part.value, LikeChunks))

    @property
    def text(self) -> str:
        """Its texts, one after the other; empty without any."""
        texts = (piece.value for part in self.parts for piece in part.split())
        return " ".join(text for text in texts if isinstance(text, str))

    @property
    def weight(self) -> float:
        """The sum of the weights."""
        return sum(part.weight for part in self.parts)


def modality_of(value: object) -> str:
    """Return what a model must read for a value that is no content of several parts."""
    return next((name for kind, name in _MODALITIES if isinstance(value, kind)), TEXT)


def is_content(value: object) -> bool:
    """Return whether a query is more than a text: a picture, sound or video, or several parts with one of them."""
    if isinstance(value, (list, tuple)):
        return any(isinstance(part, str) or is_content(part) for part in value)
    return is_image(value) or isinstance(value, (Audio, Video, MixedContent, ContentQuery, LikeChunks))


def parse_queries(queries: Any, *, likes: Sequence[LikeChunks] = (), weights: Sequence[float] | None = None) -> Any:
    """Return queries of several parts; texts alone are returned unchanged, to be checked where they are encoded.

    Args:
        queries: each a text, picture, sound or video, a sequence of these, or None if ``likes`` are all.
        likes: added to each query.
        weights: of the parts of each query in order, then of ``likes``; 1 if left out.

    Raises:
        InputError: a query has no part or one of another type, or the weights do not fit.
    """
    plain = not likes and weights is None
    if plain and not (isinstance(queries, (list, tuple)) and any(map(_is_no_text, queries))):
        return queries
    listed = queries if isinstance(queries, (list, tuple)) else many_texts(queries, "queries", "Query")
    return [_parse(query, number, likes, weights) for number, query in enumerate(listed)]


def _is_no_text(query: object) -> bool:
    """Return whether a query is content, or what was meant as content: a file, or nothing at all."""
    is_nothing = query is None or (isinstance(query, (list, tuple)) and not query)
    return is_nothing or is_content(query) or _is_raw(query)


def checked_texts(queries: Sequence[str]) -> list[ContentQuery]:
    """Return texts as queries.

    Raises:
        InputError: one is empty, or no text.
    """
    texts = many_texts(queries, "queries", "Query")
    for number, query in enumerate(texts):
        if not query.strip():
            raise InputError(f"Query {number} is empty.", param="query")
    return [ContentQuery((QueryPart(text),)) for text in texts]


def _parse(query: Any, number: int, likes: Sequence[LikeChunks], weights: Sequence[float] | None) -> ContentQuery:
    if isinstance(query, ContentQuery):
        return query
    values = [*(_value(part, f"Query {number}") for part in _parts(query)), *likes]
    if not values:
        raise InputError(f"Query {number} is empty: give a text, Image, Audio or Video, or like.", param="query")
    if len(values) > _MAX_PARTS:
        raise InputError(f"Query {number} has {len(values)} parts: give 1 to {_MAX_PARTS}.", param="query")
    pairs = zip(values, _weights(weights, len(values)), strict=True)
    return ContentQuery(tuple(QueryPart(value, weight) for value, weight in pairs))


def _parts(query: Any) -> Iterator[Any]:
    """Yield the parts of a query, and of queries within it."""
    if not isinstance(query, (list, tuple)):
        yield from () if query is None else (query,)
        return
    for part in query:
        yield from _parts(part)


def _value(part: Any, name: str) -> Any:
    if isinstance(part, str):
        if not part.strip():
            raise InputError(f"{name} is empty.", param="query")
        return part
    if isinstance(part, MixedContent):
        return part if part.parts else _value("", name)
    if isinstance(part, (Image, Audio, Video, LikeChunks)):
        return part
    if is_image(part):
        return Image(part)
    advice = " To search by a file, give Image(path=...), Audio(path=...) or Video(path=...)." if _is_raw(part) else ""
    raise InputError(
        f"{name} is a text, Image, Audio, Video, MixedContent or several of them, not {describe(part)}.{advice}",
        param="query",
    )


def _is_raw(part: object) -> bool:
    return isinstance(part, (bytes, bytearray, memoryview, os.PathLike))


def _weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    listed = list(weights) if isinstance(weights, Iterable) and not isinstance(weights, str) else []
    if len(listed) != count:
        raise InputError(f"part_weights has one number for each of the {count} parts of a query.", param="part_weights")
    return [_weight(value) for value in listed]


def _weight(value: object) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= _MAX_WEIGHT:  # type: ignore[operator]
        raise InputError(
            f"A weight of part_weights is a number above 0, up to {_MAX_WEIGHT:g}, not {value!r:.60}.",
            param="part_weights",
        )
    return float(value)  # type: ignore[arg-type]
