"""The examples of the guide to training without torch, executed with a tiny model in place of the named ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nearfield.encoder import Encoder
from nearfield.settings import Settings
from nearfield.strict_toml import parse_toml
from nearfield.testing import tiny_encoder
from nearfield.training.light.query_map import fit_query_map
from tests.support.cli_runner import run
from tests.support.paths import ROOT
from tests.support.related_models import sample, write_relatives
from tests.support.tiny_language import translations

GUIDE = (ROOT / "docs" / "guides" / "train-light.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


COMMANDS = [line.removeprefix("$ nearfield ") for block in examples("console") for line in block.splitlines()]


def write_files(folder: Path) -> None:
    """Write the files that the guide names."""
    pairs = translations(120).rows
    lines = (
        {"query": text, "positive": pairs.documents[f"d{key[1:]}"]}  # type: ignore[union-attr]
        for key, text in pairs.queries.items()  # type: ignore[union-attr]
    )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("\n".join(sample(200)))


@pytest.mark.slow
def test_the_commands_of_the_guide_run_in_their_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = write_relatives(tmp_path / "models")
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    names = {"all-MiniLM-L6-v2": old, "multilingual-e5-small": old, "bge-small": new}
    assert run(capsys, monkeypatch, "index", "docs", "texts", "--model", old, "--keep-duplicates").code == 0
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        arguments = [str(names.get(word, word)) for word in command.split()]
        arguments += ["--dimensions", "16"] if "static" in arguments else []
        arguments = ["texts/" if word == "docs" and "convert" in arguments else word for word in arguments]
        ran = run(capsys, monkeypatch, *arguments)
        assert ran.code == 0, (command, ran.err)


def test_the_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    fit_query_map(encoder, translations(80)).query_map.save(tmp_path / "map")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(examples("py")[0].replace("all-MiniLM-L6-v2", str(tmp_path / "tiny")), namespace)
    assert isinstance(namespace["encoder"], Encoder)
    assert namespace["encoder"].query_map is not None


def test_the_settings_of_the_guide_are_settings() -> None:
    parsed = parse_toml(examples("toml")[0])
    assert Settings(**parsed).model_settings == {"all-MiniLM-L6-v2": {"query_map": "map/"}}
