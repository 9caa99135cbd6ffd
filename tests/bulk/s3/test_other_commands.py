"""Commands that read files of this machine only: one sentence for URLs of objects."""

from __future__ import annotations

import pytest

from nearfield import read_multivectors
from nearfield.errors import InputError
from tests.support.cli_runner import run

_COMMANDS = (
    ("index", "notes", "s3://bucket/docs"),
    ("index", "notes", "--config", "s3://bucket/notes.toml"),
    ("search", "--queries", "s3://bucket/queries.jsonl"),
    ("evaluate", "some-model", "--data", "s3://bucket/set"),
    ("golden", "check", "s3://bucket/golden.json"),
    ("classify", "S3://bucket/a.png", "--labels", "a cat"),
)


@pytest.mark.parametrize("words", _COMMANDS, ids=" ".join)
def test_commands_that_do_not_read_from_s3_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    ran = run(capsys, monkeypatch, *words)
    assert ran.code == 2
    assert "s3://bucket/" in ran.err
    assert "is on S3, which only `nearfield embed` reads and writes: copy it to this machine first" in ran.err


def test_a_query_may_begin_like_a_url(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(capsys, monkeypatch, "search", "s3://bucket/a", "-c", "none-such")
    assert "is on S3" not in ran.err
    assert "none-such" in ran.err


def test_multivectors_are_read_from_this_machine() -> None:
    with pytest.raises(InputError, match="is in a bucket: copy the folder to this machine"):
        next(read_multivectors("s3://bucket/out/"))
