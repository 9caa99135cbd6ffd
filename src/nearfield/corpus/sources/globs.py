"""Globs: patterns of paths, as .gitignore files write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from nearfield.errors import InputError


class Globs:
    """Some patterns. ``*`` and ``?`` stay within a name, ``**`` does not; ``[...]`` is a set of characters.

    A pattern with a slash in it or before it counts from the root, another one at any depth; one that ends with a slash
    means folders only. ``!`` before a pattern takes back what those before it matched. A match of a folder is one of
    all that is in it.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = [_rule(pattern) for pattern in patterns if pattern.strip()]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str, *, folder: bool = False) -> bool:
        """Return whether a path (with forward slashes, relative to the root) is matched itself."""
        found = False
        for regex, wanted, folders in self._rules:
            if wanted is not found and (folder or not folders) and regex.fullmatch(path):
                found = wanted
        return found

    def covers(self, path: str) -> bool:
        """Return whether a file's path is matched, or one of the folders that it is in."""
        parts = path.split("/")
        above = ("/".join(parts[:end]) for end in range(1, len(parts)))
        return self.match(path) or any(self.match(each, folder=True) for each in above)


def _rule(pattern: str) -> tuple[re.Pattern[str], bool, bool]:
    wanted = not pattern.startswith("!")
    body = pattern.removeprefix("!")
    folders = body.endswith("/")
    body = body.rstrip("/")
    anchored = "/" in body
    try:
        regex = re.compile(("" if anchored else "(?:.*/)?") + _regex(body.lstrip("/")), re.DOTALL)
    except re.error as error:
        raise InputError(f"Not a pattern: {pattern!r} ({error}).", param="pattern") from error
    return regex, wanted, folders


_PIECES = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_MEANT = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@cache
def _regex(body: str) -> str:
    return "".join(_MEANT.get(piece) or _set(piece) or re.escape(piece) for piece in _PIECES.findall(body))


def _set(piece: str) -> str:
    """Return a set of characters as regular expressions write it; nothing where it is none."""
    if len(piece) < 3 or not piece.startswith("["):
        return ""
    inner = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    inner = "^" + inner[1:] if inner.startswith("!") else inner.replace("^", "\\^")
    return f"(?!/)[{inner}]" if inner not in ("^", "") else ""
