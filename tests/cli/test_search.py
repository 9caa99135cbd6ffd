"""nearfield search and nearfield ask, as people and programs use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.answering.prompt import UNANSWERED
from nearfield.corpus.collection import Collection
from nearfield.corpus.collection_models import ModelProvider
from nearfield.encoder import Encoder
from nearfield.testing import tiny_encoder
from tests.support.chat_server import ChatServer, Refuse, Say, chatting
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
LOAD = ModelProvider.encoder
LONG = "A long cat story. " * 40 + "The blue dog came at last. " + "Then nothing more came. " * 40
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "cats", "text": "The cat sat on the mat.", "title": "About cats", "year": 2020},
    {"id": "dogs", "text": "A red dog looked at the world.", "title": "About dogs", "year": 2022},
    {"id": "evil", "text": "The evil \x1b]0;owned\x07 hello.", "title": "Evil \x1b[2J"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """The model of the collection."""
    with tiny_encoder(tmp_path_factory.mktemp("model") / "tiny") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model: Encoder) -> Path:
    """A folder with the collection ``pets``."""
    place = tmp_path_factory.mktemp("collections")
    config = {"features": {"dense": {"model": str(model.recipe.folder)}}, "fields": {"year": "int"}}
    with Collection.create("pets", config, home=place, encoder_of=lambda _: model) as pets:
        pets.put(DOCUMENTS)
    return place


@pytest.fixture
def nearfield(
    home: Path,
    model: Encoder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a command in this process, in an empty folder; its model is loaded already."""
    monkeypatch.setattr(ModelProvider, "encoder", lambda *_, **__: model)
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(home))
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chatting() as server:
        yield server


# -- search ------------------------------------------------------------------------------------------------------------


def test_what_people_see(nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelProvider, "encoder", LOAD)  # as for them, the model comes from its files
    ran = nearfield("search", "cat mat", "-k", 2)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split()[0] == "1"
    assert "About cats" in lines[0]
    assert "put:#cats" in lines[1]
    assert lines[2].strip() == "The cat sat on the mat."


def test_nothing_that_a_terminal_would_obey_comes_from_documents(nearfield: Run) -> None:
    ran = nearfield("search", "evil hello", "--mode", "bm25", "--explain")
    assert "Evil" in ran.out
    assert "owned" in ran.out
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert "bm25" in ran.out


def test_the_sentence_that_matches_is_shown_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    from nearfield.cli.terminal import passages
    from nearfield.corpus.search.hit import Location, SearchHit

    start = LONG.index("The blue dog")
    places = tuple(Location(f"files:docs#copy{number}.md", 0, 9) for number in range(5))
    hit = SearchHit("1", "files:docs#a.md", 0.5, LONG, page=3, also=places, highlights=((start, start + 26),))
    passages.show([hit])
    shown = " ".join(capsys.readouterr().out.split())
    assert "The blue dog came at last." in shown
    assert shown.endswith("...")
    assert len(shown) < 700
    assert "a.md, page 3" in shown
    assert "also in copy0.md; copy1.md; copy2.md and 2 more" in shown
    snippet = passages._snippet(hit, full=False)
    marked = [snippet.plain[span.start : span.end] for span in snippet.spans if "bold" in str(span.style)]
    assert marked == ["The blue dog came at last."]
    passages.show([hit], full=True)
    assert " ".join(capsys.readouterr().out.split()).count("nothing more") == 40
    passages.show([])
    assert "No results." in capsys.readouterr().out


