"""Weights of a ranking: how much quality, speed, memory and storage count."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nearfield.errors import InputError, nearest


def check_weights(weights: Mapping[str, float], known: Mapping[str, float]) -> None:
    """Raise InputError unless all names are known, all weights are 0 or more, and one is above 0."""
    unknown = next((name for name in weights if name not in known), None)
    if unknown is not None:
        raise InputError(f"Unknown weight {unknown!r}. {nearest(unknown, known)}", param="weights")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights.values()) or not any(weights.values()):
        raise InputError(f"Weights are numbers of 0 or more, not all 0, and not {dict(weights)}.", param="weights")


def normalise_weights(defaults: Mapping[str, float], changes: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the default weights with some changed, scaled so that they add up to 1.

    Raises:
        InputError: a name is unknown, or a weight is not a number of 0 or more.
    """
    check_weights({**defaults, **(changes or {})}, defaults)
    weights = {name: float((changes or {}).get(name, default)) for name, default in defaults.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
