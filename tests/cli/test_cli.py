"""The command line: light to start, clear when wrong, JSON where a program reads it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command

from nearfield import Encoder, __version__, catalog, families
from nearfield.cli import app
from nearfield.cli.demo import text as demo
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import Ran, python, run
from tests.support.serving import Process

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


@pytest.mark.process
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
    expected = ["serve", "embed", "similarity", "rerank", "doctor", "demo", "models"]
    nested = [f"nearfield models {name}" for name in ("list", "show", "pull", "remove")]
    assert {*(f"nearfield {name}" for name in expected), *nested} <= set(COMMANDS)


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
    ("words", "code", "message"),
    [
        (["embd"], 2, "Did you mean 'embed'"),
        (["serve", "--prot", "1"], 2, "--port"),
        (["serve", "--port", "x"], 2, "--port"),
        (["serve", "--port", "70000"], 2, "'port'"),
        (["serve", "--precision", "fp8"], 2, "'precision'"),
        (["serve", "/no/such/folder"], 2, "there is no /no/such/folder"),
        (["similarity", "alone"], 2, "at least two"),
        (["similarity", "a", "b", "--model", "no/such-model"], 1, "'no/such-model' could not be found"),
        (["models", "show", "no/such-model"], 1, "'no/such-model' could not be found"),
        (["models", "pull", "minilm", "--source", "hbu"], 2, "Did you mean 'hub'"),
        (["models", "remove", "minilm", "--yes"], 2, "not in the caches"),
        (["models", "list", "--max-parameters", "1x"], 2, "'1x'"),
        (["embed", "absent.txt", "-o", "x.npy"], 2, "absent.txt"),
    ],
)
def test_what_is_wrong_is_said_in_words(cache: Path, nearfield: Run, words: list[str], code: int, message: str) -> None:
    ran = nearfield(*words)
    assert ran.code == code
    assert message in ran.err
    assert "Traceback" not in ran.err
    # One line; but for what the parser says, and the list of places where a model was looked for.
    assert len(ran.err.splitlines()) == 1 or ran.err.startswith("Usage: ") or "Tried:" in ran.err
    assert ran.out == ""


def test_debug_shows_the_traceback(cache: Path, nearfield: Run) -> None:
    with pytest.raises(Exception, match="could not be found"):
        nearfield("--debug", "models", "show", "no/such-model")


@pytest.mark.process
@pytest.mark.slow
def test_debug_shows_the_traceback_in_a_process_of_its_own() -> None:
    for flags, traces in (([], 0), (["--debug"], 1)):
        command = [sys.executable, "-m", "nearfield.cli", *flags, "serve", "--port", "-1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (1 if traces else 2)
        assert done.stderr.count("Traceback (most recent") >= traces
        assert "'port'" in done.stderr
        assert traces or len(done.stderr.splitlines()) == 1


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str) -> None:
    environment = {**os.environ, "_NEARFIELD_COMPLETE": f"source_{shell}"}
    command = [Path(sys.executable).with_name("nearfield")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "nearfield" in done.stdout


# -- serve -----------------------------------------------------------------------------------------------------


def test_a_taken_port_is_said_before_a_model_is_loaded(nearfield: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = nearfield("serve", "no/such-model", "--port", port)
    assert ran.code == 2
    assert f"127.0.0.1:{port}: Address already in use. Choose another --port" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_serve_says_when_it_is_ready_and_ends_well(folder: Path) -> None:
    server = Process(folder)
    assert httpx.get(server.url + "/ready").status_code == 200
    server.terminate()
    assert server.wait() == 0


# -- models ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(cache: Path) -> Path:
    """The cache, with a model of the catalogue and an unknown one in it."""
    for name in ("BAAI--bge-small-en-v1.5", "someone--theirs"):
        write_tiny_model(cache / "models" / name / "0123abc")
    return cache / "models"


@pytest.mark.slow
def test_models_list_tells_what_is_here(cached: Path, nearfield: Run) -> None:
    rows = json.loads(nearfield("models", "list", "--here", "--json").out)
    assert [row["id"] for row in rows] == ["BAAI/bge-small-en-v1.5", "someone/theirs"]
    table = nearfield("models", "list", "--here").out
    assert len(table.splitlines()) == 3
    assert "someone/theirs" in table


@pytest.mark.slow
def test_models_remove_asks(cached: Path, nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cached / "BAAI--bge-small-en-v1.5" / "0123abc"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ran = nearfield("models", "remove", "bge-small")
    assert ran.code == 1
    assert "Delete BAAI/bge-small-en-v1.5 (" in ran.out
    assert place.is_dir()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert nearfield("models", "remove", "bge-small").code == 0
    assert not place.exists()
    assert nearfield("models", "remove", "someone/theirs", "--yes").code == 0
    assert json.loads(nearfield("models", "list", "--here", "--json").out) == []


def test_models_pull_of_a_folder(cache: Path, nearfield: Run, folder: Path) -> None:
    ran = nearfield("models", "pull", folder)
    assert ran.code == 0, ran.err
    assert str(folder) in ran.out


def test_models_show_tells_which_facts_are_not_of_the_folder(nearfield: Run, folder: Path, tmp_path: Path) -> None:
    assert json.loads(nearfield("models", "show", folder, "--json").out)["recipe"]["origins"] == {}
    bare = write_tiny_model(tmp_path / "bare")
    (bare / "modules.json").unlink()
    origins = json.loads(nearfield("models", "show", bare, "--json").out)["recipe"]["origins"]
    assert origins["pooling"] == "assumed"
    assert re.search(r"Pooling: +mean \(assumed\)", nearfield("models", "show", bare).out)


@pytest.mark.slow
def test_models_list_tells_the_catalogue(cache: Path, nearfield: Run) -> None:
    rows = json.loads(nearfield("models", "list", "--json").out)
    assert [row["id"] for row in rows] == [entry.id for entry in catalog.entries()]
    assert not any(row["here"] for row in rows)
    runs = {row["id"]: row["runs"] for row in rows}
    assert runs["sentence-transformers/all-MiniLM-L6-v2"]
    assert [name for name, run in runs.items() if not run] == [
        entry.id for entry in catalog.entries() if entry.family not in families.REGISTRY.names()
    ]
    table = nearfield("models", "list").out
    assert all(entry.id in table for entry in catalog.entries())


def test_models_list_by_input(cache: Path, nearfield: Run) -> None:
    pictures = json.loads(nearfield("models", "list", "--input", "image", "--json").out)
    assert {row["id"]: row["image_size"] for row in pictures}["google/siglip2-base-patch16-512"] == 512
    assert all("image" in row["modalities"] for row in pictures)
    texts = {row["id"] for row in json.loads(nearfield("models", "list", "--input", "text", "--json").out)}
    assert "openai/clip-vit-base-patch32" in texts and "facebook/dinov2-base" not in texts
    sounds = {row["id"] for row in json.loads(nearfield("models", "list", "--input", "audio", "--json").out)}
    assert "laion/clap-htsat-unfused" in sounds and "openai/clip-vit-base-patch32" not in sounds
    videos = {row["id"] for row in json.loads(nearfield("models", "list", "--input", "video", "--json").out)}
    assert {"Qwen/Qwen3-VL-Embedding-2B", "google/embeddinggemma-2"} < videos and "vidore/colpali-v1.3-hf" not in videos
    assert {tuple(row["modalities"]) for row in pictures if row["id"] in videos} >= {("text", "image", "video")}
    assert "'smell' is not one of text, image, audio" in nearfield("models", "list", "--input", "smell").err


@pytest.mark.slow
def test_models_list_filters(cache: Path, nearfield: Run) -> None:
    chosen = json.loads(
        nearfield("models", "list", "--language", "zh", "--max-parameters", "50M", "--commercial", "--json").out
    )
    assert chosen
    for row in chosen:
        assert row["language"]["code"] == "zh" and row["language"]["grade"] in ("good", "weak", "listed")
        assert row["parameters"] <= 50e6
        assert catalog.find(row["id"]).commercial  # type: ignore[union-attr]
    assert json.loads(nearfield("models", "list", "--here", "--json").out) == []


def test_models_show_knows_what_is_not_here(cache: Path, nearfield: Run) -> None:
    facts = json.loads(nearfield("models", "show", "minilm", "--json").out)
    assert facts["catalogue"]["id"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert facts["recipe"] is None
    assert "nearfield models pull minilm" in nearfield("models", "show", "minilm").out


def test_a_folder_comes_before_a_model_of_the_catalogue(
    cache: Path, nearfield: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "minilm")
    monkeypatch.chdir(tmp_path)
    shown = json.loads(nearfield("models", "show", "minilm", "--json").out)
    assert "catalogue" not in shown
    assert (shown["recipe"]["name"], shown["recipe"]["dimensions"]) == ("minilm", 32)
    assert nearfield("models", "pull", "minilm").out.startswith("minilm is at ")
    sized = json.loads(nearfield("size", "1000", "--model", "minilm", "--dtype", "float32", "--json").out)
    assert sized["rows"][0]["total"] == 1000 * 32 * 4
    sized = json.loads(nearfield("size", "1000", "--model", "bge-small", "--dtype", "float32", "--json").out)
    assert sized["rows"][0]["total"] == 1000 * 384 * 4


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


def test_similarity_of_a_query_uses_the_models_prompts(nearfield: Run, tiny: Encoder) -> None:
    words = ["similarity", "the cat", "a blue mat", "--model", tiny.recipe.folder, "--json"]
    plain, asked = (json.loads(nearfield(*words, *flag).out)["scores"][0]["score"] for flag in ([], ["--query"]))
    expected = tiny.similarity(tiny.encode_query(["the cat"]), tiny.encode_document(["a blue mat"]))[0, 0]
    assert asked == pytest.approx(float(expected), abs=2e-2)
    assert abs(asked - plain) > 1e-4


@pytest.mark.slow
def test_doctor(cache: Path, nearfield: Run) -> None:
    report = json.loads(nearfield("doctor", "--json").out)
    assert report["machine"]["cores_that_may_be_used"] >= 1
    assert report["precision"]["auto_means"] in ("bf16", "float32")
    assert report["precision"]["because"]
    assert report["sources"]["hub"] == "offline by setting"
    assert report["versions"]["nearfield"] == __version__
    assert "Usable CPU cores:" in nearfield("doctor").out


def test_doctor_tells_how_old_a_calibration_is(cache: Path, nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.evaluation.planning.speed import stored_calibration
    from nearfield.evaluation.planning.speed.calibration import Calibration, WidthTiming

    assert json.loads(nearfield("doctor", "--json").out)["machine"]["measured_speed"].startswith("no: nearfield advise")
    measured = Calibration(
        (WidthTiming(384, 0.0, 1e-11, 1e-11),), 1e-6, 8.0, 1, "bf16", 9.0, measured_at=time.time() - 7300
    )
    monkeypatch.setattr(stored_calibration, "calibrate", lambda **_: measured)
    stored_calibration.calibration_for_here({})
    assert "Measured speed:        bf16 on CPU, 2 hours ago" in nearfield("doctor").out


@pytest.mark.network
def test_doctor_reaches_what_answers(url: str) -> None:
    from nearfield.cli.doctor import _reach

    assert _reach(f"{url}/no-such-page") == "reachable"
    assert _reach("http://127.0.0.1:9/").startswith("not reachable")
    assert _reach("nonsense").startswith("not reachable")


@pytest.mark.slow
def test_doctor_tells_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.cli.doctor import _index, _sources

    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    assert "secret" not in _index()
    assert "127.0.0.1:9" in _index()
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "secret" not in str(_sources())


@pytest.mark.process
def test_doctor_does_not_wait_for_pip_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from nearfield.cli.doctor import _index

    def hang(*_: Any, **options: Any) -> Any:
        raise subprocess.TimeoutExpired("pip", options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert _index() == "pip does not answer"


@pytest.mark.slow
def test_demo_answers_and_says_how_to_go_on(nearfield: Run, folder: Path) -> None:
    ran = nearfield("demo", "--model", folder)
    assert ran.code == 0, ran.err
    for question in demo.QUESTIONS:
        assert question in ran.out
    assert "passages/s" in ran.out
    assert "nearfield serve" in ran.out
    assert "from openai import OpenAI" in ran.out
    assert len(re.findall(r"^  -?[01]\.\d{3}  \S", ran.out, re.M)) == 2 * len(demo.QUESTIONS)
    own = nearfield("demo", "--model", folder, "-q", "Who?", "-q", "Where?").out
    assert "Who?" in own
    assert "Where?" in own
    assert demo.QUESTIONS[0] not in own


def test_the_demo_document_is_a_real_one() -> None:
    passages = demo.read_passages()
    words = sum(len(passage.split()) for passage in passages)
    assert 100 < len(passages) < 1000
    assert words > 10_000
    assert all(passage.strip() == passage and "  " not in passage for passage in passages)
    assert sorted(len(passage.split()) for passage in passages)[len(passages) // 2] < 150
    assert "truth universally acknowledged" in passages[0] + passages[1]