def test_json_is_what_python_gives(nearfield: Run, home: Path) -> None:
    ran = nearfield("search", "cat mat", "-c", "pets", "-k", 2, "--json", "--explain", "--rerank", "sentences")
    response = json.loads(ran.out)
    assert (response["collection"], response["query"]) == ("pets", "cat mat")
    with Collection.open("pets", home=home) as pets:
        expected = pets.search("cat mat", 2, highlight=True, explain=True, rerank="sentences")
    assert response["results"] == json.loads(json.dumps([item.to_dict() for item in expected]))


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["--where", '{"year": {"gte": 2021}}'], "put:#dogs"),
        (["--mode", "dense", "--exact", "--where", '{"path": "cats"}'], "put:#cats"),
        (["--mmr", "0.5", "--where", '{"not": {"path": {"in": ["cats", "evil"]}}}'], "put:#dogs"),
    ],
)
def test_options(nearfield: Run, words: list[str], first: str) -> None:
    ran = nearfield("search", "red dog", "--json", *words)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["results"][0]["document"] == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "-c", "pest"], "Did you mean 'pets'"),
        (["x", "--where", "{year"], "--where is not JSON"),
        (["x", "--where", '{"yaer": 1}'], "year"),
        (["x", "--where", '{"year": "old"}'], "'year' has a whole number as its value, and not 'old'"),
        (["x", "--min-score", "5"], "--min-score"),
        (["x", "--min-score", "-0.1"], "--min-score"),
        (["x", "--mode", "hybird"], "hybrid"),
        (["x", "-k", "0"], "k"),
        (["  "], "empty"),
        ([], "give either a query"),
        (["x", "--queries", "a.txt"], "give either a query"),
        (["--queries", "absent.txt"], "absent.txt"),
    ],
)
def test_what_is_wrong(nearfield: Run, words: list[str], message: str) -> None:
    ran = nearfield("search", *words)
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_which_collection(nearfield: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collection.create("second", {}, home=home):
        ran = nearfield("search", "cat")
        assert ran.code == 2
        assert "Known: pets, second" in ran.err
    Collection.open("second", home=home).drop()
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "none"))
    assert "nearfield index NAME FOLDER" in nearfield("search", "cat").err


@pytest.mark.parametrize("command", ["search", "ask"])
def test_a_filter_that_matches_nothing_says_which_values_exist(nearfield: Run, command: str) -> None:
    ran = nearfield(command, "cat", "--where", '{"year": 1066}')
    assert ran.code == 0 and "warning: 'year' is from 2020 to 2022." in ran.err
    assert not nearfield(command, "cat", "--where", '{"year": 2020}').err.startswith("warning")
    assert "'year'" not in nearfield(command, "zebra", "--min-score", "1").err


def test_the_help_names_the_fields_of_filters(nearfield: Run) -> None:
    text = " ".join(nearfield("search", "--help").out.split())
    assert "type (pdf, markdown, text, html, ...)" in text and "relative to its source" in text


