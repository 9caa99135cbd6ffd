"""Maps of collections and searches for duplicates: results, progress, the cache, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from nearfield.corpus.collection import Collection
from nearfield.encoder import Encoder
from nearfield.errors import InputError, Overloaded
from nearfield.fileio.locks import release_lock
from nearfield.server.collections.surveys import passage_dump, survey_folder, survey_runner
from nearfield.server.collections.surveys.passage_dump import dump_passages, feature_table, state_digest
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest
from nearfield.server.collections.surveys.survey_process import main
from nearfield.server.collections.surveys.surveyed_items import read_items
from tests.support.serving import serving

pytestmark = pytest.mark.network

ATTACK = "<img src=x onerror=alert(1)>"
CATS = [f"The cat sat on the mat number {number}." for number in range(12)]
DOGS = [f"{ATTACK} A dog looked at the blue world, {number}." for number in range(12)]
LONG = (
    "A red hat is on the blue world, and the cat sat on the mat. Hello query, find the dog! " * 3 + "Search and rest."
)
CONFIG = {"features": {"dense": {"model": "tiny"}}, "fields": {"team": "str"}}


def documents() -> Iterator[dict[str, Any]]:
    for number, text in enumerate([*CATS, *DOGS]):
        yield {"id": f"{number:02}", "title": f"T{number}", "text": text, "team": "ab"[number % 2]}
    yield {"id": "long", "title": "Long", "text": LONG}
    yield from ({"id": text[:5], "text": text} for text in ("hello world cat hat", "hat cat world hello"))
    yield {"id": "same", "title": ATTACK, "text": LONG.upper()}
    yield {"id": "near", "title": "Near", "text": LONG.replace("Search and", "Find the")}
    yield {"id": "z-copy", "title": "Copy", "text": LONG}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Path:
    place = tmp_path_factory.mktemp("collections")
    with Collection.create("pets", CONFIG, home=place, encoder_of=lambda _: tiny) as pets:
        pets.put(list(documents()))
    with Collection.create("few", CONFIG, home=place, encoder_of=lambda _: tiny) as few:
        few.put([{"id": name, "text": f"A {name} cat."} for name in ("red", "blue", "old")])
    Collection.create("none", CONFIG, home=place, encoder_of=lambda _: tiny).close()
    return place


@pytest.fixture(scope="module")
def client(home: Path, tiny: Encoder) -> Iterator[httpx.Client]:
    with (
        serving([tiny], served_collections="all", collections_dir=home) as url,
        httpx.Client(base_url=f"{url}/collections", timeout=60) as http,
    ):
        yield http


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """Ask until the survey is done, or refused."""
    until = time.monotonic() + 240
    while (reply := client.post(path, json=body)).status_code == 200 and reply.json()["state"] == "running":
        assert time.monotonic() < until, reply.text
        assert 0 <= reply.json()["share"] < 1 and reply.json()["step"]
        time.sleep(0.05)
    return reply


def compute(home: Path, tiny: Encoder, request: SurveyRequest, folder: SurveyFolder) -> dict[str, Any]:
    """Compute a survey in this process."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        dump_passages(pets, request, folder)
    assert main(folder.path, msgspec.json.encode(request), "pets") == 0
    data: dict[str, Any] = json.loads(folder.result.read_bytes())
    return data


# -- duplicates --------------------------------------------------------------------------------------------------------


def test_duplicates_are_found_once_and_stored_until_the_collection_changes(
    client: httpx.Client, home: Path, tiny: Encoder
) -> None:
    first = ask(client, "/pets/duplicates", {})
    assert first.status_code == 200, first.text
    found = first.json()["duplicates"]
    assert (found["of"], found["feature"], found["texts"]) == ("documents", "dense", 30)
    group = next(group for group in found["listed"] if group["keep"]["title"] == "Long")
    copies = {copy["document"]: (copy["measure"], copy["title"]) for copy in group["copies"]}
    expected = {"near": ("near", "Near"), "same": ("exact", ATTACK), "z-copy": ("exact", "Copy")}
    assert copies == {f"put:#{name}": copy for name, copy in expected.items()}
    again = client.post("/pets/duplicates", json={"of": "documents", "feature": "dense"})
    assert again.content == first.content
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        before = state_digest(pets)
        pets.put([{"id": "long", "title": "Longer", "text": LONG}])
        assert state_digest(pets) != before
    assert client.post("/pets/duplicates", json={}).json()["state"] == "running"
    assert ask(client, "/pets/duplicates", {}).json()["duplicates"]["groups"] == found["groups"]
    assert len(list((home / "pets" / "surveys").iterdir())) == 1


