"""Markdown helpers that the generators share: pages, tables and docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Example|Examples|Note):$")
_ENTRY = re.compile(r"^(\*{0,2}[\w., ]+?): +(.*)$")


def join_page(title: str, *parts: str) -> str:
    """Return a page with a title and parts separated by blank lines."""
    return "\n\n".join((f"# {title}", *(part.strip("\n") for part in parts if part))) + "\n"


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, or an empty string when there are no rows."""
    body = [tuple(row) for row in rows]
    if not body:
        return ""
    lines = [tuple(head), tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(map(_escape_cell, line)) + " |" for line in lines)


def _escape_cell(text: str) -> str:
    """Escape what Markdown would read in a cell; code keeps its angle brackets."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " ").replace("|", "\\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def docstring_to_markdown(text: str) -> str:
    """Convert a docstring with Google-style sections (Args, Returns, Raises) to Markdown."""
    blocks: list[str] = []
    section, lines = "", []
    for line in [*to_markdown(text).splitlines(), "Note:"]:
        match = _SECTION.match(line)
        if match is None:
            lines.append(line)
            continue
        blocks.extend(_render_section(section, lines))
        section, lines = match.group(1), []
    return "\n\n".join(block for block in blocks if block)


def to_markdown(text: str) -> str:
    """Convert the reStructuredText marks of docstrings to Markdown."""
    return text.replace("``", "`").replace("::\n", ":\n")


def _render_section(section: str, lines: Sequence[str]) -> list[str]:
    body = "\n".join(lines).strip("\n")
    if not body.strip():
        return []
    if not section:
        return [body]
    if section in ("Args", "Raises"):
        return [f"**{'Parameters' if section == 'Args' else section}**", "\n".join(_render_entries(body))]
    return [f"**{section}**", _dedent(body)]


def _render_entries(body: str) -> list[str]:
    """Return a list item for each ``name: description`` entry; deeper lines continue the entry above."""
    items: list[str] = []
    for line in _dedent(body).splitlines():
        match = _ENTRY.match(line)
        if match and not line.startswith(" "):
            items.append(f"- `{match.group(1).strip()}`: {match.group(2)}")
        elif items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    return items


def _dedent(text: str) -> str:
    lines = text.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)
