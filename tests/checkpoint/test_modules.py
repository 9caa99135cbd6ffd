"""Modules: each schema, old and new, says the same; what is unknown, foreign or contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nearfield.checkpoint import modules
from nearfield.errors import ModelRefused
from nearfield.recipe import Dense, LayerNorm, Normalize, Pooling
from tests.support import tiny_models

MODES = list(tiny_models.POOLING_FLAGS)
SHELVES = {
    "old": "sentence_transformers.models.{0}",
    "deep": "sentence_transformers.models.{0}.{0}",
    "base": "sentence_transformers.base.modules.{1}.{0}",
    "new": "sentence_transformers.sentence_transformer.modules.{1}.{0}",
    "short": "sentence_transformers.sentence_transformer.modules.{0}",
}


def chain(folder: Path, *entries: tuple[str, dict[str, Any] | None], place: str = SHELVES["old"]) -> Path:
    """Write modules.json for a Transformer and further modules, with their configs."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": place.format("Transformer", "transformer")}]
    for index, (name, config) in enumerate(entries, 1):
        path = f"{index}_{name}"
        kind = name if "." in name else place.format(name, name.lower())
        listed.append({"idx": index, "name": str(index), "path": path, "type": kind})
        if config is not None:
            (folder / path).mkdir()
            tiny_models.dump(folder / path / "config.json", config)
    tiny_models.dump(folder / "modules.json", listed)
    return folder


def read(folder: Path, width: int = 32) -> tuple[Any, int]:
    stages = modules.read_stages(folder)
    assert stages is not None
    return modules.read_modules(stages, width)


POOLING = ("Pooling", {"embedding_dimension": 32, "pooling_mode": "mean"})


@pytest.mark.parametrize("place", SHELVES.values(), ids=list(SHELVES))
def test_every_place_of_the_library_is_known(tmp_path: Path, place: str) -> None:
    folder = chain(tmp_path, POOLING, ("Normalize", None), place=place)
    assert read(folder) == ((Pooling(("mean",)), Normalize()), 32)


