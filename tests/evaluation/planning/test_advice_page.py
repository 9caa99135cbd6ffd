"""The examples of docs/guides/choose-a-model.md, run as they stand."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from nearfield.cli import app
from tests.support.paths import ROOT
from tests.test_readme import _parse

PAGE = (ROOT / "docs" / "guides" / "choose-a-model.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_prints_what_it_says(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.+)", code)


def test_every_command_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^\$ (.+)$", PAGE, re.M)
    assert len(lines) > 8
    for line in lines:
        first, name, *words = shlex.split(line)
        assert first == "nearfield"
        _parse(commands[name], words)
