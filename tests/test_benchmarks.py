"""The benchmarks' own judgement: a fault must show, in a vector, a score, a count or a level of memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from benchmarks import asks, pdf_words, splitters
from benchmarks.asks import Ask, KnownScores, KnownVectors
from benchmarks.forms import FORMS, PLAIN
from benchmarks.load import load
from benchmarks.mixed import flatness, requirements, table
from benchmarks.tally import Tally
from benchmarks.traffic import Plan, Traffic
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Block, Document
from nearfield.evaluation.performance.load_test import quantiles
from nearfield.testing import tiny_encoder
from tests.support.serving import serving

HEADERS = {asks.FINGERPRINT: "space"}
VECTORS = np.eye(4, 8, dtype=np.float32)
KNOWN = KnownVectors("model", ["a", "b", "c", "d"], VECTORS, "space")
SCORES = KnownScores("ranker", ["q", "r"], ["a", "b", "c"], np.array([[0.0, 5.0, 9.0], [4.0, 1.0, 2.0]]))


def _reply(rows: Any, order: list[int] | None = None) -> bytes:
    places = order or list(range(len(rows)))
    return orjson.dumps({"data": [{"index": at, "embedding": list(map(float, rows[at]))} for at in places]})


def _ask() -> Ask:
    return asks.vectors("single", KNOWN, ["new", "new"], {1: 2}, coded=False)


def test_a_right_answer_has_no_fault() -> None:
    assert orjson.loads(_ask().body)["input"] == ["new", "c"]
    assert _ask().check(HEADERS, _reply([VECTORS[0], VECTORS[2]])) is None
    assert _ask().check(HEADERS, _reply([VECTORS[0], VECTORS[2]], [1, 0])) is None


@pytest.mark.parametrize(
    ("rows", "headers", "fault"),
    [
        ([VECTORS[2], VECTORS[0]], HEADERS, "other vectors"),
        ([VECTORS[0]], HEADERS, "shape"),
        ([VECTORS[0][:7], VECTORS[2][:7]], HEADERS, "shape"),
        ([VECTORS[0], 2 * VECTORS[2]], HEADERS, "unit length"),
        ([VECTORS[0], VECTORS[2]], {asks.FINGERPRINT: "another"}, "another"),
        ([VECTORS[0], VECTORS[2]], {}, "None"),
    ],
)
def test_a_wrong_vector_is_a_fault(rows: Any, headers: dict[str, str], fault: str) -> None:
    assert fault in str(_ask().check(headers, _reply(rows)))


def test_an_answer_with_an_index_twice_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="indices"):
        _ask().check(HEADERS, _reply([VECTORS[0], VECTORS[2]], [0, 0]))


def _ranked(scores: dict[int, float], model: str = "ranker") -> bytes:
    order = sorted(scores, key=lambda at: -scores[at])
    return orjson.dumps({"model": model, "results": [{"index": at, "score": scores[at]} for at in order]})


def test_a_wrong_score_is_a_fault() -> None:
    ask = asks.rank(SCORES, 1, [2, 0])
    assert orjson.loads(ask.body)["documents"] == ["c", "a"]
    assert ask.check({}, _ranked({0: 2.0, 1: 4.0})) is None
    assert "other scores" in str(ask.check({}, _ranked({0: 4.0, 1: 2.0})))
    assert "ranked by" in str(ask.check({}, _ranked({0: 2.0, 1: 4.0}, "another")))
    with pytest.raises(ValueError, match="indices"):
        ask.check({}, _ranked({0: 2.0}))


def test_levels_of_memory_leave_warm_up_out() -> None:
    def samples(size: Callable[[int], float]) -> list[tuple[float, int]]:
        return [(float(at), int(size(at) * 2**20)) for at in range(100)]

    flat = flatness(samples(lambda at: 100 if at < 10 else 200), 0, 99)
    assert flat["after_warm_up"] == flat["end"] == flat["peak"] == 200
    assert flat["growth_percent"] == flat["spread_percent"] == 0
    growing = flatness(samples(lambda at: 200 + at), 0, 99)
    assert growing["growth_percent"] > 30
    falling = flatness(samples(lambda at: 300 - at), 0, 99)
    assert falling["growth_percent"] == 0
    assert falling["spread_percent"] > 30


def _told(**changed: Any) -> dict[str, Any]:
    sent = {"single": 97, "bad": 2}
    told: dict[str, Any] = {
        "sent": sent,
        "answered": sent,
        "lost": {},
        "wrong": {},
        "late": {},
        "replies": 100,
        "left": 2,
    }
    told |= {"server_replies": 101, "idle_ms": {"p99": 10.0}, "singles_ms": {"beside bulk": {"p99": 129.0}}}
    told |= {"batch_seconds": 0.1, "evictions": 3, "cycles": 2, "logged_errors": [], "exit": 0}
    told["rss_mib"] = {"growth_percent": 3.0, "spread_percent": 4.0}
    return told | changed


def test_a_good_run_meets_all() -> None:
    assert all(row.met for row in requirements(_told()))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"lost": {"single": 1}}, "lost"),
        ({"wrong": {"bulk": 1}}, "wrong"),
        ({"late": {"bulk": 1}}, "deadline"),
        ({"answered": {"single": 96, "bad": 2}}, "not answered"),
        ({"answered": {"single": 97, "bad": 1}}, "told what was wrong"),
        ({"server_replies": 99}, "beyond"),
        ({"server_replies": 103}, "beyond"),
        ({"evictions": 1}, "unloaded"),
        ({"logged_errors": ["x"]}, "log"),
        ({"exit": -9}, "exit"),
        ({"rss_mib": {"growth_percent": 0.0, "spread_percent": 11.0}}, "memory"),
        ({"singles_ms": {"beside bulk": {"p99": 131.0}}}, "p99"),
        ({"singles_ms": {}}, "p99"),
    ],
)
def test_each_fault_is_a_requirement_not_met(changed: dict[str, Any], name: str) -> None:
    failed = [row.name for row in requirements(_told(**changed)) if not row.met]
    assert any(name in each for each in failed)
    assert "| NO |" in table([row.__dict__ for row in requirements(_told(**changed))])


def test_quantiles_are_of_what_was_measured() -> None:
    assert quantiles([]) == {"count": 0}
    found = quantiles([at / 1000 for at in range(1, 101)])
    assert (found["p50"], found["p99"], found["max"]) == (51, 100, 100)


def test_faults_are_counted_and_the_first_ones_told() -> None:
    tally = Tally()
    for at in range(50):
        tally.fault("single", tally.wrong, f"number {at}")
    assert tally.told()["wrong"] == {"single": 50}
    assert len(tally.told()["faults"]) == 20


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL and the name of a model without prompts: with them, roles would give other vectors."""
    home = tmp_path_factory.mktemp("plain") / "all-MiniLM-L6-v2"
    with tiny_encoder(home, precision="float32") as encoder, serving([encoder]) as url:
        yield url, encoder.name


