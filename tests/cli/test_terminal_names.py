"""Names from others on the terminal: no line of a report is forged, and what is shown is the name of the file."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nearfield.cli.terminal import passages
from nearfield.corpus.document import Loss
from nearfield.corpus.indexing.report import IndexReport, PartialDocument
from nearfield.errors import InputError, nearest
from nearfield.message_text import count_of, escape_controls, escape_lines, quote_name, to_json
from nearfield.progress import Progress
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import run

FORGED = "a\n  1 failed\x1b[2K\x9b1A\u202e.md"
UNSAFE = ("\x1b", "\x9b", "\r", "\u202e", "\u2028", "\x07")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("notes/plan.md", "notes/plan.md"),
        ("Übersicht 2024\u202fUhr.pdf", "Übersicht 2024\u202fUhr.pdf"),  # macOS writes such spaces
        ("議事録\u3000一.txt", "議事録\u3000一.txt"),
        ("می\u200cخواهم.txt", "می\u200cخواهم.txt"),
        ("it's [red].txt", "it's [red].txt"),
        ("a\nb.txt", r"'a\nb.txt'"),
        ("\x1b[2J.txt", r"'\x1b[2J.txt'"),
        ("gnp\u202e.exe", r"'gnp\u202e.exe'"),
        ("it's\t\\n.txt", r"'it\'s\t\\n.txt'"),
        (" spaces ", "' spaces '"),
    ],
)
def test_a_name_is_shown_as_it_is_or_quoted(name: str, shown: str) -> None:
    assert quote_name(name) == shown
    if shown != name:
        assert ast.literal_eval(shown) == name, "the quoted name is the name"


def test_a_message_has_no_control_characters() -> None:
    assert escape_controls("one\ntwo\x1b[31m") == r"one\ntwo\x1b[31m"
    assert escape_lines("one\nnearfield: done\r") == "one\n  nearfield: done\\r"


def test_counts_have_the_right_form() -> None:
    assert [count_of(n, "document") for n in (0, 1, 2, 1204)] == [
        "0 documents",
        "1 document",
        "2 documents",
        "1,204 documents",
    ]
    assert count_of(1, "query", "queries") + count_of(3, "query", "queries") == "1 query3 queries"


def test_a_report_has_one_line_for_each_fact() -> None:
    report = IndexReport("docs", new=1, failed=1, skipped=1, partial=1, dry_run=True)
    report.failures, report.skipped_reasons = [(FORGED, FORGED)], {f"no extractor for {FORGED}": 1}
    report.partial_documents = [PartialDocument(FORGED, 0.5, (Loss(FORGED, advice=FORGED),))]
    report.held_removals, report.empty_sources = [(FORGED, 1, 1)], [FORGED]
    report.dropped_lines, report.held_back = [(FORGED, 0.5)], FORGED
    lines = report.to_text().split("\n")
    assert not any(line.startswith("  1 failed\\") or line == "  1 failed\x1b[2K" for line in lines)
    assert [line for line in lines if line.startswith("  1 failed")] == ["  1 failed"]
    assert not any(sign in report.to_text() for sign in UNSAFE)
    assert quote_name(FORGED) in report.to_text()


def test_a_report_of_many_failures_says_how_to_list_them() -> None:
    report = IndexReport("docs", failed=11, failures=[("a.png", "damaged")] * 11)
    assert "    ...\n    All of them: nearfield collections documents docs --state failed" in report.to_text()


def test_json_is_the_same_value_without_control_characters() -> None:
    value = {FORGED: ["Übersicht", "می\u200cخواهم", "\x7f\u2028\U000e0041"]}
    text = to_json(value)
    assert json.loads(text) == value
    assert "Übersicht" in text and "می\u200cخواهم" in text
    assert not any(sign in text for sign in (*UNSAFE, "\x7f", "\U000e0041"))


def test_the_nearest_name_forges_nothing() -> None:
    assert nearest("x", [FORGED]) == f"Known: {quote_name(FORGED)}."


def test_a_progress_bar_shows_names_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2, label="[red]a[/nope]\x1b[2J") as bar:
        bar.relabel("docs: [/x]\x1b]0;title\x07")
        bar.advance(2, 1)
    shown = capsys.readouterr().err
    assert "[/x]" in shown and "\x1b]0" not in shown and "\x1b[2J" not in shown


def test_passages_stay_as_long_as_they_are_and_keep_their_letters() -> None:
    text = "می\u200cخواهم 1\u00a0000\x1b[2J\nend"
    assert passages.plain(text) == "می\u200cخواهم 1\u00a0000 [2J\nend"


@pytest.fixture
def nearfield(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.mark.skipif(sys.platform == "win32", reason="names of files have no control characters there")
def test_commands_quote_names_of_files(nearfield: Any, tmp_path: Path) -> None:
    model, folder = write_tiny_model(tmp_path / "tiny"), tmp_path / "files"
    folder.mkdir()
    (folder / FORGED).write_text(f"# The {FORGED[-6:]} cat\n\nThe cat sat on the mat.")
    (folder / f"{FORGED}.pdf").write_bytes(b"no PDF")
    ran = nearfield("index", "docs", folder, "--model", model)
    listed, found = nearfield("collections", "documents", "docs"), nearfield("search", "cat", "-c", "docs")
    tried = nearfield("demo", folder, "--model", model)
    missing = nearfield("index", "docs", folder / "no\n\x1bsuch.md")
    assert missing.code == 2 and r"no\n\x1bsuch.md" in missing.err
    for output in (ran.out, listed.out, found.out, tried.out):
        assert not any(sign in output for sign in UNSAFE), output
        assert r"a\n  1 failed\x1b[2K\x9b1A\u202e.md" in output
        assert "\n  1 failed\\" not in output
    assert ran.out.count("\n  1 failed\n") == 1


def test_the_demo_asks_about_the_files_that_it_was_given(nearfield: Any, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(f"# The {name} blue mat\n\nThe cat sat on it.")
    first = nearfield("demo", tmp_path / "first", "--model", model).out
    second = nearfield("demo", tmp_path / "second", "--model", model).out
    assert "The first blue mat" in first
    assert "The second blue mat" in second and "The first blue mat" not in second, "files of an earlier demo are gone"
    (tmp_path / "second" / "a.md").write_text("hello world")
    without = nearfield("demo", tmp_path / "second", "--model", model)
    assert without.code == 0 and "--question" in without.out


def test_an_error_on_several_lines_is_one_message(nearfield: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InputError("wrong\nnearfield: all is well\x1b[1m")

    monkeypatch.setattr("nearfield.cli.app", fail)
    ran = nearfield("search", "x")
    assert (ran.code, ran.err) == (2, "nearfield: wrong\n  nearfield: all is well\\x1b[1m\n")
