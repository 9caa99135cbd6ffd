"""Office Open XML packages: XML parts and their relationships, in the transitional and the strict form."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nearfield.corpus.extractors.zip_safety import ArchiveFiles
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

#: An element of lxml's tree, which has no types.
Element = Any

#: Namespaces of the strict form, and those of the transitional form that the extractors know.
_STRICT = (
    (b"http://purl.oclc.org/ooxml/officeDocument/relationships/metadata/", b"{package}/relationships/metadata/"),
    (b"http://purl.oclc.org/ooxml/officeDocument/", b"http://schemas.openxmlformats.org/officeDocument/2006/"),
    (b"http://purl.oclc.org/ooxml/wordprocessingml/", b"http://schemas.openxmlformats.org/wordprocessingml/2006/"),
    (b"http://purl.oclc.org/ooxml/spreadsheetml/", b"http://schemas.openxmlformats.org/spreadsheetml/2006/"),
    (b"http://purl.oclc.org/ooxml/presentationml/", b"http://schemas.openxmlformats.org/presentationml/2006/"),
    (b"http://purl.oclc.org/ooxml/drawingml/", b"http://schemas.openxmlformats.org/drawingml/2006/"),
)
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_ALTERNATIVES, _FALLBACK = f"{_COMPATIBILITY}AlternateContent", f"{_COMPATIBILITY}Fallback"
#: Namespaces that the extractors know: those of the standard, of VML, and of versions of Office up to 2023.
_KNOWN = re.compile(
    r"http://schemas\.openxmlformats\.org/|urn:schemas-microsoft-com:"
    r"|http://schemas\.microsoft\.com/office/(?!.*20(?:2[4-9]|[3-9]\d))"
)
_DOCTYPE = re.compile(rb"<!DOCTYPE", re.IGNORECASE)
#: Elements with the text of other versions of the same content, and deleted or moved text.
_NOT_SEEN = frozenset({"moveFrom", "del", "rPh", "instrText", "delText"})
_BREAKS = frozenset({"rt", "rubyBase", "p", "tab", "br", "cr", "tc", "ptab", "si", "pt", "v", "cm", "text"})


@dataclass(frozen=True)
class Relationship:
    """A link from one part to another: ``kind`` is the last word of its type; ``target`` is the other part's name."""

    kind: str
    target: str
    external: bool = False


class OfficePackage:
    """The parts of an Office Open XML file. A part that is missing is None."""

    def __init__(self, data: bytes, name: str) -> None:
        self._files = ArchiveFiles(data, name)
        self.names = self._files.names
        self._name = name
        self._relationships: dict[str, dict[str, Relationship]] = {}
        #: Parts of which only the beginning could be read, or nothing.
        self.damaged: set[str] = set()
        #: The names of namespaces by the parts that need them: their contents have no version that can be read.
        self.unknown: dict[str, list[str]] = {}

    def size(self, part: str) -> int:
        """Return the bytes of a part, as the file states them; 0 without the part."""
        return self._files.size(part)

    def read(self, part: str) -> bytes:
        """Return the bytes of a part, with the namespaces of the transitional form; empty without the part."""
        data = self._files.read(part)
        if part in self._files.damaged:
            self.damaged.add(part)
        if b"http://purl.oclc.org/ooxml/" in data[:20_000]:
            for strict, transitional in _STRICT:
                data = data.replace(strict, transitional)
        return data

    def tree(self, part: str) -> Element | None:
        """Return the root element of a part, of a damaged one as far as it can be read; None if nothing can be."""
        data = self.read(part)
        if not data:
            return None
        try:
            tree = parse_xml(data)
        except SyntaxError:
            self.damaged.add(part)
            tree = parse_damaged(data)
            if tree is None:
                return None
        unknown = choose_alternatives(tree) if b"AlternateContent" in data else []
        if unknown:
            self.unknown[part] = unknown
        return tree

    def main(self, kind: str = "officeDocument") -> str:
        """Return the name of the main part.

        Raises:
            InputError: there is none.
        """
        for relationship in self.relationships("").values():
            if relationship.kind == kind and relationship.target in self.names:
                return relationship.target
        raise InputError(f"{self._name}: damaged, or not of the type that its name says (its main part is missing).")

    def main_tree(self) -> Element:
        """Return the root element of the main part.

        Raises:
            InputError: it is missing or damaged.
        """
        tree = self.tree(self.main())
        if tree is None:
            raise InputError(f"{self._name}: damaged: its main part cannot be read. Open and save it in its program.")
        return tree

    def relationships(self, part: str) -> Mapping[str, Relationship]:
        """Return the links of a part by their ids; those of the package for an empty name."""
        if part not in self._relationships:
            folder, name = posixpath.split(part)
            root = self.tree(posixpath.join(folder, "_rels", f"{name}.rels"))
            links = {} if root is None else {item.get("Id", ""): _relationship(item, folder) for item in root}
            self._relationships[part] = links
        return self._relationships[part]

    def related(self, part: str, *kinds: str) -> Iterator[str]:
        """Yield the names of existing parts that a part links to with one of these kinds."""
        for relationship in self.relationships(part).values():
            if relationship.kind in kinds and not relationship.external and relationship.target in self.names:
                yield relationship.target

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """The document's own facts by their local names, such as ``title`` and ``creator``."""
        part = next(self.related("", "core-properties"), "docProps/core.xml")
        root = self.tree(part)
        return {} if root is None else {local_name(item): (item.text or "").strip() for item in root}

    @cached_property
    def _media_types(self) -> Mapping[str, str]:
        """The media types of parts, by their names with a slash, or by their suffixes."""
        root = self.tree("[Content_Types].xml")
        names = ((item.get("PartName") or f".{item.get('Extension', '')}".lower(), item) for item in _children(root))
        return {name: item.get("ContentType", "").partition(";")[0].strip().lower() for name, item in names}

    def media_type(self, part: str) -> str:
        """Return the media type of a part; empty if the package does not state it."""
        suffix = posixpath.splitext(part)[1].lower()
        return self._media_types.get(f"/{part}") or self._media_types.get(suffix, "")

    def meta(self) -> dict[str, str]:
        """Return the facts of the document that filters use."""
        author = self.properties.get("creator", "")
        return {"author": author} if author else {}


