"""Chunks and documents of a collection as queries: "more like this", by their stored vectors."""

from __future__ import annotations

from collections.abc import Sequence

from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.search.content.query import LikeChunks
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import InputError, NotThere
from nearfield.message_text import quote_name
from nearfield.text_inputs import describe

#: Chunks of a long document whose vectors are averaged, evenly spread over it.
_MAX_CHUNKS = 256
_CHUNKS = "SELECT id, coalesce(json_extract(payload, '$.kind'), 'text') FROM chunks WHERE document = ? ORDER BY ordinal"
_DUPLICATES = "SELECT kept_chunk, coalesce(json_extract(value, '$.payload.kind'), 'text') FROM duplicates WHERE "
_ORIGINAL = f"{_DUPLICATES} json_extract(value, '$.id') = ?"
_ORIGINALS = f"{_DUPLICATES} document = ? ORDER BY ordinal"
#: What precedes the ids of documents that a collection was given as texts.
_INLINE = "put:"
Like = str | SearchHit


def find_likes(manifest: Manifest, like: Like | Sequence[Like] | None) -> list[LikeChunks]:
    """Return the chunks that the ids of chunks, hits or documents name.

    Args:
        manifest: that of the collection.
        like: an id or a hit, several of them, or None.

    Raises:
        InputError: one of them is no id, or its document has no chunk.
        NotThere: the collection has no such chunk or document.
    """
    several = [] if like is None else [like] if isinstance(like, (str, SearchHit)) else like
    if not isinstance(several, Sequence):
        raise InputError(f"like is the id of a chunk or document, or several, not {describe(like)}.", param="like")
    return [_find(manifest, one) for one in several]


def _find(manifest: Manifest, like: object) -> LikeChunks:
    if isinstance(like, SearchHit):
        like = like.id
    if not isinstance(like, str):
        raise InputError(f"like is the id of a chunk or document, not {describe(like)}.", param="like")
    name = quote_name(like)
    if (chunk := manifest.chunk(like)) is not None:
        return LikeChunks(f"chunk {name}", (chunk.id,), (chunk.kind,))
    record = manifest.document(like) or manifest.document(f"{_INLINE}#{like}")
    if record is not None:
        own = manifest.rows(_CHUNKS, (record.id,))
        rows = [(str(key), str(kind)) for key, kind in own or manifest.rows(_ORIGINALS, (record.id,))]
        if not rows:
            raise InputError(f"Document {name} has no chunk to compare with.", param="like")
        ids, kinds = tuple(key for key, _ in _spread(rows)), tuple(dict.fromkeys(kind for _, kind in rows))
        # Chunks that its own repeat are in other documents.
        return LikeChunks(f"document {name}", ids, kinds, record.id if own else None)
    for original, kind in manifest.rows(_ORIGINAL, (like,)):
        return LikeChunks(f"chunk {name}", (str(original),), (str(kind),))
    raise NotThere(f"The collection has no chunk or document {name}: give an id of a search's results.", param="like")


def _spread(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    step = -(-len(rows) // _MAX_CHUNKS)
    return rows[::step]
