"""Progress of ``nearfield compare``: lines without a terminal, nothing with --json, and no markup from names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nearfield.cli.compare import _Bar
from nearfield.evaluation.comparison.terminal_report import _failures
from tests.support.cli_runner import run


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with _Bar(shown=True) as bar:
        for what, done in (("opening m", 0), ("opening m", 1), ("m on [/data]\x1b[2J", 1), ("m on [/data]\x1b[2J", 2)):
            bar.step(what, done, 2)
    assert capsys.readouterr().err == "  1 of 2: opening m\n  2 of 2: m on [/data]\\x1b[2J\n"


def test_nothing_is_shown_if_the_output_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with _Bar(shown=False) as bar:
        bar.step("m", 0, 2)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with _Bar(shown=True) as bar:
        bar.step("m on [/data]", 1, 2)
    shown = capsys.readouterr().err
    assert "1/2" in shown and "m on [/data]" in shown


def test_a_comparison_reports_its_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = {f"d{n}": text for n, text in enumerate(("the cat sat", "a red dog", "the blue mat"))}
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": key, "text": text}) for key, text in documents.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "cat"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    words = ("compare", "bm25", "--data", folder, "--no-cache", "--no-speed", "--no-pictures", "--samples", 0)
    ran = run(capsys, monkeypatch, *words)
    assert ran.code == 0, ran.err
    assert "bm25" in ran.err and "  1 of " in ran.err
    assert run(capsys, monkeypatch, *words, "--json").err == ""


def test_an_error_with_brackets_is_printed() -> None:
    from rich.console import Console

    table = _failures({"variants": [{"label": "m", "errors": [{"step": "s", "message": "no [/such] file\x1b[2J"}]}]})
    console = Console(markup=False, width=80, record=True)
    assert table is not None
    console.print(table)
    assert "no [/such] file\\x1b[2J" in console.export_text()
