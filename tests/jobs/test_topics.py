"""Topics: how many, which texts are apart, their words, and further texts that join them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder, find_topics, load_topics, name_topics
from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.errors import InputError, SpaceMismatch
from nearfield.jobs.topics.topics import Topics
from nearfield.testing import tiny_encoder
from tests.support.chat_server import MODEL, Say, chatting
from tests.support.cli_runner import run

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")
hierarchy = pytest.importorskip("scipy.cluster.hierarchy")

SUBJECTS = ("lost card", "exchange rate", "pin number")
TEXTS = [f"the {subject} of customer {number}" for subject in SUBJECTS for number in range(40)] + ["<b>odd</b> one"]


def _vectors() -> np.ndarray:
    """Return vectors [121, 16]: three groups, and one that is unlike all."""
    random = np.random.default_rng(3)
    centres = np.repeat(np.eye(16)[:3], 40, axis=0)
    return np.vstack([centres + 0.08 * random.standard_normal((120, 16)), 5 * np.eye(16)[[9]]]).astype(np.float32)


VECTORS = _vectors()


@pytest.fixture(scope="module")
def topics() -> Topics:
    return find_topics(TEXTS, vectors=VECTORS)


def test_topics_have_their_number_their_words_and_a_measure(topics: Topics) -> None:
    assert len(topics.topics) == 3 and all(topic.size >= 38 for topic in topics.topics)
    assert {topic.words[0] for topic in topics.topics} <= {word for name in SUBJECTS for word in (name, *name.split())}
    assert topics.assignments[-1] == -1
    assert _are_groups(topics)
    assert topics.stability > 0.95 and topics.silhouette > 0.7
    assert max(topics.tried, key=lambda count: topics.tried[count]) == 3
    assert topics.merges[0][0] < 3 and len(topics.merges) == 2
    assert "3 topics of 121 texts, " in topics.to_text(TEXTS)


def _are_groups(topics: Topics) -> bool:
    """Whether each group is in one topic, but for texts apart."""
    return all(len({*topics.assignments[start : start + 40].tolist()} - {-1}) == 1 for start in (0, 40, 80))


def test_density_finds_the_same() -> None:
    result = find_topics(TEXTS, vectors=VECTORS, method="density", min_size=10)
    assert len(result.topics) == 3
    assert _are_groups(result)
    with pytest.raises(InputError, match="No part of the texts is dense"):
        find_topics(TEXTS[:30], vectors=np.eye(30), method="density", min_size=10)


def test_further_texts_join_topics_of_the_same_space_alone(topics: Topics, tiny: Encoder, tmp_path: Path) -> None:
    topics.save(tmp_path / "a")
    again = load_topics(tmp_path / "a")
    assert again.topics == topics.topics and again.merges == topics.merges
    assert again.assign(TEXTS, vectors=VECTORS).tolist() == topics.assignments.tolist()
    with pytest.raises(InputError, match="give the vectors too"):
        again.assign(["x"])
    texts = ["the cat sat", "a blue hat", "hello world", "query search"] * 3
    find_topics(texts, count=2, model=tiny).save(tmp_path / "b")
    known = load_topics(tmp_path / "b")
    assert set(known.assign(texts, model=tiny)) == {0, 1}
    with tiny_encoder(tmp_path / "other", prompts={"clustering": "the "}) as other, pytest.raises(SpaceMismatch):
        known.assign(texts, model=other)
    (tmp_path / "b" / "topics.safetensors").write_bytes(b"{}")
    for folder, message in ((tmp_path, "There are no topics"), (tmp_path / "b", "damaged")):
        with pytest.raises(InputError, match=message):
            load_topics(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": TEXTS[:3]}, "at least 10 texts, and there are 3"),
        ({"count": 1}, "count must be a whole number"),
        ({"count": 200}, "count is 200, and of 121 texts it can be 60 at most: there are two topics or more"),
        ({"min_size": 99}, "min_size is 99, and of 121 texts it can be 60 at most"),
        ({"method": "dense"}, "density"),
        ({"method": "density", "count": 3}, "leave count out"),
        ({"vectors": VECTORS[:4]}, "one vector for each text"),
        ({"vectors": np.full((121, 2), np.nan)}, "finite"),
    ],
)
def test_what_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_topics(**{"texts": TEXTS, "vectors": VECTORS, **arguments})  # type: ignore[arg-type]


def test_equal_texts_and_texts_without_words_make_topics_all_the_same() -> None:
    result = find_topics(["!"] * 12, vectors=np.repeat(np.eye(2), 6, axis=0))
    assert [topic.name for topic in result.topics] == ["topic 0", "topic 1"]
    assert len(find_topics(["a b"] * 12, vectors=np.ones((12, 2))).topics) == 1


def test_the_hierarchy_is_that_of_scipy(topics: Topics) -> None:
    result = find_topics(TEXTS, vectors=VECTORS, count=6)
    cosines = 1 - result.centres @ result.centres.T
    distances = cosines[np.triu_indices(len(result.topics), 1)]
    tree = hierarchy.linkage(distances, "average")
    assert np.allclose([merge[2] for merge in result.merges], tree[:, 2], atol=1e-5)
    merged = hierarchy.fcluster(np.array([[*merge, 0] for merge in result.merges], float), 2.9, "distance")
    assert set(merged) == {1}
    first, second, _ = topics.merges[1]
    assert {first, second} & {3}  # the second merge has the first one as a node


def test_a_chat_endpoint_names_topics(topics: Topics, tmp_path: Path) -> None:
    with chatting() as chat:
        chat.script = [Say(['\n"Lost cards".\nThat is all.']), Say([""])]
        named = name_topics(topics, TEXTS, ChatEndpoint(chat.url, MODEL))
        sent = [str(asked.body["messages"]) for asked in chat.asked]
    assert [topic.label for topic in named.topics] == ["Lost cards", "", ""]
    assert [topic.name for topic in named.topics[1:]] == [topic.name for topic in topics.topics[1:]]
    assert len(sent) == 3 and all(TEXTS[number] in sent[0] for number in topics.topics[0].examples)
    named.save(tmp_path)
    assert load_topics(tmp_path).topics == named.topics and "Lost cards" in named.to_text(TEXTS)


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path
) -> None:
    path, model = tmp_path / "texts.txt", tiny.recipe.folder
    path.write_text("the cat sat\na blue hat\nhello world\n" * 5)
    ran = run(capsys, monkeypatch, "topics", path, "--count", 3, "-m", model, "-o", tmp_path / "out", "--json")
    head, *rows = map(json.loads, ran.out.splitlines())
    assert [topic["size"] for topic in head["topics"]] == [5, 5, 5] and len(rows) == 15, ran.err
    assert "leave out" in run(capsys, monkeypatch, "topics", path, "--with", tmp_path / "out", "--count", 3).err
    ran = run(capsys, monkeypatch, "topics", path, "--with", tmp_path / "out", "--json")
    assert [json.loads(line)["topic"] for line in ran.out.splitlines()] == [row["topic"] for row in rows]
