"""Scores from 0 to 1: what they are built from, and whether questions without an answer are recognised."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from nearfield.checkpoint.tokenizer.tokenizer import find_unknown_id
from nearfield.corpus.collection import Collection
from nearfield.corpus.search.relevance import MIN_ANSWER_SCORE, _combine, falling
from nearfield.corpus.search.unread_letters import UnreadLetters, script_of
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SourceUnavailable
from nearfield.testing import write_tiny_model
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing

MODES = ("auto", "dense", "bm25")
TEXTS = {
    "ja": "京都の支店は十一時に開きます。",
    "zh": "北京是中国的首都，有三千多年的历史。",
    "th": "ร้านนี้เปิดเวลาเก้าโมงเช้าทุกวัน",
    "ko": "서울 지점은 아홉 시에 엽니다.",
    "en": "The branch in Oslo opens at nine.",
    "mixed": "The キャンセル button ends the order.",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Collection]:
    folder = tmp_path_factory.mktemp("relevance")
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{folder}"}
    with Collection.create("texts", config, home=folder) as created:
        created.put([{"id": name, "text": text} for name, text in TEXTS.items()])
        yield created


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("支店", "ja"),
        ("首都", "zh"),
        ("京", "ja"),
        ("北京的历史", "zh"),
        ("เปิดเวลา", "th"),
        ("지점은", "ko"),
        ("branches", "en"),
        ("キャンセル", "mixed"),
        ("キャンセル button", "mixed"),
    ],
)
def test_words_of_any_script_in_a_collection_of_the_default_language(
    collection: Collection, query: str, name: str
) -> None:
    assert [hit.document for hit in collection.search(query, 1, mode="bm25")] == [f"put:#{name}"]


def test_the_keyword_index_of_several_scripts_stays_consistent(collection: Collection) -> None:
    keywords = collection.manifest.keywords
    assert keywords.is_consistent()
    assert keywords.count() == len(TEXTS)
    assert keywords.count_with('"支店"', 9) == 1
    assert collection.search("飛行機", 5, mode="bm25") == []


@pytest.mark.parametrize("mode", MODES)
def test_scores_fall_from_1_to_0(collection: Collection, mode: str) -> None:
    scores = [hit.score for hit in collection.search("When does the branch in Oslo open?", 9, mode=mode)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_minimum_score(collection: Collection) -> None:
    query = "When does the branch in Oslo open?"
    scores = [hit.score for hit in collection.search(query, 9)]
    least = scores[1]
    assert [hit.score for hit in collection.search(query, 9, min_score=least)] == [s for s in scores if s >= least]
    for wrong in (1.5, -0.1):
        with pytest.raises(InputError, match="min_score is a number from 0 to 1"):
            collection.search(query, 9, min_score=wrong)


def test_an_answer_needs_evidence(collection: Collection) -> None:
    answer = collection.ask("Who won the football cup in Brazil?", mode="bm25")
    assert (answer.found, answer.passages) == (False, ())
    assert "no answer" in answer.text
    assert collection.ask("When does the branch in Oslo open?").passages
    assert collection.ask("Who won the cup?", min_score=0).passages


@pytest.mark.parametrize("covered", [None, 0.0, 0.3, 1.0])
def test_nearer_is_more_relevant(covered: float | None) -> None:
    scores = [_combine(near / 10, covered) for near in range(11)]
    assert scores == sorted(scores)


@pytest.mark.parametrize("near", [None, 0.0, 0.3, 1.0])
def test_more_words_are_more_relevant(near: float | None) -> None:
    scores = [_combine(near, covered / 10) for covered in range(11)]
    assert scores == sorted(scores)


def test_a_score_is_at_least_that_of_the_hits_below() -> None:
    assert falling([0.2, 0.5, 0.1, 0.3]) == [0.5, 0.5, 0.3, 0.3]
    assert falling([]) == []


# -- scripts that the model cannot read --------------------------------------------------------------------------------


def _tokenizer(model: models.Model) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return SimpleNamespace(backend=tokenizer, unknown_id=find_unknown_id(tokenizer))


def _word_piece() -> Any:
    letters = {f"{mark}{letter}" for letter in "abcdeκαλόסי" for mark in ("", "##")}
    names = ["[UNK]", "cat", "мир", "α", *sorted(letters)]
    return _tokenizer(models.WordPiece({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))


def _byte_level() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: at for at, sign in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return SimpleNamespace(backend=tokenizer, unknown_id=find_unknown_id(tokenizer))


def _unigram() -> Any:
    return _tokenizer(models.Unigram([("<unk>", -9.0), ("мир", -1.0), ("a", -2.0), ("b", -2.0)], unk_id=0))


@pytest.mark.parametrize(
    ("make", "text", "share"),
    [
        pytest.param(_word_piece, "cat", 0.0, id="word"),
        pytest.param(_word_piece, "abé", 1.0, id="unknown-word"),
        pytest.param(_word_piece, "мир", 0.0, id="cyrillic-word"),
        pytest.param(_word_piece, "ร้าน", 1.0, id="unknown-script"),
        pytest.param(_word_piece, "καλό", 0.75, id="letters-alone"),
        pytest.param(_word_piece, "bad α", 0.0, id="a-letter-is-a-word"),
        pytest.param(_word_piece, "cat cat cat ร้าน", 0.25, id="mixed"),
        pytest.param(_word_piece, "12 — 34", 0.0, id="no-letters"),
        pytest.param(_byte_level, "cafe", 0.0, id="bytes-latin"),
        pytest.param(_byte_level, "ร้าน", 1.0, id="bytes"),
        pytest.param(_unigram, "мир", 0.0, id="unigram-word"),
        pytest.param(_unigram, "ทท", 1.0, id="unigram-unknown"),
    ],
)
def test_letters_that_a_tokenizer_leaves_without_a_meaning(make: Callable[[], Any], text: str, share: float) -> None:
    assert UnreadLetters(make()).share(text) == share


@pytest.mark.parametrize(
    ("text", "script"), [("ร้านนี้", "Thai"), ("首都", "CJK"), ("γάτα a", "Greek"), ("12", ""), ("cat", "Latin")]
)
def test_scripts_have_names(text: str, script: str) -> None:
    assert script_of(text) == script


UNREAD = {"thai": "การประชุมครั้งต่อไปจะจัดขึ้น", "ethiopic": "ቡና ቤቱ በጠዋት ይከፈታል", "khmer": "ហាងបើកម៉ោងប្រាំបួន"}


@pytest.mark.parametrize("script", UNREAD)
def test_a_query_that_the_model_cannot_read_is_no_evidence(
    collection: Collection, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    query = UNREAD[script]
    collection.release()
    with caplog.at_level("WARNING", logger="nearfield"):
        assert {hit.score for hit in collection.search(query, 5, mode="dense")} == {0.0}
        assert not collection.ask(query, mode="dense").found
        assert not collection.ask(query).found
    (message,) = [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()]
    assert script.capitalize() in message


def test_documents_that_the_model_cannot_read_are_reported(model: Path, tmp_path: Path) -> None:
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    with Collection.create("scripts", config, home=tmp_path) as created:
        report = created.put([{"id": name, "text": text} for name, text in (TEXTS | UNREAD).items()])
        assert report.unread_scripts == {"Ethiopic": 1, "Khmer": 1, "Hangul": 1, "Thai": 2, "CJK": 2}
        line = "2 documents in a script that"
        assert line in report.to_text()
        assert "cannot read (Thai): searches find them by shared words alone" in report.problems()
        assert "cannot read" not in created.put([{"id": "en", "text": "The branch opens at ten."}]).to_text()


def test_shared_words_are_evidence_in_a_script_that_the_model_cannot_read(collection: Collection) -> None:
    (hit,) = collection.search("ร้านนี้เปิดเวลาเก้าโมง", 1)
    assert (hit.document, hit.score > MIN_ANSWER_SCORE) == ("put:#th", True)


# -- measured with real weights ----------------------------------------------------------------------------------------


def _squad(articles: int) -> tuple[list[dict[str, Any]], list[tuple[str, str]], list[str]]:
    """Return documents, questions with the document that answers them, and questions about other articles."""
    folder = SHARED_FOLDER / "data" / "squad-dev"
    if not folder.exists():
        missing(f"the evaluation data is not here ({folder})")
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    queries = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["_id"]: row["text"] for row in map(json.loads, queries)}
    pairs = [line.split("\t")[:2] for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    titles = list(dict.fromkeys(row["title"] for row in rows))
    choice = random.Random(7)
    choice.shuffle(titles)
    title_of = {row["_id"]: row["title"] for row in rows}
    chosen = set(titles[:articles])
    documents = [{"id": r["_id"], "text": r["text"], "title": r["title"]} for r in rows if r["title"] in chosen]
    answered = [(texts[query], document) for query, document in pairs if title_of[document] in chosen]
    others = [texts[query] for query, document in pairs if title_of[document] not in chosen]
    return documents, choice.sample(answered, 60), choice.sample(others, 60)


@pytest.mark.slow
def test_questions_without_an_answer_are_recognised(tmp_path: Path) -> None:
    try:
        encoder = Encoder("all-MiniLM-L6-v2")
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    documents, answered, others = _squad(4)
    config = {"store": f"memory:{tmp_path}"}
    with Collection.create("squad", config, home=tmp_path, encoder_of=lambda _: encoder) as squad:
        squad.put(documents)
        options = {"min_score": MIN_ANSWER_SCORE}
        results = squad.search_many([question for question, _ in answered], 8, **options)
        right = sum(
            f"put:#{document}" in {hit.document for hit in hits}
            for (_, document), hits in zip(answered, results, strict=True)
        )
        noise = sum(bool(hits) for hits in squad.search_many(others, 8, **options))
    assert right >= 0.9 * len(answered)
    assert noise <= 0.1 * len(others)
