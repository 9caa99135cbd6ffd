"""Code: by definitions, as the language's own grammar finds them; by blank lines and indentation without one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers import sections as parts
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.chunkers.sections import Section
from nearfield.corpus.document import Document
from nearfield.errors import MissingExtra

#: Grammars by the names of languages: package, and the function that gives it.
GRAMMARS: Mapping[str, tuple[str, str]] = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "jsx": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "rust": ("tree_sitter_rust", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "c++": ("tree_sitter_cpp", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "c#": ("tree_sitter_c_sharp", "language"),
    "csharp": ("tree_sitter_c_sharp", "language"),
    "ruby": ("tree_sitter_ruby", "language"),
    "bash": ("tree_sitter_bash", "language"),
    "sh": ("tree_sitter_bash", "language"),
    "shell": ("tree_sitter_bash", "language"),
}
#: Longer than any source that people write; what is generated is cut by its lines.
_LONGEST = 2_000_000
#: Deeper than any source that people write: further down, lines do.
_DEEPEST = 60
#: Types of nodes that belong to what follows them.
_BELONGS = re.compile(r"comment|attribute_item|decorator|annotation|pragma")
#: Fields that lead to what a wrapper (decorators, export, template) is about.
_WRAPPED = ("definition", "declaration")
_AROUND = ("template_declaration", "lexical_declaration", "variable_declaration")
_CLOSES = re.compile(r"[^\S\n]*(?:[)\]}]|(?:end|fi|done|esac|else|elif|except|finally|catch|then|do)\b)")
_INDENT = re.compile(r"[^\S\n]*")
_BLANK = re.compile(r"[^\S\n]*\n[^\S\n]*(?:\n|\Z)")
_TAB = 4
#: What a step of indentation adds to the cost of a cut, and the most it may add.
_STEP, _STEPS = 0.08, 5


class CodeChunker(Chunker):
    """Cuts between definitions, and into those that are larger than a chunk.

    Comments and decorators stay with what follows.
    The names above a chunk are those of the definitions it stands in.
    """

    levels = boundaries.LINES

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the seams of the syntax tree, or of the indentation where there is no grammar."""
        grammar = GRAMMARS.get(document.language.lower())
        if grammar is None or len(document.text) > _LONGEST:
            return ChunkOutline(list(_indented(document.text)), [])
        tree = _Tree(scale, self.size)
        found = tree.parts(_parser(*grammar).parse(document.text.encode("utf-8", "replace")).root_node)
        return ChunkOutline(list(parts.section_boundaries(found, scale, self.size, self.language)), sorted(tree.paths))


@cache
def _parser(package: str, function: str) -> Any:
    try:
        from tree_sitter import Language, Parser

        return Parser(Language(getattr(import_module(package), function)()))
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Cutting code needs {error.name!r}: pip install 'nearfield[corpus]'") from error


@dataclass(frozen=True)
class _Row:
    """A node that begins on a line of its own; ``start`` is where that line does, or the comment above it."""

    start: int
    node: Any


