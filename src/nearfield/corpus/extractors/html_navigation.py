"""Navigation of HTML pages: the elements that are left out, since they lead to other pages and say nothing themselves.

The decision is conservative: text that is no link is left out only if the page marks its main content, and if most of
the text is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearfield.corpus.extractors.html_visibility import is_hidden
from nearfield.corpus.word_count import count_words

#: An element of lxml, which has no types.
Element = Any
_ROLES = frozenset(("navigation", "search", "menu", "menubar", "toolbar", "alertdialog"))
_BLOCK_TAGS = "div ul ol dl section aside header footer p table form nav center menu td details tr fieldset"
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_NAME_LIST = (
    "nav navbar navigation menu menus submenu sidebar breadcrumb breadcrumbs crumbs pagination pager share "
    "sharing social related recommended recommendations more tags tagcloud cookie cookies consent gdpr "
    "newsletter subscribe promo sponsor sponsored advert advertisement advertising ads ad banner footer header "
    "masthead topbar toolbar popup modal login signup search skip widget widgets toc comments respond disqus "
    "teaser teasers meta print overlay"
)
_NAMES = frozenset(_NAME_LIST.split())
#: Names of places that may have text.
_PLACES = frozenset(("header", "footer", "more", "meta", "banner", "print"))
#: Names of elements whose text is left out even where it is no link.
_ALWAYS = frozenset(["cookie", "cookies", "consent", "gdpr", "newsletter", "advert", "advertisement", "disqus"])
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
#: Share of words in links at which a block is navigation: within a named element, elsewhere.
_NAMED_SHARE, _SHARE = 0.4, 0.65
#: Words that are no link, above which a block is content, and those of a named element that is always left out.
_MAX_PLAIN, _MAX_ALWAYS = 40, 150
#: Share of all words that the main content has at least, if everything else is to be left out.
_MAIN_SHARE = 0.4
#: Plain words and share of words in links at which an element beside the main content is text.
_MIN_PROSE, _PROSE_SHARE = 12, 0.2
#: Share of words below which too little is left, and all is taken.
_MIN_SHARE = 0.25


@dataclass
class _Words:
    """Words in an element, those in links, and the number of links."""

    all: int = 0
    linked: int = 0
    links: int = 0

    @property
    def plain(self) -> int:
        return self.all - self.linked

    @property
    def share(self) -> float:
        return self.linked / self.all if self.all else 0.0


def find_navigation(tree: Element) -> set[Element]:
    """Return the elements of a page that are left out as navigation."""
    page = _Page(tree)
    return page.navigation()


class _Page:
    """A page and the words in each of its elements."""

    def __init__(self, tree: Element) -> None:
        self._tree = tree
        self._words: dict[Element, _Words] = {}
        self._count(tree)

    def navigation(self) -> set[Element]:
        """Return the elements that are left out."""
        total = self._words[self._tree].all
        main = _main_element(self._tree)
        dropped = set(self._candidates(main))
        if main is not None and self._words[main].all >= _MAIN_SHARE * self._left(dropped):
            dropped |= {element for element in _outside(main) if not self._is_prose(element)}
        if self._left(dropped) < _MIN_SHARE * total:
            dropped = {element for element in dropped if element.tag == "nav"}
        return dropped

    def _count(self, tree: Element) -> None:
        """Count the words of all elements from their text nodes, from the leaves up."""
        from lxml.etree import iterwalk

        hidden = links = 0
        for event, element in iterwalk(tree, events=("start", "end")):
            if event == "start":
                words = self._words[element] = _Words()
                hidden += bool(hidden) or is_hidden(element.tag, element.attrib)
                links += element.tag == "a"
                words.links = int(element.tag == "a")
                self._add(words, element.text, hidden, links)
                continue
            words = self._words[element]
            hidden -= bool(hidden)
            links -= element.tag == "a"
            parent = element.getparent()
            if parent is not None and element is not tree:
                around = self._words[parent]
                around.all, around.linked = around.all + words.all, around.linked + words.linked
                around.links += words.links
                self._add(around, element.tail, hidden, links)

    @staticmethod
    def _add(words: _Words, text: str | None, hidden: int, links: int) -> None:
        if text and not hidden:
            count = count_words(text)
            words.all += count
            words.linked += count if links else 0

    def _candidates(self, main: Element | None) -> Iterator[Element]:
        """Yield the elements that are navigation, outermost first."""
        from lxml.etree import iterwalk

        walker = iterwalk(self._tree, events=("start",))
        inside = set(main.iterancestors()) | {main} if main is not None else set()
        for _, element in walker:
            if element in inside or element.tag in ("html", "body", "main", "article"):
                continue
            if self._is_navigation(element) and element.find(".//h1") is None and element.tag != "h1":
                yield element
                walker.skip_subtree()

    def _is_navigation(self, element: Element) -> bool:
        words = self._words[element]
        if element.tag == "nav" or element.get("role") in _ROLES:
            return words.share >= _NAMED_SHARE or words.plain <= _MAX_PLAIN
        if element.tag not in _BLOCKS or not words.all:
            return False
        names = _names(element)
        if not names.isdisjoint(_ALWAYS) and words.plain <= _MAX_ALWAYS:
            return True
        named = element.tag in ("header", "footer", "aside") or not names.isdisjoint(_NAMES)
        if named and words.links and words.share >= _NAMED_SHARE:
            return True
        in_main = any(
            around.tag in ("main", "article") or around.get("role") == "main" for around in element.iterancestors()
        )
        return not in_main and words.links > 2 and words.share >= _SHARE and words.plain <= _MAX_PLAIN

    def _is_prose(self, element: Element) -> bool:
        """Return whether an element outside of the main content has sentences, and no name of navigation."""
        words = self._words[element]
        if words.plain < _MIN_PROSE or words.share >= _PROSE_SHARE or element.tag in ("aside", "nav"):
            return False
        return _names(element).isdisjoint(_NAMES - _PLACES)

    def _left(self, dropped: set[Element]) -> int:
        outermost = (element for element in dropped if not any(around in dropped for around in element.iterancestors()))
        return self._words[self._tree].all - sum(self._words[element].all for element in outermost)


def _names(element: Element) -> set[str]:
    text = f"{element.get('class', '')} {element.get('id', '')}"[:300]
    return {part.lower() for part in _NAME_PARTS.findall(text)}


def _main_element(tree: Element) -> Element | None:
    """Return the element that the page marks as its main content; None if there is none, or more than one."""
    for path in ("//main | //*[@role='main']", "//article", "//*[@itemprop='articleBody']"):
        elements = [element for element in tree.xpath(path) if not is_hidden(element.tag, element.attrib)]
        if len(elements) == 1:
            return elements[0]
    return None


def _outside(main: Element) -> Iterator[Element]:
    """Yield the elements beside the main content and its ancestors, but for headings of the first level."""
    element = main
    while (parent := element.getparent()) is not None:
        if parent.tag == "html":
            return
        for sibling in parent:
            if sibling is not element:
                yield from _without_heading(sibling)
        element = parent


def _without_heading(element: Element) -> Iterator[Element]:
    """Yield an element, or all parts of it but its headings of the first level."""
    if element.tag == "h1":
        return
    if element.find(".//h1") is None:
        yield element
        return
    for child in element:
        yield from _without_heading(child)
