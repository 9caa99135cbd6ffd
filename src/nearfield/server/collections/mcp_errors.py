"""Messages about wrong arguments of MCP tools, in place of those of the validation library."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

#: Messages by the start of the library's error type.
_MESSAGES = (
    ("missing", "is missing"),
    ("string_too_short", "must not be empty"),
    ("greater_than_equal", "must be at least {ge:g}, not {value}"),
    ("less_than_equal", "must be at most {le:g}, not {value}"),
    ("int_", "must be a whole number, not {value}"),
    ("float_", "must be a number, not {value}"),
    ("finite_number", "must be a number, not {value}"),
    ("string_", "must be text, not {value}"),
    ("dict_", "must be an object, not {value}"),
    ("bool_", "must be true or false, not {value}"),
)
_MAX_VALUE = 60


def describe_arguments(error: ValidationError) -> str:
    """Return one sentence for each argument that is missing or wrong."""
    sentences: dict[str, str] = {}
    for detail in error.errors():
        name = str(detail["loc"][0]) if detail["loc"] else "arguments"
        sentences.setdefault(name, f"{name!r} {_describe(detail)}.")
    return " ".join(sentences.values())


def _describe(detail: Any) -> str:
    kind, value = str(detail["type"]), repr(detail.get("input"))
    template = next((text for start, text in _MESSAGES if kind.startswith(start)), "cannot be {value}")
    shown = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}..."
    return template.format(value=shown, **detail.get("ctx", {}))
