"""Tokens that a model does not know: they are counted for each input, and inputs of little else are named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from tests.parity import decoder, multivector, scores, sparse, static
from tests.support import tiny_models

pytestmark = pytest.mark.slow

THAI = "ร้านกาแฟเปิดเวลาเก้าโมงเช้า"
OTHER = "การประชุมครั้งต่อไปจะจัดขึ้น"
#: Texts with the number of their unknown tokens in the tiny WordPiece vocabulary, and whether a model can read them.
WORDPIECE = [
    ("the river bank", 0, True),
    (THAI, 1, False),
    (f"{THAI} {OTHER}", 2, False),
    (f"the {THAI}", 1, False),  # most tokens are known, most characters are not
    (f"{'the river bank ' * 3}{THAI}", 1, True),
    (f"the {THAI} {OTHER}", 2, False),
    ("the river 🦊", 1, True),
    ("🦊 🌙", 2, False),
    ("a [UNK] river bank", 1, True),
    ("", 0, True),
    (" \n ", 0, True),
    ("\x00\x01\x02", 0, False),
    ("\u200b\u200e", 0, False),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_models.tiny_bert(tmp_path_factory.mktemp("bert"), prompts={"query": "the query "})
    with Encoder(str(folder), precision="float32") as encoder:
        yield encoder


def _unread(encoder: Encoder, texts: list[str], **options: Any) -> list[int]:
    """Return the positions of the texts that the model cannot read."""
    places = []
    for place, text in enumerate(texts):
        unread = UnreadInputs()
        list(encoder.stream([text], unread=unread, **options))
        places += [place] * unread.count
    return places


@pytest.mark.parametrize("options", [{}, {"role": "query"}], ids=["no prompt", "a prompt"])
def test_unknown_tokens_of_each_input(bert: Encoder, options: dict[str, Any]) -> None:
    texts = [text for text, _, _ in WORDPIECE]
    assert bert.encode(texts, **options).unknown.tolist() == [count for _, count, _ in WORDPIECE]
    assert _unread(bert, texts, **options) == [place for place, (_, _, known) in enumerate(WORDPIECE) if not known]


@pytest.mark.parametrize("truncate", ["report", "left", "chunk"])
def test_only_what_is_read_counts(bert: Encoder, truncate: str) -> None:
    text = f"{THAI} " + "river " * 100
    expected = {"report": 1, "left": 0, "chunk": 1}[truncate]
    assert bert.encode([text], truncate=truncate).unknown.tolist() == [expected]
    ids = [bert.tokenizer.unknown_id, *[bert.tokenizer.backend.token_to_id("river")] * 100]
    assert bert.encode([ids], truncate="left").unknown.tolist() == [0]
    assert bert.encode([ids]).unknown.tolist() == [1]


def test_parts_of_results_keep_their_counts(bert: Encoder) -> None:
    vectors = bert.encode(["the river", THAI, f"{THAI} {OTHER}"])
    assert vectors[1:].unknown.tolist() == [1, 2]
    assert bert.encode(THAI).unknown.tolist() == [1]
    many = bert.encode([THAI, "river"] * 300)
    assert many.unknown.tolist() == [1, 0] * 300
    late = bert.encode_late([["the river ", THAI, " bank"], ["sun"]])
    assert [np.asarray(part.unknown).tolist() for part in late] == [[0, 1, 0], [0]]


async def test_without_blocking(bert: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    vectors = await bert.aencode(["the river", THAI])
    assert vectors.unknown.tolist() == [0, 1]
    assert "1 input of 2 (the first is input 1)" in caplog.text


def test_one_warning_for_each_call(bert: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["the river"] * 300 + [THAI, "sun", OTHER, "\x00"]
    with caplog.at_level(logging.WARNING, "nearfield"):
        bert.encode(texts)
        (record,) = caplog.records
        assert "3 inputs of 304 (the first is input 300)" in record.getMessage()
        caplog.clear()
        bert.encode(["the river", "", f"{'the river bank ' * 3}{THAI}"])
        list(bert.stream(texts))
        assert not caplog.records


@pytest.mark.parametrize("call", ["similarity", "similarity_pairwise"])
def test_one_warning_for_both_sides_of_a_comparison(bert: Encoder, caplog: pytest.LogCaptureFixture, call: str) -> None:
    getattr(bert, call)(["the river", "sun"], ["sun", THAI])
    getattr(bert, call)([THAI, "sun"], [OTHER, THAI])
    getattr(bert, call)(["sun"], ["the river"])
    assert [record.args[1:] for record in caplog.records if isinstance(record.args, tuple)] == [
        ("1 input", 4, 3),
        ("3 inputs", 4, 0),
    ]


def _unigram(folder: Path) -> Path:
    return tiny_models.tiny_xlm_roberta(folder / "model")


def _bytes(folder: Path) -> Path:
    return decoder.model("Qwen3Config")(folder)


def _distilled(folder: Path) -> Path:
    return static.distilled(normalize=False, shared=False)(folder)


@pytest.mark.parametrize(
    ("write", "counts", "unread"),
    [
        (_unigram, [0, 1, 2, 1, 1, 0, 1], [1, 2, 3, 6]),
        (_bytes, [0] * 7, []),
        (_distilled, [0, 1, 2, 1, 1, 0, 0], [1, 2, 3, 6]),
        (static.table, [0, 1, 2, 1, 1, 0, 0], [1, 2, 3, 6]),
    ],
    ids=["unigram", "bytes", "model2vec", "static"],
)
def test_kinds_of_tokenizers(
    tmp_path: Path, write: Callable[[Path], Path], counts: list[int], unread: list[int]
) -> None:
    texts = ["the river", THAI, f"{THAI} {OTHER}", f"the river {THAI}", "light 🦊", "", "\u200b"]
    with Encoder(str(write(tmp_path)), precision="float32") as encoder:
        assert encoder.encode(texts).unknown.tolist() == counts
        assert _unread(encoder, texts) == unread


def test_bytes_in_place_of_unknown_tokens() -> None:
    """Bytes differ from text to text: none of them is unknown, though the vocabulary has an unknown token."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    from nearfield.checkpoint.tokenizer.builder import TokenizerFiles

    pieces = [("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    for model in (
        models.Unigram(pieces, unk_id=0, byte_fallback=True),
        models.BPE({piece: at for at, (piece, _) in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True),
    ):
        tokenizer = Tokenizer(TokenizerFiles(Backend(model), 0, "right", ""), max_length=99)
        assert [tokens.unknown for tokens in tokenizer.encode([THAI, "a", "\U0010fffd"])] == [0, 0, 0]


def test_sparse_vectors_and_multi_vectors(tmp_path: Path) -> None:
    with Encoder(str(sparse.masked("bert")(tmp_path / "sparse"))) as encoder:
        assert encoder.encode(["the river", THAI]).unknown.tolist() == [0, 1]
    with Encoder(str(multivector.own("bert", multivector.FIXED)(tmp_path / "many"))) as encoder:
        assert encoder.encode_query(["the river", THAI]).unknown.tolist() == [0, 1]
        outputs = encoder.encode(["the river", THAI], outputs=["multivector"])
        assert outputs.unknown.tolist() == [0, 1]


def test_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Reranker(str(scores.classifier("bert")(tmp_path)), precision="float32") as reranker:
        result = reranker.score("the river", ["bank", THAI, f"{THAI} {OTHER} {THAI}"])
        assert np.asarray(result.unknown).tolist() == [0, 1, 3]
        # The query has known tokens; the documents have none.
        assert "2 inputs of 3 (the first is input 1)" in caplog.text
        np.testing.assert_array_equal(
            np.asarray(reranker.score("the", [THAI])), np.asarray(reranker.score("the", [OTHER]))
        )


def test_unknown_token_of_a_folder_without_one() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    from nearfield.checkpoint.tokenizer.builder import TokenizerFiles

    backend = Backend(models.BPE({letter: at for at, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(TokenizerFiles(backend, 0, "right", ""), max_length=99)
    assert tokenizer.unknown_id is None and tokenizer.encode([THAI])[0].unknown == 0
