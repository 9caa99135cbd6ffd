"""Read the JSON files of a model folder; an error names the damaged file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nearfield.errors import ModelRefused

#: A JSON object from a file. The code that uses a value checks its type.
JsonObject: TypeAlias = Mapping[str, Any]
#: A JSON object that may be changed.
JsonDict: TypeAlias = dict[str, Any]


def read_any(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ModelRefused: the file cannot be read or parsed.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefused(f"{path} cannot be read as JSON: {error}") from error


def read_object(path: Path) -> JsonDict:
    """Return the JSON object in a file.

    Raises:
        ModelRefused: the file contains another kind of value, or cannot be read.
    """
    value = read_any(path)
    if not isinstance(value, dict):
        raise ModelRefused(f"{path} must hold a JSON object, and holds {type(value).__name__}")
    return value


def read_optional(path: Path) -> JsonDict:
    """Return the JSON object in a file, or an empty one when there is no such file."""
    return read_object(path) if path.is_file() else {}
