"""Pruned vocabularies: texts of remaining tokens give the same ids and vectors, in us and in sentence-transformers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused
from nearfield.testing import tiny_encoder
from nearfield.training.light.prune import prune_model
from nearfield.training.light.token_pruning import BYTE_SYMBOLS, prune_tokenizer, token_names
from tests.support.cli_runner import run
from tests.support.paths import ROOT
from tests.support.tiny_models import tiny_bert, tiny_modernbert, tiny_roberta, tiny_xlm_roberta

#: A corpus of real sentences: pages of the documentation.
PAGES = ("docs/contributing.md", "docs/architecture/overview.md")
LINES = [line.strip() for page in PAGES for line in (ROOT / page).read_text(encoding="utf-8").splitlines()]
CORPUS = [line for line in LINES if len(line) > 20]
TEXTS = ["the capital of france is paris", "a dog sleeps in the sun", "she wrote two books", "rain falls on the hills"]

Trainer = Callable[[], Tokenizer]


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=900, special_tokens=["[UNK]", "[PAD]"]))
    return tokenizer


def byte_bpe(**options: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet))
    return tokenizer


def suffix_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], end_of_word_suffix="</w>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=["<pad>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


TRAINERS = [
    wordpiece,
    byte_bpe,
    pytest.param(lambda: byte_bpe(ignore_merges=True), id="byte_bpe-ignoring-merges"),
    suffix_bpe,
    unigram,
]


@pytest.mark.parametrize("train", TRAINERS)
def test_every_text_of_remaining_tokens_is_split_as_before(train: Trainer) -> None:
    """Words are drawn from the whole corpus: where all their tokens remain, the split must be the same."""
    whole = train()
    state = json.loads(whole.to_str())
    seen = {number for item in whole.encode_batch(CORPUS[:25]) for number in item.ids}
    pruned = prune_tokenizer(state, seen)
    smaller = Tokenizer.from_str(json.dumps(pruned.state))
    assert len(pruned.old_ids) < 0.85 * whole.get_vocab_size()
    draw, words = random.Random(2), " ".join(CORPUS).split()
    checked = 0
    for text in (" ".join(draw.sample(words, draw.randint(1, 3))) for _ in range(4000)):
        before = whole.encode(text)
        if set(before.ids) <= set(pruned.old_ids):
            after = smaller.encode(text)
            assert after.tokens == before.tokens, text
            assert [pruned.old_ids[number] for number in after.ids] == before.ids
            checked += 1
    assert checked > 200


@pytest.mark.parametrize("train", TRAINERS)
def test_unseen_words_fall_back_to_smaller_pieces(train: Trainer) -> None:
    whole = train()
    pruned = prune_tokenizer(json.loads(whole.to_str()), set())
    smaller = Tokenizer.from_str(json.dumps(pruned.state))
    assert len(smaller.encode("vocabulary").ids) >= len(whole.encode("vocabulary").ids)
    assert "".join(smaller.encode("cab").tokens).replace("##", "").replace("</w>", "").strip("\u2581") == "cab"


def test_the_symbols_of_bytes_are_those_of_the_library() -> None:
    assert set(pre_tokenizers.ByteLevel.alphabet()) == BYTE_SYMBOLS


def test_dropout_and_unknown_kinds_are_refused() -> None:
    state = json.loads(byte_bpe().to_str())
    for changes in ({"dropout": 0.1}, {"continuing_subword_prefix": "##"}, {"type": "Magic"}):
        with pytest.raises(ModelRefused):
            prune_tokenizer({**state, "model": {**state["model"], **changes}}, set())


# -- models ------------------------------------------------------------------------------------------------------------

MODELS = [tiny_bert, tiny_roberta, tiny_xlm_roberta, tiny_modernbert]


@pytest.mark.slow
@pytest.mark.parametrize("write", MODELS)
def test_a_pruned_model_gives_the_same_vectors_here_and_in_the_reference(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    whole = Encoder(str(write(tmp_path / "whole")), precision="float32", compile_cache=False)
    report = prune_model(whole, TEXTS, tmp_path / "pruned", force=True)
    assert report.remaining < report.tokens
    assert report.bytes_after < report.bytes_before
    assert report.difference == 0
    pruned = Encoder(str(tmp_path / "pruned"), precision="float32", compile_cache=False)
    before = np.asarray(whole.encode(TEXTS))
    np.testing.assert_allclose(pruned.encode(TEXTS), before, atol=1e-5)
    reference = library.SentenceTransformer(str(tmp_path / "pruned"), device="cpu").encode(TEXTS)
    cosines = (reference * before).sum(1) / np.linalg.norm(reference, axis=1) / np.linalg.norm(before, axis=1)
    assert cosines.min() >= 0.9999
    assert pruned.fingerprint != whole.fingerprint


def test_names_of_all_kinds_have_their_ids() -> None:
    for train in (wordpiece, byte_bpe, unigram):
        tokenizer = train()
        assert token_names(json.loads(tokenizer.to_str())) == tokenizer.get_vocab()


def test_what_cannot_be_pruned_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    with pytest.raises(InputError, match="no texts"):
        prune_model(encoder, [], tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        prune_model(encoder, TEXTS, tmp_path / "full")
    (tmp_path / "tiny" / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(ModelRefused, match=r"needs tokenizer\.json"):
        prune_model(encoder, TEXTS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_vectors_would_differ_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    monkeypatch.setattr("nearfield.training.light.prune.TOLERANCE", -1.0)
    with pytest.raises(ModelRefused, match="gives other vectors"):
        prune_model(encoder, TEXTS, tmp_path / "out", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_texts_that_cover_too_few_tokens_of_others_are_refused_with_the_share(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    words = ("cat", "dog", "mat", "sat", "blue", "red", "hello", "world", "search", "the", "on", "a")
    several = [f"{words[n % 12]} {words[n * 5 % 12]}" for n in range(40)]
    others = [*several[:10], "search hello world", *several[10:]]
    with pytest.raises(InputError, match=r"4 texts cover [0-9.]+% of the tokens of others like them"):
        prune_model(encoder, ["a cat", "a dog", "red mat", "blue world"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = prune_model(encoder, others, tmp_path / "out")
    assert report.coverage == 1
    assert report.unseen == 1


def test_the_command_writes_a_model_and_says_what_remains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tiny_encoder(tmp_path / "tiny").recipe.folder
    (tmp_path / "texts.txt").write_text("the cat sat\na blue dog\n")
    arguments = ("train", "prune", model, "--corpus", tmp_path / "texts.txt", "-o", tmp_path / "out")
    ran = run(capsys, monkeypatch, *arguments)
    assert ran.code == 2
    assert "2 texts cover" in ran.err and "--force" in ran.err
    assert not (tmp_path / "out").exists()
    ran = run(capsys, monkeypatch, *arguments, "--force")
    assert ran.code == 0, ran.err
    assert "tokens remain" in ran.out
    assert "2 texts split as before" in ran.out
    assert Encoder(str(tmp_path / "out"), compile_cache=False).encode("the cat").shape == (32,)
