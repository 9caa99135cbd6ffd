"""Parse ``topics.txt``: lines of Markdown's simplest marks, under a name and a question with its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.corpus.truth.model import ContentNode, HeadingNode, ListNode, ParagraphNode, TableNode, Topic

_FILE = Path(__file__).with_name("topics.txt")


@cache
def topics() -> dict[str, Topic]:
    """Return all topics by their names."""
    parts = re.split(r"^=== (.+)$", _FILE.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {name: _topic(name, text.strip().splitlines()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _topic(name: str, lines: list[str]) -> Topic:
    question, _, passage = lines[0].removeprefix("? ").partition(" => ")
    return Topic(name, tuple(parse_nodes(lines[1:])), question, passage)


def parse_nodes(lines: list[str]) -> Iterator[ContentNode]:
    """Yield the nodes of lines; lines of one list or table that follow each other are one node."""
    at = 0
    while at < len(lines):
        end = at + 1
        kind = _kind(lines[at])
        while kind in "-1|" and end < len(lines) and _kind(lines[end]) == kind:
            end += 1
        yield _node(kind, lines[at:end])
        at = end


def _kind(line: str) -> str:
    start = line.lstrip()
    return "1" if re.match(r"\d+\. ", start) else start[0] if start[0] in "#-|" else "p"


def _node(kind: str, lines: list[str]) -> ContentNode:
    if kind == "#":
        marks, _, text = lines[0].partition(" ")
        return HeadingNode(text, len(marks))
    if kind == "|":
        return TableNode(tuple(tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines))
    if kind in "-1":
        items = ((len(line) - len(line.lstrip()), line.lstrip().partition(" ")[2]) for line in lines)
        return ListNode(tuple((indent // 2, text) for indent, text in items), ordered=kind == "1")
    return ParagraphNode(lines[0])
