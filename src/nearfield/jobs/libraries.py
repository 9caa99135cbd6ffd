"""Libraries of the extra ``jobs``, imported when a job first needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nearfield.errors import MissingExtra


def library(name: str) -> Any:
    """Import a module of the extra ``jobs``, such as ``sklearn.cluster``.

    Raises:
        MissingExtra: the library is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise MissingExtra(f"This job needs {error.name!r}: pip install 'nearfield[jobs]'") from error
