"""Jobs over HTTP: the results of the library, over texts and collections, bounded, and for keys that may."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield import (
    Collection,
    Encoder,
    classify,
    find_drift,
    find_duplicate_texts,
    find_outliers,
    find_topics,
    recommend,
)
from nearfield.client import AsyncClient, Client, ServerRefused
from nearfield.errors import InputError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.jobs.sources.collection_items import read_collection
from nearfield.server.auth.key_file import create_key
from nearfield.server.dialects.jobs import job_work, requests
from tests.support.serving import serving

pytestmark = pytest.mark.network
pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")

SUBJECTS = ("the cat sat on the mat", "a blue world", "hello search query")
TEXTS = [f"{SUBJECTS[n % 3]} {n // 3}" for n in range(24)]
LABELS = {"animal": "cat", "colour": "blue", "greeting": "hello"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Path:
    pytest.importorskip("lancedb")
    place = tmp_path_factory.mktemp("collections")
    config = {"features": {"dense": {"model": "tiny"}}}
    with Collection.create("notes", config, home=place, encoder_of=lambda _: tiny) as notes:
        notes.put([{"id": f"d{number:02}", "text": text} for number, text in enumerate(TEXTS)])
    return place


@pytest.fixture(scope="module")
def base(home: Path, fleet: dict[str, LoadedModel]) -> Iterator[str]:
    with serving([fleet["tiny"]], served_collections="all", collections_dir=home) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[Client]:
    with Client(base) as opened:
        yield opened


def test_jobs_over_texts_are_those_of_the_library(client: Client, tiny: Encoder) -> None:
    labels = client.jobs.classify(TEXTS, LABELS)
    expected = classify(TEXTS, LABELS, model=tiny)
    assert [row["label"] for row in labels["results"]] == [row.label for row in expected]
    np.testing.assert_allclose([row["score"] for row in labels["results"]], [row.score for row in expected], atol=1e-4)
    assert labels["model"] == tiny.name and labels["usage"]["tokens"] > 24
    topics, own = client.jobs.topics(TEXTS, count=3), find_topics(TEXTS, count=3, model=tiny)
    assert [row["topic"] for row in topics["assignments"]] == own.assignments.tolist()
    assert [row["words"] for row in topics["topics"]] == [list(topic.words) for topic in own.topics]
    items = client.jobs.recommend(TEXTS, [0], unlike=[1], count=3)["results"]
    assert [row["id"] for row in items] == [row.id for row in recommend(TEXTS, [0], unlike=[1], count=3, model=tiny)]
    odd = client.jobs.outliers(TEXTS, count=4)["results"]
    assert [row["id"] for row in odd] == [row.number for row in find_outliers(TEXTS, count=4, model=tiny)]
    drift, report = client.jobs.drift(TEXTS[12:], TEXTS[:12]), find_drift(TEXTS[:12], TEXTS[12:], model=tiny)
    assert drift["separability"] == pytest.approx(report.separability) and drift["drifted"] == report.has_drifted


def test_duplicates_need_no_model_unless_meaning_counts(client: Client, tiny: Encoder) -> None:
    texts = [*TEXTS, TEXTS[0].upper(), "mat the on sat cat the 0"]
    reply = client.jobs.duplicates(texts, ids=[f"i{number}" for number in range(26)], keep="first")
    assert {"id": "i24", "copy_of": "i0", "measure": "exact", "similarity": 1.0} in reply["links"]
    assert reply["model"] is None and reply["usage"]["tokens"] == 0
    by_meaning = client.jobs.duplicates(texts, by_meaning=True, threshold=0.99, keep="first")
    expected = find_duplicate_texts(texts, model=tiny, threshold=0.99, keep="first")
    assert sorted(link["id"] for link in by_meaning["links"]) == sorted(expected.links) and by_meaning["model"]


def test_jobs_over_a_collection_use_its_vectors(client: Client, tiny: Encoder, home: Path) -> None:
    items = read_collection("notes", home=home)
    topics, own = client.jobs.topics(collection="notes", count=3), find_topics(TEXTS, count=3, vectors=items.vectors)
    assert [row["topic"] for row in topics["assignments"]] == own.assignments.tolist()
    assert topics["usage"]["tokens"] == 0 and [row["id"] for row in topics["assignments"]] == items.ids
    chosen = client.jobs.recommend(like=[items.ids[0]], collection="notes", count=7)["results"]
    expected = recommend(TEXTS, [items.ids[0]], ids=items.ids, vectors=items.vectors, count=7)
    assert [row["id"] for row in chosen] == [row.id for row in expected]
    labels = client.jobs.classify(labels=LABELS, collection="notes")
    own_labels = classify(TEXTS, LABELS, vectors=items.vectors, model=tiny)
    assert [row["label"] for row in labels["results"]] == [row.label for row in own_labels]
    assert labels["usage"]["tokens"] == int(np.sum(tiny.encode(list(LABELS.values())).tokens))
    assert client.jobs.outliers(collection="notes", count=1)["results"]
    assert not client.jobs.drift(TEXTS[:12], collection="notes")["drifted"]


async def test_the_other_client_awaits_the_same(base: str) -> None:
    async with AsyncClient(base) as client:
        reply = await client.jobs.topics(TEXTS, count=3)
    assert len(reply["topics"]) == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("topics", {"input": []}, 400, "input is empty"),
        ("topics", {"input": ["a"] * 3}, 400, "at least 10 texts, and there are 3"),
        ("topics", {"input": TEXTS, "count": 30}, 400, "of 24 texts it can be 12 at most"),
        ("recommend", {"input": TEXTS, "like": [99]}, 400, "there is no item '99'"),
        ("recommend", {"input": TEXTS, "ids": ["a"], "like": ["a"]}, 400, "24 texts and 1 ids"),
        ("classify", {"input": TEXTS, "labels": ["a", ""]}, 400, "A name in labels is empty"),
        ("classify", {"input": TEXTS, "labels": ["a"], "model": "none"}, 404, "none"),
        ("duplicates", {"input": TEXTS, "model": "tiny"}, 400, "by_meaning"),
        ("drift", {"input": TEXTS, "reference": []}, 400, "reference is empty"),
        (
            "classify",
            {"input": ["a"] * 80, "labels": ["a" * 900_000, "b"]},
            400,
            "80 texts for 2 labels would have 72 MB",
        ),
        ("classify", {"input": ["a"] * 8_000, "labels": list(map(str, range(1_000)))}, 400, "fewer texts, or fewer"),
        ("recommend", {"input": TEXTS[:1], "ids": ["a" * 1_001], "like": ["a"]}, 400, "'ids[0]'"),
        ("duplicates", {"input": TEXTS[:1], "ids": [2**64]}, 400, "'ids[0]'"),
        ("topics/other", {}, 404, "'other' is not served here"),
        ("topics/notes", {"model": "tiny"}, 400, "leave the model out"),
    ],
)
def test_what_is_refused(base: str, path: str, body: dict[str, Any], status: int, message: str) -> None:
    reply = httpx.post(f"{base}/jobs/{path}", json=body, timeout=60)
    assert reply.status_code == status and message in reply.json()["error"]["message"], reply.text


def test_the_client_refuses_what_cannot_be_sent(client: Client) -> None:
    with pytest.raises(InputError, match="either texts or a collection"):
        client.jobs.topics()


def test_a_large_collection_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_DOCUMENTS", 10)
    with pytest.raises(ServerRefused, match="has 24 documents, and a job over HTTP reads at most 10") as caught:
        client.jobs.topics(collection="notes")
    assert caught.value.response_status == 413


def test_a_long_job_blocks_neither_other_requests_nor_the_deadline(
    home: Path, fleet: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, release = threading.Event(), threading.Event()

    def wait(*_: object, **__: object) -> list[Any]:
        running.set()
        release.wait(20)
        return []

    monkeypatch.setattr(job_work, "find_outliers", wait)
    with serving([fleet["tiny"]], request_timeout=1.0) as url:
        started, replies = time.monotonic(), []
        job = threading.Thread(
            target=lambda: replies.append(httpx.post(f"{url}/jobs/outliers", json={"input": TEXTS}, timeout=60))
        )
        job.start()
        assert running.wait(20)
        assert httpx.post(f"{url}/encode", json={"input": TEXTS}, timeout=60).status_code == 200
        job.join(20)
        assert time.monotonic() - started < 15 and replies[0].status_code in (429, 503)
        release.set()


def test_keys_see_the_models_that_they_may_use(home: Path, fleet: dict[str, LoadedModel], tmp_path: Path) -> None:
    keys = {name: create_key() for name in ("allowed", "other")}
    models = {"allowed": "*", "other": "BAAI/*"}
    file = tmp_path / "keys.toml"
    file.write_text("".join(f'[[keys]]\nname = "{n}"\nhash = "{keys[n][1]}"\nmodels = ["{models[n]}"]\n' for n in keys))
    file.chmod(0o600)
    with serving([fleet["tiny"]], served_collections="all", collections_dir=home, api_key_file=file) as url:

        def status(key: str, path: str, body: dict[str, Any]) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.post(f"{url}/jobs/{path}", json=body, headers=headers, timeout=60).status_code

        assert status("none", "topics/notes", {}) == 401
        assert status(keys["allowed"][0], "topics/notes", {"count": 3}) == 200
        assert status(keys["other"][0], "topics/notes", {"count": 3}) == 403
        assert status(keys["other"][0], "outliers", {"input": TEXTS, "model": "tiny"}) in (403, 404)


def test_lines_of_a_batch_are_answered_as_requests_are(base: str) -> None:
    lines = {
        "topics": {"input": TEXTS, "count": 3},
        "few": {"input": TEXTS[:3]},
        "none": {"input": TEXTS, "model": "none"},
        "wrong": {"input": "cat"},
    }
    with httpx.Client(base_url=base, timeout=60) as http:
        output, errors = _run_batch(http, "/jobs/topics", lines)
        own = http.post("/jobs/topics", json=lines["topics"]).json()
        assert output["topics"] == own and len(own["topics"]) == 3
        for name in ("few", "none", "wrong"):
            reply = http.post("/jobs/topics", json=lines[name])
            assert reply.status_code in (400, 404) and errors[name] == reply.json()
        texts, _ = _run_batch(http, "/jobs/duplicates", {"one": {"input": [*TEXTS, TEXTS[0]]}})
        assert texts["one"]["copies"]["exact"] == 1 and texts["one"]["model"] is None


def _run_batch(http: httpx.Client, path: str, bodies: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a batch with a line for each body; return the bodies of the replies, those of errors apart."""
    lines = [{"custom_id": name, "method": "POST", "url": path, "body": body} for name, body in bodies.items()]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content)}).json()["id"]
    body = {"input_file_id": file, "endpoint": path, "completion_window": "24h"}
    batch = http.post("/v1/batches", json=body).raise_for_status().json()
    until = time.monotonic() + 60
    while batch["status"] not in ("completed", "failed"):
        assert time.monotonic() < until, batch
        time.sleep(0.02)
        batch = http.get(f"/v1/batches/{batch['id']}").json()
    output, errors = (_read_replies(http, batch[name]) for name in ("output_file_id", "error_file_id"))
    return output, errors


def _read_replies(http: httpx.Client, file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    lines = map(json.loads, http.get(f"/v1/files/{file}/content").text.splitlines())
    return {line["custom_id"]: line["response"]["body"] for line in lines}