@pytest.mark.network
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_gives_the_same_vectors(plain: tuple[str, str], form: str) -> None:
    url, name = plain
    batch = ["a cat sat on the mat", "hello world", "blue"]
    found = {}
    async with httpx.AsyncClient(base_url=url) as client:
        for asked in (FORMS[PLAIN], FORMS[form]):
            reply = await client.post(asked.path, content=asked.body(name, batch), headers=dict(asked.headers))
            found[asked] = asked.read(reply.raise_for_status().content)
    assert found[FORMS[form]].shape == (3, 32)
    assert np.allclose(found[FORMS[form]], found[FORMS[PLAIN]], atol=1e-6)


@pytest.mark.network
async def test_load_sends_each_text_once_where_it_is_to(plain: tuple[str, str]) -> None:
    url, name = plain
    found = await load(f"{url}/v1/embeddings", name, "short", 600.0, 3, 500, seeds=[5], once=True)
    assert found["requests"] == 4
    assert found["texts_per_second"] / found["requests_per_second"] == pytest.approx(500)


# -- clients ---------------------------------------------------------------------------------------------------------


async def _tallied(ask: Ask, *replies: httpx.Response | Exception, deadline: float = 30.0) -> dict[str, Any]:
    """Return the tally of one request that gets these replies, one after another."""
    left = list(replies)

    def answer(_: httpx.Request) -> httpx.Response:
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    plan = Plan("http://server", "main", "second", "reranker", 1, 1, deadline, 1)
    async with httpx.AsyncClient(base_url=plan.url, transport=httpx.MockTransport(answer)) as client:
        traffic = Traffic(plan, client)
        await traffic._ask(ask)
    assert not left
    return traffic.tally.told()


def _right() -> httpx.Response:
    return httpx.Response(200, content=_reply([VECTORS[0], VECTORS[2]]), headers=HEADERS)


