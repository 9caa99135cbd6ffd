"""Extractor for HTML: all that a reader sees of a page but its navigation, as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.html_formulas import simplify_formulas
from nearfield.corpus.extractors.html_navigation import find_navigation
from nearfield.corpus.extractors.html_renderer import HtmlRenderer
from nearfield.corpus.extractors.html_visibility import INLINE, Event, visible_events
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.stores.filters import Value

#: An element of lxml, which has no types.
Element = Any
_PAGE_END = re.compile(r"</(?:body|html)\s*>", re.IGNORECASE)
_CHARSET = re.compile(
    rb"<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
#: Encodings that a page may name, and those that browsers read instead.
_READ_AS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
#: Links and frames of a page without text that its loss names.
_MAX_NAMED = 3
#: Depth of elements above which navigation is not looked for: that takes the square of the depth.
_MAX_DEPTH = 200
#: Frames within each other whose pages are read.
_MAX_FRAMES = 4


class HtmlExtractor(Extractor):
    """Web pages."""

    suffixes = dict.fromkeys((".html", ".htm", ".xhtml", ".xht"), "text/html")

    def parse(self, data: bytes, name: str) -> Document:
        """Return what a reader sees, as Markdown."""
        text = decode(data, name, _declared_encoding(data))
        tree, complete = _tree(text, name)
        is_flat = complete and _depth(tree) <= _MAX_DEPTH
        if is_flat:
            simplify_formulas(tree)
        events = _tree_events(tree, find_navigation(tree)) if is_flat else _parser_events(text)
        visible = list(visible_events(events))
        renderer = HtmlRenderer()
        renderer.feed(visible)
        builder = renderer.finish()
        builder.see(_visible_text(visible))
        if count := renderer.pictures_without_text:
            builder.losses.append(Loss(f"{count} picture{'s' if count > 1 else ''} without a description"))
        return builder.document("markdown", _title(tree) or builder.first_heading(), _meta(tree))

    def other_contents(self, data: bytes, name: str) -> list[Loss]:
        """Return what a page without text has instead: navigation, frames, a forward or scripts."""
        tree, complete = _tree(decode(data, name, _declared_encoding(data)), name)
        return list(_other_contents(tree, find_navigation(tree) if complete and _depth(tree) <= _MAX_DEPTH else ()))


def _declared_encoding(data: bytes) -> str:
    """Return the encoding that a page names in its first bytes, or an empty string."""
    match = _CHARSET.search(data[:4096])
    name = match[1].decode("ascii", "replace").lower() if match else ""
    # A name that is readable as ASCII cannot be in an encoding of two bytes per character.
    return "" if name.startswith(("utf-16", "utf-32")) else _READ_AS.get(name, name)


def _parsed(text: str) -> bytes:
    """Return what the parser gets: without the ends of the page, after which libxml2 ignores what browsers show."""
    return _PAGE_END.sub("", text).encode("utf-8", "replace")


def _tree(text: str, name: str, level: int = 0) -> tuple[Element, bool]:
    """Return a page's tree, and whether it is complete: the parser stops at elements that are nested too deep.

    Frames have the pages that they contain. ``level`` is the number of frames around the page.
    """
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = html.document_fromstring(_parsed(text), parser=parser)
    except etree.ParserError as error:
        raise InputError(f"{name}: the file contains no text.") from error
    complete = not any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log)
    for frame in list(tree.iter("iframe")) if level < _MAX_FRAMES else ():
        complete &= _fill_frame(frame, name, level)
    return tree, complete


def _fill_frame(frame: Element, name: str, level: int) -> bool:
    """Put the page that a frame contains in an attribute into it; return whether that page is complete."""
    markup = frame.get("srcdoc") or _data_page(frame.get("src") or "")
    if not markup.strip():
        return True
    try:
        page, complete = _tree(markup, name, level + 1)
    except InputError:  # without text
        return True
    for child in list(frame):
        frame.remove(child)
    frame.text = None  # it is shown by programs without frames
    page.tag = "div"
    frame.append(page)
    return complete


def _data_page(address: str) -> str:
    """Return the page that an address of the form ``data:text/html,...`` contains; empty for any other one."""
    head, _, content = address.partition(",")
    if not head.strip().lower().startswith("data:text/html"):
        return ""
    data = unquote_to_bytes(content)
    if head.rstrip().lower().endswith(";base64"):
        try:
            data = base64.b64decode(data)
        except ValueError:
            return ""
    return data.decode("utf-8", "replace")


def _other_contents(tree: Element, navigation: Iterable[Element]) -> Iterator[Loss]:
    """Yield what a page without text has instead."""
    texts = [" ".join("".join(link.itertext()).split()) for part in navigation for link in part.iter("a")]
    texts = list(dict.fromkeys(filter(None, texts)))
    if texts:
        shown = ", ".join(texts[:_MAX_NAMED]) + (", ..." if len(texts) > _MAX_NAMED else "")
        plural = "s" if len(texts) > 1 else ""
        yield Loss(f"navigation alone, {len(texts)} link{plural}: {shown}", advice="Index the pages that it leads to.")
    elif any(count_words("".join(part.itertext())) for part in navigation):
        yield Loss("navigation alone, without any content of the page")
    frames = [str(frame.get("src")) for frame in tree.iter("frame", "iframe") if frame.get("src")]
    if frames:
        yield Loss(f"frames alone: {', '.join(frames[:_MAX_NAMED])}", advice="Index the pages that they show.")
    forward = next((meta for meta in tree.iter("meta") if (meta.get("http-equiv") or "").lower() == "refresh"), None)
    if forward is not None:
        address = (forward.get("content") or "").partition("=")[2].strip()
        yield Loss(f"a forward to {address or 'another page'}", advice="Index the page that it leads to.")
    elif not texts and not frames and any(True for _ in tree.iter("script")):
        yield Loss("what its scripts would show", advice="Open it in a browser, and save what is shown.")


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


def _tree_events(tree: Element, dropped: set[Element]) -> Iterator[Event]:
    """Yield the events of a tree without the dropped elements."""
    from lxml.etree import iterwalk

    walker = iterwalk(tree, events=("start", "end"))
    for event, element in walker:
        if event == "start" and element in dropped:
            walker.skip_subtree()
            # The text before it and the text after it are different paragraphs.
            yield "start", "div", {}
        elif event == "start":
            yield "start", element.tag, element.attrib
            if element.text:
                yield "text", element.text, {}
        else:
            yield "end", "div" if element in dropped else element.tag, {}
            if element.tail and element is not tree:
                yield "text", element.tail, {}


def _parser_events(text: str) -> Iterable[Event]:
    """Return the events of a page whose elements may be nested to any depth: no tree is built."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, target=_EventTarget())
    events: list[Event] = etree.fromstring(_parsed(text), parser)
    return events


class _EventTarget:
    """A target of lxml's parser that records starts and ends of elements, and text."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def start(self, tag: str, attributes: Any) -> None:
        self._events.append(("start", tag, dict(attributes)))

    def end(self, tag: str) -> None:
        self._events.append(("end", tag, {}))

    def data(self, text: str) -> None:
        self._events.append(("text", text, {}))

    def close(self) -> list[Event]:
        return self._events


def _visible_text(events: Iterable[Event]) -> str:
    """Return the text of all text nodes. Text of inline elements joins the text around it."""
    return "".join(value if event == "text" else "" if value in INLINE else "\n" for event, value, _ in events)
