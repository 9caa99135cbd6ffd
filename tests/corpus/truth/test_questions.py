"""Thirty questions over thirty files of mixed formats, with the weights of all-MiniLM-L6-v2."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.documents import MODEL, RECOGNISED, RIGHT_FIRST, measure
from nearfield import Encoder
from nearfield.errors import SourceUnavailable
from tests.corpus.truth.questions import NEAR_MISSES, UNANSWERABLE, question_files
from tests.corpus.truth.score import words
from tests.support.requirements import missing


def test_each_file_answers_one_question() -> None:
    pairs = list(question_files())
    assert len({file.name for _, file in pairs}) == len(pairs) == 30
    assert len({file.name.partition(".")[2] for _, file in pairs}) >= 12
    for topic, file in pairs:
        passage = " ".join(words(topic.passage))
        assert passage in " ".join(words(" ".join(file.pieces))), topic.name
    assert len(UNANSWERABLE) == 10 and not set(UNANSWERABLE) & set(NEAR_MISSES)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    try:
        Encoder(MODEL).close()
    except SourceUnavailable as error:
        return missing(f"the model cannot be fetched: {error}")
    return measure({})


@pytest.mark.slow
@pytest.mark.process
def test_the_right_passage_is_first(result: dict[str, Any]) -> None:
    assert result["failed"] == []
    assert result["right_first"] >= RIGHT_FIRST, result


@pytest.mark.slow
@pytest.mark.process
def test_questions_without_an_answer_are_recognised(result: dict[str, Any]) -> None:
    assert result["recognised"] >= RECOGNISED, result
