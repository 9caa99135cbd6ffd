"""Extractor for HTML: a page's main content as Markdown, by trafilatura; if that finds none, all visible text."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from nearfield.corpus.document import BlockKind, Document
from nearfield.corpus.extractors import Extractor, markdown
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: An element of lxml, which has no types.
Element = Any
_CHARSET = re.compile(
    rb"<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
#: Encodings that a page may name, and those that browsers read instead.
_READ_AS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
#: Characters below which the main content may be incomplete: all text replaces it if it is this many times longer.
_SHORT, _MORE = 300, 3
#: Depth of elements above which the main content is not searched for: that takes the square of the depth.
_MAX_DEPTH = 200
_HIDDEN = "script style noscript template head iframe object svg math canvas select textarea"
_INLINE = (
    "a abbr b bdi bdo big cite code data del dfn em font i img ins kbd label mark q s samp small span strike strong "
    "sub sup time tt u var wbr"
)
_KINDS: Mapping[str, BlockKind] = {"li": "list", "pre": "code", "tr": "table", "blockquote": "quote"}


class HtmlExtractor(Extractor):
    """Web pages."""

    suffixes = dict.fromkeys((".html", ".htm", ".xhtml", ".xht"), "text/html")

    def parse(self, data: bytes, name: str) -> Document:
        """Return the main content as Markdown."""
        text = decode(data, name, _declared_encoding(data))
        tree, complete = _tree(text, name)
        title, meta = _title(tree), _meta(tree)
        main = _main_content(tree) if complete and _depth(tree) <= _MAX_DEPTH else ""
        if len(main) < _SHORT:  # trafilatura drops the structure of short texts, or finds nothing
            builder = _visible_text(text)
            if len(builder) <= _MORE * len(main) or not main:
                return builder.document("markdown", title or builder.first_heading(), meta)
        document = markdown.parse_markdown(main, title)
        return Document(main, document.blocks, title or document.title, "markdown", meta=meta)


def _declared_encoding(data: bytes) -> str:
    """Return the encoding that a page names in its first bytes, or an empty string."""
    match = _CHARSET.search(data[:4096])
    name = match[1].decode("ascii", "replace").lower() if match else ""
    # A name that is readable as ASCII cannot be in an encoding of two bytes per character.
    return "" if name.startswith(("utf-16", "utf-32")) else _READ_AS.get(name, name)


def _tree(text: str, name: str) -> tuple[Element, bool]:
    """Return a page's tree, and whether it is complete: the parser stops at elements that are nested too deep."""
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError as error:
        raise InputError(f"{name}: the file contains no text.") from error
    return tree, not any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log)


def _title(tree: Element) -> str:
    title = tree.xpath("string(//meta[@property='og:title']/@content)") or tree.xpath("string(//title)")
    return " ".join(str(title).split())


def _meta(tree: Element) -> dict[str, Value]:
    meta = {name: tree.xpath(f"string(//meta[@name='{name}']/@content)") for name in ("author", "description")}
    meta["lang"] = tree.xpath("string(/html/@lang)")
    return {name: " ".join(str(value).split()) for name, value in meta.items() if str(value).strip()}


def _depth(tree: Element) -> int:
    from lxml.etree import iterwalk

    depth = deepest = 0
    for event, _ in iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _main_content(tree: Element) -> str:
    from copy import deepcopy

    from trafilatura import extract

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    try:
        main = extract(deepcopy(tree), output_format="markdown", include_comments=False, include_formatting=True)
    except Exception:  # noqa: BLE001 - it may fail on broken markup: then all text is used
        return ""
    return (main or "").strip()


def _visible_text(text: str) -> DocumentBuilder:
    """Return all visible text, block by block. No tree is built, since elements may be nested to any depth."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=_Events())
    events: list[tuple[str, str]] = etree.fromstring(text.encode("utf-8", "replace"), parser)
    builder, hidden_depth = DocumentBuilder(), 0
    parts: list[str] = []
    hidden, inline = frozenset(_HIDDEN.split()), frozenset(_INLINE.split())
    for event, value in events:
        if event == "text":
            parts.append("" if hidden_depth else value)
            continue
        if value not in inline:
            _flush(builder, parts, value if event == "end" else "")
        if value in hidden:
            hidden_depth += 1 if event == "start" else -1
    _flush(builder, parts, "")
    return builder


class _Events:
    """A target of lxml's parser that records starts and ends of elements, and text."""

    def __init__(self) -> None:
        self._events: list[tuple[str, str]] = []

    def start(self, tag: str, _: object) -> None:
        self._events.append(("start", tag))

    def end(self, tag: str) -> None:
        self._events.append(("end", tag))

    def data(self, text: str) -> None:
        self._events.append(("text", text))

    def close(self) -> list[tuple[str, str]]:
        return self._events


def _flush(builder: DocumentBuilder, parts: list[str], tag: str) -> None:
    text = "".join(parts).strip("\n") if tag == "pre" else " ".join("".join(parts).split())
    parts.clear()
    if re.fullmatch("h[1-6]", tag):
        builder.heading(text, int(tag[1]))
    else:
        builder.add(text, _KINDS.get(tag, "paragraph"), markup="- " if tag == "li" and text else "")
