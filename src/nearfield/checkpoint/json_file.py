"""Read the JSON files of a model folder, and say which one is damaged when one is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nearfield.errors import ModelRefused

#: A JSON object as it was read: what its values are is checked where they are used.
JsonObject: TypeAlias = Mapping[str, Any]


def read_any(path: Path) -> Any:
    """Return what the JSON file says. A file that cannot be read or parsed is refused by name."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefused(f"{path} cannot be read as JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; another kind of value is refused."""
    value = read_any(path)
    if not isinstance(value, dict):
        raise ModelRefused(f"{path} must hold a JSON object, and holds {type(value).__name__}")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one when there is no such file."""
    return read_object(path) if path.is_file() else {}
