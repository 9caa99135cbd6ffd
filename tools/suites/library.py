"""A library whose tests are run (`Library`), read from its module in this package."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Writes a checkpoint into a folder.
WriteModel = Callable[[Path], object]


@dataclass(frozen=True)
class Library:
    """What the package's docstring describes, for one library."""

    package: str
    tests: tuple[str, ...]
    modules: Mapping[str, str]
    models: Mapping[str, WriteModel] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    note: str = ""

    @classmethod
    def load(cls, name: str) -> Library:
        """Import the module of a library."""
        module = importlib.import_module(f"tools.suites.{name}")
        return cls(
            module.PACKAGE,
            tuple(module.TESTS),
            module.MODULES,
            getattr(module, "MODELS", {}),
            getattr(module, "LEFT_OUT", {}),
            getattr(module, "EXPECTED_FAILURES", {}),
            getattr(module, "prepare", None),
            getattr(module, "NOTE", ""),
        )

    def reason_left_out(self, test: str) -> str | None:
        """Return why a test is not run, or None."""
        return _first_match(self.left_out, test)

    def reason_expected(self, test: str) -> str | None:
        """Return why a test is known to fail, or None."""
        return _first_match(self.expected_failures, test)


def _first_match(patterns: Mapping[str, str], test: str) -> str | None:
    return next((reason for pattern, reason in patterns.items() if re.search(pattern, test)), None)
