"""Pictures and sounds in a text: data URIs (RFC 2397) and base64, with limits checked before they are decoded."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from nearfield.errors import InputError, TooLarge

_HEAD = re.compile(r"data:([^,]{0,300}),", re.IGNORECASE)
_WHITESPACE = re.compile(r"[ \t\n\r\f]+")
_OUTSIDE_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def decode_data_uri(uri: str, max_bytes: int, name: str = "The data URI") -> bytes:
    """Return the bytes of a data URI. Its media type is ignored: the bytes say what they are.

    Raises:
        InputError: it is no data URI, or its data are not base64. ``name`` begins the message.
        TooLarge: it has more than ``max_bytes`` bytes.
    """
    match = _HEAD.match(uri)
    if match is None:
        start = uri[:40].encode("unicode_escape").decode()
        raise InputError(f"{name} must start with 'data:', a media type and ';base64,'. It starts with '{start}'.")
    parameters = match[1].lower().split(";")
    if parameters[-1].strip() != "base64":
        raise InputError(f"{name} is not in base64: only 'data:...;base64,' is read.")
    return decode_base64(uri[match.end() :], max_bytes, name)


def decode_base64(text: str, max_bytes: int, name: str = "The base64 text") -> bytes:
    """Return the bytes of a base64 text. Whitespace in it and missing ``=`` at its end are accepted, as browsers do.

    Raises:
        InputError: it is not base64. ``name`` begins the message.
        TooLarge: it has more than ``max_bytes`` bytes.
    """
    digits = _WHITESPACE.sub("", text).rstrip("=")
    size = len(digits) * 3 // 4
    if size > max_bytes:
        raise TooLarge(f"{name} has {size:,} bytes. At most {max_bytes:,} bytes are read.")
    wrong = _OUTSIDE_BASE64.search(digits)
    if wrong:
        raise InputError(f"{name} is not base64: it has the character {wrong[0]!r} at position {wrong.start():,}.")
    try:
        return b64decode(digits + "=" * (-len(digits) % 4))
    except binascii.Error as error:
        raise InputError(f"{name} is not base64: it ends within a byte ({len(digits):,} characters).") from error