def _children(root: Element | None) -> list[Element]:
    return [] if root is None else [item for item in root if local_name(item)]


def _relationship(item: Element, folder: str) -> Relationship:
    target = item.get("Target", "")
    path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
    return Relationship(item.get("Type", "").rpartition("/")[2], path, item.get("TargetMode") == "External")


def parse_xml(data: bytes) -> Element:
    """Return the root element of XML; entities that it declares are not expanded.

    Raises:
        SyntaxError: it is not well-formed; lxml's error is one.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, remove_comments=True)
    return etree.fromstring(data, parser)


def parse_damaged(data: bytes) -> Element | None:
    """Return the root element of XML as far as it can be read; VML of Office is often not well-formed."""
    from lxml import etree

    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
    except SyntaxError:  # it is empty
        return None


def choose_alternatives(root: Element) -> list[str]:
    """Replace each content with several versions by the one that Office shows, in place.

    That is the first version whose namespaces are known, else the fallback. Without either, a version of unknown
    namespaces is used if it has known text; the names of the namespaces of others are returned.
    """
    unknown: list[str] = []
    left_out: set[Element] = set()
    for item in list(root.iter(_ALTERNATIVES)):
        if item in left_out or item.getparent() is None:
            continue
        chosen = _shown_version(item)
        if chosen is None:
            unknown += [version.get("Requires", "") for version in item]
        left_out.update(inner for version in item if version is not chosen for inner in version.iter(_ALTERNATIVES))
        for child in list(chosen) if chosen is not None else ():
            item.addprevious(child)
        item.getparent().remove(item)
    return unknown


def _shown_version(item: Element) -> Element | None:
    choices = [version for version in item if local_name(version) == "Choice"]
    known = (choice for choice in choices if all(map(_KNOWN.match, _required(choice))))
    shown = next(known, item.find(_FALLBACK))
    return shown if shown is not None else next(filter(_has_text, choices), None)


def _required(choice: Element) -> list[str]:
    """Return the namespaces that a version needs."""
    return [choice.nsmap.get(prefix, "") for prefix in choice.get("Requires", "").split()]


def _has_text(choice: Element) -> bool:
    return any(_KNOWN.match(text.tag[1:]) for text in choice.iter("{*}t") if (text.text or "").strip())


def local_name(element: Element) -> str:
    """Return an element's name without its namespace; empty for comments and entities."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """Return an attribute by its local name, whatever its namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def descendants(element: Element, *names: str) -> Iterator[Element]:
    """Yield the elements below another with one of these local names, in order."""
    stack = list(reversed(element))
    while stack:
        item = stack.pop()
        name = local_name(item)
        if name in names:
            yield item
        if name:
            stack.extend(reversed(item))


def is_on(element: Element | None) -> bool:
    """Return whether a property is set: its element exists, and does not say that it is off."""
    return element is not None and attribute(element, "val") not in ("0", "false", "off", "none")


def count_visible_words(trees: Iterable[Element | None], *texts: str) -> int:
    """Return the number of words in the text nodes of XML parts; ``texts`` are the local names of those nodes.

    Structure plays no part in it: an extractor that misses a kind of element is found out by this number.
    """
    return count_words(visible_text(trees, *texts))


def visible_text(trees: Iterable[Element | None], *texts: str) -> str:
    """Return the text nodes that ``count_visible_words`` counts."""
    names = frozenset(texts or ("t",))
    return " ".join("".join(_text_nodes(tree, names)) for tree in trees if tree is not None)


def _text_nodes(tree: Element, texts: frozenset[str]) -> Iterator[str]:
    stack: list[tuple[Element, bool]] = [(tree, False)]
    while stack:
        element, ended = stack.pop()
        name = local_name(element)
        if ended or not name or name in _NOT_SEEN:
            yield " "
            continue
        if name in texts:
            yield element.text or ""
        if name == "textpath":  # WordArt of older versions
            yield f" {attribute(element, 'string')} "
        if name in _BREAKS:
            yield " "
            stack.append((element, True))
        stack.extend((child, False) for child in reversed(element))