@pytest.mark.parametrize("form", ["jsonl", "txt", "csv"])
def test_a_file_of_queries(nearfield: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("nearfield.cli.search._QUERIES_PER_BATCH", 3)
    queries = ["cat mat", "red dog"] * 4
    rows = {
        "jsonl": "".join(json.dumps({"text": query, "id": number}) + "\n" for number, query in enumerate(queries)),
        "txt": "".join(f"{query}\n" for query in queries),
        "csv": "text,id\n" + "".join(f"{query},{number}\n" for number, query in enumerate(queries)),
    }
    (tmp_path / f"queries.{form}").write_text(rows[form], encoding="utf-8")
    ids = [] if form == "txt" else ["--id-field", "id"]
    ran = nearfield("search", "--queries", f"queries.{form}", *ids, "-k", 1, "-o", "found.jsonl")
    assert ran.code == 0, ran.err
    assert "8 queries" in ran.err
    actual = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [item["query"] for item in actual] == queries
    assert [item["results"][0]["document"] for item in actual] == ["put:#cats", "put:#dogs"] * 4
    assert [item.get("id") is None for item in actual] == [form == "txt"] * 8
    again = nearfield("search", "--queries", f"queries.{form}", *ids, "-k", 1)
    assert again.out == (tmp_path / "found.jsonl").read_text(encoding="utf-8")


def test_a_file_that_breaks_off_leaves_no_half_result(nearfield: Run, tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"text": "cat"}\n{"text": 5}\n', encoding="utf-8")
    ran = nearfield("search", "--queries", "queries.jsonl", "-o", "found.jsonl")
    assert ran.code == 2
    assert not (tmp_path / "found.jsonl").exists()


# -- ask ---------------------------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_an_answer(nearfield: Run, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, kind: str, how: str) -> None:
    monkeypatch.setenv("NEARFIELD_CHAT_KEY", "sk-hidden")
    chat.script = [Say(["On the", " mat [1", "]. Or not [9].\x1b[2J"])]
    words = ["--chat-url", chat.url, "--chat-model", "chatty", "--chat-kind", kind, how]
    ran = nearfield("ask", "Where did the cat sit?", "-k", 2, *words)
    assert ran.code == 0, ran.err
    lines = [line for line in ran.out.splitlines() if line]
    assert lines[0] == "On the mat [1]. Or not. [2J"
    assert lines[1] == "[1] About cats  put:#cats"
    assert "do not exist (9)" in ran.err
    asked = chat.asked[-1]
    assert asked.headers["authorization"] == "Bearer sk-hidden"
    assert (asked.body["model"], asked.body["stream"]) == ("chatty", how == "--stream")
    assert asked.path == ("/api/chat" if kind == "ollama" else "/v1/chat/completions")


@pytest.mark.network
def test_an_answer_as_json(nearfield: Run, chat: ChatServer) -> None:
    ran = nearfield("ask", "Where did the cat sit?", "--chat-url", chat.url, "--json")
    response = json.loads(ran.out)
    assert (response["collection"], response["text"], response["found"], response["cited"]) == (
        "pets",
        "Yes [1].",
        True,
        True,
    )
    assert response["citations"][0]["document"] == "put:#cats"
    assert chat.asked[0].body["stream"] is False


@pytest.mark.network
def test_the_settings_name_the_endpoint(nearfield: Run, chat: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "nearfield.toml").write_text(f'chat_url = "{chat.url}"\nchat_model = "mine"\n', encoding="utf-8")
    assert "Yes [1]." in nearfield("ask", "Where?", "--min-score", 0).out
    assert chat.asked[0].body["model"] == "mine"


def test_without_an_endpoint_there_are_the_passages(nearfield: Run) -> None:
    ran = nearfield("ask", "Where did the cat sit?")
    assert ran.code == 0
    assert "The cat sat on the mat." in ran.out
    assert "--chat-url" in ran.err


@pytest.mark.network
@pytest.mark.parametrize(
    ("said", "message"),
    [("It is so.", "cites no passage"), ("It is so [1", "cites no passage")],
)
def test_what_to_beware_of(nearfield: Run, chat: ChatServer, said: str, message: str) -> None:
    chat.script = [Say([said])]
    assert message in nearfield("ask", "Where?", "--min-score", 0, "--chat-url", chat.url).err
    chat.script = [Say([f"{said} [1]"], finish="length")]
    ran = nearfield("ask", "Where?", "--min-score", 0, "--chat-url", chat.url, "--budget", 30)
    assert "is incomplete" in ran.err
    assert "2 passages did not fit into --budget" in ran.err


@pytest.mark.network
def test_an_answer_that_is_not_there(nearfield: Run, chat: ChatServer) -> None:
    chat.script = [Say([UNANSWERED])]
    ran = nearfield("ask", "Where?", "--min-score", 0, "--chat-url", chat.url)
    assert UNANSWERED in ran.out
    assert "warning" not in ran.err
    below = nearfield("ask", "Who discovered penicillin?", "--min-score", 0.99, "--chat-url", chat.url)
    assert "no passage reaches a score of 0.99" in below.err
    nothing = nearfield("ask", "Where?", "--min-score", 0, "--chat-url", chat.url, "--where", '{"year": 1900}')
    assert "The collection has no answer to this question" in nothing.out
    assert len(chat.asked) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--chat-url", "ftp://x"], 2, "chat_url"),
        (["--chat-url", "http://127.0.0.1:1/v1"], 1, "does not answer"),
        (["--chat-url", "http://x", "--chat-kind", "telnet"], 2, "chat_kind"),
        (["--budget", "0"], 2, "budget"),
    ],
)
def test_what_is_wrong_with_an_endpoint(nearfield: Run, words: list[str], code: int, message: str) -> None:
    ran = nearfield("ask", "Where?", "--min-score", 0, *words)
    assert ran.code == code, ran.err
    assert message in ran.err


@pytest.mark.network
def test_a_refusal_says_why(nearfield: Run, chat: ChatServer) -> None:
    chat.script = [Refuse(404, {"error": "model 'nope' not found"})]
    ran = nearfield("ask", "Where?", "--min-score", 0, "--chat-url", chat.url, "--chat-model", "nope")
    assert ran.code == 1
    assert "model 'nope' not found" in ran.err
