"""Pictures of hits for agents: what a person sees of a picture, a page or a second of a video, small and few."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from mcp_types import ContentBlock, ImageContent, TextContent

from nearfield.corpus.collection import Collection
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import NearfieldError
from nearfield.server.collections.document_renderings import ThumbnailPlace

#: Maximum pictures of one reply, pixels of their longer side, and bytes of all of them.
MAX_PICTURES, _SIZE, _MAX_BYTES = 10, 512, 2**20
#: Kinds of chunks that have a picture.
_KINDS = ("image", "page", "video")


def hit_pictures(collection: Collection, hits: Sequence[SearchHit], count: int) -> list[ContentBlock]:
    """Return pictures of the first ``count`` hits that have one, each after a line with the number of its hit.

    What cannot be shown is left out: a file that is gone or has changed, or that the machine has no library for.
    """
    content: list[ContentBlock] = []
    size = 0
    for number, hit in enumerate(hits, 1):
        if len(content) >= 2 * count:
            break
        data = _picture(collection, hit) if hit.kind in _KINDS else b""
        if not data or size + len(data) > _MAX_BYTES:
            continue
        size += len(data)
        encoded = base64.b64encode(data).decode("ascii")
        content.append(TextContent(type="text", text=f"Picture of [{number}]:"))
        content.append(ImageContent(type="image", data=encoded, mime_type="image/jpeg"))
    return content


def _picture(collection: Collection, hit: SearchHit) -> bytes:
    place = ThumbnailPlace(hit.page or 1, hit.start_time or 0.0, _SIZE)
    try:
        return place.render(collection.document_file(hit.document)).data
    except NearfieldError:
        return b""
