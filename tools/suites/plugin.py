"""pytest plugin of a suite: replace the library's classes, leave tests out, and write what became of each test.

`tools.suites.runner` loads it with ``-p`` and sets the environment variables below.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tools.suites.library import Library
from tools.suites.substitution import substitute

#: Name of the library; folder of the checkpoints; file for the outcomes; "1" to replace nothing.
LIBRARY, CHECKPOINTS, OUTCOMES, ORIGINAL = (
    f"NEARFIELD_SUITE_{name}" for name in ("LIBRARY", "CHECKPOINTS", "OUTCOMES", "ORIGINAL")
)


class OutcomeRecorder:
    """Collects the outcome of each test, and writes them when the session ends."""

    def __init__(self, library: Library, replaced: list[str], path: Path) -> None:
        self.library = library
        self.path = path
        self.outcomes: dict[str, Any] = {
            "replaced": replaced,
            "passed": [],
            "failed": {},
            "skipped": {},
            "left_out": {},
        }

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the tests that are left out."""
        reasons = {item: self.library.reason_left_out(item.nodeid) for item in items}
        left_out = {item.nodeid: reason for item, reason in reasons.items() if reason is not None}
        self.outcomes["left_out"] = left_out
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that cannot be imported."""
        if report.failed:
            self.outcomes["failed"][report.nodeid] = _message(report)
        elif report.skipped:
            self.outcomes["skipped"][report.nodeid] = _message(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that failed in any phase, that skipped itself, or that passed."""
        if report.failed:
            self.outcomes["failed"][report.nodeid] = _message(report)
        elif report.skipped:
            self.outcomes["skipped"][report.nodeid] = _message(report)
        elif report.when == "call":
            self.outcomes["passed"].append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write all outcomes."""
        failed = self.outcomes["failed"]
        self.outcomes["passed"] = [test for test in self.outcomes["passed"] if test not in failed]
        self.path.write_text(json.dumps(self.outcomes))


def _message(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the first line of an error, or the reason of a skip."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr).strip().splitlines()[-1]
    return " ".join(text.split())[:300]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Replace the library's classes before anything of its tests is imported."""
    library = Library.load(os.environ[LIBRARY])
    original = os.environ.get(ORIGINAL) == "1"
    replaced = [] if original else substitute(library.package, library.modules)
    if library.prepare is not None and not original:
        library.prepare(Path(os.environ[CHECKPOINTS]))
    recorder = OutcomeRecorder(library, replaced, Path(os.environ[OUTCOMES]))
    early_config.pluginmanager.register(recorder, "nearfield-suite")
