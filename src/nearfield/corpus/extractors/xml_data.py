"""Extractor for XML: texts without tags; headings, paragraphs, and "name: value" for data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.code import CodeExtractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.word_count import count_words

#: An element of lxml, which has no types.
Element = Any
_TITLES = frozenset(("title", "head", "heading", "titre", "titel"))
_PARAGRAPHS = frozenset(
    ("p", "para", "simpara", "ab", "l", "text", "abstract", "description", "content", "summary", "encoded")
)
_CODE = frozenset(("programlisting", "screen", "code", "literallayout", "codeblock", "pre"))
#: Attributes with texts for readers.
_SHOWN = ("title", "label", "name", "alt", "caption", "summary", "description", "value", "key")
#: Characters of a value above which it is a paragraph.
_LONG = 120
_MARKUP = re.compile(r"<[a-zA-Z/][^<>]*>")


class XmlExtractor(Extractor):
    """XML; a file whose content is in attributes rather than texts is read as source code."""

    suffixes: Mapping[str, str] = {
        ".xml": "application/xml",
        ".rss": "application/rss+xml",
        ".atom": "application/atom+xml",
    }

    def parse(self, data: bytes, name: str) -> Document:
        """Return the texts of all elements."""
        from lxml import etree

        parser = etree.XMLParser(resolve_entities="internal", no_network=True, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(data, parser)
        except (etree.XMLSyntaxError, ValueError):
            return CodeExtractor().parse(data, f"{name}.xsd")
        texts = count_words(" ".join(root.itertext()))
        values = count_words(" ".join(value for element in root.iter() for value in element.attrib.values()))
        if values > texts:
            return CodeExtractor().parse(data, f"{name}.xsd")
        builder = DocumentBuilder()
        for kind, level, text in _blocks(root):
            if kind == "heading":
                builder.heading(text, level)
            elif kind == "code":
                builder.add(text, "code", markup="```\n")
            else:
                builder.add(text, "table" if kind == "fields" else "paragraph")
        builder.see("\n".join(_plain(text) for text in root.itertext()))
        return builder.document("markdown", builder.first_heading())


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _blocks(root: Element) -> Iterator[tuple[str, int, str]]:
    """Yield the kind, level and text of each block; short values that follow each other are one block."""
    fields: list[str] = []
    for kind, level, text in _pieces(root, 0):
        if kind == "fields" and text:
            fields.append(text)
            continue
        if fields:
            yield "fields", 0, "\n".join(fields)
            fields.clear()
        if text:
            yield kind, level, text
    if fields:
        yield "fields", 0, "\n".join(fields)


def _pieces(root: Element, level: int) -> Iterator[tuple[str, int, str]]:
    """Yield pieces of text with a stack, since elements may be nested to any depth."""
    stack: list[tuple[Element, int]] = [(root, level)]
    while stack:
        element, level = stack.pop()
        name = _name(element)
        children = list(element)
        if name in _CODE:
            yield "code", 0, "".join(element.itertext()).strip("\n").rstrip()
        elif name in _TITLES and _is_inline(element):
            yield "heading", min(max(level, 1), 6), _inline(element)
        elif not children or _has_text(element):
            yield from _leaf(element, name)
        else:
            shown = "; ".join(element.get(key, "") for key in _SHOWN if element.get(key))
            if shown and element is not root:
                yield "break", 0, ""
                yield "fields", 0, f"{name}: {shown}"
            elif _starts_record(element):
                yield "break", 0, ""
            below = level + any(_name(child) in _TITLES for child in children)
            stack += [(child, below) for child in reversed(children)]


def _starts_record(element: Element) -> bool:
    """Return whether an element has siblings with its name: then its values are a block."""
    parent = element.getparent()
    return parent is not None and any(
        other is not None and other.tag == element.tag for other in (element.getnext(), element.getprevious())
    )


def _leaf(element: Element, name: str) -> Iterator[tuple[str, int, str]]:
    text = _inline(element)
    if not text:
        attributes = "; ".join(f"{key.rpartition('}')[2]} {value}" for key, value in element.attrib.items())
        yield "fields", 0, f"{name}: {attributes}" if attributes else ""
        return
    shown = " ".join(element.get(key, "") for key in _SHOWN if element.get(key))
    if name in _PARAGRAPHS or len(text) > _LONG:
        yield "paragraph", 0, f"{shown}: {text}" if shown else text
    else:
        yield "fields", 0, f"{name} ({shown}): {text}" if shown else f"{name}: {text}"


def _has_text(element: Element) -> bool:
    """Return whether an element has text between its children, as a paragraph with emphasis has."""
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _is_inline(element: Element) -> bool:
    return not len(element) or _has_text(element)


def _inline(element: Element) -> str:
    return " ".join(_plain("".join(element.itertext())).split())


def _plain(text: str) -> str:
    """Return a text without the HTML that feeds put into it."""
    if not _MARKUP.search(text) or ("</" not in text and "/>" not in text and "<p>" not in text and "<br" not in text):
        return text
    from lxml import etree, html

    try:
        tree = html.fragment_fromstring(text, create_parent="div")
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return text
    for element in tree.iter("p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4"):
        element.tail = f"\n{element.tail or ''}"
    return str(tree.text_content())