@dataclass
class _Tree:
    """Makes parts of a syntax tree, down to what fits into a chunk, and notes the names on the way."""

    scale: TextScale
    size: int
    paths: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._text = self.scale.text
        self._places = _places(self._text)

    def parts(self, root: Any) -> list[Section]:
        """Return the parts of a whole file, which lie without gaps."""
        return self._parts(root, -1, 0, len(self._text), (), 0)

    def _parts(self, node: Any, line: int, start: int, end: int, path: tuple[str, ...], depth: int) -> list[Section]:
        """Return the parts of a node after its first ``line``; what stands before them goes with the first."""
        rows = self._rows(node, line, start, end) if depth < _DEEPEST else []
        head = not rows or rows[0].start > start
        if head:
            rows = [_Row(start, None), *rows]
        ends = [*(row.start for row in rows[1:]), end]
        found = [self._part(row, stop, path, depth) for row, stop in zip(rows, ends, strict=True)]
        if head and line >= 0:
            found[1:2] = [replace(part, cost=boundaries.TIED) for part in found[1:2]]
        return found

    def _part(self, row: _Row, end: int, path: tuple[str, ...], depth: int) -> Section:
        cost = _line_cost(self._text, row.start)
        if row.node is None or self.scale(row.start, end) <= self.size:
            return Section(row.start, end, "code", cost)
        name = _name(row.node)
        inner = (*path, name) if name else path
        if name:
            begun = row.start + len(self._text[row.start : end]) - len(self._text[row.start : end].lstrip())
            self.paths += [(begun, inner), (end - 1, path)]
        held = self._parts(*_body(row.node), row.start, end, inner, depth + 1)
        return Section(row.start, end, "code", cost, tuple(held) if len(held) > 1 else (), apart=bool(name))

    def _rows(self, node: Any, line: int, start: int, end: int) -> list[_Row]:
        """Return what begins on lines of its own from ``start`` to ``end``; what belongs to the next goes with it."""
        found: list[_Row] = []
        held: int | None = None
        after = start - (line < 0)
        for child in self._lined(node, line):
            at = self._line(child)
            if not after < at < end:
                continue
            if _BELONGS.search(child.type) and not self._parted(child):
                held = at if held is None else held
                continue
            found.append(_Row(at if held is None else held, child))
            after, held = at, None
        return found if held is None else [*found, _Row(held, None)]

    def _lined(self, node: Any, line: int) -> Iterator[Any]:
        """Yield named nodes within ``node`` that are first on a line after ``line``, and none within another."""
        waiting = list(reversed(node.children))
        while waiting:
            child = waiting.pop()
            if child.start_point[0] > line and child.is_named and self._first(child):
                yield child
            elif child.end_point[0] > child.start_point[0]:
                waiting += reversed(child.children)
            line = max(line, child.start_point[0])

    def _first(self, node: Any) -> bool:
        at = self._place(node.start_byte)
        return not self._text[self._text.rfind("\n", 0, at) + 1 : at].strip()

    def _line(self, node: Any) -> int:
        return self._text.rfind("\n", 0, self._place(node.start_byte)) + 1

    def _parted(self, node: Any) -> bool:
        """Tell whether a blank line follows a node."""
        at = self._place(node.end_byte)
        at -= self._text[at - 1 : at] == "\n"
        return _BLANK.match(self._text, at) is not None

    def _place(self, byte: int) -> int:
        return byte if self._places is None else int(self._places[byte])


def _places(text: str) -> Any:
    """Return the character that each byte of the text in UTF-8 belongs to; None where both are the same."""
    if text.isascii():
        return None
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    return np.append(np.cumsum((data & 0xC0) != 0x80) - 1, len(text))


def _body(node: Any) -> tuple[Any, int]:
    """Return the part of a node that its rows are looked for in, and its first line: all before a body is one head."""
    for wrapper in _WRAPPED:
        inner = node.child_by_field_name(wrapper)
        if inner is not None and inner.end_byte == node.end_byte:
            return _body(inner)
    body = node.child_by_field_name("body")
    held = body if body is not None and body.end_byte == node.end_byte else node
    return held, node.start_point[0]


def _name(node: Any) -> str:
    """Return the name of a definition with a body, or nothing: a class, a function, a module and their kin."""
    for wrapper in _WRAPPED:
        inner = node.child_by_field_name(wrapper)
        if inner is not None:
            return _name(inner)
    if node.type in _AROUND:
        return next((name for child in node.named_children if (name := _name(child))), "")
    held = node.child_by_field_name("value") if node.type == "variable_declarator" else node
    if held is None or held.child_by_field_name("body") is None:
        return ""
    named = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    if named is None and node.type == "impl_item":
        named = node.child_by_field_name("type")
    while named is not None and (inner := named.child_by_field_name("declarator")) is not None:
        named = inner
    return named.text.decode("utf-8", "replace") if named is not None else ""


def _indented(text: str) -> Iterator[Boundary]:
    """Yield each line that may begin a chunk: the less it is indented, the better, and best after a blank line."""
    for at in boundaries.lines(text, 0, len(text)):
        yield Boundary(at, _line_cost(text, at))


def _line_cost(text: str, at: int) -> float:
    if _CLOSES.match(text, at):
        return boundaries.CLAUSE
    indent = _INDENT.match(text, at)
    width = len(indent[0].expandtabs(_TAB)) if indent else 0
    blank = not text[text.rfind("\n", 0, max(at - 1, 0)) + 1 : at].strip()
    return (0.05 if blank else 0.25) + _STEP * min(width / _TAB, _STEPS)
