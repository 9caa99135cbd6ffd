"""Formulas in MathML, as OpenDocument files have them, as LaTeX."""

from __future__ import annotations

from nearfield.corpus.extractors.office.package import Element, local_name

_MAX_DEPTH = 60
_SIGNS = {"∑": "\\sum", "∏": "\\prod", "∫": "\\int", "∮": "\\oint"}


def latex(element: Element, depth: int = 0) -> str:
    """Return a MathML element as LaTeX without dollar signs."""
    name = local_name(element)
    if depth > _MAX_DEPTH or name in ("annotation", "annotation-xml", ""):
        return ""
    parts = [latex(child, depth + 1) for child in element if local_name(child)]
    if name in ("mi", "mn", "mo", "mtext", "ms"):
        text = " ".join("".join(element.itertext()).split())
        return _SIGNS.get(text, text)
    if name == "mfrac" and len(parts) == 2:
        return f"\\frac{{{parts[0]}}}{{{parts[1]}}}"
    if name == "msqrt":
        return f"\\sqrt{{{''.join(parts)}}}"
    if name == "mroot" and len(parts) == 2:
        return f"\\sqrt[{parts[1]}]{{{parts[0]}}}"
    if name in ("msup", "mover") and len(parts) == 2:
        return parts[0] + _script("^", parts[1])
    if name in ("msub", "munder") and len(parts) == 2:
        return parts[0] + _script("_", parts[1])
    if name in ("msubsup", "munderover") and len(parts) == 3:
        return parts[0] + _script("_", parts[1]) + _script("^", parts[2]) + " " * parts[0].startswith("\\")
    if name == "mtable":
        return "\\begin{matrix}" + " \\\\ ".join(parts) + "\\end{matrix}"
    return (" & " if name == "mtr" else "").join(parts)


def _script(mark: str, text: str) -> str:
    return mark + (text if len(text) == 1 else f"{{{text}}}")
