"""Registries: tables of names and classes, imported when they are first loaded; and libraries of extras."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from nearfield.errors import InputError, MissingExtra, nearest


class Registry:
    """Maps names to ``"module:Class"``; other packages add theirs through the entry-point group.

    ``extras`` says which optional dependency group a row needs, so that a failed import can name its
    ``pip install``.
    """

    def __init__(self, kind: str, rows: Mapping[str, str], *, group: str, extras: Mapping[str, str] | None = None):
        self.kind = kind
        self.group = group
        self._rows = dict(rows)
        self._extras = dict(extras or {})

    def names(self) -> list[str]:
        """Return every known name, our own and those of installed plugins, sorted."""
        return sorted({*self._rows, *(point.name for point in self._points())})

    def order(self) -> list[str]:
        """Return plugins' names first, then our own in the order of the table."""
        own = list(self._rows)
        return [name for name in self.names() if name not in own] + own

    def load(self, name: str) -> Any:
        """Import and return the class behind ``name``.

        Raises:
            InputError: for an unknown name (with the nearest known one), or one that two packages claim.
            MissingExtra: when its optional dependency is not installed.
        """
        target = self._rows.get(name) or self._plugin(name)
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            extra = self._extras.get(name)
            if extra is None or (error.name or "").startswith("nearfield"):
                raise
            raise MissingExtra(
                f"{self.kind} {name!r} needs {error.name!r}: pip install 'nearfield[{extra}]'"
            ) from error

    def _points(self) -> tuple[EntryPoint, ...]:
        points = _installed_points(self.group, tuple(sys.path))
        clash = next((point.name for point in points if point.name in self._rows), None)
        if clash:
            raise InputError(
                f"A plugin registers {self.kind} {clash!r}, which Nearfield has already: rename the plugin's."
            )
        return points

    def _plugin(self, name: str) -> str:
        values = [point.value for point in self._points() if point.name == name]
        if not values:
            raise InputError(f"Unknown {self.kind} {name!r}. {nearest(name, self.names())}", param=self.kind)
        if len(values) > 1:
            raise InputError(f"{self.kind} {name!r} is registered twice: {', '.join(values)}. Uninstall one.")
        return values[0]


@lru_cache(maxsize=64)
def _installed_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - part of the key
    """Return the entry points of a group. They are read once for an import path: that takes a file of each package."""
    return tuple(entry_points(group=group))


def import_library(name: str, *, extra: str, purpose: str) -> Any:
    """Import a module of a library that an extra installs, such as ``sklearn.cluster``.

    Raises:
        MissingExtra: the library is not installed; ``purpose`` begins the message.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise MissingExtra(f"{purpose} needs {error.name!r}: pip install 'nearfield[{extra}]'") from error
