"""Sounds in requests, whatever their API: data URIs and base64 texts, and bytes of msgpack and of forms."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nearfield.errors import InputError, TooLarge
from nearfield.media.audio import Audio
from nearfield.media.data_uri import decode_data_uri
from nearfield.media.limits import SoundLimits
from nearfield.server.exchange.picture_inputs import FILE_VALUES, bytes_from_text

_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
_ADVICE = "Send the sound as a data URI (data:audio/wav;base64,...) or as base64."


def sound_from_text(value: str, limits: SoundLimits, field: str, *, request_field: str = "input") -> Audio:
    """Return the sound that a text contains: a data URI, or base64.

    It is decoded from base64 here, and its samples later. Addresses of sounds are not fetched, and no file is opened.

    Args:
        value: the text. The alphabet may be the URL-safe one; whitespace and missing padding are accepted.
        limits: the limits of each sound.
        field: where it is in the request, such as ``input 3``; messages begin with it.
        request_field: name of the field of the request, the ``param`` of errors.

    Raises:
        InputError: it is an address, empty, or not base64.
        TooLarge: it has more bytes than the limits allow.
    """
    try:
        if _DATA_URI.match(value):
            return Audio(decode_data_uri(value.lstrip(), limits.max_bytes, f"{field}: the data URI"))
        if _ADDRESS.match(value):
            raise InputError(f"{field} is an address, and sounds are not fetched. {_ADVICE}")
        if not value.strip():
            raise InputError(f"{field} is empty. {_ADVICE}")
        return Audio(bytes_from_text(value, limits.max_bytes, field))
    except InputError as error:
        error.param = request_field
        raise


def sounds_from_texts(values: str | Sequence[str], limits: SoundLimits) -> list[Audio]:
    """Return the sounds of one or more inputs. Raises as ``sound_from_text`` does, with the index of the input."""
    values = [values] if isinstance(values, str) else values
    return [sound_from_text(value, limits, f"Input {index}") for index, value in enumerate(values)]


def sound_from_value(value: object, limits: SoundLimits, field: str, *, request_field: str = "input") -> Audio:
    """Return the sound of a field that holds a text, or the bytes of a file as msgpack has them.

    Arguments are those of ``sound_from_text``, whose errors it raises.

    Raises:
        InputError: it is of another type.
        TooLarge: it has more bytes than the limits allow.
    """
    if isinstance(value, str):
        return sound_from_text(value, limits, field, request_field=request_field)
    if not isinstance(value, bytes):
        raise InputError(f"{field} must be {FILE_VALUES}, not {type(value).__name__}.", param=request_field)
    if len(value) > limits.max_bytes:
        problem = f"{field} has {len(value):,} bytes. At most {limits.max_bytes:,} bytes are read."
        raise TooLarge(problem, param=request_field)
    return Audio(value)
