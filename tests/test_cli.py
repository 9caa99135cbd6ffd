"""The command line: light to start, clear when wrong, JSON where a program reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nearfield import __version__, catalog, families
from nearfield.cli import app, demo
from nearfield.testing import write_tiny_model
from tests.commands import Ran, python, run

HEAVY = ("numpy", "openvino", "pydantic", "huggingface_hub", "tokenizers", "starlette", "uvicorn", "torch", "asyncio")
Run = Callable[..., Ran]


def _commands(command: Any, name: str = "nearfield") -> Iterator[tuple[str, Any]]:
    yield name, command
    for key, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{name} {key}")


COMMANDS = dict(_commands(get_command(app)))


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    return write_tiny_model(tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["models", "--help"], ["serve", "--help"]])
def test_starting_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["nearfield", *{words}]
from nearfield.cli import main
try:
    main()
except SystemExit:
    pass
print("HEAVY", [name for name in {HEAVY} if name in sys.modules])
"""
    # Newer typers describe a command's own options with pydantic, which is theirs to decide.
    allowed = "[]" if words[0].startswith("-") else "['pydantic']"
    assert python(code).splitlines()[-1] in ("HEAVY []", f"HEAVY {allowed}")


def test_there_are_the_commands_that_others_rely_on() -> None:
    wanted = ["serve", "embed", "similarity", "doctor", "demo", "models"]
    nested = [f"nearfield models {name}" for name in ("list", "show", "pull", "remove")]
    assert {*(f"nearfield {name}" for name in wanted), *nested} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    with command.make_context(name, [], resilient_parsing=True) as context:
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            assert record is None or record[1], f"{name} {parameter.name}"
    if not hasattr(command, "commands"):
        assert "nearfield" in (command.epilog or ""), f"{name} --help shows no example"


def test_version(nearfield: Run) -> None:
    assert nearfield("--version").out == f"nearfield {__version__}\n"


def test_completion_is_offered(nearfield: Run) -> None:
    assert "--install-completion" in nearfield("--help").out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["embd"], 2, "Did you mean 'embed'"),
        (["serve", "--prot", "1"], 2, "--port"),
        (["serve", "--port", "x"], 2, "--port"),
        (["serve", "--port", "70000"], 2, "'port'"),
        (["serve", "--precision", "fp8"], 2, "'precision'"),
        (["serve", "/no/such/folder"], 1, "there is no /no/such/folder"),
        (["similarity", "alone"], 2, "at least two"),
        (["similarity", "a", "b", "--model", "no/such-model"], 1, "'no/such-model' could not be found"),
        (["models", "show", "no/such-model"], 1, "'no/such-model' could not be found"),
        (["models", "pull", "minilm", "--source", "hbu"], 2, "Did you mean 'hub'"),
        (["models", "remove", "minilm", "--yes"], 1, "not in the caches"),
        (["models", "list", "--max-parameters", "1x"], 2, "'1x'"),
        (["embed", "absent.txt", "-o", "x.npy"], 2, "absent.txt"),
    ],
)
def test_what_is_wrong_is_said_in_words(cache: Path, nearfield: Run, words: list[str], code: int, told: str) -> None:
    ran = nearfield(*words)
    assert ran.code == code
    assert told in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_debug_shows_the_traceback(cache: Path, nearfield: Run) -> None:
    with pytest.raises(Exception, match="could not be found"):
        nearfield("--debug", "models", "show", "no/such-model")


def test_models_list_tells_the_catalogue(cache: Path, nearfield: Run) -> None:
    rows = json.loads(nearfield("models", "list", "--json").out)
    assert [row["id"] for row in rows] == [entry.id for entry in catalog.entries()]
    assert not any(row["here"] for row in rows)
    runs = {row["id"]: row["runs"] for row in rows}
    assert runs["sentence-transformers/all-MiniLM-L6-v2"]
    assert [name for name, run in runs.items() if not run] == [
        entry.id for entry in catalog.entries() if entry.family not in families.SHELF.names()
    ]
    table = nearfield("models", "list").out
    assert all(entry.id in table for entry in catalog.entries())


def test_models_list_filters(cache: Path, nearfield: Run) -> None:
    chosen = json.loads(
        nearfield("models", "list", "--language", "zh", "--max-parameters", "50M", "--commercial", "--json").out
    )
    assert chosen
    for row in chosen:
        assert {"zh", "multilingual"} & set(row["languages"])
        assert row["parameters"] <= 50e6
        assert catalog.find(row["id"]).commercial  # type: ignore[union-attr]
    assert json.loads(nearfield("models", "list", "--here", "--json").out) == []


def test_models_show_knows_what_is_not_here(cache: Path, nearfield: Run) -> None:
    facts = json.loads(nearfield("models", "show", "minilm", "--json").out)
    assert facts["catalogue"]["id"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert facts["recipe"] is None
    assert "nearfield models pull minilm" in nearfield("models", "show", "minilm").out


def test_models_show_reads_a_folder(nearfield: Run, folder: Path) -> None:
    recipe = json.loads(nearfield("models", "show", folder, "--json").out)["recipe"]
    assert recipe["dimensions"] == 32
    assert [module["kind"] for module in recipe["modules"]] == ["Pooling", "Normalize"]


def test_similarity(nearfield: Run, folder: Path) -> None:
    ran = nearfield("similarity", "the cat", "the cat", "a blue mat", "--model", folder, "--json")
    scores = [row["score"] for row in json.loads(ran.out)["scores"]]
    assert scores[0] == pytest.approx(1.0, abs=1e-3)
    assert scores[1] < scores[0]
    lines = nearfield("similarity", "the cat", "a blue mat", "the cat", "--model", folder).out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["the cat", "a blue mat"]


def test_doctor(cache: Path, nearfield: Run) -> None:
    report = json.loads(nearfield("doctor", "--json").out)
    assert report["machine"]["cores_that_may_be_used"] >= 1
    assert report["precision"]["auto_means"] in ("bf16", "float32")
    assert report["precision"]["because"]
    assert report["sources"]["hub"] == "offline by setting"
    assert report["versions"]["nearfield"] == __version__
    assert "cores that may be used" in nearfield("doctor").out


def test_doctor_reaches_what_answers(url: str) -> None:
    from nearfield.cli.doctor import _reach

    assert _reach(f"{url}/no-such-page") == "reachable"
    assert _reach("http://127.0.0.1:9/").startswith("not reachable")
    assert _reach("nonsense").startswith("not reachable")


def test_doctor_tells_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.cli.doctor import _index

    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    assert "secret" not in _index()
    assert "127.0.0.1:9" in _index()


def test_demo_answers_and_says_how_to_go_on(nearfield: Run, folder: Path) -> None:
    ran = nearfield("demo", "--model", folder)
    assert ran.code == 0, ran.err
    for question in demo.QUESTIONS:
        assert question in ran.out
    assert "passages/s" in ran.out
    assert "nearfield serve" in ran.out
    assert "from openai import OpenAI" in ran.out


def test_the_demo_document_is_a_real_one() -> None:
    passages = demo.read_passages()
    words = sum(len(passage.split()) for passage in passages)
    assert 100 < len(passages) < 1000
    assert words > 10_000
