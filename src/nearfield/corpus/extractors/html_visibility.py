"""Which elements of a page a reader sees: hidden elements, controls, marks of anchors, descriptions of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

#: One event of a page: ``start`` or ``end`` with a tag and its attributes, or ``text`` with a text.
Event = tuple[str, str, Mapping[str, str]]
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))

_INLINE_TAGS = (
    "a abbr acronym b bdi bdo big button cite code data del dfn em font i img input ins kbd label mark math "
    "nobr q rb rp rt rtc ruby s samp slot small span strike strong sub sup svg time tspan tt u var wbr"
)
INLINE = frozenset(_INLINE_TAGS.split())
#: Elements without text for readers, or with text that is shown only if something else cannot be.
_HIDDEN_TAGS = "script style template head object canvas select datalist audio video metadata defs colgroup"
_HIDDEN = frozenset(_HIDDEN_TAGS.split())
_MEANINGLESS = re.compile(
    r"(?:image|img|picture|photo|icon|logo|thumbnail|avatar|banner|spacer|youtube video player|advertisement|"
    r"[\w-]*\.(?:png|jpe?g|gif|svg|webp)|(?:img|dsc|image|photo)?[_-]?\d+)?",
    re.IGNORECASE,
)
_ANCHOR_CLASSES = frozenset(
    ("headerlink", "hash-link", "anchor-link", "header-anchor", "heading-anchor", "anchorjs-link")
)
_TAB_CLASSES = re.compile(r"tab|collaps|accordion|panel|expand|toggle|fold|slide", re.IGNORECASE)
_NOT_DISPLAYED = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
#: Words of a button's text that are content.
_MIN_SENTENCE = 4
_LINE_NUMBERS = frozenset(("linenos", "lineno", "line-numbers-rows", "hljs-ln-numbers", "blob-num", "gutter"))


def visible_events(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events of elements that have content and that a reader sees."""
    skipped: list[str] = []
    button: list[str] = []
    headings = 0
    for event in events:
        kind, tag, attributes = event
        if kind == "start":
            headings += tag in HEADINGS or tag in ("summary", "dt")
            if skipped or is_hidden(tag, attributes) or _is_mark(tag, attributes, in_heading=headings > 0):
                skipped.append(tag)
        elif kind == "end":
            headings -= headings > 0 and (tag in HEADINGS or tag in ("summary", "dt"))
            if tag in skipped:
                del skipped[len(skipped) - 1 - skipped[::-1].index(tag) :]
                if tag == "button" and not skipped:
                    yield from _button_events("".join(button))
                    button.clear()
                continue
        elif skipped == ["button"] or (skipped[:1] == ["button"] and _HIDDEN.isdisjoint(skipped)):
            button.append(tag)
        if not skipped:
            yield event


def _button_events(text: str) -> Iterator[Event]:
    """Yield the text of a button that is a sentence, such as a question; most are names of what they do."""
    if len(text.split()) >= _MIN_SENTENCE:
        yield "start", "div", {}
        yield "text", text, {}
        yield "end", "div", {}


def _is_mark(tag: str, attributes: Mapping[str, str], *, in_heading: bool) -> bool:
    """Return whether an element is a button or the mark behind a heading that shows its own address."""
    if tag == "a":
        return not _ANCHOR_CLASSES.isdisjoint(classes_of(attributes))
    opens = ("aria-expanded", "aria-controls", "data-toggle", "data-bs-toggle")
    return tag == "button" and not in_heading and not any(name in attributes for name in opens)


def classes_of(attributes: Mapping[str, str]) -> list[str]:
    """Return the classes of an element."""
    return attributes.get("class", "").split()


def is_hidden(tag: str, attributes: Mapping[str, str]) -> bool:
    """Return whether a reader of the page cannot see an element, also not after a click on a tab or a summary."""
    if tag in _HIDDEN:
        return True
    classes = classes_of(attributes)
    if "katex-html" in classes or not _LINE_NUMBERS.isdisjoint(classes):
        return True
    if tag == "dialog":
        return "open" not in attributes
    if "hidden" in attributes or _NOT_DISPLAYED.search(attributes.get("style", "")):
        return attributes.get("role") != "tabpanel" and not _TAB_CLASSES.search(
            f"{attributes.get('class', '')} {attributes.get('id', '')}"
        )
    return False


def picture_text(tag: str, attributes: Mapping[str, str]) -> str | None:
    """Return the description of a picture or an embedded page; empty for decoration, None if it has none."""
    if "fallback" in attributes.get("class", ""):  # the picture of a formula that is there as text
        return ""
    if tag == "iframe":
        text = attributes.get("title", "")
    elif "alt" in attributes or tag != "img":
        text = attributes.get("alt", "")
    elif attributes.get("title", attributes.get("aria-label", "")):
        text = attributes.get("title", attributes.get("aria-label", ""))
    else:
        return "" if _is_decoration(attributes) else None
    text = " ".join(text.split())
    return "" if _MEANINGLESS.fullmatch(text) else text


def _is_decoration(attributes: Mapping[str, str]) -> bool:
    """Return whether a picture is marked as decoration, or is too small for content."""
    sizes = [attributes.get(name, "").removesuffix("px") for name in ("width", "height")]
    small = any(size.isascii() and size.isdigit() and int(size[:9]) <= 32 for size in sizes)
    return small or attributes.get("role") in ("presentation", "none") or attributes.get("aria-hidden") == "true"
