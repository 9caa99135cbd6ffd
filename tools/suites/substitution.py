"""Replace classes and functions of a library by those of Nearfield, in all of its modules that refer to them."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def substitute(package: str, modules: Mapping[str, str]) -> list[str]:
    """Replace what both modules of a pair have; return the full names of what was replaced."""
    replaced: dict[int, Any] = {}
    names = []
    for theirs, ours in modules.items():
        original, own = importlib.import_module(theirs), importlib.import_module(ours)
        shared = shared_names(theirs, ours)
        replaced.update({id(getattr(original, name)): getattr(own, name) for name in shared})
        names += [f"{theirs}.{name}" for name in shared]
    for module in _loaded_modules(package):
        _replace_in(module, replaced)
    return names


def shared_names(theirs: str, ours: str) -> list[str]:
    """Return the names, those of modules aside, that our module has in ``__all__`` and theirs has too."""
    original, own = importlib.import_module(theirs), importlib.import_module(ours)
    return [name for name in own.__all__ if hasattr(original, name) and not isinstance(getattr(own, name), ModuleType)]


def _replace_in(module: ModuleType, replaced: Mapping[int, Any]) -> None:
    for name, value in list(vars(module).items()):
        if id(value) in replaced and not isinstance(value, (str, int, float, bool, type(None))):
            setattr(module, name, replaced[id(value)])


def _loaded_modules(package: str) -> list[ModuleType]:
    """Return the modules of a package that are imported; those directly below it are imported now."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(found.name)
    return [module for name, module in list(sys.modules.items()) if f"{name}.".startswith(f"{package}.")]
