"""Code chunker: by definitions, from tree-sitter grammars; by blank lines and indentation for other languages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.chunkers import boundaries
from nearfield.corpus.chunkers.boundaries import Boundary, TextScale
from nearfield.corpus.chunkers.chunker import Chunker, ChunkOutline
from nearfield.corpus.chunkers.sections import Section, section_boundaries
from nearfield.corpus.document import Document
from nearfield.errors import MissingExtra

if TYPE_CHECKING:
    from tree_sitter import Parser

#: A node of tree-sitter, or None for text without one.
Node = Any

#: Grammars by language: package, and the function that returns the grammar.
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
#: Characters, more than in any source that people write; generated code is split by its lines.
_MAX_CHARACTERS = 2_000_000
#: Depth, more than in any source that people write; deeper code is split by its lines.
_MAX_DEPTH = 60
#: Types of nodes that belong to the next one.
_LEADING = re.compile(r"comment|attribute_item|decorator|annotation|pragma")
#: Fields that lead from a wrapper (decorators, export, template) to the definition in it.
_WRAPPED = ("definition", "declaration")
_AROUND = ("template_declaration", "lexical_declaration", "variable_declaration")
_CLOSES = re.compile(r"[^\S\n]*(?:[)\]}]|(?:end|fi|done|esac|else|elif|except|finally|catch|then|do)\b)")
_INDENT = re.compile(r"[^\S\n]*")
_BLANK = re.compile(r"[^\S\n]*\n[^\S\n]*(?:\n|\Z)")
_TAB = 4
#: The cost that a step of indentation adds to a split, and the maximum number of steps.
_STEP, _MAX_STEPS = 0.08, 5


class CodeChunker(Chunker):
    """Splits between definitions, and within those that are larger than a chunk.

    Comments and decorators stay with the definition after them. The headings of a chunk are the names of the
    definitions around it.
    """

    levels = boundaries.LINES

    def outline(self, document: Document, scale: TextScale) -> ChunkOutline:
        """Return the boundaries of the syntax tree, or of the indentation if there is no grammar."""
        grammar = GRAMMARS.get(document.language.lower())
        if grammar is None or len(document.text) > _MAX_CHARACTERS:
            return ChunkOutline(list(_indented(document.text)), [])
        tree = _SyntaxSections(scale, self.size)
        sections = tree.build(_parser(*grammar).parse(document.text.encode("utf-8", "replace")).root_node)
        candidates = section_boundaries(sections, scale, self.size, self.language)
        return ChunkOutline(list(candidates), sorted(tree.paths))


@cache
def _parser(package: str, function: str) -> Parser:
    try:
        import tree_sitter

        return tree_sitter.Parser(tree_sitter.Language(getattr(import_module(package), function)()))
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Splitting code needs {error.name!r}: pip install 'nearfield[corpus]'") from error


@dataclass(frozen=True)
class _Row:
    """A node that is first on its line; ``start`` is the start of that line, or of the comment above it."""

    start: int
    node: Node


@dataclass
class _SyntaxSections:
    """Builds sections from a syntax tree, down to what fits into a chunk, and records the names around them."""

    scale: TextScale
    size: int
    paths: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._text = self.scale.text
        self._places = _places(self._text)

    def build(self, root: Node) -> list[Section]:
        """Return the sections of a whole file, without gaps."""
        return self._sections(root, -1, 0, len(self._text), (), 0)

    def _sections(
        self, node: Node, line: int, start: int, end: int, path: tuple[str, ...], depth: int
    ) -> list[Section]:
        """Return the sections of a node after its first ``line``; text before them belongs to the first."""
        rows = self._rows(node, line, start, end) if depth < _MAX_DEPTH else []
        head = not rows or rows[0].start > start
        if head:
            rows = [_Row(start, None), *rows]
        ends = [*(row.start for row in rows[1:]), end]
        sections = [self._section(row, stop, path, depth) for row, stop in zip(rows, ends, strict=True)]
        if head and line >= 0:
            sections[1:2] = [replace(section, cost=boundaries.TIED) for section in sections[1:2]]
        return sections

    def _section(self, row: _Row, end: int, path: tuple[str, ...], depth: int) -> Section:
        cost = _line_cost(self._text, row.start)
        if row.node is None or self.scale(row.start, end) <= self.size:
            return Section(row.start, end, "code", cost)
        name = _name(row.node)
        inner = (*path, name) if name else path
        if name:
            first = row.start + len(self._text[row.start : end]) - len(self._text[row.start : end].lstrip())
            self.paths += [(first, inner), (end - 1, path)]
        parts = self._sections(*_body(row.node), row.start, end, inner, depth + 1)
        return Section(row.start, end, "code", cost, tuple(parts) if len(parts) > 1 else (), apart=bool(name))

    def _rows(self, node: Node, line: int, start: int, end: int) -> list[_Row]:
        """Return the nodes that are first on a line from ``start`` to ``end``; a comment starts the row after it."""
        rows: list[_Row] = []
        comment: int | None = None
        after = start - (line < 0)
        for child in self._lined(node, line):
            at = self._line(child)
            if not after < at < end:
                continue
            if _LEADING.search(child.type) and not self._before_blank(child):
                comment = at if comment is None else comment
                continue
            rows.append(_Row(at if comment is None else comment, child))
            after, comment = at, None
        return rows if comment is None else [*rows, _Row(comment, None)]

    def _lined(self, node: Node, line: int) -> Iterator[Node]:
        """Yield the outermost named nodes within ``node`` that are first on a line after ``line``."""
        waiting = list(reversed(node.children))
        while waiting:
            child = waiting.pop()
            if child.start_point[0] > line and child.is_named and self._first(child):
                yield child
            elif child.end_point[0] > child.start_point[0]:
                waiting += reversed(child.children)
            line = max(line, child.start_point[0])

    def _first(self, node: Node) -> bool:
        at = self._place(node.start_byte)
        return not self._text[self._text.rfind("\n", 0, at) + 1 : at].strip()

    def _line(self, node: Node) -> int:
        return self._text.rfind("\n", 0, self._place(node.start_byte)) + 1

    def _before_blank(self, node: Node) -> bool:
        """Return whether a blank line follows a node."""
        at = self._place(node.end_byte)
        at -= self._text[at - 1 : at] == "\n"
        return _BLANK.match(self._text, at) is not None

    def _place(self, byte: int) -> int:
        return byte if self._places is None else int(self._places[byte])


def _places(text: str) -> Array | None:
    """Return, for each byte of the text in UTF-8, the position of its character; None if both are the same."""
    if text.isascii():
        return None
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    return np.append(np.cumsum((data & 0xC0) != 0x80) - 1, len(text))


def _body(node: Node) -> tuple[Node, int]:
    """Return the part of a node that is searched for rows, and its first line: the text before a body is one head."""
    for wrapper in _WRAPPED:
        inner = node.child_by_field_name(wrapper)
        if inner is not None and inner.end_byte == node.end_byte:
            return _body(inner)
    body = node.child_by_field_name("body")
    return body if body is not None and body.end_byte == node.end_byte else node, node.start_point[0]


def _name(node: Node) -> str:
    """Return the name of a definition with a body (a class, a function, a module), or nothing."""
    for wrapper in _WRAPPED:
        inner = node.child_by_field_name(wrapper)
        if inner is not None:
            return _name(inner)
    if node.type in _AROUND:
        return next((name for child in node.named_children if (name := _name(child))), "")
    value = node.child_by_field_name("value") if node.type == "variable_declarator" else node
    if value is None or value.child_by_field_name("body") is None:
        return ""
    name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    if name is None and node.type == "impl_item":
        name = node.child_by_field_name("type")
    while name is not None and (inner := name.child_by_field_name("declarator")) is not None:
        name = inner
    return name.text.decode("utf-8", "replace") if name is not None else ""


def _indented(text: str) -> Iterator[Boundary]:
    """Yield a boundary before each line: the less it is indented, the cheaper; cheapest after a blank line."""
    for at in boundaries.lines(text, 0, len(text)):
        yield Boundary(at, _line_cost(text, at))


def _line_cost(text: str, at: int) -> float:
    if _CLOSES.match(text, at):
        return boundaries.CLAUSE
    indent = _INDENT.match(text, at)
    width = len(indent[0].expandtabs(_TAB)) if indent else 0
    blank = not text[text.rfind("\n", 0, max(at - 1, 0)) + 1 : at].strip()
    return (0.05 if blank else 0.25) + _STEP * min(width / _TAB, _MAX_STEPS)
