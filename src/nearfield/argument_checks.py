"""Checks of arguments that callers pass from Python: each names the argument, and the value in plain words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import describe

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: The largest whole number that libraries take.
_LARGEST = 2**63 - 1
#: Types of devices, as torch names them.
_DEVICES = ("cpu", "cuda", "hpu", "mps", "mtia", "npu", "xla", "xpu")
_DEVICE = re.compile(rf"(?:{'|'.join(_DEVICES)}|meta)(?::[0-9]+)?")


def require_texts(**arguments: object) -> None:
    """Raise InputError if one of the arguments is no string that is not empty."""
    for name, value in arguments.items():
        if not isinstance(value, str) or not value:
            shown = "empty" if value == "" else describe(value)
            raise InputError(f"{name} must be a text, and is {shown}.", param=name)


def require_optional_texts(**arguments: object) -> None:
    """Raise InputError if one of the arguments is neither a string nor None."""
    for name, value in arguments.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name} must be a text, and is {describe(value)}.", param=name)


def require_optional_counts(**arguments: object) -> None:
    """Raise InputError if one of the arguments is neither a whole number of 1 or more nor None."""
    for name, value in arguments.items():
        if value is not None:
            require_count(name, value)


def require_count(name: str, value: object, minimum: int = 1, maximum: int = _LARGEST) -> int:
    """Return a whole number; raise InputError if an argument is none, or not from ``minimum`` to ``maximum``."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not minimum <= value <= maximum:  # type: ignore[operator]
        limits = f"of {minimum} or more" if maximum == _LARGEST else f"from {minimum} to {maximum:,}"
        raise InputError(f"{name} must be a whole number {limits}, and is {describe(value)}.", param=name)
    return int(value)  # type: ignore[call-overload]


def require_number(name: str, value: object) -> None:
    """Raise InputError if an argument is no number."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or value != value:  # not a number: math.isnan refuses large whole ones
        raise InputError(f"{name} must be a number, and is {describe(value)}.", param=name)


def require_positive(name: str, value: object) -> None:
    """Raise InputError if an argument is neither a number above 0 nor None."""
    if value is None:
        return
    require_number(name, value)
    if not value > 0:  # type: ignore[operator]
        raise InputError(f"{name} must be above 0, and is {value}.", param=name)


def require_numbers(name: str, values: ArrayLike, count: int) -> Array:
    """Return a number for each of some items, float64 [count]; raise InputError if an argument is something else."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be {count:,} numbers, and is {describe(values)}.", param=name) from None
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise InputError(f"{name} must be a finite number for each of {count:,} items.", param=name)
    return numbers


def require_list(name: str, value: object) -> list[Any]:
    """Return several values as a list; raise InputError if an argument is one value, such as a text."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InputError(f"{name} must be a list, and is {describe(value)}.", param=name)
    return list(value)


def require_path(name: str, value: object) -> Path:
    """Return a path; raise InputError if an argument is neither a path nor a text that is not empty."""
    if not isinstance(value, (str, PathLike)) or not str(value):
        shown = "empty" if value == "" else describe(value)
        raise InputError(f"{name} must be a path, and is {shown}.", param=name)
    return Path(value)


def require_flag(name: str, value: object) -> None:
    """Raise InputError if an argument is neither True, False nor None."""
    if value is not None and not isinstance(value, (bool, np.bool_)) and value not in (0, 1):
        raise InputError(f"{name} must be True or False, and is {describe(value)}.", param=name)


def require_device(name: str, param: str = "device") -> None:
    """Raise InputError if there is no type of device of this name; ``cuda:1`` is one of its devices."""
    if not _DEVICE.fullmatch(name):
        hint = " A GPU of NVIDIA or AMD is 'cuda', one of Apple 'mps'." if "gpu" in name.lower() else ""
        raise InputError(f"Unknown device {name!r}.{hint} Known: {', '.join(_DEVICES)}.", param=param)


def require_mapping(name: str, value: object) -> None:
    """Raise InputError if an argument is neither a mapping nor None."""
    if value is not None and not isinstance(value, Mapping):
        raise InputError(f"{name} must be a mapping of names to values, and is {describe(value)}.", param=name)


def require_once(name: str, values: Iterable[str]) -> None:
    """Raise InputError if one of the values is there twice: of two, the last would count without a word."""
    repeated = find_repeated(values)
    if repeated is not None:
        raise InputError(f"{name} has {repeated!r} twice.", param=name)


def require_kind(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise InputError if an argument is neither of a class nor None; ``what`` describes the class."""
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{name} must be {what}, and is {describe(value)}.", param=name)


def rename_keyword(old: str, new: str) -> Callable[[_Function], _Function]:
    """Return a decorator for a keyword with a new name: the old name is accepted with a DeprecationWarning."""

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            if old in keywords and new not in keywords:
                message = f"The argument {old!r} of {function.__qualname__} is called {new!r} now."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return cast(_Function, call)

    return decorate
