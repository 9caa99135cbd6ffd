"""The exit status of commands: 0 done, 1 failed, 2 wrong usage; as the reference says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearfield.cli import EXIT_CODES
from nearfield.errors import InputError, ModelNotFound, NearfieldError, SettingsError, SourceUnavailable, StoreFailed
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
NO = "missing.jsonl"


@pytest.fixture
def nearfield(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("unknown-command",),
        ("search",),
        ("search", "x", "--colour"),
        ("search", "x"),
        ("ask", "x", "-c", "nothing"),
        ("index", "nothing"),
        ("index", "docs", NO),
        ("index", "docs", ".", "--config", "missing.toml"),
        ("embed", NO, "-o", "out.npy"),
        ("collections", "show", "nothing"),
        ("collections", "documents", "nothing"),
        ("collections", "verify", "nothing"),
        ("collections", "export", "nothing", "out"),
        ("collections", "import", "docs", "nothing"),
        ("collections", "move", "nothing", "memory:x"),
        ("collections", "forget", "nothing", "x"),
        ("collections", "drop", "nothing", "--yes"),
        ("verify", "nothing"),
        ("golden", "check", "missing.json"),
        ("evaluate", "bm25", "--data", NO),
        ("compare", "bm25", "--data", NO),
        ("judge", "nothing", "out", "--query", "x"),
        ("synthetic", "nothing", "out"),
        ("models", "remove", "nothing"),
        ("models", "list", "--language", "xx"),
        ("models", "list", "--for", "cooking"),
        ("models", "show", "bge-m3", "--languages", "de,xx"),
        ("models", "figures", "nothing"),
        ("models", "figures", "bge-m3", "images"),
        ("demo", NO),
        ("serve", "--api-key-file", "missing.txt"),
        ("serve", "--port", "many"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(nearfield: Run, words: tuple[str, ...]) -> None:
    ran = nearfield(*words)
    assert ran.code == 2, ran
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("models", "show", "nothing/here"),
        ("similarity", "a", "b", "--model", "nothing/here"),
        ("models", "loaded", "--url", "http://127.0.0.1:9"),
        ("top", "--once", "--url", "http://127.0.0.1:9"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_reached_is_1(nearfield: Run, words: tuple[str, ...]) -> None:
    ran = nearfield(*words)
    assert ran.code == 1, ran
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("collections", "list"), ("models", "list")])
def test_what_is_done_is_0(nearfield: Run, words: tuple[str, ...]) -> None:
    assert nearfield(*words).code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (SettingsError("x"), 2),
        (ModelNotFound("x"), 2),
        (FileNotFoundError(2, "No such file or directory", "x"), 2),
        (PermissionError(13, "Permission denied", "x"), 1),
        (SourceUnavailable("x"), 1),
        (StoreFailed("x"), 1),
        (NearfieldError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_error_has_its_status(
    nearfield: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("nearfield.corpus.collection.list_collections", fail)
    assert nearfield("collections", "list").code == code
    assert code in EXIT_CODES


def test_the_help_names_the_statuses(nearfield: Run) -> None:
    assert "0 done, 1 failed, 2 wrong usage, 3 not better, 130 interrupted" in nearfield("--help").out
