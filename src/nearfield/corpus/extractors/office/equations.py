"""Equations of Office documents (OMML) as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable

from nearfield.corpus.extractors.office.package import Element, attribute, local_name

#: Signs for readers by machine, such as that a function is applied.
_INVISIBLE = re.compile("[\u2061-\u2064]")
#: Nested elements that are read; deeper ones are left out.
_MAX_DEPTH = 60
_OPERATORS = {
    "∑": "\\sum", "∏": "\\prod", "∐": "\\coprod", "∫": "\\int", "∬": "\\iint", "∭": "\\iiint", "∮": "\\oint",
    "⋃": "\\bigcup", "⋂": "\\bigcap", "⋁": "\\bigvee", "⋀": "\\bigwedge",
}  # fmt: skip
_ACCENTS = {
    "\u0302": "\\hat", "\u0303": "\\tilde", "\u0304": "\\bar", "\u0305": "\\overline", "\u20d7": "\\vec",
    "\u0307": "\\dot", "\u0308": "\\ddot", "\u0300": "\\grave", "\u0301": "\\acute", "\u030c": "\\check",
}  # fmt: skip
_FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "log", "ln", "exp",
    "lim", "min", "max", "sup", "inf", "det", "dim", "gcd", "arg", "deg", "ker", "Pr", "limsup", "liminf",
})  # fmt: skip


def latex(math: Element) -> str:
    """Return an equation, an ``m:oMath`` or ``m:oMathPara`` element, as LaTeX without dollar signs."""
    if local_name(math) == "oMathPara":
        parts = (_inner(child, 0) for child in math if local_name(child) == "oMath")
        return " \\\\ ".join(filter(None, parts))
    return _inner(math, 0)


def _inner(element: Element | None, depth: int) -> str:
    if element is None or depth > _MAX_DEPTH:
        return ""
    text = ""
    for child in element:
        piece = _element(child, depth + 1)
        # A command must not run into a letter that follows it.
        space = " " if text[-1:].isalpha() and "\\" in text[-15:].rpartition(" ")[2] and piece[:1].isalpha() else ""
        text += space + piece
    return text.strip() if depth == 0 else text


def _element(element: Element, depth: int) -> str:
    name = local_name(element)
    if name == "t":
        return _INVISIBLE.sub(" ", element.text or "")
    if name.endswith("Pr") or name in ("instrText", "del", "moveFrom"):
        return ""
    convert = _CONVERTERS.get(name)
    return convert(element, depth) if convert else _inner(element, depth)


def _child(element: Element, *path: str) -> Element | None:
    for name in path:
        element = next((child for child in element if local_name(child) == name), None)
        if element is None:
            return None
    return element


def _part(element: Element, name: str, depth: int) -> str:
    return _inner(_child(element, name), depth).strip()


def _property(element: Element, name: str, default: str = "") -> str:
    properties = next((child for child in element if local_name(child).endswith("Pr")), None)
    value = None if properties is None else _child(properties, name)
    return default if value is None else attribute(value, "val")


def _group(text: str) -> str:
    return "{" + text + "}"


def _script(mark: str, text: str) -> str:
    return "" if not text else mark + (text if len(text) == 1 else _group(text))


def _base(element: Element, depth: int) -> str:
    text = _part(element, "e", depth)
    return text if len(text) <= 1 or text.isalnum() or text.startswith("\\left") else _group(text)


def _fraction(element: Element, depth: int) -> str:
    above, below = _part(element, "num", depth), _part(element, "den", depth)
    if _property(element, "type") == "noBar":
        return f"\\binom{_group(above)}{_group(below)}"
    return f"\\frac{_group(above)}{_group(below)}"


def _scripts(element: Element, depth: int) -> str:
    return (
        _base(element, depth) + _script("_", _part(element, "sub", depth)) + _script("^", _part(element, "sup", depth))
    )


def _scripts_before(element: Element, depth: int) -> str:
    scripts = _script("_", _part(element, "sub", depth)) + _script("^", _part(element, "sup", depth))
    return "{}" + scripts + _part(element, "e", depth)


def _root(element: Element, depth: int) -> str:
    degree = _part(element, "deg", depth)
    return "\\sqrt" + (f"[{degree}]" if degree else "") + _group(_part(element, "e", depth))


def _operator(element: Element, depth: int) -> str:
    sign = _property(element, "chr", "∫")
    limits = _script("_", _part(element, "sub", depth)) + _script("^", _part(element, "sup", depth))
    return f"{_OPERATORS.get(sign, sign)}{limits} {_part(element, 'e', depth)}".rstrip()


def _delimited(element: Element, depth: int) -> str:
    begin, end, separator = (
        _property(element, name, default) for name, default in (("begChr", "("), ("endChr", ")"), ("sepChr", "|"))
    )
    inner = separator.join(_inner(child, depth).strip() for child in element if local_name(child) == "e")
    if "\\frac" not in inner and "\\begin" not in inner:
        return (
            (begin if begin not in "{}" else "\\" * bool(begin) + begin)
            + inner
            + (end if end not in "{}" else "\\" * bool(end) + end)
        )
    left, right = (("\\" + sign if sign in ("{", "}") else sign) or "." for sign in (begin, end))
    return f"\\left{left}{inner}\\right{right}"


def _function(element: Element, depth: int) -> str:
    name, value = _part(element, "fName", depth), _part(element, "e", depth)
    if name in _FUNCTIONS or name.partition("_")[0] in _FUNCTIONS:
        name = "\\" + name
    elif name.isalpha() and len(name) > 1:
        name = f"\\operatorname{_group(name)}"
    return f"{name} {value}"


def _accent(element: Element, depth: int) -> str:
    return _ACCENTS.get(_property(element, "chr", "\u0302"), "\\hat") + _group(_part(element, "e", depth))


def _bar(element: Element, depth: int) -> str:
    command = "\\overline" if _property(element, "pos") == "top" else "\\underline"
    return command + _group(_part(element, "e", depth))


def _below(element: Element, depth: int) -> str:
    return _part(element, "e", depth) + _script("_", _part(element, "lim", depth))


def _above(element: Element, depth: int) -> str:
    return _part(element, "e", depth) + _script("^", _part(element, "lim", depth))


def _matrix(element: Element, depth: int) -> str:
    rows = (
        " & ".join(_inner(cell, depth).strip() for cell in row if local_name(cell) == "e")
        for row in element
        if local_name(row) == "mr"
    )
    return "\\begin{matrix}" + " \\\\ ".join(rows) + "\\end{matrix}"


def _array(element: Element, depth: int) -> str:
    rows = (_inner(child, depth).strip() for child in element if local_name(child) == "e")
    return "\\begin{cases}" + " \\\\ ".join(rows) + "\\end{cases}"


_CONVERTERS: dict[str, Callable[[Element, int], str]] = {
    "f": _fraction, "sSup": _scripts, "sSub": _scripts, "sSubSup": _scripts, "sPre": _scripts_before, "rad": _root,
    "nary": _operator, "d": _delimited, "func": _function, "acc": _accent, "bar": _bar, "limLow": _below,
    "limUpp": _above, "m": _matrix, "eqArr": _array,
}  # fmt: skip
