"""Videos in requests, whatever their API: data URIs and base64 texts, bytes of msgpack and of forms, and addresses."""

from __future__ import annotations

import re

from nearfield.errors import InputError, TooLarge
from nearfield.media.data_uri import decode_data_uri
from nearfield.media.limits import VideoLimits
from nearfield.media.video.video import Video
from nearfield.server.exchange.picture_fetcher import VideoAddress
from nearfield.server.exchange.picture_inputs import bytes_from_text

_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"\s*https?://", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_ADVICE = "Send the video as a data URI (data:video/mp4;base64,...)."


def video_from_text(
    value: str, limits: VideoLimits, field: str, *, bare_base64: bool = True, request_field: str = "input"
) -> Video:
    """Return the video that a text contains: a data URI, or base64 where the API has it.

    It is decoded from base64 here, and its frames later. An address becomes a `VideoAddress`, which the exchange
    fetches or refuses. No file is opened.

    Args:
        value: the text. The alphabet may be the URL-safe one; whitespace and missing padding are accepted.
        limits: the limits of each video.
        field: where it is in the request, such as ``input 3``; messages begin with it.
        bare_base64: whether base64 that is in no data URI is accepted.
        request_field: name of the field of the request, the ``param`` of errors.

    Raises:
        InputError: it is an address of another scheme than http and https, empty, or not base64.
        TooLarge: it has more bytes than the limits allow.
    """
    try:
        if _DATA_URI.match(value):
            return Video(decode_data_uri(value.lstrip(), limits.max_bytes, f"{field}: the data URI"))
        if _WEB_ADDRESS.match(value):
            return VideoAddress(value.strip(), field, request_field, _ADVICE, limits.max_bytes)
        if _ADDRESS.match(value):
            raise InputError(f"{field} is an address that is not fetched. {_ADVICE}")
        if not bare_base64:
            raise InputError(f"{field} is no data URI. {_ADVICE}")
        if not value.strip():
            raise InputError(f"{field} is empty. {_ADVICE}")
        return Video(bytes_from_text(value, limits.max_bytes, field))
    except InputError as error:
        error.param = request_field
        raise


def video_from_value(value: object, limits: VideoLimits, field: str, *, request_field: str = "input") -> Video:
    """Return the video of a field that holds a text, or the bytes of a file as msgpack has them.

    Arguments are those of ``video_from_text``, whose errors it raises.

    Raises:
        InputError: it is of another type.
        TooLarge: it has more bytes than the limits allow.
    """
    if isinstance(value, str):
        return video_from_text(value, limits, field, request_field=request_field)
    if not isinstance(value, bytes):
        known = "a data URI, base64, or bytes in msgpack"
        raise InputError(f"{field} must be {known}, not {type(value).__name__}.", param=request_field)
    if len(value) > limits.max_bytes:
        problem = f"{field} has {len(value):,} bytes. At most {limits.max_bytes:,} bytes are read."
        raise TooLarge(problem, param=request_field)
    return Video(value)
