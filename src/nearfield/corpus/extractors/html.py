"""HTML: a page's main content as Markdown, by trafilatura; where that finds none, all text that can be seen."""

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

_CHARSET = re.compile(
    rb"<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
#: Encodings that a page may name, and that are then read as others, as browsers do.
_READ_AS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
#: Letters below which a main content may be too little, and how much more all text may be to take its place.
_SHORT, _MORE = 300, 3
#: Elements in elements above which no main content is looked for: that takes the square of their number.
_DEEPEST = 200
_UNSEEN = "script style noscript template head iframe object svg math canvas select textarea"
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
        text = decode(data, name, _told(data))
        tree, whole = _tree(text, name)
        title, meta = _title(tree), _meta(tree)
        main = _main(tree) if whole and _depth(tree) <= _DEEPEST else ""
        if len(main) < _SHORT:  # trafilatura keeps no structure there, or found nothing
            draft = _visible(text)
            if len(draft) <= _MORE * len(main) or not main:
                return draft.document("markdown", title or draft.first_heading(), meta)
        found = markdown.read(main, title)
        return Document(main, found.blocks, title or found.title, "markdown", meta=meta)


def _told(data: bytes) -> str:
    """Return the encoding that a page names in its first bytes, or nothing."""
    match = _CHARSET.search(data[:4096])
    found = match[1].decode("ascii", "replace").lower() if match else ""
    # A name that could be read is in no encoding of two bytes a letter, whatever it says.
    return "" if found.startswith(("utf-16", "utf-32")) else _READ_AS.get(found, found)


def _tree(text: str, name: str) -> tuple[Any, bool]:
    """Return a page's tree, and whether it has all of the page: what lies too deep ends it."""
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError as error:
        raise InputError(f"{name}: there is no text in it.") from error
    return tree, not any(each.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for each in parser.error_log)


def _title(tree: Any) -> str:
    found = tree.xpath("string(//meta[@property='og:title']/@content)") or tree.xpath("string(//title)")
    return " ".join(str(found).split())


def _meta(tree: Any) -> dict[str, Value]:
    told = {name: tree.xpath(f"string(//meta[@name='{name}']/@content)") for name in ("author", "description")}
    told["lang"] = tree.xpath("string(/html/@lang)")
    return {name: " ".join(str(value).split()) for name, value in told.items() if str(value).strip()}


def _depth(tree: Any) -> int:
    from lxml.etree import iterwalk

    depth = deepest = 0
    for event, _ in iterwalk(tree, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def _main(tree: Any) -> str:
    from copy import deepcopy

    from trafilatura import extract

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    try:
        found = extract(deepcopy(tree), output_format="markdown", include_comments=False, include_formatting=True)
    except Exception:  # noqa: BLE001 - whatever it stumbles over in broken markup, all text is read then
        return ""
    return (found or "").strip()


def _visible(text: str) -> DocumentBuilder:
    """Write all text that can be seen, block by block, without a tree: elements may lie in one another however deep."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=_Events())
    events: list[tuple[str, str]] = etree.fromstring(text.encode("utf-8", "replace"), parser)
    draft, unseen = DocumentBuilder(), 0
    held: list[str] = []
    unseen_tags, inline = frozenset(_UNSEEN.split()), frozenset(_INLINE.split())
    for event, told in events:
        if event == "text":
            held.append("" if unseen else told)
            continue
        if told not in inline:
            _flush(draft, held, told if event == "end" else "")
        if told in unseen_tags:
            unseen += 1 if event == "start" else -1
    _flush(draft, held, "")
    return draft


class _Events:
    """What a parser meets: starts and ends of elements, and text."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def start(self, tag: str, _: object) -> None:
        self._found.append(("start", tag))

    def end(self, tag: str) -> None:
        self._found.append(("end", tag))

    def data(self, text: str) -> None:
        self._found.append(("text", text))

    def close(self) -> list[tuple[str, str]]:
        return self._found


def _flush(draft: DocumentBuilder, held: list[str], tag: str) -> None:
    text = "".join(held).strip("\n") if tag == "pre" else " ".join("".join(held).split())
    held.clear()
    if re.fullmatch("h[1-6]", tag):
        draft.head(text, int(tag[1]))
    else:
        draft.add(text, _KINDS.get(tag, "paragraph"), markup="- " if tag == "li" and text else "")
