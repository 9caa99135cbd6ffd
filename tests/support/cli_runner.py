"""Commands: the command line as a user meets it, in this process or in a separate one."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from nearfield import cli


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> Ran:
    """Run a command in this process, through the same ``main`` that the console script calls."""
    monkeypatch.setattr(sys, "argv", ["nearfield", *map(str, words)])
    capsys.readouterr()
    code = 0
    with _logging_as_before():
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Undo what a command sets up for logging: it would write to this test's streams when they are long closed."""
    log = logging.getLogger("nearfield")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    try:
        yield
    finally:
        log.handlers[:], log.level, log.propagate = handlers, level, propagate


def python(code: str) -> str:
    """Run Python code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