@pytest.mark.network
async def test_a_refusal_is_sent_again_and_not_lost() -> None:
    refused = httpx.Response(429, headers={"retry-after-ms": "1", "retry-after": "1"})
    told = await _tallied(_ask(), refused, refused, _right())
    assert (told["sent"], told["answered"], told["refused"]) == ({"single": 1}, {"single": 1}, {"single 429": 2})
    assert not told["lost"]
    assert told["replies"] == 3


@pytest.mark.network
async def test_what_is_never_answered_is_lost() -> None:
    told = await _tallied(_ask(), httpx.ReadError("the connection was closed"))
    assert (told["lost"], told["answered"]) == ({"single": 1}, {})


@pytest.mark.network
@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(500, json={}),
        httpx.Response(200, content=b"{}"),
        httpx.Response(200, content=b"not JSON"),
        httpx.Response(200, content=_reply([VECTORS[0], VECTORS[1]]), headers=HEADERS),
    ],
)
async def test_what_is_answered_wrongly_is_wrong(reply: httpx.Response) -> None:
    told = await _tallied(_ask(), reply)
    assert (told["wrong"], told["answered"], told["lost"]) == ({"single": 1}, {}, {})


@pytest.mark.network
async def test_what_is_answered_after_its_deadline_is_late() -> None:
    assert (await _tallied(_ask(), _right(), deadline=-1.0))["late"] == {"single": 1}
    assert not (await _tallied(_ask(), _right()))["late"]


@pytest.mark.network
async def test_bad_requests_must_be_told_why() -> None:
    ask = asks.bad(random.Random(0), "model")
    right = httpx.Response(ask.status, json={"error": {"message": "The body is not JSON."}})
    assert (await _tallied(ask, right))["answered"] == {"bad": 1}
    for reply in (httpx.Response(ask.status, json={}), httpx.Response(200, json={})):
        assert (await _tallied(ask, reply))["wrong"] == {"bad": 1}


@pytest.mark.network
@pytest.mark.parametrize("seed", range(40))
async def test_bad_requests_are_bad(plain: tuple[str, str], seed: int) -> None:
    url, name = plain
    ask = asks.bad(random.Random(seed), name)
    async with httpx.AsyncClient(base_url=url) as client:
        reply = await client.post(ask.path, content=ask.body, headers={"Content-Type": ask.media})
    assert reply.status_code == ask.status
    assert ask.check(reply.headers, reply.content) is None


def test_chunks_of_a_library_are_located_without_gaps() -> None:
    text = "One. Two.\n\n One. Two. End."
    assert splitters.locate_chunks(text, ["One. Two.", "One. Two.", " End."]) == [(0, 9), (12, 21), (22, 26)]
    assert splitters.locate_chunks(text, ["One. Two.\n\n", "Two.\n\n One.", "Two. End.", " "]) == [
        (0, 9),
        (5, 16),
        (17, 26),
    ]
    for chunks in (["one. Two."], ["One.", "One. Two. End."], ["One. Two."]):
        with pytest.raises(ValueError, match="No chunk"):
            splitters.locate_chunks(text, chunks)


def test_headings_in_markdown_keep_all_positions() -> None:
    text = "Before.\n = = Title = = \nText."
    start = text.index("Title")
    document = Document(text, (Block(0, 7), Block(start, start + 5, "heading", 2), Block(start + 11, len(text))))
    assert splitters.markdown_headings(document) == "Before.\n##   Title     \nText."
    assert splitters.markdown_headings(Document(text)) == text
    with tiny_encoder() as encoder:
        counter = TokenCounter(encoder.tokenizer)
    split = splitters.LibraryChunker(lambda text: text.split("\n"), counter, markdown=True).split(document)
    assert [(span.start, span.end) for span in split] == [(0, 7), (8, start + 5), (start + 11, len(text))]
    assert [span.tokens for span in split] == [counter.count(text[span.start : span.end]) for span in split]


# -- words of PDFs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "text", "missing"),
    [
        ("the boats leave", "the boats leave", []),
        ("C O N S\nthe boats", "CONS the boats", []),
        ("exam-\nple", "example", []),
        ("the boats leave\nthe boats leave", "the boats leave", ["the", "boats", "leave"]),
        ("the boats leave\nat ten", "the boats", ["leave", "at", "ten"]),
        ("اإلنتاجية", "الإنتاجية", []),
        ("\u202bمن\u202aPython\u202c", "من Python", []),
        ("oﬃcial", "official", []),
    ],
)
def test_words_of_pdfs_that_are_missing_show(visible: str, text: str, missing: list[str]) -> None:
    assert sorted(pdf_words.missing_words(pdf_words.normal(visible), pdf_words.normal(text))) == sorted(missing)
