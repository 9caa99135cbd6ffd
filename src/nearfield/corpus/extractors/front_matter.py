"""Front matter of text files: fields in YAML, TOML or JSON before the text, which become title and fields."""

from __future__ import annotations

import datetime
import json
import math
import re
import sys

from nearfield.stores.filters import Value

_YAML = re.compile(r"---[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)(?:---|\.\.\.)[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\+\+\+[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n)\+\+\+[ \t]*(?:\r\n?|\n|\Z)", re.DOTALL)
_JSON = re.compile(
    r"(?:;;;[ \t]*(?:\r\n?|\n)(.{0,16384}?)(?:\r\n?|\n);;;"
    r"|(\{[ \t]*(?:\r\n?|\n).{0,16384}?(?:\r\n?|\n)\}))[ \t]*(?:\r\n?|\n|\Z)",
    re.DOTALL,
)
#: Brackets above which front matter is read as text: parsing them takes the square of their number.
_MAX_BRACKETS = 300


def front_matter(text: str) -> tuple[dict[str, Value], int]:
    """Return the values of a file's front matter, and its end; nothing and 0 if there is none."""
    for pattern, parse in ((_YAML, _parse_yaml), (_TOML, _parse_toml), (_JSON, _parse_json)):
        match = pattern.match(text)
        fields = parse(next(filter(None, match.groups()), "")) if match else None
        if match is not None and isinstance(fields, dict):
            values = {str(name): _value(value) for name, value in fields.items()}
            return {name: value for name, value in values.items() if value is not None}, match.end()
    return {}, 0


def _parse_yaml(text: str) -> object:
    import yaml

    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return None
    try:
        fields: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):  # then it is text
        return None
    return fields


def _parse_toml(text: str) -> object:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
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
