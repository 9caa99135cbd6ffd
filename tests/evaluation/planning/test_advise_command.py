"""The command ``nearfield advise``: flags, questions, its report, and what it says to type."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from typer.main import get_command

from nearfield.cli import app
from nearfield.evaluation.planning.advice.advisor import advise
from nearfield.evaluation.planning.advice.approach import decision_tree
from nearfield.evaluation.planning.advice.purposes import PURPOSES
from nearfield.evaluation.planning.advice.requirements import Requirements
from tests.evaluation.planning.test_calibration import MEASURED
from tests.support.cli_runner import Ran, run
from tests.test_readme import _parse

Run = Callable[..., Ran]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; the machine counts as measured."""
    monkeypatch.setattr(
        "nearfield.evaluation.planning.speed.stored_calibration.calibration_for_here", lambda *_, **__: MEASURED
    )
    return lambda *words: run(capsys, monkeypatch, *words)


def test_the_command_by_flags(nearfield: Run) -> None:
    words = ("advise", "--languages", "en", "--tokens", 256, "--texts", "100k", "--memory", "8GB")
    done = nearfield(*words, "--json")
    advice = json.loads(done.out)
    assert done.code == 0 and len(advice["candidates"]) == 3
    assert advice["need"]["memory"] == 8 * 10**9 and advice["need"]["purpose"] == "retrieval"
    shown = nearfield(*words, "--yes").out
    assert shown.startswith(f"Take {advice['candidates'][0]['id']}:")
    for part in ("Against it:", "Beside the model:", "nearfield compare", "nearfield models figures", "Not known:"):
        assert part in shown


def test_the_report_explains_the_tree(nearfield: Run) -> None:
    shown = nearfield("advise", "--for", "sts", "--languages", "de", "--on", "elsewhere", "--explain", "--yes").out
    assert all(question.ask in shown for question in decision_tree())
    assert "* similarity, groups, several uses" in shown and "Ruled out:" in shown
    assert "ranked by general:multilingual instead" in shown and "nothing is ruled out for its speed" in shown


def test_another_machine_is_computed(nearfield: Run) -> None:
    shown = nearfield("advise", "--on", "rtx4090", "--yes").out
    assert "estimates for rtx4090 in" in shown and "by arithmetic, right within" in shown and "Speed:" in shown


def test_the_command_asks_on_a_terminal(nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"Languages": "de", "Tokens": "100", "Number of texts": "1k", "Is the": "no", "Machine": "elsewhere"}

    def prompt(question: str, default: str, **_: Any) -> str:
        asked.append(question)
        return next((answer for start, answer in answers.items() if question.startswith(start)), default)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", prompt)
    done = nearfield("advise", "--for", "retrieval")
    assert done.code == 0 and len(asked) == 7
    assert "retrieval:de" in done.out and "no machine was named or measured" in done.out


def test_the_command_says_what_ruled_all_out_and_what_would_help(nearfield: Run) -> None:
    done = nearfield("advise", "--memory", "50M", "--yes")
    assert done.code == 1 and "by memory" in done.out and "With no limit of memory:" in done.out
    done = nearfield("advise", "--for", "rerank", "--queries", 50, "--yes")
    assert done.code == 1 and "With fewer queries a second, or a GPU (--on)" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "dens"), "dense"),
        (("--for", "search"), "retrieval"),
        (("--for", "rerank", "--kind", "dense"), "scores"),
        (("--on", "abacus"), "Unknown machine"),
        (("--languages", "xx"), "xx"),
        (("--coverage", "some"), "most"),
        (("--texts", "many"), "many"),
        (("--memory", "much"), "much"),
        (("--commercial", "maybe"), "yes or no"),
        (("--queries", "x"), "x"),
        (("--queries", "nan"), "nan"),
    ],
)
def test_the_command_says_what_is_wrong(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    done = nearfield("advise", "--yes", *words)
    assert done.code == 2 and message in done.err


@pytest.mark.parametrize("purpose", sorted(PURPOSES))
def test_what_it_says_to_type_can_be_typed(purpose: str) -> None:
    for kind in PURPOSES[purpose].kinds:
        need = Requirements(purpose, kind=kind, tokens=64, texts=10, index_hours=None, commercial=False)
        advice = advise(need, count=200)
        lines = {candidate["id"]: candidate["commands"] for candidate in advice["candidates"]}
        for name in (*list(lines)[:3], *(name for name in lines if " --accept-license" in lines[name][0])):
            for line in lines[name]:
                _type(line)
        for line in advice["next"]:
            _type(line)


def test_commands_of_the_tree_can_be_typed() -> None:
    for question in decision_tree():
        for answer in question.answers:
            if answer.command:
                _type(answer.command)


def _type(line: str) -> None:
    first, name, *words = shlex.split(line)
    assert first == "nearfield"
    _parse(_commands()[name], words)


@lru_cache(maxsize=1)
def _commands() -> Any:
    return get_command(app).commands  # type: ignore[attr-defined]
