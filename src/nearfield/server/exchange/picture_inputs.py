"""Pictures in requests, whatever their API: data URIs and base64 texts, and bytes of msgpack and of forms."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nearfield.errors import InputError, TooLarge
from nearfield.media.data_uri import decode_base64, decode_data_uri
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits
from nearfield.server.exchange.picture_fetcher import PictureAddress

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"\s*https?://", re.IGNORECASE)
_PATH = re.compile(r"[^\r\n]{0,500}\.\w{2,5}\s*")
_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)
#: What a field with a picture or sound may hold, for messages.
FILE_VALUES = "a data URI, base64, or bytes in msgpack"


def picture_from_text(
    value: str, limits: PictureLimits | None, field: str, *, bare_base64: bool = True, request_field: str = "input"
) -> Image:
    """Return the picture that a text contains: a data URI, or base64 where the API has it.

    It is decoded from base64 here, which a large body does in the thread that decodes bodies, and its pixels later. An
    address becomes a `PictureAddress`, which the exchange fetches or refuses. No file is opened.

    Args:
        value: the text. The alphabet may be the URL-safe one; whitespace and missing padding are accepted.
        limits: the limits of each picture; None for the default ones.
        field: where it is in the request, such as ``input 3``; messages begin with it.
        bare_base64: whether base64 that is in no data URI is accepted.
        request_field: name of the field of the request, the ``param`` of errors.

    Raises:
        InputError: it is an address of another scheme than http and https, or not base64.
        TooLarge: it has more bytes than the limits allow.
    """
    most = (limits or DEFAULT_PICTURE_LIMITS).max_bytes
    try:
        if _DATA_URI.match(value):
            return Image(decode_data_uri(value.lstrip(), most, f"{field}: the data URI"))
        if _WEB_ADDRESS.match(value):
            return PictureAddress(value.strip(), field, request_field, _what_to_send(bare_base64))
        if _ADDRESS.match(value):
            raise InputError(f"{field} is an address that is not fetched. {_what_to_send(bare_base64)}")
        if not bare_base64:
            raise InputError(f"{field} is no data URI. {_what_to_send(bare_base64)}")
        if not value.strip():
            raise InputError(f"{field} is empty. {_what_to_send(bare_base64)}")
        return Image(bytes_from_text(value, most, field))
    except InputError as error:
        error.param = request_field
        raise


def bytes_from_text(value: str, max_bytes: int, field: str) -> bytes:
    """Return the bytes of a base64 text; ``field`` is where it is in the request.

    Raises:
        InputError: it is not base64; the message says so of what looks like the path of a file.
        TooLarge: it has more than ``max_bytes`` bytes.
    """
    try:
        return decode_base64(value, max_bytes, f"{field}: the text")
    except InputError as error:
        if isinstance(error, TooLarge) or not _PATH.fullmatch(value):
            raise
        raise InputError(f"{error} A server reads no paths: send the bytes of the file, in base64.") from error


def pictures_from_texts(values: str | Sequence[str], limits: PictureLimits | None) -> list[Image]:
    """Return the pictures of one or more inputs. Raises as ``picture_from_text`` does, with the index of the input."""
    values = [values] if isinstance(values, str) else values
    return [picture_from_text(value, limits, f"Input {index}") for index, value in enumerate(values)]


def picture_from_value(
    value: object, limits: PictureLimits | None, field: str, *, request_field: str = "input"
) -> Image:
    """Return the picture of a field that holds a text, or the bytes of a file as msgpack has them.

    Arguments are those of ``picture_from_text``, whose errors it raises.

    Raises:
        InputError: it is of another type.
        TooLarge: it has more bytes than the limits allow.
    """
    if isinstance(value, str):
        return picture_from_text(value, limits, field, request_field=request_field)
    if not isinstance(value, bytes):
        raise InputError(f"{field} must be {FILE_VALUES}, not {type(value).__name__}.", param=request_field)
    most = (limits or DEFAULT_PICTURE_LIMITS).max_bytes
    if len(value) > most:
        raise TooLarge(f"{field} has {len(value):,} bytes. At most {most:,} bytes are read.", param=request_field)
    return Image(value)


def _what_to_send(bare_base64: bool) -> str:
    uri = "a data URI (data:image/png;base64,...)"
    return f"Send the picture as {uri}{' or as base64' if bare_base64 else ''}."
