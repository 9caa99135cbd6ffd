"""Pictures and sounds in a text: data URIs (RFC 2397) and base64, with limits checked before they are decoded."""

from __future__ import annotations

import binascii
import re
import string
from urllib.parse import unquote

from nearfield.errors import InputError, TooLarge

_HEAD = re.compile(r"data:([^,]{0,300}),", re.IGNORECASE)
_WHITESPACE = " \t\n\r\f"
_OUTSIDE_BASE64 = re.compile(r"[^A-Za-z0-9+/_ \t\n\r\f-]")
_DIGITS = (string.ascii_letters + string.digits + "+/").encode("ascii")
#: The URL-safe alphabet (RFC 4648, section 5) as the standard one.
_STANDARD = bytes.maketrans(b"-_", b"+/")
#: Characters that are decoded at a time: other threads run between two of these steps, which take less than a
#: millisecond each.
_STEP = 65_536


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
    data = uri[match.end() :]
    return decode_base64(unquote(data) if "%" in data else data, max_bytes, name)


def decode_base64(text: str, max_bytes: int, name: str = "The base64 text") -> bytes:
    """Return the bytes of a base64 text, of the standard or the URL-safe alphabet (RFC 4648, sections 4 and 5).

    Whitespace in it and missing ``=`` at its end are accepted, as browsers do.

    Raises:
        InputError: it is not base64. ``name`` begins the message.
        TooLarge: it has more than ``max_bytes`` bytes.
    """
    end = len(text.rstrip("=" + _WHITESPACE))
    count = end - sum(text.count(character, 0, end) for character in _WHITESPACE)
    size = count * 3 // 4
    if size > max_bytes:
        raise TooLarge(f"{name} has {size:,} bytes. At most {max_bytes:,} bytes are read.")
    data, rest = bytearray(), b""
    for start in range(0, end, _STEP):
        part = text[start : min(end, start + _STEP)]
        digits = part.encode("ascii", "replace").translate(_STANDARD, _WHITESPACE.encode("ascii"))
        if digits.translate(None, _DIGITS) and (wrong := _OUTSIDE_BASE64.search(part)):
            position = start + wrong.start()
            raise InputError(f"{name} is not base64: it has the character {wrong[0]!r} at position {position:,}.")
        digits = rest + digits
        whole = len(digits) // 4 * 4
        data += binascii.a2b_base64(digits[:whole])
        rest = digits[whole:]
    if len(rest) == 1:
        raise InputError(f"{name} is not base64: it ends within a byte ({count:,} characters).")
    data += binascii.a2b_base64(rest + b"=" * (-len(rest) % 4))
    return bytes(data)
