"""Renderer of HTML: turns the events of a parsed page into the blocks of a document, as Markdown.

Each element with blocks of its kind inside (a list, a table, a quotation) is a container on a stack. Its blocks are
joined when it ends, so that lists in cells, code in list items and definition lists keep all that they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html_tables import HtmlBlock, TableCell, table_text
from nearfield.corpus.extractors.html_visibility import HEADINGS, INLINE, Event, picture_text

_LISTS = frozenset(("ul", "ol", "menu", "dir"))
_CONTAINERS = _LISTS | HEADINGS | {"li", "dl", "dt", "dd", "blockquote", "table", "tr", "td", "th", "caption", "pre"}
_VOID = frozenset(("br", "img", "iframe", "area", "text"))
#: Elements that end others: which ones, and the elements up to which these are looked for.
_SIBLINGS = {
    "li": (frozenset(("li",)), _LISTS),
    "dt": (frozenset(("dt", "dd")), frozenset(("dl",))),
    "dd": (frozenset(("dt", "dd")), frozenset(("dl",))),
    "tr": (frozenset(("tr",)), frozenset(("table",))),
    "td": (frozenset(("td", "th")), frozenset(("tr", "table"))),
    "th": (frozenset(("td", "th")), frozenset(("tr", "table"))),
}
_CODE = frozenset(("code", "kbd", "samp", "tt"))
#: A line break within a paragraph; pages cannot contain this character.
_BREAK = "\x0b"
#: Characters of a definition above which a definition list is rendered as paragraphs.
_LONG_DEFINITION = 500
#: Indentation of nested lists beyond which they are not indented further: that takes the square of their depth.
_MAX_INDENT = " " * 60
_EXPONENT = re.compile(r"[+\u2212\u2013-]?\d+|[a-zA-Z]|[+\u2212-]")
_LANGUAGE = re.compile(r"(?:^|\s)(?:lang|language|highlight|brush:?)[-\s]([\w+#]+)")


@dataclass
class _OpenElement:
    """An open inline element that changes its text, from part number ``start`` on."""

    tag: str
    start: int
    has_link: bool = False


@dataclass
class _Container:
    tag: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    blocks: list[HtmlBlock] = field(default_factory=list)
    #: Items of a list, or terms and definitions: the tag and the blocks.
    items: list[tuple[str, list[HtmlBlock]]] = field(default_factory=list)
    rows: list[list[TableCell]] = field(default_factory=list)
    cells: list[TableCell] = field(default_factory=list)
    number: int = 1


class HtmlRenderer:
    """Receives the visible events of a page in order; ``finish`` returns the builder with all blocks."""

    def __init__(self) -> None:
        self.builder = DocumentBuilder()
        self.pictures_without_text = 0
        self._stack = [_Container("")]
        self._parts: list[str] = []
        self._open: list[_OpenElement] = []
        self._pre = 0

    def feed(self, events: Iterable[Event]) -> None:
        """Handle events."""
        for event, value, attributes in events:
            if event == "text":
                self._parts.append(value)
            elif event == "start":
                self._start(value, attributes)
            else:
                self._end(value)

    def finish(self) -> DocumentBuilder:
        """Close all elements and return the builder."""
        self._flush()
        while len(self._stack) > 1:
            self._close(self._stack.pop())
        return self.builder

    # -- elements ----------------------------------------------------------------------------------------------

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in ("img", "iframe", "area"):
            self._picture(tag, attributes)
        elif tag == "br":
            self._parts.append("\n" if self._pre else _BREAK)
        elif tag == "text":  # a label in a drawing
            self._parts.append(" ")
        elif tag in INLINE:
            self._start_inline(tag, attributes)
        elif not self._pre:
            self._flush()
            if tag in _CONTAINERS:
                self._push(tag, attributes)

    def _push(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _SIBLINGS:
            self._close_sibling(*_SIBLINGS[tag])
        self._pre += tag == "pre"
        container = _Container(tag, attributes)
        start = attributes.get("start", "")
        container.number = int(start) if tag == "ol" and re.fullmatch(r"-?\d{1,6}", start) else 1
        self._stack.append(container)

    def _close_sibling(self, tags: frozenset[str], around: frozenset[str]) -> None:
        """Close an element that has no end tag, of which the parser makes the next one a child."""
        for number in range(len(self._stack) - 1, 0, -1):
            if self._stack[number].tag in around:
                return
            if self._stack[number].tag in tags:
                while len(self._stack) > number:
                    self._close(self._stack.pop())
                return

    def _end(self, tag: str) -> None:
        if tag in _VOID:
            return
        if tag in INLINE:
            self._end_inline(tag)
        elif self._pre and tag != "pre":
            if self._parts and not self._parts[-1].endswith("\n"):
                self._parts.append("\n")
        else:
            self._flush()
            if any(container.tag == tag for container in self._stack[1:]):
                while (container := self._stack.pop()).tag != tag:
                    self._close(container)
                self._close(container)

    def _picture(self, tag: str, attributes: Mapping[str, str]) -> None:
        text = picture_text(tag, attributes)
        if text is None:
            self.pictures_without_text += 1
        elif text and text not in self._recent():
            self._parts.append(f" {text} ")

    def _recent(self) -> str:
        """Return the last text, in which the description of a picture may already be."""
        last = self._stack[-1].blocks[-1].text if self._stack[-1].blocks else ""
        return last + "".join(self._parts[-20:])

    def _start_inline(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "a":
            for element in self._open:
                element.has_link = True
        if tag == "q":
            self._parts.append('"')
        elif tag in ("sup", "a") or (tag in _CODE and not self._pre and not self._in_code()):
            self._open.append(_OpenElement(tag, len(self._parts)))
            self._parts.append("`" if tag in _CODE else "")
        elif self._pre and tag in _CODE:
            self._stack[-1].attributes = {**attributes, **self._stack[-1].attributes}

    def _in_code(self) -> bool:
        return any(element.tag in _CODE for element in self._open)

    def _end_inline(self, tag: str) -> None:
        if tag == "q":
            self._parts.append('"')
        if not self._open or self._open[-1].tag != tag:
            return
        element = self._open.pop()
        start = element.start
        text = "".join(self._parts[start:])
        if tag == "a":
            if text.strip() in ("\u00b6", "#", "\u00a7", "\U0001f517"):
                del self._parts[start:]
            return
        before = "".join(self._parts[max(0, start - 3) : start])
        del self._parts[start:]
        self._parts.append(_code(text) if tag in _CODE else _superscript(text, before, is_note=element.has_link))

    # -- blocks ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """End the current paragraph."""
        if self._pre:
            return
        if self._in_code() and self._parts:
            self._parts.append("`")
        self._open.clear()
        lines = (" ".join(line.split()) for line in "".join(self._parts).split(_BREAK))
        self._parts.clear()
        text = "\n".join(line for line in lines if line.strip("`"))
        if text:
            self._add(HtmlBlock("paragraph", text))

    def _add(self, block: HtmlBlock) -> None:
        if len(self._stack) > 1:
            self._stack[-1].blocks.append(block)
        elif block.kind == "heading":
            self.builder.heading(block.text, block.level)
        else:
            self.builder.add(block.text.rstrip(), block.kind)

    def _close(self, container: _Container) -> None:
        """Add the blocks of a container, which has been taken from the stack, to the one around it."""
        tag, around = container.tag, self._stack[-1]
        if tag == "pre":
            self._close_code(container)
        elif tag in HEADINGS:
            text = " ".join(block.text for block in container.blocks)
            self._add(HtmlBlock("heading", text, int(tag[1])))
        elif tag in ("li", "dt", "dd") and around.tag in (*_LISTS, "dl"):
            around.items.append((_marker(around, container), container.blocks))
        elif tag in ("td", "th") and around.tag == "tr":
            around.cells.append(TableCell(container.blocks, container.attributes, is_head=tag == "th"))
        elif tag == "tr" and around.tag == "table":
            around.rows.append(container.cells)
            around.blocks += container.blocks
        else:
            for block in _joined(container):
                self._add(block)

    def _close_code(self, container: _Container) -> None:
        text = "".join(self._parts).replace(_BREAK, "\n").strip("\n").rstrip()
        self._parts.clear()
        self._open.clear()
        self._pre = max(0, self._pre - 1)
        if text.strip():
            language = _LANGUAGE.search(container.attributes.get("class", ""))
            fence = "```" if "```" not in text else "~~~~"
            self._add(HtmlBlock("code", f"{fence}{language[1] if language else ''}\n{text}\n{fence}"))


def _joined(container: _Container) -> list[HtmlBlock]:
    """Return the blocks that a container becomes."""
    if container.tag in _LISTS:
        return [*container.blocks, *_list(container)]
    if container.tag == "dl":
        return [*container.blocks, *_definitions(container)]
    if container.tag == "blockquote":
        return _quote(container.blocks)
    if container.tag == "table":
        return [*container.blocks, *_table(container)]
    if container.tag == "tr":
        return [*container.blocks, *(block for cell in container.cells for block in cell.blocks)]
    return container.blocks


def _marker(around: _Container, item: _Container) -> str:
    if around.tag != "ol":
        return item.tag if around.tag == "dl" else "- "
    value = item.attributes.get("value", "")
    around.number = int(value) if re.fullmatch(r"-?\d{1,6}", value) else around.number
    around.number += 1
    return f"{around.number - 1}. "


def _list(container: _Container) -> list[HtmlBlock]:
    """Return a list as one block; one that lays out the page, with headings or tables, as the blocks of its items."""
    if any(block.kind in ("heading", "table") for _, blocks in container.items for block in blocks):
        return [block for _, blocks in container.items for block in blocks]
    text = "\n".join(_item(marker, blocks) for marker, blocks in container.items if blocks)
    return [HtmlBlock("list", text)] if text else []


def _item(marker: str, blocks: Iterable[HtmlBlock]) -> str:
    text = "\n".join(block.text for block in blocks)
    indent = " " * len(marker) if f"\n{_MAX_INDENT}" not in text else ""
    return marker + text.replace("\n", f"\n{indent}")


def _definitions(container: _Container) -> list[HtmlBlock]:
    """Return a definition list as one list, or as paragraphs if its definitions are long."""
    simple = all(
        len(blocks) <= 1 and all(block.kind == "paragraph" and len(block.text) <= _LONG_DEFINITION for block in blocks)
        for _, blocks in container.items
    )
    if not simple:
        return [block for _, blocks in container.items for block in blocks]
    lines: list[str] = []
    before = ""
    for tag, blocks in container.items:
        text = " ".join(block.text.replace("\n", " ") for block in blocks)
        if tag == "dd" and before == "dt" and lines:
            lines[-1] += text if not text else f" {text}" if lines[-1].endswith((":", "?")) else f": {text}"
        elif tag == "dd" and lines:
            lines[-1] += f"; {text}"
        elif tag == "dt" and before == "dt" and lines:
            lines[-1] += f", {text}"
        else:
            lines.append(f"- {text}")
        before = tag
    return [HtmlBlock("list", "\n".join(lines))] if lines else []


def _quote(blocks: Iterable[HtmlBlock]) -> list[HtmlBlock]:
    quoted: list[HtmlBlock] = []
    for block in blocks:
        if block.kind not in ("paragraph", "list", "quote"):
            quoted.append(block)
            continue
        text = "> " + block.text.replace("\n", "\n> ")
        if quoted and quoted[-1].kind == "quote":
            quoted[-1] = HtmlBlock("quote", f"{quoted[-1].text}\n>\n{text}")
        else:
            quoted.append(HtmlBlock("quote", text))
    return quoted


def _table(container: _Container) -> list[HtmlBlock]:
    """Return a table as one block; one that lays out the page as the blocks of its cells."""
    cells = [cell for row in container.rows for cell in row]
    layout = container.attributes.get("role") in ("presentation", "none") or all(len(row) < 2 for row in container.rows)
    if layout or any(block.kind in ("heading", "table") for cell in cells for block in cell.blocks):
        return [block for cell in cells for block in cell.blocks]
    text = table_text(container.rows)
    return [HtmlBlock("table", text)] if text else []


def _code(text: str) -> str:
    inner = text.strip("`")
    if not inner.strip():
        return inner
    lead, trail = inner[: len(inner) - len(inner.lstrip())], inner[len(inner.rstrip()) :]
    return f"{lead}`{inner.strip()}`{trail}"


def _superscript(text: str, before: str, *, is_note: bool) -> str:
    """Return the text of ``<sup>``: an exponent after "^", the number of a note in brackets, other text unchanged."""
    inner = text.strip()
    if not before[-1:].isalnum() and not before.endswith((")", "]")):
        return text
    if inner.isdigit() and (is_note or re.search(r"[^\W\d]{4,}$", before)):
        return f"[{inner}]"
    return f"^{inner}" if _EXPONENT.fullmatch(inner) else text
