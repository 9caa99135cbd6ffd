"""Run a library's tests in a process, and return what became of each (`SuiteResult`)."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tools.suites import plugin
from tools.suites.checkpoints import write_checkpoints, write_hub_cache
from tools.suites.library import Library

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class SuiteResult:
    """What became of each test of a suite: ids, with the message or reason where there is one."""

    library: str
    version: str
    replaced: Sequence[str]
    passed: Sequence[str]
    failed: Mapping[str, str]
    #: Of the failed ones, those that were known to fail, with the reason.
    expected: Mapping[str, str]
    skipped: Mapping[str, str]
    left_out: Mapping[str, str]
    #: What the page of results says beside them.
    note: str = ""
    #: Version of the checkout that the tests are from; ``version`` is that of the installed library.
    tests_version: str = ""

    @property
    def run(self) -> int:
        """Tests that passed or failed."""
        return len(self.passed) + len(self.failed)

    @property
    def unexpected(self) -> dict[str, str]:
        """Failed tests that were not known to fail, with their messages."""
        return {test: message for test, message in self.failed.items() if test not in self.expected}

    def to_dict(self) -> dict[str, Any]:
        """Return counts and reasons, for the page ``docs/reference/compat.md``."""
        reasons = {test: self.expected.get(test, message) for test, message in self.failed.items()}
        return {
            "library": self.library,
            "version": self.version,
            "tests_version": self.tests_version,
            "note": self.note,
            "replaced": list(self.replaced),
            "collected": self.run + len(self.skipped) + len(self.left_out),
            "run": self.run,
            "passed": len(self.passed),
            "failed": count_reasons(reasons),
            "skipped": count_reasons(self.skipped),
            "left_out": count_reasons(self.left_out),
            "files": self._count_files(),
        }

    def _count_files(self) -> dict[str, dict[str, int]]:
        run = Counter(test.split("::")[0] for test in (*self.passed, *self.failed))
        passed = Counter(test.split("::")[0] for test in self.passed)
        return {file: {"run": run[file], "passed": passed[file]} for file in sorted(run)}

    def to_text(self) -> str:
        """Return the same as a table."""
        facts = self.to_dict()
        counts = {name: facts[name] for name in ("collected", "run", "passed")}
        counts |= {name: len(getattr(self, name)) for name in ("failed", "skipped", "left_out")}
        title = f"{self.library} {self.version}, tests of {self.tests_version or 'an unknown version'}"
        lines = [title, *(f"{name:12}{count:6}" for name, count in counts.items())]
        if self.run:
            lines.append(f"{'pass rate':12}{len(self.passed) / self.run:6.1%}")
        lines += _section("failed, for a known reason", count_reasons(self.expected))
        lines += _section("failed", self.unexpected)
        lines += _section("skipped by the suite", facts["skipped"])
        return "\n".join(lines + _section("left out", facts["left_out"]))


def count_reasons(reasons: Mapping[str, str]) -> dict[str, int]:
    """Return how many tests there are for each reason, the most frequent first."""
    return dict(Counter(reasons.values()).most_common())


def _section(title: str, rows: Mapping[str, object]) -> list[str]:
    return ["", f"{title}:", *(f"  {key}  {value}" for key, value in rows.items())] if rows else []


def run_suite(name: str, folder: Path, arguments: Sequence[str], *, original: bool = False) -> SuiteResult:
    """Run the tests of a library; ``original`` replaces nothing."""
    library = Library.load(name)
    with tempfile.TemporaryDirectory() as place:
        checkpoints, cache, outcomes = (Path(place) / part for part in ("checkpoints", "hub", "outcomes.json"))
        write_checkpoints(library.models, checkpoints)
        write_hub_cache(library.models, checkpoints, cache)
        variables = {
            plugin.LIBRARY: name,
            plugin.CHECKPOINTS: str(checkpoints),
            plugin.OUTCOMES: str(outcomes),
            plugin.ORIGINAL: str(int(original)),
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "1",
            "NEARFIELD_CACHE": str(Path(place) / "nearfield"),
            # The library is the installed one, not the one in FOLDER.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        _run_pytest(library, folder, arguments, variables)
        results = json.loads(outcomes.read_text())
    reasons = {test: library.reason_expected(test) for test in results["failed"]}
    expected = {test: reason for test, reason in reasons.items() if reason is not None}
    return SuiteResult(
        name,
        version(library.package),
        expected=expected,
        note=library.note,
        tests_version=checkout_version(folder, library.package),
        **results,
    )


def checkout_version(folder: Path, package: str) -> str:
    """Return the version of a library's checkout, from its pyproject.toml or ``version.py``; empty if neither has one.

    Raises:
        OSError: the folder has no pyproject.toml.
    """
    tables = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    for table in (tables.get("project", {}), tables.get("tool", {}).get("poetry", {})):
        if "version" in table:
            return str(table["version"])
    module = folder / package / "version.py"
    return str(runpy.run_path(str(module))["__version__"]) if module.exists() else ""


def _run_pytest(library: Library, folder: Path, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    paths = [part for part in arguments if (folder / part.split("::")[0]).exists()]
    options = [
        "-p",
        "tools.suites.plugin",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=",
        "-q",
        "--no-header",
        "--tb=short",
    ]
    command = [sys.executable, "-m", "pytest", *options, *arguments, *([] if paths else library.tests)]
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, stdout=sys.stderr, check=False)