@pytest.mark.parametrize("mode", MODES)
def test_pooling_modes(tmp_path: Path, mode: str) -> None:
    (tmp_path / "new").mkdir()
    new = chain(
        tmp_path / "new", ("Pooling", {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": False})
    )
    (tmp_path / "old").mkdir()
    flags = {flag: name == mode for name, flag in tiny_models.POOLING_FLAGS.items()}
    old = chain(tmp_path / "old", ("Pooling", {"word_embedding_dimension": 32, **flags, "include_prompt": False}))
    assert read(new) == read(old) == ((Pooling((mode,), include_prompt=False),), 32)


def test_joined_pooling_modes(tmp_path: Path) -> None:
    """Flags join in the library's order, a list in its own."""
    (tmp_path / "new").mkdir()
    new = chain(tmp_path / "new", ("Pooling", {"embedding_dimension": 32, "pooling_mode": ["mean", "cls"]}))
    assert read(new) == ((Pooling(("mean", "cls")),), 64)
    flags = {tiny_models.POOLING_FLAGS["mean"]: True, tiny_models.POOLING_FLAGS["cls"]: True}
    old = chain(tmp_path, ("Pooling", {"word_embedding_dimension": 32, **flags}))
    assert read(old) == ((Pooling(("cls", "mean")),), 64)


def test_no_flag_set_is_mean(tmp_path: Path) -> None:
    assert read(chain(tmp_path, ("Pooling", {"word_embedding_dimension": 32})))[0] == (Pooling(("mean",)),)


def test_a_whole_chain(tmp_path: Path) -> None:
    dense = {
        "in_features": 64,
        "out_features": 16,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    folder = chain(
        tmp_path,
        ("Pooling", {"embedding_dimension": 32, "pooling_mode": ["cls", "mean"]}),
        ("Dropout", {"dropout": 0.1}),
        ("Dense", dense),
        ("Dense", {"in_features": 16, "out_features": 8}),
        ("LayerNorm", {"dimension": 8}),
        ("Normalize", {"module_input_name": "sentence_embedding"}),
    )
    assert read(folder) == (
        (
            Pooling(("cls", "mean")),
            Dense(64, 16, False, "Identity", folder / "3_Dense"),
            Dense(16, 8, True, "Tanh", folder / "4_Dense"),
            LayerNorm(8, folder / "5_LayerNorm"),
            Normalize(),
        ),
        8,
    )


@pytest.mark.slow
def test_written_by_the_library(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "pooling": ["max", "mean"],
        "include_prompt": False,
        "dense": [{"out": 24, "activation": "GELU", "bias": False}],
        "layer_norm": True,
    }
    new, old = (
        tiny_models.tiny_bert(tmp_path / "new", **options),
        tiny_models.tiny_bert(tmp_path / "old", old=True, **options),
    )
    for folder in (new, old):
        assert read(folder) == (
            (
                Pooling(("max", "mean"), include_prompt=False),
                Dense(64, 24, False, "GELU", folder / "2_Dense"),
                LayerNorm(24, folder / "3_LayerNorm"),
                Normalize(),
            ),
            24,
        )


def test_no_modules_json(tmp_path: Path) -> None:
    assert modules.read_stages(tmp_path) is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("custom_st.Transformer", None)], r"names the module 'custom_st\.Transformer', which is code"),
        ([("jinaai/x--custom.Pooling", None)], "remote code"),
        ([("sentence_transformers.util.import_from_string", None)], "remote code"),
        ([("os.system", None)], "remote code"),
        ([("pylate.models.LSTM.Dense", None)], "remote code"),
        ([POOLING, ("SpladePooling", None)], "lists SpladePooling where a dense model has none"),
        ([("Asym", None)], "routed"),
        ([("Poolin", None)], r"names the module Poolin, .* Did you mean 'Pooling'"),
        ([POOLING, ("LSTM", None)], "names the module LSTM, which is not supported"),
        ([], "must list a Transformer, one Pooling"),
        ([("Normalize", None)], "must list a Transformer, one Pooling"),
        ([POOLING, POOLING], "must list a Transformer, one Pooling"),
        ([POOLING, ("Transformer", None)], "one Transformer, and first"),
        ([("Pooling", None)], "missing, or names no embedding_dimension"),
        ([("Pooling", {"embedding_dimension": 64})], "says embedding_dimension is 64, and what reaches it has 32"),
        (
            [("Pooling", {"embedding_dimension": 32, "pooling_mode": "men"})],
            "unknown pooling mode 'men'. Did you mean 'mean'",
        ),
        ([("Pooling", {"embedding_dimension": 32, "pooling_mode": []})], "not a name or a list"),
        ([("Pooling", {"embedding_dimension": 32, "pooling": "cls"})], "field 'pooling', which is not understood"),
        ([POOLING, ("Dense", None)], "missing, or its out_features is None"),
        ([POOLING, ("Dense", {"in_features": 31, "out_features": 8})], "says in_features is 31"),
        ([POOLING, ("Dense", {"in_features": 32, "out_features": 0})], "out_features is 0"),
        (
            [POOLING, ("Dense", {"in_features": 32, "out_features": 8, "activation_function": "os.system"})],
            "unknown activation",
        ),
        (
            [POOLING, ("Dense", {"in_features": 32, "out_features": 8, "module_input_name": "token_embeddings"})],
            "only the pooled vector",
        ),
        (
            [POOLING, ("Dense", {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.Tan"})],
            "Did you mean 'Tanh'",
        ),
        ([POOLING, ("LayerNorm", {"dimension": 31})], "says dimension is 31"),
        ([POOLING, ("Normalize", {"module_input_name": "token_embeddings"})], "only the pooled vector"),
    ],
)
def test_refusals(tmp_path: Path, entries: list[Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        read(chain(tmp_path, *entries))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read as JSON"),
        ("[" * 10**5, "cannot be read as JSON"),
        ("{}", "must hold a list"),
        ("[]", "must hold a list"),
        ("[3]", "without type or path"),
        ('[{"type": "sentence_transformers.models.Transformer"}]', "without type or path"),
        ('[{"type": "sentence_transformers.models.Transformer", "path": "../other"}]', "outside its folder"),
        ('[{"type": "sentence_transformers.models.Transformer", "path": "/etc"}]', "outside its folder"),
    ],
)
def test_damaged_modules_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(ModelRefused, match=message):
        read(tmp_path)
