"""Front matter of text files: fields in YAML, TOML or JSON before the text, which become title, fields and text."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nearfield.corpus.word_count import has_meaning
from nearfield.stores.filters import Value
from nearfield.strict_toml import parse_toml

_YAML = re.compile(r"---[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\+\+\+[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)\+\+\+[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
_JSON = re.compile(
    r"(?:;;;[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n);;;"
    r"|(\{[ \t]*(?:\r\n?|\n).{0,16384}?(?:\r\n?|\n)\}))[ \t]*(?:\r\n?|\n|\Z)",
    re.DOTALL,
)
#: Brackets above which front matter is read as text: parsing them takes the square of their number.
_MAX_BRACKETS = 300
#: Values of lists and tables in a field that are read.
_MAX_VALUES = 2000


#: Fields with words about the text, whatever their length.
TEXT_FIELDS = frozenset((
    "abstract", "description", "summary", "excerpt", "subtitle", "keywords", "tags", "categories", "category", "topics",
    "topic", "subject", "subjects", "aliases", "author", "authors", "contributors", "lead", "teaser",
))  # fmt: skip
#: Fields that are elsewhere, or that say how the file is shown.
_NO_TEXT = frozenset((
    "title", "layout", "permalink", "slug", "url", "redirect_from", "image", "template", "css", "date",
))  # fmt: skip
_ADDRESS = re.compile(r"\s*(?:[a-z]+:/)?/?[\w.-]*(?:/[^\s/]*)+\s*")


@dataclass(frozen=True)
class FrontMatter:
    """The front matter of a file: values for filters, text for searches, and its end in the file, 0 without one."""

    meta: dict[str, Value] = field(default_factory=dict)
    text: str = ""
    end: int = 0


def front_matter(text: str) -> FrontMatter:
    """Return a file's front matter."""
    for pattern, parse in ((_YAML, _parse_yaml), (_TOML, _parse_toml), (_JSON, _parse_json)):
        match = pattern.match(text)
        fields = parse(next(filter(None, match.groups()), "")) if match else None
        if match is not None and isinstance(fields, dict):
            values = {str(name): _value(value) for name, value in fields.items()}
            meta = {name: value for name, value in values.items() if value is not None}
            return FrontMatter(meta, field_text(fields), match.end())
    return FrontMatter()


def field_text(fields: Mapping[str, object]) -> str:
    """Return the fields that say something about the text, one on each line: known ones, and those with three words."""
    return "\n".join(_lines(fields))


def _lines(fields: Mapping[str, object]) -> Iterator[str]:
    for name, value in fields.items():
        words = re.sub(r"[_-]+", " ", str(name)).strip()
        known = words.lower() in TEXT_FIELDS
        text = ", ".join(filter(None, dict.fromkeys(_texts(value))))
        if text and words.lower().replace(" ", "_") not in _NO_TEXT and (known or _says_something(text)):
            yield f"{words[:1].upper()}{words[1:]}: {text}"


def _says_something(text: str) -> bool:
    return has_meaning(text) and any(map(str.isalpha, text))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts and numbers of a value, without addresses; those of lists and tables too."""
    stack = [value]
    for _ in range(_MAX_VALUES):  # values may refer to each other
        if not stack:
            return
        item = stack.pop()
        if isinstance(item, (list, dict)):
            stack += reversed(list(item.values() if isinstance(item, dict) else item))
        elif isinstance(item, (str, int, float)) and not isinstance(item, bool):
            text = " ".join(str(item).split())
            yield from [text] if not _ADDRESS.fullmatch(text) else []


def _parse_yaml(text: str) -> object:
    from nearfield.strict_yaml import parse_yaml

    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return None
    try:
        fields: object = parse_yaml(text, unique=False)
    except ValueError:  # then it is text
        return None
    return fields


def _parse_toml(text: str) -> object:
    try:
        return parse_toml(text.replace("\r\n", "\n").replace("\r", "\n"))
    except ValueError:
        return None


def _parse_json(text: str) -> object:
    try:
        fields: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fields


def _value(value: object) -> Value | None:
    """Return a value that filters can compare: a text, a number, true or false; a list of these as one text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, list) and value and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(map(str, value))
    return None
