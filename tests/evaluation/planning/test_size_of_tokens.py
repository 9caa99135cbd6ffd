"""Sizes of models that store more than one vector for a text, and times by texts or tokens a second."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.planning.encoding_rate import EncodingRate, stated_rate
from nearfield.evaluation.planning.vector_count import PUNCTUATION_SHARE, TokenSelection
from nearfield.evaluation.planning.vector_model import CountOptions, VectorModel, count_vectors, read_vector_model
from nearfield.recipe import Multivector, RoleFormat
from tests.parity import multivector
from tests.support.cli_runner import Ran, run

Run = Callable[..., Ran]
COLBERT = Multivector((), 128, document=RoleFormat(length=180, skip=tuple(string.punctuation)))


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


# -- vectors of a text ----------------------------------------------------------------------------------------------


def test_late_interaction_stores_a_vector_for_each_token(nearfield: Run) -> None:
    # 1,000,000 texts x 180 tokens x 128 dimensions x 4 bytes.
    said = nearfield("size", "1M", "--model", "colbertv2", "--tokens", 180)
    assert "92,160,000,000 (92.2 GB)" in said.out and "Vectors of punctuation are counted" in said.out
    (row,) = json.loads(nearfield(*_colbert("--tokens", 180, "--punctuation", 0.1, "--pool-factor", 2)).out)["rows"]
    assert row["vectors"] == 81_000_000 and row["total"] == 81_000_000 * 512


def test_texts_that_are_longer_than_the_model_reads_are_cut(nearfield: Run) -> None:
    estimate = json.loads(nearfield(*_colbert("--tokens", 500)).out)
    assert estimate["rows"][0]["vectors"] == 180_000_000
    assert any("Texts are cut" in note for note in estimate["vectors"]["notes"])


def test_stated_vectors_of_a_text_need_no_tokens(nearfield: Run) -> None:
    (row,) = json.loads(nearfield(*_colbert("--per-text", 90)).out)["rows"]
    assert row["vectors"] == 90_000_000


def _colbert(*words: object) -> tuple[object, ...]:
    return ("size", "1M", "--model", "colbertv2", "--dtype", "float32", "--json", *words)


def test_a_model_that_leaves_punctuation_out_is_counted_without() -> None:
    assert TokenSelection(512, COLBERT).count(100).per_text == pytest.approx(100 * (1 - PUNCTUATION_SHARE))
    assert TokenSelection(512, COLBERT).count(500).per_text == pytest.approx(180 * (1 - PUNCTUATION_SHARE))
    assert TokenSelection(512, COLBERT, punctuation=0.2).count(100).per_text == pytest.approx(80)
    assert TokenSelection(512, Multivector((), 8, skip_first_tokens=1)).count(100).per_text == 99


@given(tokens=st.floats(1, 1e5), length=st.integers(1, 9000), share=st.floats(0, 0.99), factor=st.floats(1, 100))
def test_a_text_never_has_more_vectors_than_tokens(tokens: float, length: int, share: float, factor: float) -> None:
    selection = TokenSelection(length, COLBERT, share, factor)
    per_text = selection.count(tokens).per_text
    assert 0 <= per_text <= min(tokens, length, 180) + 1e-9
    assert per_text <= selection.count(tokens * 2).per_text
    assert per_text <= TokenSelection(length, COLBERT, share).count(tokens).per_text


@pytest.mark.slow
def test_the_count_is_that_of_the_encoder(tmp_path: Path) -> None:
    folder = multivector.stanford(tmp_path)
    model = read_vector_model(str(folder))
    assert model.kind == "multivector" and model.head is not None
    texts = ["the cat sat", "the dog ran to the house and the cat sat on the mat"]
    with Encoder(str(folder)) as encoder:
        vectors = encoder.encode(texts, role="document")
        tokens = np.asarray(vectors.tokens)
    options = [CountOptions(tokens=float(count), punctuation=0.0) for count in tokens]
    assert [count_vectors(model, option).per_text for option in options] == np.diff(vectors.indptr).tolist()


def test_a_sparse_model_stores_its_terms(nearfield: Run) -> None:
    words = ("size", "1M", "--model", "naver/splade-v3", "--terms", 200, "--json")
    totals = {row["dtype"]: row["total"] for row in json.loads(nearfield(*words).out)["rows"]}
    # An id of 4 bytes and a weight of 4 or 2 for each of 200 terms.
    assert totals == {"float32": 1_600_000_000, "float16": 1_200_000_000}


def test_matryoshka_and_number_types_are_side_by_side(nearfield: Run) -> None:
    rows = json.loads(nearfield("size", "1M", "--model", "nomic-embed-text-v1.5", "--json").out)["rows"]
    totals = {(row["dimensions"], row["dtype"]): row["total"] for row in rows}
    assert totals[768, "float32"] == 3_072_000_000 and totals[64, "binary"] == 8_000_000
    assert len(totals) == 5 * 4


def test_dimensions_without_whole_bytes_have_no_binary_form(nearfield: Run) -> None:
    rows = json.loads(nearfield("size", "1k", "--dims", "100", "--json").out)["rows"]
    assert [row["dtype"] for row in rows] == ["float32", "float16", "int8"]


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "speed", "workers", "time"),
    [
        ("10M", 4_800, 1, "35 minutes"),  # one RTX 4090
        ("1B", 4_750, 8, "7 hours"),  # eight A100, 38,000 together
        ("100k", 180, 1, "9 minutes"),  # an M2
    ],
)
def test_the_known_examples_of_times(nearfield: Run, texts: str, speed: int, workers: int, time: str) -> None:
    words = ("--dims", 384, "--texts-per-second", speed, "--workers", workers, "--efficiency", 1)
    assert f"({time})" in nearfield("size", texts, *words).out


@given(tokens=st.floats(1, 1e4), speed=st.floats(1e-3, 1e7), texts=st.integers(1, 10**9))
def test_both_units_give_the_same_time(tokens: float, speed: float, texts: int) -> None:
    by_texts, by_tokens = EncodingRate(speed, "texts", tokens), EncodingRate(speed * tokens, "tokens", tokens)
    assert by_texts.seconds(texts) == pytest.approx(by_tokens.seconds(texts))
    assert by_texts.tokens_per_second == pytest.approx(by_tokens.tokens_per_second)


def test_a_rate_that_looks_like_the_other_unit_is_questioned(nearfield: Run) -> None:
    words = ("size", "1M", "--dims", 8, "--tokens", 100)
    assert "If 4,800 texts a second are meant" in nearfield(*words, "--tokens-per-second", 4_800).out
    assert "If tokens a second are meant" in nearfield(*words, "--texts-per-second", 480_000).out
    assert "are meant" not in nearfield(*words, "--texts-per-second", 4_800).out


def test_a_plan_has_a_row_for_each_number_of_texts(nearfield: Run) -> None:
    words = ("size", "1k", "--dims", 8, "--texts-per-second", 1000, "--plan", "--json")
    plan = json.loads(nearfield(*words).out)["plan"]
    assert [row["texts"] for row in plan] == [10**6, 10**7, 10**8, 10**9]
    assert [row["seconds"] for row in plan] == [1e3, 1e4, 1e5, 1e6]
    assert [row["bytes"]["none float32"] for row in plan] == [32 * 10**power for power in (6, 7, 8, 9)]
    assert "1 billion" in nearfield(*words[:-1]).out


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--dims", "8", "--tokens-per-second", "9", "--texts-per-second", "9"), "not both"),
        (("--dims", "8", "--texts-per-second", "0"), "above 0, not 0"),
        (("--dims", "8", "--texts-per-second", "nan"), "above 0, not nan"),
        (("--dims", "8", "--texts-per-second", "1e400"), "above 0, not inf"),
        (("--dims", "8", "--tokens-per-second", "-5", "--tokens", "9"), "above 0, not -5"),
        (("--dims", "8", "--tokens-per-second", "5"), "--tokens"),
        (("--dims", "8", "--texts-per-second", "5", "--tokens", "0"), "above 0, not 0"),
        (("--dims", "8", "--texts-per-second", "5", "--workers", "0"), "workers must be"),
        (("--dims", "8", "--texts-per-second", "5", "--efficiency", "2"), "efficiency must be"),
        (("--dims", "8", "--texts-per-second", "5", "--failures", "nan"), "failures must be"),
        (("--dims", "8", "--workers", "2"), "needs a speed"),
        (("--dims", "8", "--text-bytes", "nan"), "text_bytes must be"),
        (("--dims", "8", "--per-text", "0"), "per_text must be"),
        (
            (
                "--dims",
                "8.5",
            ),
            "whole numbers such as 768",
        ),
        (("--dims", "8", "--terms", "9"), "--terms has no meaning"),
        (("--measure", "--dims", "8"), "--measure needs --model"),
        (("--model", "colbertv2"), "--tokens"),
        (("--model", "colbertv2", "--tokens", "nan"), "tokens must be"),
        (("--model", "colbertv2", "--tokens", "9", "--pool-factor", "0"), "at least 1"),
        (("--model", "colbertv2", "--tokens", "9", "--punctuation", "1"), "a share from 0"),
        (("--model", "naver/splade-v3", "--terms", "9", "--index", "hnsw"), "not known"),
        (
            (
                "--model",
                "bge-reranker-base",
            ),
            "scores, not vectors",
        ),
    ],
)
def test_bad_input_of_the_command_is_named(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    said = nearfield("size", "1M", *words)
    assert said.code == 2 and message in said.err


@pytest.mark.parametrize("texts", ["0", "nan", "-1", "1e400", "1,5M"])
def test_a_number_of_texts_is_needed(nearfield: Run, texts: str) -> None:
    assert nearfield("size", "--dims", "8", "--", texts).code == 2


def test_a_rate_needs_one_unit() -> None:
    assert stated_rate(None, None, 9) is None
    with pytest.raises(InputError, match="not both"):
        stated_rate(1, 1, None)
    with pytest.raises(InputError, match="--tokens"):
        EncodingRate(5, "tokens").seconds(1)
    assert VectorModel("m", "dense", 256, 512, (64, 256, 128)).all_dimensions == (256, 128, 64)
