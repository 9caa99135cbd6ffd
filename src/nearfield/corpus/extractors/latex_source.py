"""The source of a LaTeX file before it is parsed: comments are removed, and macros that it defines are expanded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Environments with code, in which commands and comments have no meaning.
CODE = frozenset((
    "verbatim", "verbatim*", "Verbatim", "Verbatim*", "BVerbatim", "LVerbatim", "lstlisting", "minted", "alltt", "code",
))  # fmt: skip
_RAW = "|".join(map(re.escape, sorted((*CODE, "comment", "filecontents", "filecontents*"), reverse=True)))
#: Code, addresses and escaped characters, in which a percent sign is none of a comment; then comments.
_COMMENTS = re.compile(
    rf"""(?P<text>\\begin\{{(?P<name>{_RAW})\}}.*?\\end\{{(?P=name)\}}
    |\\(?:verb\*?|url|path|nolinkurl|lstinline(?:\[[^\]\n]*\])?|mintinline(?:\[[^\]\n]*\])?\{{\w+\}})(?P<mark>[^\sa-zA-Z{{*\[])[^\n]*?(?P=mark)
    |\\(?:lstinline(?:\[[^\]\n]*\])?|mintinline(?:\[[^\]\n]*\])?\{{\w+\}}|url|path|nolinkurl|href)\s*\{{[^{{}}\n]*\}}
    |\\(?!iffalse(?![a-zA-Z])).)
    |\\iffalse.*?\\fi(?![a-zA-Z])
    |^[ \t]*%[^\n]*(?:\n|\Z)|%[^\n]*(?:\n[ \t]*(?=\S)|(?=\n)|\Z)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_BRACES = re.compile(r"\\.|[{}\[\]]", re.DOTALL)
#: Maximum number of characters of an argument in braces and of options in brackets.
_MAX_ARGUMENT, _MAX_OPTIONS = 10_000, 600
_NAME = r"\s*(?:\{\s*\\(?P<name>[a-zA-Z@]+)\s*\}|\\(?P<bare>[a-zA-Z@]+))\s*"
_NEW = re.compile(rf"\*?{_NAME}(?:\[(?P<count>\d)\])?\s*(?:\[(?P<default>[^\[\]]*)\])?\s*(?=\{{)")
_DEF = re.compile(rf"{_NAME}(?P<signs>(?:\#\d)*)\s*(?=\{{)")
_DOCUMENT = re.compile(rf"{_NAME}\{{\s*(?P<kinds>(?:o\s*)?(?:\+?m\s*)*)\}}\s*(?=\{{)")
#: What follows the commands that define macros.
DEFINING = {
    **dict.fromkeys(("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand"), _NEW),
    **dict.fromkeys(("def", "gdef", "edef", "xdef"), _DEF),
    **{f"{what}DocumentCommand": _DOCUMENT for what in ("New", "Renew", "Provide", "Declare")},
}
_DEFINITION = re.compile(rf"\\(?P<command>{'|'.join(DEFINING)})(?![a-zA-Z])")
#: Characters that macros may add to a file, and what each use counts at least.
_MAX_EXPANDED, _MIN_COST = 5_000_000, 50


def without_comments(text: str) -> str:
    """Return a text without comments and without parts that are switched off; percent signs of code stay."""
    return _COMMENTS.sub(lambda match: match["text"] or "", text)


def balanced(text: str, at: int) -> tuple[str, int]:
    """Return what is in the braces or brackets that open at a position, and the position after them."""
    opening = text[at]
    closing = {"{": "}", "[": "]"}[opening]
    depth = braces = 0
    for match in _BRACES.finditer(text, at, at + (_MAX_ARGUMENT if opening == "{" else _MAX_OPTIONS)):
        sign = match[0]
        braces += (sign == "{") - (sign == "}")
        if sign == opening:
            depth += 1
        elif sign == closing and (opening == "{" or braces <= 0):
            depth -= 1
        if depth <= 0 or braces < 0:
            return text[at + 1 : match.start()], match.end()
    return "", at


@dataclass(frozen=True)
class LatexMacro:
    """A command that the file defines: the text that it stands for, and the number of its arguments.

    ``default`` is that of the first argument if it is optional.
    """

    body: str
    arguments: int = 0
    default: str | None = None

    def expand(self, arguments: list[str]) -> str:
        """Return the text with the arguments in their places."""
        return re.sub(r"#([1-9])", lambda match: "".join(arguments[int(match[1]) - 1 : int(match[1])]), self.body)


@dataclass
class MacroTable:
    """The macros that are defined up to a place in the file, and how much they may still add to it."""

    macros: dict[str, LatexMacro] = field(default_factory=dict)
    budget: int = _MAX_EXPANDED
    #: Macros that were not expanded, since that would make the file too long.
    refused: set[str] = field(default_factory=set)

    def define(self, command: str, text: str, at: int) -> int:
        """Add the macro that a command before a position defines; return the position after it, or the same."""
        match = DEFINING[command].match(text, at) if command in DEFINING else None
        if match is None:
            return at
        body, end = balanced(text, match.end())
        if end > match.end():
            self.macros[match["name"] or match["bare"]] = _macro(match.groupdict(), body)
        return max(end, at)

    def expand(self, name: str, arguments: list[str]) -> str:
        """Return the text of a macro; empty if the macros have added too much already."""
        text = self.macros[name].expand(arguments)
        cost = max(len(text), _MIN_COST)
        if cost > self.budget:
            self.refused.add(name)
            return ""
        self.budget -= cost
        return text

    def outside(self, text: str) -> str:
        """Add the macros of a text, and return what is outside their definitions."""
        return "".join(self._outside(text))

    def _outside(self, text: str) -> Iterator[str]:
        at = 0
        while match := _DEFINITION.search(text, at):
            yield text[at : match.start()]
            at = self.define(match["command"], text, match.end())
        yield text[at:]


def _macro(parts: dict[str, str | None], body: str) -> LatexMacro:
    kinds = (parts.get("kinds") or "").replace("+", "").split()
    count = int(parts.get("count") or 0) or (parts.get("signs") or "").count("#") or len("".join(kinds))
    default = "" if "".join(kinds).startswith("o") else parts.get("default")
    return LatexMacro(body, count, default)
