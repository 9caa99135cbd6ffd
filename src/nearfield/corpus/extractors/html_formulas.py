"""Formulas of HTML pages as one line of text: the TeX that a page declares, else its MathML in a linear form."""

from __future__ import annotations

import re
from typing import Any

#: An element of lxml, which has no types.
Element = Any
_DISPLAY = re.compile(r"^\{\s*\\(?:displaystyle|textstyle)\s*(.*)\}$", re.DOTALL)
#: How elements with two parts are written.
_PAIRS = {
    "msup": "{}^{}",
    "msub": "{}_{}",
    "mfrac": "{}/{}",
    "mroot": "root({}, {})",
    "mover": "{}^{}",
    "munder": "{}_{}",
}
_TRIPLES = {"msubsup": "{}_{}^{}", "munderover": "{}_{}^{}"}
_SPACED = frozenset("+-=<>\u2212\u00b1\u00d7\u2264\u2265\u2260\u2248\u2192\u2208,")


def simplify_formulas(tree: Element) -> None:
    """Replace the contents of each formula of a tree by one line of text."""
    for math in list(tree.iter("math")):
        text = _tex(math) or _linear(math)
        tail = math.tail
        math.clear()
        math.text, math.tail = " ".join(text.split()), tail
    for script in tree.xpath("//script[starts-with(@type, 'math/tex')]"):
        script.tag, script.text = "span", f"${' '.join((script.text or '').split())}$"
        del script.attrib["type"]


def _tex(math: Element) -> str:
    tex = str(math.xpath("string(.//annotation[contains(@encoding, 'tex')])")) or math.get("alttext", "")
    tex = _DISPLAY.sub(r"\1", tex.strip()).strip()
    return f"${tex}$" if tex else ""


def _linear(element: Element) -> str:
    if element.tag == "annotation":
        return ""
    parts = [_linear(child) for child in element]
    if len(parts) == 2 and element.tag in _PAIRS:
        return _PAIRS[element.tag].format(*map(_grouped, parts))
    if len(parts) == 3 and element.tag in _TRIPLES:
        return _TRIPLES[element.tag].format(*map(_grouped, parts))
    text = " ".join((element.text or "").split())
    if element.tag == "mo" and text in _SPACED:
        return f" {text} "
    if element.tag in ("mtr", "mtext"):
        return " " + text + " ".join(parts) + " "
    inner = text + "".join(parts)
    return f"sqrt({inner})" if element.tag == "msqrt" else inner


def _grouped(text: str) -> str:
    text = text.strip()
    return text if text.isalnum() or len(text) < 2 else f"({text})"
