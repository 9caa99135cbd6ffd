"""Parts of messages for people: counts with their unit, and names and texts without control characters.

Names of files, titles and texts come from others. Printed unchanged, a line break in a name would add a line to a
report, and an escape sequence would give commands to the terminal.
"""

from __future__ import annotations

import json
import unicodedata

#: Categories of characters that change other text or the terminal: controls, directions, surrogates, line separators.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
#: Joiners, which words of Persian and of Indian languages, and emoji, are written with; the soft hyphen.
_HARMLESS = frozenset("\u200c\u200d\u00ad")


def count_of(number: int, unit: str, plural: str | None = None) -> str:
    """Return a number with its unit, such as ``1 document`` or ``1,204 queries``; ``plural`` by default adds an s."""
    return f"{number:,} {unit if number == 1 else plural or unit + 's'}"


def is_unsafe(letter: str) -> bool:
    """Return whether a character must not reach a terminal: a control character, or one that is not displayed."""
    return not letter.isprintable() and unicodedata.category(letter) in _UNSAFE and letter not in _HARMLESS


def escape_controls(text: str) -> str:
    r"""Return a text on one line: control characters are escaped, such as ``\n`` and ``\x1b``."""
    return "".join(ascii(letter)[1:-1] if is_unsafe(letter) else letter for letter in text)


def escape_lines(text: str) -> str:
    """Return a message with its line breaks; the lines after the first are indented, so that none passes for another.

    Other control characters are escaped.
    """
    first, *others = (escape_controls(line) for line in text.split("\n"))
    return "\n".join([first, *(f"  {line}" for line in others)])


def to_json(value: object) -> str:
    """Return JSON on one line, with all letters but those that must not reach a terminal, which are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(json.dumps(letter)[1:-1] if is_unsafe(letter) else letter for letter in text)


def quote_name(name: str) -> str:
    r"""Return a name; with control characters, or spaces at its ends, as Python quotes it: ``'a\nb.txt'``."""
    if name == name.strip() and not any(map(is_unsafe, name)):
        return name
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escape_controls(quoted)}'"
