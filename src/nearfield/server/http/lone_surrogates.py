"""Lone surrogates in JSON: half of a character, which no text may contain, written as an escape like ``\\ud83d``.

Clients in JavaScript and Java send them where they cut a text within an emoji. They become U+FFFD, as the Encoding
Standard has it for every such text (https://infra.spec.whatwg.org/#javascript-string-convert): the other inputs of the
request are not at fault.
"""

from __future__ import annotations

import re

#: A pair, which is one character; a lone half; and any other escape, so that an escaped backslash is not taken for one.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_REPLACEMENT = rb"\ufffd"


def replace_lone_surrogates(data: bytes) -> tuple[bytes, int]:
    r"""Return JSON with ``\ufffd`` for each lone surrogate, and their number."""
    count = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match[1] is None:
            return match[0]
        count += 1
        return _REPLACEMENT

    return _ESCAPE.sub(replace, data), count
