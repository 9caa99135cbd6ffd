"""Checks of amounts that users state for a plan: they must be finite, and within a range."""

from __future__ import annotations

import math

from nearfield.errors import InputError


def check_positive(name: str, value: float) -> None:
    """Raise InputError unless a number is finite and above 0."""
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0, not {value}.", param=name)


def check_not_negative(name: str, value: float) -> None:
    """Raise InputError unless a number is finite and at least 0."""
    if not 0 <= value < math.inf:
        raise InputError(f"{name} must be a number of at least 0, not {value}.", param=name)


def check_share(name: str, value: float) -> None:
    """Raise InputError unless a number is a share of something: from 0 to below 1."""
    if not 0 <= value < 1:
        raise InputError(f"{name} is a share from 0 to below 1, such as 0.05 for 5%, not {value}.", param=name)


def check_efficiency(name: str, value: float) -> None:
    """Raise InputError unless a number is above 0 and at most 1."""
    if not 0 < value <= 1:
        raise InputError(f"{name} must be above 0 and at most 1, such as 0.9, not {value}.", param=name)
