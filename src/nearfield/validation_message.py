"""Messages about data that does not fit a type, in plain English in place of msgspec's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from nearfield.errors import nearest

_PATH = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
#: What msgspec calls a type, for people.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "an object of names and values",
    "array": "a list",
    "null": "null",
}
#: Forms of msgspec's messages, without the place, and what they mean.
_FORMS = (
    (re.compile(r"Object missing required field `(.+)`"), "{0!r} is missing{within}."),
    (re.compile(r"Object contains unknown field `(.*)`", re.DOTALL), "there is no {0!r}{within}. {fields}"),
    (re.compile(r"Invalid enum value (.*)", re.DOTALL), "{name} cannot be {0}. {values}"),
    (re.compile(r"Expected `(?:str|bytes)` of length >= 1"), "{name} must not be empty."),
    (re.compile(r"Expected `(?:str|bytes)` of length ([<>])= (\d+)"), "{name} must have at {most} {1} characters."),
    (re.compile(r"Expected `\w+` of length ([<>])= (\d+)"), "{name} must have at {most} {1} entries."),
    (re.compile(r"Expected `\w+` ([<>])= (\S+?)(?:\.0)?"), "{name} must be at {most} {1}."),
    (re.compile(r"Expected `str` matching regex (.*)", re.DOTALL), "{name} must be {form}."),
    (re.compile(r"Expected `([^`]*)`, got `([^`]*)`"), "{name} must be {wanted}, not {found}.{advice}"),
)


def describe_validation(error: msgspec.ValidationError, expected: Any = None) -> str:
    """Return what is wrong with the data, as a sentence without its capital.

    Args:
        error: msgspec's error.
        expected: the type that the data was converted to; with it, the sentence says which names and values exist.
    """
    text = str(error)
    place = _PATH.search(text)
    stated = text[: place.start()] if place else text
    steps = [match.group(1) or match.group(2) for match in _STEP.finditer(place.group(2))] if place else []
    known = None if expected is None else _type_at(_type_info(expected), steps, key=bool(place and place[1]))
    for form, template in _FORMS:
        match = form.fullmatch(stated)
        if match:
            return template.format(*match.groups(), **_words(steps, match, known, is_key=bool(place and place[1])))
    return f"{text}."


@cache
def _type_info(expected: Any) -> inspect.Type:
    return inspect.type_info(expected)


def _words(steps: list[str], match: re.Match[str], known: inspect.Type | None, *, is_key: bool) -> dict[str, str]:
    """Return the words that the templates need."""
    first, second = (*match.groups(), "", "")[:2]
    name = _join(steps)
    return {
        "name": f"each name in {name!r}" if is_key else repr(name) if name else "it",
        "within": f" in {name!r}" if name else "",
        "most": "least" if first == ">" else "most",
        "fields": nearest(first, _names(known)) if known is not None else "",
        "values": nearest(first.strip("'"), _values(known)) if known is not None else "",
        "form": _description(known) or f"of the form {first}",
        "wanted": _either(_values(known)) if _is_choice(known) else _type_names(first),
        "advice": _advice(known),
        "found": "a fraction" if second == "float" else _type_names(second),
    }


def _join(steps: list[str]) -> str:
    """Return a place as ``features.*.kind`` or ``sources[0].location``."""
    parts = ("*" if step == "..." else f"[{step}]" if step.isdigit() else step for step in steps)
    return ".".join(parts).replace(".[", "[")


def _type_names(text: str) -> str:
    names = [part.strip() for part in text.split("|")]
    return _either([_TYPES.get(name, name) for name in names if name != "null" or len(names) == 1])


def _either(words: list[str]) -> str:
    """Return alternatives as ``a, b or c``."""
    return " or ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _type_at(kind: inspect.Type, steps: list[str], *, key: bool) -> inspect.Type | None:
    """Return the type of a place in data of a type; None if it is not known."""
    current: inspect.Type | None = kind
    for step in (*steps, *(["key"] if key else [])):
        current = None if current is None else next(_inner(current, step), None)
    return current


def _inner(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """Yield the types that a step into data of a type may lead to."""
    for option in _options(kind):
        if isinstance(option, inspect.StructType):
            yield from (field.type for field in option.fields if field.encode_name == step)
        elif isinstance(option, inspect.DictType):
            yield option.key_type if step == "key" else option.value_type
        elif isinstance(option, (inspect.ListType, inspect.VarTupleType)):
            yield option.item_type


def _options(kind: inspect.Type | None) -> Iterator[inspect.Type]:
    """Yield a type; of a union its types, and of a described type the type itself."""
    if isinstance(kind, inspect.Metadata):
        yield from _options(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for option in kind.types:
            yield from _options(option)
    elif kind is not None:
        yield kind


def _names(kind: inspect.Type) -> list[str]:
    structs = (option for option in _options(kind) if isinstance(option, inspect.StructType))
    return [field.encode_name for struct in structs for field in struct.fields]


def _values(kind: inspect.Type | None) -> list[str]:
    """Return the values that a type allows, if they can be listed."""
    values: list[str] = []
    for option in _options(kind):
        if isinstance(option, inspect.LiteralType):
            values += map(str, option.values)
        elif isinstance(option, inspect.BoolType):
            values += ("true", "false")
    return values


def _is_choice(kind: inspect.Type | None) -> bool:
    return any(isinstance(option, inspect.LiteralType) for option in _options(kind))


def _description(kind: inspect.Type | None) -> str:
    """Return the description of a type (``msgspec.Meta``), or an empty text."""
    return str((kind.extra_json_schema or {}).get("description", "")) if isinstance(kind, inspect.Metadata) else ""


def _advice(kind: inspect.Type | None) -> str:
    """Return what to give in place of a value of another type (``extra`` of ``msgspec.Meta``), with a space before."""
    return f" {(kind.extra or {}).get('advice', '')}".rstrip() if isinstance(kind, inspect.Metadata) else ""
