"""The text of a Word paragraph, and what hangs on it: notes, comments, text boxes, pictures and charts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nearfield.corpus.extractors.office.equations import latex
from nearfield.corpus.extractors.office.package import Element, attribute, descendants, is_on, local_name

#: Elements without text: properties, deleted or moved text, codes of fields, and older versions of drawings.
_LEFT_OUT = frozenset({"pPr", "rPr", "del", "moveFrom", "instrText", "delText", "Fallback", "delInstrText", "sdtPr"})
_LETTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "p": "\n"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes", "commentReference": "comments"}
_DRAWING_PARTS = ("docPr", "cNvPr", "blip", "imagedata", "chart", "relIds", "shape", "OLEObject")
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

    ``kind`` is "footnotes", "endnotes", "comments", "box", "picture", "chart", "diagram" or "object"; ``value`` is the
    id of a note or of a relationship, or the description of a picture.
    """

    kind: str
    value: str = ""
    element: Element = None


class RunReader:
    """Reads the text of a paragraph, and collects the extras."""

    def __init__(self) -> None:
        self.extras: list[Extra] = []

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
            elif name == "sym":
                yield _symbol(child)
            elif name == "ffData":
                yield _form_value(child)
            elif name in _LETTERS:
                yield _LETTERS[name]
                yield from self._pieces(child)
            elif name and name not in _LEFT_OUT:
                yield from self._pieces(child)

    def _drawing(self, drawing: Element, kind: str) -> None:
        boxes = list(descendants(drawing, "txbxContent"))
        inside = {item for box in boxes for item in box.iter()}
        self.extras += [Extra("box", element=box) for box in boxes if box.getparent() not in inside]
        pictures, described = 0, ""
        for item in descendants(
            drawing, "docPr", "cNvPr", "blip", "imagedata", "chart", "relIds", "shape", "OLEObject"
        ):
            if item in inside:
                continue
            name = local_name(item)
            if name == "chart":
                self.extras.append(Extra("chart", attribute(item, "id")))
            elif name == "relIds":
                self.extras.append(Extra("diagram", attribute(item, "dm")))
            elif name == "OLEObject":
                self.extras.append(Extra("object", attribute(item, "ProgID")))
            elif name in ("blip", "imagedata"):
                pictures += 1
            else:
                described = described or attribute(item, "descr") or attribute(item, "alt")
        if kind == "object":
            return
        if described or pictures:
            decorative = any(is_on(item) for item in descendants(drawing, "decorative"))
            if described or not decorative:
                self.extras.append(Extra("picture", described))


def _symbol(element: Element) -> str:
    """Return a symbol of a font of symbols as a letter; nothing if it is unknown."""
    try:
        code = int(attribute(element, "char"), 16)
    except ValueError:
        return ""
    font = attribute(element, "font").lower()
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
