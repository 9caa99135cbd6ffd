"""Static tables: the same as model2vec's own distillation, loaded by model2vec and by us, and each option's effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused
from nearfield.testing import tiny_encoder
from nearfield.training.light.static import StaticSettings, distil, frequent_words, principal_components
from nearfield.vectors.dense import normalize
from tests.support.cli_runner import run

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world, search the world", "a red mat and a dog"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("model") / "tiny", precision="float32")


def settings(**changes: Any) -> StaticSettings:
    return StaticSettings(**{"dimensions": 16, "precision": "float32", **changes})


def cosines(a: Array, b: Array) -> Array:
    return (normalize(np.asarray(a, np.float32)) * normalize(np.asarray(b, np.float32))).sum(1)


VARIANTS = [
    {},
    {"dimensions": None},
    {"sif": None},
    {"precision": "float16"},
    {"precision": "int8"},
    {"clusters": 40},
    {"clusters": 40, "precision": "int8"},
    {"words": ("hello world", "catdog", "the")},
    {"pooling": "model"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_folder_is_read_alike_by_model2vec_and_by_us(
    encoder: Encoder, changes: dict[str, Any], tmp_path: Path
) -> None:
    library = pytest.importorskip("model2vec")
    distil(encoder, TEXTS, settings(**changes)).model.save_pretrained(tmp_path / "static")
    texts = [*TEXTS, "catdog says hello world"]
    reference = library.StaticModel.from_pretrained(str(tmp_path / "static")).encode(texts)
    with Encoder(str(tmp_path / "static"), precision="float32", compile_cache=False) as static:
        assert cosines(static.encode(texts), reference).min() >= 0.9999


@pytest.mark.slow
def test_the_table_has_the_similarities_of_model2vec_s_own_distillation(encoder: Encoder) -> None:
    pytest.importorskip("skeletoken", reason="needs model2vec[distill]")
    distillation = pytest.importorskip("model2vec.distill", reason="needs model2vec[distill]")
    for changes in ({}, {"sif_coefficient": None}):
        theirs = distillation.distill(str(encoder.recipe.folder), pca_dims=16, quantize_to="float32", **changes)
        ours = distil(encoder, (), settings(sif=changes.get("sif_coefficient", 1e-4))).model
        # The signs of components are arbitrary: similarities are compared, not values.
        assert theirs.tokens == ours.tokens
        a, b = (normalize(model.encode(TEXTS)) for model in (theirs, ours))
        np.testing.assert_allclose(a @ a.T, b @ b.T, atol=2e-3)


def test_rows_are_means_of_token_states_weighted_by_rank(encoder: Encoder) -> None:
    table = distil(encoder, (), settings(dimensions=None)).model
    states = np.asarray(encoder.encode_tokens(["cat"]).data)
    count, rank = len(table.tokens), table.tokens.index("cat")
    probability = 1 / (rank + 2) / (1 / np.arange(2, count + 2)).sum()
    np.testing.assert_allclose(
        table.embedding[rank], states.mean(0) * 1e-4 / (1e-4 + probability), rtol=1e-3, atol=1e-6
    )


def test_texts_rank_the_tokens(encoder: Encoder) -> None:
    plain, ranked = (distil(encoder, texts, settings(dimensions=None)).model for texts in ((), ["dog dog dog cat"]))
    dog, cat, the = (plain.tokens.index(word) for word in ("dog", "cat", "the"))
    ratio = np.linalg.norm(ranked.embedding, axis=1) / np.linalg.norm(plain.embedding, axis=1)
    assert ratio[dog] < ratio[cat] < 1 < ratio[the]


def test_new_words_become_tokens_with_the_vector_of_their_pieces(encoder: Encoder) -> None:
    table = distil(encoder, (), settings(dimensions=None, sif=None, words=("catdog", "the", " "))).model
    assert table.tokenizer.encode("Catdog", add_special_tokens=False).tokens == ["catdog"]
    states = np.asarray(encoder.encode_tokens(["catdog"]).data)
    np.testing.assert_allclose(table.embedding[table.tokens.index("catdog")], states.mean(0), rtol=1e-3, atol=1e-5)
    assert len(table.tokens) == len(distil(encoder, (), settings(sif=None)).model.tokens) + 1


def test_clusters_share_rows_and_each_token_has_its_weight(encoder: Encoder) -> None:
    table = distil(encoder, (), settings(clusters=40))
    assert len(table.model.embedding) == 40
    assert table.model.weights is not None
    assert len(table.model.weights) == table.tokens
    assert "in 40 rows" in table.to_text()


def test_components_have_the_share_of_variance_that_is_stated() -> None:
    rows = np.random.default_rng(1).standard_normal((200, 6)) * [9, 5, 1, 0.1, 0.1, 0.1]
    reduced, share = principal_components(rows, 2)
    assert share == pytest.approx(reduced.var(0).sum() / rows.var(0).sum())
    assert share > 0.95


def test_frequent_words_are_words() -> None:
    assert frequent_words(["the cat, the cat_2 and 33 cats", "cats"], 3) == ("cats", "the", "and")


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": 1},
        {"dimensions": 33},
        {"clusters": 9},
        {"clusters": 9999},
        {"sif": 2.0},
        {"precision": "int4"},
        {"pooling": "last"},
    ],
    ids=str,
)
def test_settings_that_make_no_table_are_refused(encoder: Encoder, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        distil(encoder, (), settings(**changes))


def test_a_static_model_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    distil(encoder, (), settings()).model.save_pretrained(tmp_path / "static")
    with (
        Encoder(str(tmp_path / "static"), compile_cache=False) as static,
        pytest.raises(ModelRefused, match="static embeddings already"),
    ):
        distil(static)


def test_the_command_writes_a_table(
    encoder: Encoder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    arguments = ("train", "static", encoder.recipe.folder, "--corpus", tmp_path / "texts.txt", "--words", 3)
    ran = run(capsys, monkeypatch, *arguments, "--dimensions", 16, "-o", tmp_path / "static")
    assert ran.code == 0, ran.err
    assert "16 dimensions" in ran.out
    assert Encoder(str(tmp_path / "static"), compile_cache=False).dimensions == 16
    assert run(capsys, monkeypatch, *arguments, "-o", tmp_path / "static").code == 2
    assert run(capsys, monkeypatch, "train", "static", "x", "--words", 3, "-o", tmp_path / "new").code == 2
