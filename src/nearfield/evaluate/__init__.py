"""Evaluate: how good, how fast and how dear a model is, on one's own data and machine.

``nearfield.evaluate(model, dataset)`` is ``evaluation.evaluate``: the room can be called by its name.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A module that is a function too: importing it would else hide the function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Measure a model on a data set: see ``nearfield.evaluate.evaluation.evaluate``."""
        found: dict[str, Any] = import_module("nearfield.evaluate.evaluation").evaluate(*arguments, **options)
        return found


sys.modules[__name__].__class__ = _Room
