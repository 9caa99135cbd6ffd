"""Handlers of thumbnails and clips of documents."""

from __future__ import annotations

import math
from dataclasses import replace

from nearfield.errors import InputError
from nearfield.server.collections.document_renderings import (
    SOUND_FORMATS,
    THUMBNAIL_TYPES,
    ClipPlace,
    Rendering,
    ThumbnailPlace,
    rendering_tag,
)
from nearfield.server.dialects import Reply
from nearfield.server.dialects.collections.byte_ranges import RangeNotSatisfiable, requested_range
from nearfield.server.dialects.collections.requests import query_number, use_collection
from nearfield.server.http.request_context import RequestContext

#: Pixels of the longer side of a thumbnail: the default and the maximum.
_SIZE, _MAX_SIZE = 256, 1024
_MAX_SECONDS = 10**7


async def get_thumbnail(_: None, context: RequestContext) -> Reply:
    """Return a small picture of a document: of the picture, of a page, or of a second of a video."""
    place = ThumbnailPlace(
        query_number(context, "page", default=1, min_value=1, max_value=10**7),
        _seconds(context, "time", 0.0),
        query_number(context, "size", default=_SIZE, min_value=16, max_value=_MAX_SIZE),
        "webp" if _choice(context, "format", tuple(THUMBNAIL_TYPES)) == "webp" else "jpeg",
    )
    return await _render(context, place)


async def get_clip(_: None, context: RequestContext) -> Reply:
    """Return a part of a sound or video."""
    start = _seconds(context, "start", 0.0)
    end = _seconds(context, "end", start + 10.0)
    if end <= start:
        raise InputError(f"end must be after start ({start:g} s), not {end:g} s.", param="end")
    form = SOUND_FORMATS[_choice(context, "format", tuple(SOUND_FORMATS))] if "format" in context.query else None
    return await _render(context, ClipPlace(start, end, form))


async def _render(context: RequestContext, place: ThumbnailPlace | ClipPlace) -> Reply:
    document = context.query.get("id", "")
    file = await use_collection(context, lambda collection: collection.document_file(document), models=False)
    tag = rendering_tag(file, place)
    headers = {"etag": tag, "cache-control": "private, max-age=300"}
    if tag in context.headers.get("if-none-match", ""):
        return Reply(b"", 304, headers=headers)
    rendering: Rendering = await use_collection(context, lambda _: place.render(file), models=False)
    if isinstance(place, ClipPlace):
        headers["x-nearfield-clip-start"] = f"{rendering.start:g}"
    return _requested_part(Reply(rendering.data, media_type=rendering.media_type, headers=headers), context)


def _requested_part(reply: Reply, context: RequestContext) -> Reply:
    """Return the bytes that the request is for, or status 416 if there are none."""
    size, headers = len(reply.content), {**reply.headers, "accept-ranges": "bytes"}
    try:
        part = requested_range(context.headers, size, reply.headers["etag"])
    except RangeNotSatisfiable:
        return Reply(b"", 416, headers={**headers, "content-range": f"bytes */{size}"})
    if part is None:
        return replace(reply, headers=headers)
    headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return replace(reply, content=reply.content[part], status=206, headers=headers)


def _seconds(context: RequestContext, name: str, default: float) -> float:
    value = context.query.get(name)
    if value is None:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MAX_SECONDS:
        raise InputError(f"{name} must be a number of seconds, 0 or more, not {value[:50]!r}.", param=name)
    return seconds


def _choice(context: RequestContext, name: str, values: tuple[str, ...]) -> str:
    value = context.query.get(name, values[0])
    if value not in values:
        raise InputError(f"{name} must be {' or '.join(values)}, not {value[:50]!r}.", param=name)
    return value
