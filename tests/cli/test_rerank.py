"""nearfield rerank, and what commands say to models of another kind than theirs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nearfield import Reranker
from tests.parity.scores import classifier
from tests.parity.sparse import masked
from tests.support.cli_runner import run

TEXTS = ["river", "the sun", "peace and love"]


@pytest.mark.slow
def test_rerank(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = classifier("bert")(tmp_path)
    ran = run(capsys, monkeypatch, "rerank", "what is it", *TEXTS, "--model", folder, "--json")
    actual = json.loads(ran.out)["results"]
    with Reranker(str(folder)) as reranker:
        expected = reranker.rank("what is it", TEXTS)
    assert [row["index"] for row in actual] == [one.index for one in expected] and ran.code == 0
    assert actual[0]["text"] == TEXTS[expected[0].index]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    lines = run(capsys, monkeypatch, "rerank", "what is it", "--model", folder, "--top", 2).out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(TEXTS[expected[0].index])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    none = run(capsys, monkeypatch, "rerank", "what is it", "--model", folder)
    assert none.code == 2 and "give documents" in none.err


def test_models_of_another_kind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("river\n")
    sparse = masked("bert")(tmp_path / "s")
    ran = run(capsys, monkeypatch, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", "--model", sparse)
    assert ran.code == 2 and "not sparse output. out gives none of these" in ran.err
