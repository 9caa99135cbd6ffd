"""JSON whose objects name each value once: by the standard, the last of several wins, and the others are lost."""

from __future__ import annotations

import json
from typing import Any

from nearfield.repeated_values import find_repeated


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or an object has a name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = find_repeated(name for name, _ in pairs)
        raise ValueError(f"the name {repeated!r} is there twice in one object")
    return values
