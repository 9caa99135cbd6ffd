"""Dynamic forms (XFA) in a PDF: their texts, captions and values, which only Adobe's programs draw on pages."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

#: Maximum size of a part of a form in bytes.
_MAX_BYTES = 2**26
#: Elements that have texts of templates which are not shown, or are shown elsewhere.
_LEFT_OUT = frozenset({"proto", "desc", "pageSet", "items", "event", "bind", "assist", "validate", "calculate"})


def has_dynamic_form(file: Any) -> bool:
    """Return whether the pages of a file are a dynamic form."""
    from pypdfium2 import raw

    return bool(file.get_formtype() == raw.FORMTYPE_XFA_FULL)


def read_form(file: Any) -> list[str]:
    """Return the texts of a dynamic form, and its captions with their values, in the order of its template."""
    parts = dict(_packets(file))
    values = _values(parts.get("datasets"))
    template = parts.get("template")
    lines = [] if template is None else [line for line in _lines(template, values) if line]
    return lines + [f"{name}: {value}" for name, rest in values.items() for value in rest]


def _packets(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a form that are XML: their names and elements."""
    from lxml import etree
    from pypdfium2 import raw

    for number in range(max(0, raw.FPDF_GetXFAPacketCount(file))):
        name, size = ctypes.create_string_buffer(64), ctypes.c_ulong()
        raw.FPDF_GetXFAPacketName(file, number, name, len(name))
        raw.FPDF_GetXFAPacketContent(file, number, None, 0, size)
        if name.value in (b"template", b"datasets") and size.value <= _MAX_BYTES:
            content = ctypes.create_string_buffer(size.value)
            raw.FPDF_GetXFAPacketContent(file, number, content, size.value, size)
            parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, remove_pis=True)
            element = etree.fromstring(content.raw, parser)
            if element is not None:
                yield name.value.decode(), element


def _values(data: Any) -> dict[str, list[str]]:
    """Return the values of a form by the names of their fields."""
    values: dict[str, list[str]] = defaultdict(list)
    for element in data.iter() if data is not None else ():
        text = " ".join((element.text or "").split()) if isinstance(element.tag, str) and not len(element) else ""
        if text:
            values[_name(element)].append(text)
    return values


def _lines(element: Any, values: dict[str, list[str]]) -> Iterator[str]:
    """Yield the lines of a template; the values that they show are taken out of ``values``."""
    for child in element:
        if not isinstance(child.tag, str) or _name(child) in _LEFT_OUT:
            continue
        if child.get("presence") in ("hidden", "inactive") or _is_unused(child, values):
            for name in _fields(child):
                values.pop(name, None)
            continue
        if _name(child) == "field":
            caption = _text(child, "caption")
            stored = values.get(child.get("name", ""), [])
            value = stored.pop(0) if stored else _text(child, "value")
            yield f"{caption.rstrip(':')}: {value}" if caption and value else caption or value
        elif _name(child) == "draw":
            yield _text(child, "value")
        else:
            yield from _lines(child, values)


def _fields(element: Any) -> list[str]:
    """Return the names of the fields of an element, which may be a field itself."""
    return [field.get("name", "") for field in element.iter("{*}field")]


def _is_unused(element: Any, values: dict[str, list[str]]) -> bool:
    """Return whether a part of a form is only shown for data, and there is none."""
    optional = any(occur.get("min") == "0" for occur in element.iterchildren("{*}occur"))
    return optional and not any(values.get(name) for name in _fields(element))


def _text(element: Any, part: str) -> str:
    """Return the text of a part of an element."""
    parts = (child for child in element if isinstance(child.tag, str) and _name(child) == part)
    return " ".join(" ".join(piece for child in parts for piece in child.itertext()).split())


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
