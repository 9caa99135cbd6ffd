"""Sounds on the command line: compared and classified with the vectors that Python gives, and refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearfield import Audio, Encoder
from nearfield.cli.terminal.picture_arguments import SOUND_MODEL
from tests.support import cli_runner, tiny_sounds
from tests.support.cli_runner import Ran

pytestmark = pytest.mark.slow

Run = Callable[..., Ran]
soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: cli_runner.run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two sounds, of which one has no suffix."""
    for name, pitch in (("bell.wav", 900), ("rain", 300)):
        with (tmp_path / name).open("wb") as file:
            soundfile.write(file, tiny_sounds.tone(0.2, pitch), tiny_sounds.RATE, format="WAV")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_similarity_and_classify_read_the_sounds_that_are_named(nearfield: Run, clap: Path, sounds: Path) -> None:
    encoder = Encoder(str(clap))
    files = [Audio(path=sounds / name) for name in ("bell.wav", "rain")]
    report = json.loads(nearfield("similarity", "bell.wav", "a bell", "rain", "--model", clap, "--json").out)
    expected = encoder.similarity(encoder.encode(files[:1]), encoder.encode(["a bell", files[1]]))[0]
    assert report["audio"] == "bell.wav" and [next(iter(row)) for row in report["scores"]] == ["text", "audio"]
    np.testing.assert_allclose([row["score"] for row in report["scores"]], expected, atol=1e-3)
    ran = nearfield("classify", "bell.wav", "rain", "-l", "bell,rain", "--model", clap, "--json")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["audio"] for row in rows] == ["bell.wav", "rain"]
    for row, prediction in zip(rows, encoder.zero_shot(files, ["bell", "rain"]), strict=True):
        assert row["scores"] == pytest.approx(prediction.scores, abs=1e-3)


def test_the_default_model_is_one_of_sounds(
    nearfield: Run, clap: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.cli.terminal.picture_arguments.SOUND_MODEL", str(clap))
    assert json.loads(nearfield("similarity", "bell.wav", "a bell", "--json").out)["model"] == "clap"
    assert json.loads(nearfield("embed", "bell.wav", "-o", "x.jsonl", "--json").out)["model"] == "clap"
    assert SOUND_MODEL == "laion/clap-htsat-unfused"


def test_what_reads_no_sounds_says_so(nearfield: Run, tiny: Encoder, sounds: Path) -> None:
    ran = nearfield("similarity", "bell.wav", "a bell", "--model", tiny.recipe.folder)
    assert ran.code == 2 and "bell.wav is a sound" in ran.err and "--input audio" in ran.err


def test_the_name_of_a_file_that_is_missing_is_named(nearfield: Run, clap: Path, sounds: Path) -> None:
    ran = nearfield("similarity", "bell.wav", "none.wav", "--model", clap)
    assert ran.code == 0 and "none.wav is no file" in ran.err
    assert "is no file" not in nearfield("similarity", "a", "none.wav", "--model", clap, "--texts-only").err
