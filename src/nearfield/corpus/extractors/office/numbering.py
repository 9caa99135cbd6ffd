"""The numbers of Word's paragraphs, such as "1.2(a)", computed from numbering.xml and the styles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nearfield.corpus.extractors.office.package import Element, attribute, is_on, local_name

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PLACE = re.compile(r"%([1-9])")


@dataclass
class NumberLevel:
    """One level of a list: how its numbers are written, and where they begin."""

    form: str = "decimal"
    text: str = ""
    start: int = 1
    restart: int | None = None
    legal: bool = False
    style: str = ""


@dataclass
class ParagraphNumber:
    """A paragraph's place in a list: its level from 0, and its label: a dash for bullets, or an empty one."""

    level: int
    label: str = ""


@dataclass
class _List:
    abstract: str
    levels: dict[int, NumberLevel]
    starts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Counts the paragraphs of all lists in document order."""

    def __init__(self, numbering: Element | None, styles: Element | None) -> None:
        self._lists = dict(_read_lists(numbering)) if numbering is not None else {}
        self._styles = _read_styles(styles) if styles is not None else {}
        self._counts: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()

    def number(self, properties: Element | None, style: str) -> ParagraphNumber | None:
        """Return the number of the next paragraph with these properties and style; None if it is in no list."""
        identity, level, styles = self._place(properties, style)
        numbers = self._lists.get(identity)
        if identity in ("", "0"):
            return None
        if numbers is None:
            return ParagraphNumber(level or 0, "-")
        if level is None:
            level = next((at for at, item in numbers.levels.items() if item.style in styles), 0)
        self._count(identity, numbers, level)
        return ParagraphNumber(level, self._label(numbers, level))

    def add_list(self, identity: str, abstract: str, levels: dict[int, NumberLevel]) -> None:
        """Add a list that another kind of file defines; lists of one ``abstract`` share their counts."""
        self._lists[identity] = _List(abstract, levels)

    def number_at(self, identity: str, level: int) -> ParagraphNumber:
        """Return the number of the next paragraph at a level of a list."""
        numbers = self._lists.get(identity)
        if numbers is None:
            return ParagraphNumber(level, "-")
        self._count(identity, numbers, level)
        return ParagraphNumber(level, self._label(numbers, level))

    def _place(self, properties: Element | None, style: str) -> tuple[str, int | None, set[str]]:
        """Return the list's id, the level if it is stated, and the styles that the paragraph's style is based on."""
        identity, level = _list_place(properties)
        styles: set[str] = set()
        while style in self._styles and style not in styles:  # in a circle if the file is damaged
            styles.add(style)
            style, of_style, of_level = self._styles[style]
            if level is None and (not identity or of_style == identity):
                level = of_level
            identity = identity or of_style
        return identity, level, styles

    def _count(self, identity: str, numbers: _List, level: int) -> None:
        counts = self._counts.setdefault(numbers.abstract, {})
        if identity not in self._begun:
            self._begun.add(identity)
            for at, start in numbers.starts.items():
                counts[at] = start - 1
        for at in range(level):  # levels above that have no paragraph yet
            counts.setdefault(at, self._level(numbers, at).start)
        counts[level] = counts.get(level, self._level(numbers, level).start - 1) + 1
        for at in [at for at in counts if at > level]:
            restart = self._level(numbers, at).restart
            if restart is None or level < restart:
                del counts[at]

    def _level(self, numbers: _List, level: int) -> NumberLevel:
        return numbers.levels.get(level) or NumberLevel()

    def _label(self, numbers: _List, level: int) -> str:
        """Return the label that a reader sees; one such as "(a)" comes after the label of the level above."""
        style = self._level(numbers, level)
        if style.form == "bullet":
            return "-"
        if style.form == "none" and "%" in style.text:
            return ""
        counts = self._counts[numbers.abstract]

        def replaced(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            form = "decimal" if style.legal else self._level(numbers, at).form
            return written(counts.get(at, self._level(numbers, at).start), form)

        label = " ".join(_PLACE.sub(replaced, style.text).split())
        if label.startswith("(") and level and _PLACE.search(style.text):
            return self._label(numbers, level - 1).rstrip(".-") + label
        return label


def _list_place(properties: Element | None) -> tuple[str, int | None]:
    element = None if properties is None else properties.find(f"{_W}numPr")
    if element is None:
        return "", None
    values = {local_name(child): attribute(child, "val") for child in element}
    level = values.get("ilvl", "")
    return values.get("numId", ""), int(level) if level.isdigit() else None


def _read_styles(root: Element) -> dict[str, tuple[str, str, int | None]]:
    """Return each style's base, list and level."""
    styles = {}
    for style in root.iter(f"{_W}style"):
        base = style.find(f"{_W}basedOn")
        place = _list_place(style.find(f"{_W}pPr"))
        styles[attribute(style, "styleId")] = ("" if base is None else attribute(base, "val"), *place)
    return styles


def _read_lists(root: Element) -> Iterator[tuple[str, _List]]:
    abstract: dict[str, dict[int, NumberLevel]] = {}
    linked: dict[str, str] = {}
    by_style: dict[str, str] = {}
    for item in root.iter(f"{_W}abstractNum"):
        identity = attribute(item, "abstractNumId")
        abstract[identity] = dict(_read_level(level) for level in item.iter(f"{_W}lvl"))
        for child in item:
            if local_name(child) == "numStyleLink":
                linked[identity] = attribute(child, "val")
            elif local_name(child) == "styleLink":
                by_style[attribute(child, "val")] = identity
    for item in root.iter(f"{_W}num"):
        identity = next((attribute(child, "val") for child in item if local_name(child) == "abstractNumId"), "")
        identity = by_style.get(linked.get(identity, ""), identity)
        numbers = _List(identity, dict(abstract.get(identity, {})))
        for override in item.iter(f"{_W}lvlOverride"):
            at = int(attribute(override, "ilvl") or 0)
            for child in override:
                if local_name(child) == "startOverride":
                    numbers.starts[at] = int(attribute(child, "val") or 1)
                elif local_name(child) == "lvl":
                    numbers.levels[at] = _read_level(child)[1]
        yield attribute(item, "numId"), numbers


def _read_level(element: Element) -> tuple[int, NumberLevel]:
    level = NumberLevel()
    for child in element:
        name, value = local_name(child), attribute(child, "val")
        if name == "numFmt":
            level.form = value
        elif name == "lvlText":
            level.text = value
        elif name == "start":
            level.start = int(value or 1)
        elif name == "lvlRestart":
            level.restart = int(value or 0)
        elif name == "isLgl":
            level.legal = is_on(child)
        elif name == "pStyle":
            level.style = value
    return int(attribute(element, "ilvl") or 0), level


def written(number: int, form: str) -> str:
    """Return a number as Word writes it: in digits, letters or Roman numerals."""
    if form in ("lowerLetter", "upperLetter") and number > 0:
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter if form == "lowerLetter" else letter.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < number < 5000:
        numeral = roman(number)
        return numeral.lower() if form == "lowerRoman" else numeral
    if form == "decimalZero":
        return f"{number:02d}"
    if form == "ordinal":
        ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{ending}"
    return "" if form in ("none", "bullet") else str(number)


_ROMAN: Mapping[str, int] = {
    "M": 1000, "CM": 900, "D": 500, "CD": 400, "C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10, "IX": 9, "V": 5, "IV": 4,
    "I": 1,
}  # fmt: skip


def roman(number: int) -> str:
    """Return a number in Roman numerals."""
    text = ""
    for letters, value in _ROMAN.items():
        count, number = divmod(number, value)
        text += letters * count
    return text
