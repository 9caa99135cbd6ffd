"""Ids beyond a table: the text that needs one is refused, never read from another row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from nearfield import Encoder
from nearfield.checkpoint.tokenizer.builder import TokenizerFiles
from nearfield.checkpoint.tokenizer.pairs import PairEncoder
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.errors import InputError, ModelRefused, WeightsError
from nearfield.families import bert
from nearfield.heads.scores import LanguageModelScoreHead
from nearfield.inference.preparation.late_interaction import LateInteractionFormatter
from nearfield.recipe import Multivector, RerankPrompt, RoleFormat
from nearfield.testing import write_tiny_model


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny model with another tokenizer.json."""

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = write_tiny_model(tmp_path / "model")
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        change(tokenizer)
        path.write_text(json.dumps(tokenizer))
        return folder

    return write


def _load(folder: Path) -> Encoder:
    return Encoder(str(folder), compile_cache=False, precision="float32")


def _gap(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["river"] = 40_000


def _added(tokenizer: dict[str, Any]) -> None:
    number = max(tokenizer["model"]["vocab"].values()) + 1
    token = {"id": number, "content": "<new>", "special": False, "normalized": False}
    tokenizer["added_tokens"].append({**token, "single_word": False, "lstrip": False, "rstrip": False})


@pytest.mark.parametrize(("change", "text"), [(_gap, "the river"), (_added, "a <new> dog")])
def test_a_text_that_needs_a_missing_row_is_refused(
    changed: Callable[..., Path], change: Callable[..., None], text: str
) -> None:
    with _load(changed(change)) as encoder, _load(write_tiny_model(changed(lambda _: None))) as truth:
        assert "the embedding table has no row for 1 token of the tokenizer" in encoder.recipe.warnings[-1]
        texts = ["the dog", "stone " * 100]
        assert np.array_equal(np.asarray(encoder.encode(texts)), np.asarray(truth.encode(texts)))
        with pytest.raises(InputError, match=r"input 1 contains the token .* \(id \d+\), for which the model has no"):
            encoder.encode(["the dog", text])
        # A token that is truncated is not read.
        assert len(encoder.encode(["stone " * 100 + text])) == 1
        with pytest.raises(InputError, match="input 0 contains the token"):
            encoder.encode(["stone " * 100 + text], truncate="left")
        with pytest.raises(InputError, match="a document contains the token"):
            encoder.encode_late([["the dog ", text]])


def test_token_ids_from_the_caller(changed: Callable[..., Path]) -> None:
    with _load(changed(_gap)) as encoder:
        rows = encoder.recipe.config["vocab_size"]
        assert len(encoder.encode([[2, rows - 1, 3]])) == 1
        for number in (rows, 40_000, -1):
            with pytest.raises(InputError, match=f"token id {number} is out of range: 0 to {rows - 1} exist"):
                encoder.encode([[2, number, 3]])


def test_a_special_token_without_a_row(changed: Callable[..., Path]) -> None:
    def separator(tokenizer: dict[str, Any]) -> None:
        tokenizer["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [9_999]

    with pytest.raises(ModelRefused, match=r"every text contains the token .* \(id 9999\), and the embedding table"):
        _load(changed(separator))


def test_the_tokenizer_of_another_model(changed: Callable[..., Path]) -> None:
    def larger(tokenizer: dict[str, Any]) -> None:
        size = len(tokenizer["model"]["vocab"])
        tokenizer["model"]["vocab"] |= {f"word{number}": size + number for number in range(50)}

    with pytest.raises(ModelRefused, match="Tokenizer and weights do not belong together"):
        _load(changed(larger))


def test_positions_that_would_be_negative() -> None:
    with pytest.raises(ModelRefused, match="pad_token_id, which must not be negative"):
        bert._pad({"pad_token_id": -5}, "roberta")


def test_a_mapping_of_static_embeddings_outside_its_table(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "static")
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    table = np.ones((8, 16), np.float32)
    for number, valid in ((7, True), (8, False), (-1, False)):
        mapping = np.zeros(size, np.int64)
        mapping[-1] = number
        save_file({"embeddings": table, "mapping": mapping}, folder / "model.safetensors")
        assert load_file(folder / "model.safetensors")["mapping"][-1] == number
        if valid:
            _load(folder).close()
        else:
            with pytest.raises(WeightsError, match="points outside the table, which has 8 rows"):
                _load(folder)


def _pair_tokenizer(**numbers: int) -> Tokenizer:
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "river": 3, "dog": 4, **numbers}
    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 1), ("[SEP]", vocabulary["[SEP]"])]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [SEP] $B", special_tokens=special
    )
    return Tokenizer(TokenizerFiles(backend, 0, "right", ""), max_length=8, table_rows=6)


def test_pairs() -> None:
    pairs = PairEncoder(_pair_tokenizer(moon=9))
    queries, documents = ["dog", "dog"], ["river", "the moon"]
    assert [pair.ids for pair in pairs.encode(queries[:1], documents[:1])] == [[1, 4, 2, 3]]
    with pytest.raises(InputError, match=r"pair 1 contains the token 'moon' \(id 9\)"):
        pairs.encode(queries, documents)
    with pytest.raises(ModelRefused, match=r"every text contains the token '\[SEP\]' \(id 9\)"):
        PairEncoder(_pair_tokenizer(**{"[SEP]": 9}))


def test_late_interaction() -> None:
    tokenizer = _pair_tokenizer(mask=5)
    spec = Multivector((), 8, query=RoleFormat(prefix="dog", length=99, expand=True, filler="mask"))
    [tokens], _ = LateInteractionFormatter(spec, tokenizer).format([Tokens([1, 3], 0)], "query")
    assert tokens.ids == [1, 4, 3, 5, 5, 5, 5, 5]  # no more than the model reads, whatever the length of queries
    for role in (RoleFormat(prefix="moon"), RoleFormat(length=8, expand=True, filler="moon")):
        with pytest.raises(ModelRefused, match=r"every text contains the token 'moon' \(id 9\)"):
            LateInteractionFormatter(Multivector((), 8, query=role), _pair_tokenizer(moon=9))


def test_answer_tokens_without_a_logit() -> None:
    head = LanguageModelScoreHead(RerankPrompt(true="yes", false="no"))
    head.bind({"yes": 4, "no": 5}.get, 6)
    assert head.rows == (4, 5)
    for numbers in ({"yes": 4, "no": 6}, {"yes": -1, "no": 5}):
        with pytest.raises(ModelRefused, match="The model has 6 logits, and none for token"):
            head.bind(numbers.get, 6)
