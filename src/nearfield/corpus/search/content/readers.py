"""What features read of a query: the parts that their models encode, or that have stored vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.media.kinds import NOUNS
from nearfield.corpus.search.content.query import ContentQuery, LikeChunks, QueryPart
from nearfield.errors import InputError
from nearfield.inference.preparation.media_inputs import SEVERAL

if TYPE_CHECKING:
    from nearfield.corpus.search.plan import Searchable


def readable_parts(feature: Searchable, query: ContentQuery) -> Iterator[QueryPart]:
    """Yield the parts of a query that a feature reads; of content that it reads apart, the parts that it does."""
    for part in query.parts:
        fused = feature.fuses and set(part.modalities) <= set(feature.modalities)
        for piece in (part,) if fused else part.split():
            if reads_part(feature, piece):
                yield piece


def read_share(feature: Searchable, query: ContentQuery) -> float:
    """Return the share of a query's weight that a feature reads."""
    return sum(part.weight for part in readable_parts(feature, query)) / query.weight


def read_modalities(feature: Searchable, query: ContentQuery) -> set[str]:
    """Return the modalities of the parts that a feature reads; those of chunks by their kinds."""
    names: set[str] = set()
    for part in readable_parts(feature, query):
        names |= set(part.value.kinds if isinstance(part.value, LikeChunks) else part.modalities)
    return names


def reads_part(feature: Searchable, part: QueryPart) -> bool:
    """Return whether a feature has a vector for a part, which its model reads as a whole."""
    if isinstance(part.value, LikeChunks):
        return any(kind in feature.reads for kind in part.value.kinds)
    readable = feature.modalities if feature.encode_media is not None else (TEXT,) * feature.reads_queries
    return all(name in readable for name in part.modalities)


def text_share(query: ContentQuery) -> float:
    """Return the share of a query's weight that is text."""
    texts = (piece.weight for part in query.parts for piece in part.split() if isinstance(piece.value, str))
    return sum(texts) / query.weight


def require_readers(query: ContentQuery, names: Sequence[str], features: Mapping[str, Searchable], mode: str) -> None:
    """Refuse a query with a part that no feature of a search reads; the message says which features could.

    Args:
        query: the query.
        names: the features that are searched, and ``bm25`` for the keyword index.
        features: those of the collection.
        mode: that of the search, or the option that needs a feature, for messages.

    Raises:
        InputError: see above.
    """
    for part in (piece for whole in query.parts for piece in whole.split()):
        if any(_ranks(name, features, part) for name in names):
            continue
        able = [name for name, feature in features.items() if reads_part(feature, part)]
        liked = part.value.name if isinstance(part.value, LikeChunks) else ""
        noun = f"vectors of {liked}" if liked else SEVERAL[part.modalities[0]]
        if able:
            advice = f"These features can be searched by it: {', '.join(map(repr, able))}. Search with one as mode."
        elif liked:
            advice = "Choose a chunk whose kind they read."
        else:
            advice = (
                "Add a feature whose model reads them to the definition, such as "
                f'features.{part.modalities[0]} = {{kind = "{part.modalities[0]}", model = "..."}}, and index again.'
            )
        raise InputError(f"{_describe(features, noun, bool(liked), mode)} {advice}", param="query")


def _ranks(name: str, features: Mapping[str, Searchable], part: QueryPart) -> bool:
    return reads_part(features[name], part) if name in features else isinstance(part.value, str)


def _describe(features: Mapping[str, Searchable], noun: str, is_like: bool, mode: str) -> str:
    read = [
        f"{name!r} {'has vectors of' if is_like else 'reads'} {_nouns(feature, is_like)}"
        for name, feature in features.items()
    ]
    verb = "has" if is_like else "reads"
    return f"No feature that is searched ({mode}) {verb} {noun}: {', '.join(read)}."


def _nouns(feature: Searchable, is_like: bool) -> str:
    names = (
        [NOUNS[kind] for kind in feature.reads] if is_like else [SEVERAL.get(one, one) for one in feature.modalities]
    )
    return " and ".join(names)
