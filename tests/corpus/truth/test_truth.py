"""Extractors keep the words, order, headings and tables of files whose truth is known."""

from __future__ import annotations

import pytest

from tests.corpus.truth.catalogue import libreoffice_files, truth_files
from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.score import longest_common_subsequence, score_markdown
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import markup
from tools.formats import GOOD, measure


def _parameters(files: tuple[TruthFile, ...]) -> list[object]:
    return [pytest.param(file, id=f"{file.writer}-{file.name}") for file in files]


def _check(file: TruthFile) -> None:
    result = measure(file)
    assert result.score is not None, result.error
    score = result.score
    assert score.lowest >= GOOD, f"{score}\n{result.document and result.document.text}"


def test_the_corpus_has_sixty_files_without_libreoffice() -> None:
    names = [file.name for file in truth_files()]
    assert len(names) == len(set(names)) >= 60
    assert len({file.suffix for file in truth_files()}) >= 20


def test_topics_have_a_question_and_the_passage_that_answers_it() -> None:
    assert len(topics()) == 30
    for topic in topics().values():
        assert topic.question.endswith("?")
        assert topic.passage in " ".join(topic.pieces), topic.name


@pytest.mark.parametrize("file", _parameters(truth_files()))
def test_content_is_complete(file: TruthFile) -> None:
    _check(file)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("file", _parameters(libreoffice_files()))
def test_content_of_libreoffice_files_is_complete(file: TruthFile) -> None:
    _check(file)


def test_libreoffice_is_installed() -> None:
    if not libreoffice_files():
        pytest.skip("LibreOffice is not installed: its files are not tested")


def test_scores_are_shares_of_what_is_expected() -> None:
    topic = topics()["quarterly-report"]
    truth = TruthFile("a.md", lambda: b"", topic.pieces, topic.headings, topic.tables)
    text = markup.markdown(topic).decode()
    assert score_markdown(text, truth).lowest == 1
    assert score_markdown(text.replace("4,020", "4,021"), truth).cells == pytest.approx(11 / 12)
    assert score_markdown(text.replace("## Outlook", "Outlook"), truth).headings == pytest.approx(0.8)
    assert score_markdown(text.replace("| Q1 | Q2 |", "| Q2 | Q1 |"), truth).cells == pytest.approx(0.5)
    paragraphs = text.split("\n\n")
    assert score_markdown("\n\n".join(reversed(paragraphs)), truth).order < 0.9
    assert score_markdown(text.replace("Sales grew", ""), truth).words < 1


def test_the_longest_common_subsequence_may_leave_words_out() -> None:
    assert longest_common_subsequence(["a", "b", "c", "d"], ["a", "x", "c", "b", "d"]) == 3
    assert longest_common_subsequence(["a", "b"], ["b", "a"]) == 1
    assert longest_common_subsequence(["a", "a", "a"], ["a"]) == 1
    assert longest_common_subsequence(["a"], []) == 0