def test_passages_that_are_stored_once_say_so(home: Path, tiny: Encoder, tmp_path: Path) -> None:
    request = SurveyRequest("duplicates", "passages", "dense")
    found = compute(home, tiny, request, SurveyFolder(tmp_path / "survey"))["duplicates"]
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        rows = pets.manifest.rows("SELECT value FROM duplicates")
    aside = {json.loads(value)["id"] for (value,) in rows}
    copies = [copy for group in found["listed"] for copy in group["copies"]]
    assert all(copy["aside"] == (copy["id"] in aside) for copy in copies)
    assert any(copy["aside"] for copy in copies)
    assert found["unique"] + sum(group["count"] for group in found["listed"]) == found["texts"]


def test_texts_of_one_meaning_are_those_with_near_vectors(home: Path, tiny: Encoder, tmp_path: Path) -> None:
    folder = SurveyFolder(tmp_path / "survey")
    request = SurveyRequest("duplicates", "passages", "dense", meaning=True, threshold=0.7)
    found = compute(home, tiny, request, folder)["duplicates"]
    vectors = dict(zip(*_stored_vectors(home, tiny), strict=True))
    words = {"put:#hello", "put:#hat c"}  # of the same words, and no copies by their characters
    pairs = [
        (group["keep"]["id"], copy)
        for group in found["listed"]
        for copy in group["copies"]
        if copy["document"] in words
    ]
    assert pairs
    for kept, copy in pairs:
        cosine = float(vectors[kept] @ vectors[copy["id"]])
        assert copy["measure"] == "meaning" and cosine == pytest.approx(copy["similarity"], abs=1e-3) and cosine >= 0.7


