"""Commands that take a model: attached they do what they do with a loaded one, and load nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mcp import Client

import nearfield
from nearfield import Encoder, Image, Reranker
from nearfield.attach import server_choice
from nearfield.server.collections.mcp import OpenCollections, create_server
from nearfield.testing import write_tiny_model
from tests.parity.scores import classifier
from tests.support import tiny_pictures
from tests.support.chat_server import chatting
from tests.support.cli_runner import Ran, run
from tests.support.odd_pictures import encode, smooth
from tests.support.paths import ROOT
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]
GUIDE = ROOT / "docs" / "guides" / "serve.md"
TEXTS = ["The cat sat on the blue mat.", "A dog said hello.", "Search the red world.", "hello world"]
Nearfield = Callable[..., Ran]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Models as a server loads them."""
    home = tmp_path_factory.mktemp("models")
    tiny, clip = write_tiny_model(home / "tiny"), tiny_pictures.write_clip(home / "clip")
    cross = classifier("bert", 1)(home / "c").rename(home / "cross")
    options: Any = {"compile_cache": False}
    models: dict[str, Any] = {
        "tiny": Encoder(str(tiny), **options),
        "clip": Encoder(str(clip), **options),
        "cross": Reranker(str(cross), **options),
    }
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def url(models: dict[str, Any]) -> Iterator[str]:
    """Their server."""
    with serving(list(models.values())) as base:
        yield base


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]
) -> Nearfield:
    """Run a command in a folder with inputs; ``{tiny}`` is the folder of a model."""
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(server_choice, "_written", set())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (tmp_path / "photo.png").write_bytes(encode(smooth(90, 40, 1), "PNG"))
    pairs = [{"sentence1": TEXTS[0], "sentence2": text, "score": number} for number, text in enumerate(TEXTS)]
    (tmp_path / "sts.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    asked = [{"query": text.split()[-1], "document": text} for text in TEXTS]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    folders = {name: str(model.recipe.folder) for name, model in models.items()}
    return lambda *words: run(capsys, monkeypatch, *(str(word).format(**folders) for word in words))


def _attach(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands attach; whatever would load a model fails."""
    monkeypatch.setenv("NEARFIELD_SERVER", url)
    monkeypatch.setattr("nearfield.inference.loaded_model.CompiledModel", None)


def _numbers(value: Any) -> list[float]:
    """Return all numbers of a report but seconds."""
    if isinstance(value, dict):
        return [number for name, part in value.items() if name != "seconds" for number in _numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


@pytest.mark.parametrize(
    "words",
    [
        ("similarity", "a cat", "a dog", "hello", "--model", "{tiny}", "--json"),
        ("classify", "photo.png", "-l", "cat, dog", "--model", "{clip}", "--json"),
        ("rerank", "a cat", "a dog", "hello", "--model", "{cross}", "--json"),
        ("evaluate", "{tiny}", "--data", "sts.jsonl", "--json"),
        ("evaluate", "{tiny}?rerank={cross}", "--data", "asked.jsonl", "--json"),
    ],
    ids=lambda words: f"{words[0]} {len(words)}" if "rerank=" not in words[1] else "evaluate reranked",
)
def test_a_command_prints_what_it_prints_with_a_loaded_model(
    command: Nearfield, url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    local = command(*words)
    assert local.code == 0 and "attached" not in local.err, local.err
    _attach(url, monkeypatch)
    attached = command(*words)
    assert attached.code == 0, attached.err
    assert f"is attached to {url}." in attached.err
    ours, theirs = json.loads(attached.out), json.loads(local.out)
    assert _numbers(ours) == pytest.approx(_numbers(theirs), abs=2e-3)
    assert re.sub(r"[\d.e-]+", "", attached.out) == re.sub(r"[\d.e-]+", "", local.out)


def test_vectors_that_embed_writes(
    command: Nearfield, url: str, monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]
) -> None:
    _attach(url, monkeypatch)
    for words in (("texts.txt", "-o", "out.npy"), ("texts.txt", "-o", "half.npy", "--dtype", "float16")):
        done = command("embed", *words, "--model", "{tiny}", "-q")
        assert done.code == 0, done.err
    expected = models["tiny"].encode(TEXTS)
    np.testing.assert_array_equal(np.load("out.npy"), expected)
    np.testing.assert_array_equal(np.load("half.npy"), expected.astype(np.float16))
    done = command("embed", "photo.png", "-o", "photos.parquet", "--model", "{clip}", "-q")
    assert done.code == 0, done.err
    rows = pq.read_table("photos.parquet").to_pylist()
    np.testing.assert_array_equal([row["embedding"] for row in rows], models["clip"].encode([Image(path="photo.png")]))


@pytest.mark.anyio
async def test_collections_are_indexed_searched_and_read_by_agents(
    command: Nearfield, url: str, monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]
) -> None:
    for name in ("local", "attached"):
        if name == "attached":
            _attach(url, monkeypatch)
        done = command("index", name, "texts.txt", "--model", "{tiny}", "--store", f"memory:{name}", "-q")
        assert done.code == 0, done.err
    for words in ((), ("--rerank", "{cross}")):
        ours, theirs = (command("search", "a cat", "-c", name, "--json", *words) for name in ("attached", "local"))
        assert ours.code == theirs.code == 0, ours.err + theirs.err
        assert _numbers(json.loads(ours.out)) == pytest.approx(_numbers(json.loads(theirs.out)), abs=1e-6)
    with chatting() as chat:
        done = command(
            "ask", "Where did the cat sit?", "-c", "attached", "--min-score", 0, "--chat-url", chat.url, "--json"
        )
    assert done.code == 0 and json.loads(done.out)["text"] == "Yes [1].", done.err
    opened = OpenCollections(frozenset({"attached"}))
    try:
        async with Client(create_server(opened)) as client:
            result = await client.call_tool("search", {"query": "a cat", "collection": "attached"})
            assert not result.is_error, result.content
    finally:
        opened.close()


def test_commands_that_measure_load_the_model(command: Nearfield, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_SERVER", url)
    done = command("golden", "save", "{tiny}", "golden.json")
    assert done.code == 0 and "attached" not in done.err, done.err


def test_a_server_that_is_not_there_is_one_clear_line(command: Nearfield, monkeypatch: pytest.MonkeyPatch) -> None:
    _attach("http://127.0.0.1:1", monkeypatch)
    done = command("similarity", "a", "b", "--model", "{tiny}")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "http://127.0.0.1:1 does not answer" in done.err and "Is a server running?" in done.err
    monkeypatch.setenv("NEARFIELD_SERVER", "localhost")
    done = command("similarity", "a", "b", "--model", "{tiny}")
    assert done.code == 2 and "NEARFIELD_SERVER" in done.err and "auto" in done.err


def test_the_examples_of_the_guide(
    command: Nearfield, url: str, monkeypatch: pytest.MonkeyPatch, models: dict[str, Any]
) -> None:
    section = GUIDE.read_text(encoding="utf-8").partition("## One model for all local tools")[2].partition("\n## ")[0]
    names = {"cross-encoder/ms-marco-MiniLM-L6-v2": "{cross}", "all-MiniLM-L6-v2": "{tiny}"}
    console, python = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)[0] for kind in ("console", "python"))
    lines = [line.removeprefix("$ nearfield ") for line in console.splitlines() if line.startswith("$ nearfield")]
    assert lines[0].startswith("serve ") and len(lines) == 3
    _attach(url, monkeypatch)
    for line in lines[1:]:
        words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
        done = command(*(names.get(word, word) for word in words))
        assert done.code == 0 and f"is attached to {url}" in done.err, done.err
    folder = str(models["tiny"].recipe.folder)
    scope: dict[str, Any] = {}
    exec(python.replace("all-MiniLM-L6-v2", folder).replace('= "auto"', f'= "{url}"'), scope)
    np.testing.assert_array_equal(scope["vectors"], models["tiny"].encode(["How tall is Mont Blanc?"], role="query"))
    assert isinstance(scope["model"], nearfield.Encoder)
