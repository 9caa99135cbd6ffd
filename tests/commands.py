"""Commands: the command line as a user meets it, in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys
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
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)


def python(code: str) -> str:
    """Run Python code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