def _stored_vectors(home: Path, tiny: Encoder) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the ids and the unit vectors that the collection stores."""
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        _, table = feature_table(pets, "")
        records = [record for part in pets.store.scan(table, vectors=True) for record in part]
    rows = np.stack([record.vector for record in records])
    return [record.id for record in records], rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- the map -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["passages", "documents"])
def test_a_map_has_each_item_and_its_place_in_its_document(home: Path, tiny: Encoder, tmp_path: Path, of: Any) -> None:
    pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")
    request, folder = SurveyRequest("map", of, "dense"), SurveyFolder(tmp_path / "survey")
    drawn = compute(home, tiny, request, folder)["map"]
    assert {*drawn["fields"]["team"]["values"]} == {"a", "b", ""}
    assert len(drawn["x"]) == len(drawn["texts"]) == len(drawn["document"]) == len(drawn["fields"]["team"]["rows"])
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        counts = pets.manifest.counts()
        for text, document, number in zip(drawn["texts"], drawn["document"], drawn["number"], strict=True):
            chunk = pets.manifest.all_chunks(drawn["documents"][document])[number]
            assert text.startswith(chunk.text[:100])
    assert len(drawn["x"]) == (counts["documents"] if of == "documents" else counts["chunks"])
    assert sum(region["size"] for region in drawn["regions"]) <= len(drawn["x"])
    assert all(text for region in drawn["regions"] for text in region["examples"] if drawn["texts"][text])
    assert ATTACK in "".join(drawn["texts"])


def test_a_document_has_the_mean_of_the_vectors_of_its_passages(home: Path, tiny: Encoder, tmp_path: Path) -> None:
    request, folder = SurveyRequest("map", "documents", "dense"), SurveyFolder(tmp_path)
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        dump_passages(pets, request, folder)
        items, vectors = read_items(folder, request)
        stored = dict(zip(*_stored_vectors(home, tiny), strict=True))
        for item, vector in zip(items, vectors, strict=True):
            own = [stored[chunk.id] for chunk in pets.manifest.chunks(item.id) if chunk.id in stored]
            if len(own) == len(pets.manifest.all_chunks(item.id)):
                mean = np.mean(own, axis=0)
                np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


# -- refusals and faults -----------------------------------------------------------------------------------------------


def test_what_is_refused(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, body, status, message in (
        ("/few/map", {}, 400, "at least 10 passages, and 'few' has 3"),
        ("/none/duplicates", {}, 400, "at least 2 documents, and 'none' has 0"),
        ("/pets/map", {"feature": "sparse"}, 400, "no dense feature 'sparse'"),
        ("/pets/map", {"of": "words"}, 400, "of"),
        ("/cats/map", {}, 404, "not served here"),
    ):
        reply = client.post(path, json=body)
        assert (reply.status_code, message in reply.json()["message"]) == (status, True), reply.text
    monkeypatch.setattr(passage_dump, "MAX_PASSAGES", 20)
    reply = client.post("/pets/map", json={})
    assert reply.status_code == 413 and "at most 20" in reply.json()["message"]
    monkeypatch.setattr(passage_dump, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    reply = client.post("/pets/map", json={})
    assert reply.status_code == 501 and "nearfield[jobs]" in reply.json()["message"]


def test_a_failed_survey_says_so_once_and_is_tried_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"similarity": 0.9}
    monkeypatch.setattr(survey_runner, "_MODULE", "nearfield.no_such_module")
    reply = ask(client, "/pets/duplicates", body)
    assert reply.status_code == 500 and "status 1" in reply.json()["message"]
    assert "No module named" in caplog.text
    monkeypatch.setattr(survey_runner, "_MODULE", "this")  # it ends well, and writes no result
    assert "without a result" in ask(client, "/pets/duplicates", body).json()["message"]
    monkeypatch.undo()
    monkeypatch.setattr(survey_runner, "_MAX_SECONDS", 0.01)
    assert "took more than" in ask(client, "/pets/duplicates", body).json()["message"]


def test_an_owner_has_a_share_of_those_that_wait() -> None:
    runner = survey_runner.SurveyRunner()
    runner._owners[""] = 3
    with pytest.raises(Overloaded):
        runner.check_room()


def test_a_refused_survey_leaves_nothing(client: httpx.Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(client, "/pets/duplicates", {})
    before = sorted((home / "pets" / "surveys").rglob("*"))
    monkeypatch.setattr(survey_runner, "_MAX_OWN", 0)
    for similarity in (0.83, 0.84):
        assert client.post("/pets/duplicates", json={"similarity": similarity}).status_code == 429
    assert sorted((home / "pets" / "surveys").rglob("*")) == before


def test_a_survey_does_not_fork_the_server(client: httpx.Client) -> None:
    forks: list[None] = []
    os.register_at_fork(before=lambda: forks.append(None))
    assert ask(client, "/pets/duplicates", {"similarity": 0.81}).status_code == 200
    assert not forks


def test_the_process_ends_with_the_server(tmp_path: Path) -> None:
    os.mkfifo(SurveyFolder(tmp_path).passages)  # it waits for somebody to write
    request = msgspec.json.encode(SurveyRequest("map", "passages", "dense")).decode()
    words = (sys.executable, "-m", survey_runner._MODULE, str(tmp_path), request, "pets")
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert not (tmp_path / "result.json").exists()


def test_the_folder_keeps_one_lock_and_one_error(tmp_path: Path) -> None:
    folder = SurveyFolder.of_request(tmp_path, "state", SurveyRequest("map", "passages", "dense"))
    lock = folder.begin()
    assert lock is not None and folder.begin() is None
    assert folder.progress().step == "waits"
    folder.fail(InputError("Too odd."))
    release_lock(lock)
    with pytest.raises(InputError, match="Too odd"):
        folder.begin()
    again = folder.begin()
    assert again is not None
    release_lock(again)


def test_a_full_disk_at_the_start_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = SurveyFolder.of_request(tmp_path, "state", SurveyRequest("map", "passages", "dense"))
    with monkeypatch.context() as patch:
        patch.setattr(survey_folder, "write_atomic", fail)
        with pytest.raises(OSError, match="No space"):
            folder.begin()
    lock = folder.begin()
    assert lock is not None
    release_lock(lock)
