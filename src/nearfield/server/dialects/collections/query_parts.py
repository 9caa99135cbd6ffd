"""Queries of searches: texts, pictures, sounds and videos of a request body, or of a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nearfield.errors import InputError
from nearfield.server.dialects.collections.schemas import SearchContent, SearchRequest
from nearfield.server.exchange.picture_fetcher import addresses_of
from nearfield.server.exchange.picture_inputs import picture_from_value
from nearfield.server.exchange.sound_inputs import sound_from_value
from nearfield.server.exchange.video_inputs import video_from_value
from nearfield.server.files.form_body import FormPart
from nearfield.server.http.request_context import RequestContext
from nearfield.strict_json import parse_json

if TYPE_CHECKING:
    from nearfield.corpus.search.content.query import SearchQuery

_FIELD = "query"
_KINDS = ("text", "image", "audio", "video")
#: Fields of a form that may have several values.
_REPEATED = ("like", "kind")
#: Fields of a form whose values are JSON.
_JSON_FIELDS = ("where", "weights", "part_weights")


def read_query(request: SearchRequest, context: RequestContext) -> SearchQuery | None:
    """Return the query of a request: a text, or its parts; None if ``like`` is all.

    Raises:
        InputError: there is none, or a part is none of a text, picture, sound and video, or is an address.
        TooLarge: a file has more bytes than the limits allow.
    """
    query = request.query
    if query is None and not request.like:
        raise InputError("query is missing: send a text, parts, or 'like' with the id of a passage.", param=_FIELD)
    if query is None or isinstance(query, str):
        return query
    several = query if isinstance(query, list) else [query]
    parts = [value for number, part in enumerate(several) for value in _values(part, f"Part {number}", context)]
    if not parts:
        raise InputError(f"query has no part: send one with {', '.join(map(repr, _KINDS))}.", param=_FIELD)
    if addresses_of(parts):
        raise InputError("A query's files are not fetched from addresses: send them as data URIs.", param=_FIELD)
    return parts[0] if len(parts) == 1 else parts


def _values(part: SearchContent, field: str, context: RequestContext) -> list[Any]:
    values: list[Any] = [] if part.text is None else [part.text]
    if part.image is not None:
        values.append(picture_from_value(part.image, context.picture_limits, field, request_field=_FIELD))
    if part.audio is not None:
        values.append(sound_from_value(part.audio, context.sound_limits, field, request_field=_FIELD))
    if part.video is not None:
        values.append(video_from_value(part.video, context.video_limits, field, request_field=_FIELD))
    if not values:
        raise InputError(f"{field} has none of {', '.join(map(repr, _KINDS))}.", param=_FIELD)
    return values


def read_search_form(parts: Sequence[FormPart]) -> dict[str, Any]:
    """Return the body that a form stands for: its texts and files are the parts of the query, in their order.

    Raises:
        InputError: a field has several values, or is not of its type.
    """
    body: dict[str, Any] = {}
    for part in parts:
        if part.name in _KINDS:
            body.setdefault(_FIELD, []).append({part.name: part.text if part.name == "text" else part.data})
        elif part.name in _REPEATED:
            body.setdefault(part.name, []).append(part.text)
        elif part.name in body or part.name == _FIELD:
            raise InputError(f"The form has {part.name!r} twice, or in place of 'text'.", param=part.name)
        else:
            body[part.name] = _form_value(part)
    return body


def _form_value(part: FormPart) -> object:
    if part.name not in _JSON_FIELDS:
        return part.text
    try:
        return parse_json(part.text)
    except ValueError as error:
        raise InputError(f"{part.name} is not JSON: {error}.", param=part.name) from error
