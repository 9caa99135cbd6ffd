"""The text of a Word paragraph, and what hangs on it: notes, comments, text boxes, pictures and charts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nearfield.corpus.extractors.office.equations import latex
from nearfield.corpus.extractors.office.package import Element, attribute, descendants, is_on, local_name

#: Elements without text: properties, and deleted or moved text.
_LEFT_OUT = frozenset({"pPr", "rPr", "del", "moveFrom", "delText", "delInstrText", "sdtPr", "rubyPr"})
_LETTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "p": "\n"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes", "commentReference": "comments"}
_OBJECTS = ("OLEObject", "objectEmbed", "objectLink", "control")
_PICTURES = ("blip", "imagedata")
_DRAWING_PARTS = ("docPr", "cNvPr", "chart", "relIds", "shape", "textpath", *_PICTURES, *_OBJECTS)
#: Fields whose text is in their code: buttons, symbols and old formulas.
_SHOWN_CODE = re.compile(r"\s*(?:(?:MACRO|GOTO)BUTTON\s+\S+\s+(?P<label>.*)|EQ\s+(?P<formula>.*))", re.I | re.DOTALL)
_SYMBOL_FONTS = ("symbol", "wingdings", "webdings")
_SYMBOL_CODE = re.compile(
    r'\s*SYMBOL\s+(?P<code>\d{1,5}|0x[0-9a-f]{1,4}\b)(?:.*\\f\s+"?(?P<font>[^"\\]+))?', re.I | re.DOTALL
)
_SYMBOLS = {
    **dict(zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)),
    **dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)),
    0xA3: "≤", 0xA5: "∞", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB7: "•", 0xB8: "÷", 0xB9: "≠", 0xBB: "≈",
    0xAC: "←", 0xAD: "↑", 0xAE: "→", 0xAF: "↓", 0xD6: "√", 0xDE: "⇒", 0xE5: "∑", 0xF2: "∫",
}  # fmt: skip
_WINGDINGS = {
    0xFC: "✓", 0xFB: "✗", 0xFE: "☑", 0xFD: "☒", 0xA8: "☐", 0x6F: "☐", 0x78: "☒", 0xE0: "→", 0xDF: "←", 0xE8: "→",
    0x4A: "☺", 0x4C: "☹", 0x28: "☎", 0x2A: "✉",
}  # fmt: skip


@dataclass(frozen=True)
class Extra:
    """Content beside the text of a paragraph.

    ``kind`` is "footnotes", "endnotes", "comments", "box", "picture", "text", "chart", "diagram", "object" or "file";
    ``value`` is the id of a note or of a relationship, the description of a picture, or a text that is drawn. ``link``
    is the id of the relationship to the picture itself.
    """

    kind: str
    value: str = ""
    element: Element = None
    link: str = ""


class RunReader:
    """Reads the text of a paragraph, and collects the extras."""

    def __init__(self) -> None:
        self.extras: list[Extra] = []
        #: The codes of the fields that are open; empty where the result has begun.
        self._codes: list[str] = []

    def text(self, element: Element) -> str:
        """Return the text of a paragraph."""
        return "".join(self._pieces(element))

    def _pieces(self, element: Element) -> Iterator[str]:
        for child in element:
            name = local_name(child)
            if name == "t":
                yield child.text or ""
            elif name in ("oMath", "oMathPara"):
                formula = latex(child)
                yield f"${formula}$" if formula else ""
            elif name in _NOTES:
                self.extras.append(Extra(_NOTES[name], attribute(child, "id")))
            elif name in ("drawing", "pict", "object"):
                self._drawing(child, name)
            elif name in ("sym", "ffData"):
                yield _symbol(child) if name == "sym" else _form_value(child)
            elif name in ("fldSimple", "fldChar", "instrText", "ruby"):
                yield from self._field(child, name)
            elif name in _LETTERS:
                yield _LETTERS[name]
                yield from self._pieces(child)
            elif name and name not in _LEFT_OUT:
                yield from self._pieces(child)

    def _field(self, element: Element, name: str) -> Iterator[str]:
        """Yield the text of a part of a field, or of a text with its reading."""
        if name == "fldSimple":
            yield "".join(self._pieces(element)) or _shown_code(attribute(element, "instr"))
        elif name == "fldChar":
            yield from self._pieces(element)
            yield self._field_mark(attribute(element, "fldCharType"))
        elif name == "ruby":
            parts = {local_name(part): "".join(self._pieces(part)) for part in element}
            yield parts.get("rubyBase", "")
            yield f"({parts['rt']})" if parts.get("rt", "").strip() else ""
        elif self._codes:
            self._codes[-1] += element.text or ""

    def _field_mark(self, kind: str) -> str:
        """Return the text of a field that ends, if only its code has one."""
        if kind == "begin":
            self._codes.append("")
        elif kind == "separate" and self._codes:
            self._codes[-1] = ""
        return _shown_code(self._codes.pop()) if kind == "end" and self._codes else ""

    def _drawing(self, drawing: Element, kind: str) -> None:
        boxes = list(descendants(drawing, "txbxContent"))
        inside = {item for box in boxes for item in box.iter()}
        self.extras += [Extra("box", element=box) for box in boxes if box.getparent() not in inside]
        items = [item for item in descendants(drawing, *_DRAWING_PARTS) if item not in inside]
        self.extras += filter(None, map(_drawn, items))
        if kind == "object" and any(local_name(item) in _OBJECTS for item in items):
            return
        named = (item for item in items if local_name(item) in ("docPr", "cNvPr", "shape"))
        described = next(filter(None, (attribute(item, "descr") or attribute(item, "alt") for item in named)), "")
        pictures = [item for item in items if local_name(item) in _PICTURES]
        decorative = any(is_on(item) for item in descendants(drawing, "decorative"))
        if described or (pictures and not decorative):
            self.extras.append(Extra("picture", described, link=picture_link(pictures[0]) if pictures else ""))


def picture_link(picture: Element) -> str:
    """Return the id of the relationship to the file of a picture; empty if it has none inside the document."""
    return attribute(picture, "embed") or attribute(picture, "id")


def _drawn(item: Element) -> Extra | None:
    """Return the chart, diagram, embedded object or drawn text (WordArt) that an element of a drawing stands for."""
    name = local_name(item)
    if name == "chart":
        return Extra("chart", attribute(item, "id"))
    if name == "relIds":
        return Extra("diagram", attribute(item, "dm"))
    if name in _OBJECTS:
        return Extra("object", attribute(item, "id"))
    return Extra("text", attribute(item, "string")) if name == "textpath" else None


def _shown_code(code: str) -> str:
    """Return what a field shows that has no result: the label of a button, a symbol, or a formula as it is written."""
    if match := _SYMBOL_CODE.match(code):
        number, font = int(match["code"], 0), (match["font"] or "").strip()
        return symbol(number + 0xF000 * (number < 0x100 and font.lower().startswith(_SYMBOL_FONTS)), font)
    match = _SHOWN_CODE.match(code)
    return (match["label"] or match["formula"] or "").strip() if match else ""


def _symbol(element: Element) -> str:
    try:
        return symbol(int(attribute(element, "char"), 16), attribute(element, "font"))
    except ValueError:
        return ""


def symbol(code: int, font: str) -> str:
    """Return a symbol of a font of symbols as a letter; nothing if it is unknown."""
    font = font.lower()
    if 0xF000 <= code <= 0xF0FF:
        code -= 0xF000
        table = _WINGDINGS if font.startswith(("wingdings", "webdings")) else _SYMBOLS if font == "symbol" else {}
        return table.get(code, chr(code) if font == "symbol" and code < 0x80 else "")
    return _SYMBOLS.get(code, chr(code)) if font == "symbol" else chr(code)


def _form_value(element: Element) -> str:
    """Return the value of a drop-down or a check box of an older form; texts are in runs."""
    for child in element:
        parts = {local_name(item): attribute(item, "val") for item in child}
        if local_name(child) == "ddList":
            entries = [attribute(item, "val") for item in child if local_name(item) == "listEntry"]
            chosen = parts.get("result", parts.get("default", "0"))
            return entries[int(chosen)] if chosen.isdigit() and int(chosen) < len(entries) else ""
        if local_name(child) == "checkBox":
            box = {local_name(item): item for item in child}
            return "☒ " if is_on(box.get("checked", box.get("default"))) else "☐ "
    return ""
