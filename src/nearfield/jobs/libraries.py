"""Libraries of the extra ``jobs``, imported when a job first needs them."""

from __future__ import annotations

from typing import Any

from nearfield.registry import import_library


def library(name: str) -> Any:
    """Import a module of the extra ``jobs``, such as ``sklearn.cluster``.

    Raises:
        MissingExtra: the library is not installed.
    """
    return import_library(name, extra="jobs", purpose="This job")
