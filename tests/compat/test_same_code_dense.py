"""The commonest code for SentenceTransformer gives the same with ours: only the import differs."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.compat.comparison import assert_equal
from tests.support.tiny_models import TINY

#: sentence-transformers takes more than two seconds to import.
pytestmark = pytest.mark.slow

original = pytest.importorskip("sentence_transformers")

DOCS = ["The quick brown fox.", "A river of light.", "Stone by stone the city was made", "love", "what day is it"]
QUERY = "Which fox is fast?"
PROMPTS = {"query": "search: ", "passage": "read the passage: "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY["bert"](tmp_path_factory.mktemp("dense") / "model", normalize=False, prompts=PROMPTS, hidden_size=32)


@pytest.fixture(scope="module")
def libraries(folder: Path) -> list[SimpleNamespace]:
    """The original and ours, each with a cached ``load``."""
    import nearfield.compat.sentence_transformers as ours

    def library(module: Any) -> SimpleNamespace:
        @cache
        def load(**options: Any) -> Any:
            return module.SentenceTransformer(str(folder), device="cpu", **options)

        return SimpleNamespace(
            load=load, util=module.util, model=load(), SentenceTransformer=module.SentenceTransformer, folder=folder
        )

    return [library(original), library(ours)]


Snippet = Callable[[SimpleNamespace], Any]
SNIPPETS: dict[str, Snippet] = {
    "batch size and bar": lambda st: st.model.encode(DOCS, batch_size=32, show_progress_bar=True),
    "one text": lambda st: st.model.encode(QUERY),
    "shape": lambda st: [st.model.encode(QUERY).shape, st.model.encode(DOCS).shape],
    "dtype": lambda st: str(st.model.encode(DOCS).dtype),
    "matrix product": lambda st: st.model.encode(DOCS) @ st.model.encode(QUERY),
    "dot and argsort": lambda st: np.argsort(-np.dot(st.model.encode(DOCS), st.model.encode(QUERY))),
    "tolist": lambda st: st.model.encode(DOCS).tolist(),
    "JSON": lambda st: json.loads(json.dumps(st.model.encode(DOCS).tolist())),
    "slices": lambda st: [st.model.encode(DOCS)[1:3], st.model.encode(DOCS)[0], st.model.encode(DOCS)[:, :8]],
    "stack": lambda st: np.vstack([st.model.encode(DOCS[:2]), st.model.encode(DOCS[2:])]),
    "mean": lambda st: st.model.encode(DOCS).mean(axis=0),
    "norms": lambda st: np.linalg.norm(st.model.encode(DOCS, normalize_embeddings=True), axis=1),
    "other dtype": lambda st: st.model.encode(DOCS).astype("float64"),
    "iteration": lambda st: [row.sum() for row in st.model.encode(DOCS)],
    "pickle of a result": lambda st: pickle.loads(pickle.dumps(st.model.encode(DOCS))),
    "tensor": lambda st: st.model.encode(DOCS, convert_to_tensor=True),
    "tensor of one text": lambda st: st.model.encode(QUERY, convert_to_tensor=True),
    "list of tensors": lambda st: st.model.encode(DOCS, convert_to_numpy=False),
    "tensor wins": lambda st: st.model.encode(DOCS, convert_to_tensor=True, convert_to_numpy=True),
    "normalised": lambda st: st.model.encode(DOCS, normalize_embeddings=True),
    "truncated": lambda st: st.model.encode(DOCS, truncate_dim=8),
    "truncated, normalised": lambda st: st.model.encode(DOCS, truncate_dim=8, normalize_embeddings=True),
    "truncated when loaded": lambda st: st.load(truncate_dim=16).encode(DOCS),
    "token embeddings": lambda st: st.model.encode(DOCS, output_value="token_embeddings"),
    "token embeddings of one text": lambda st: st.model.encode(QUERY, output_value="token_embeddings"),
    "all values of one text": lambda st: st.model.encode(QUERY, output_value=None),
    "all values with a prompt": lambda st: st.model.encode(QUERY, prompt="search: ", output_value=None),
    "bits": lambda st: st.model.encode(DOCS, precision="ubinary"),
    "signed bits": lambda st: st.model.encode(DOCS, precision="binary"),
    "prompt name": lambda st: st.model.encode(QUERY, prompt_name="query"),
    "prompt": lambda st: st.model.encode(DOCS, prompt="read: "),
    "query": lambda st: st.model.encode_query(QUERY),
    "documents": lambda st: st.model.encode_document(DOCS),
    "own prompts": lambda st: st.load(default_prompt_name="passage").encode(DOCS),
    "prompts": lambda st: st.model.prompts,
    "sentences": lambda st: st.model.encode(sentences=DOCS),
    "array of texts": lambda st: st.model.encode(np.array(DOCS)),
    "tuple of texts": lambda st: st.model.encode(tuple(DOCS)),
    "dimension": lambda st: [st.model.get_sentence_embedding_dimension(), st.model.get_embedding_dimension()],
    "truncated dimension": lambda st: st.load(truncate_dim=16).get_sentence_embedding_dimension(),
    "similarity": lambda st: st.model.similarity(st.model.encode(QUERY), st.model.encode(DOCS)),
    "similarity of tensors": lambda st: st.model.similarity(*[st.model.encode(DOCS, convert_to_tensor=True)] * 2),
    "pairwise similarity": lambda st: st.model.similarity_pairwise(*[st.model.encode(DOCS)] * 2),
    "dot": lambda st: st.load(similarity_fn_name="dot").similarity(*[st.model.encode(DOCS)] * 2),
    "euclidean": lambda st: st.load(similarity_fn_name="euclidean").similarity(*[st.model.encode(DOCS)] * 2),
    "cos_sim": lambda st: st.util.cos_sim(st.model.encode(QUERY), st.model.encode(DOCS)),
    "semantic search": lambda st: st.util.semantic_search(st.model.encode(QUERY), st.model.encode(DOCS), top_k=3),
    "remote code": lambda st: st.load(trust_remote_code=True).encode(DOCS),
    "length": lambda st: [st.model.max_seq_length, st.model.get_max_seq_length()],
    "shorter": lambda st: _with_length(st, 6),
    "cut on the left": lambda st: _cut_on_the_left(st),
    "shorter by the tokenizer": lambda st: _with_tokenizer(st, "model_max_length", 6),
    "cut on the left by the tokenizer": lambda st: _with_tokenizer(st, "truncation_side", "left"),
    "tokens": lambda st: st.model.tokenize(DOCS)["input_ids"].shape,
    "features": lambda st: st.model.preprocess(DOCS),
    "tokenizer": lambda st: st.model.tokenizer(QUERY)["input_ids"],
    "device": lambda st: str(st.model.device),
    "copy": lambda st: copy.deepcopy(st.model).encode(DOCS),
    "number of modules": lambda st: len(st.model),
    "moved": lambda st: st.model.to("cpu").eval().encode(QUERY),
}


def _with_length(st: SimpleNamespace, length: int) -> Any:
    model = copy.deepcopy(st.model)
    model.max_seq_length = length
    return [model.max_seq_length, model.encode(["river " * 30, *DOCS])]


LONG = "moon and stars " + "river " * 80 + "fox"


def _cut_on_the_left(st: SimpleNamespace) -> Any:
    model = st.SentenceTransformer(str(st.folder), device="cpu", processor_kwargs={"truncation_side": "left"})
    return model.encode([LONG, *DOCS])


def _with_tokenizer(st: SimpleNamespace, name: str, value: Any) -> Any:
    model = copy.deepcopy(st.model)
    setattr(model.tokenizer, name, value)
    return model.encode([LONG, *DOCS])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SNIPPETS)
def test_the_same_code(libraries: list[SimpleNamespace], name: str) -> None:
    expected, actual = (SNIPPETS[name](library) for library in libraries)
    assert_equal(actual, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_integers_are_at_most_a_step_apart(libraries: list[SimpleNamespace], precision: str) -> None:
    """Ranges come from the vectors themselves: where a value lies between two steps, rounding decides."""
    expected, actual = (library.model.encode(DOCS * 30, precision=precision) for library in libraries)
    assert actual.dtype == expected.dtype
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.filterwarnings("ignore")
def test_what_one_library_saves_the_other_loads(libraries: list[SimpleNamespace], tmp_path: Path) -> None:
    expected, actual = libraries
    changed = copy.deepcopy(actual.model)
    changed.prompts = {**PROMPTS, "query": "read: "}
    changed.similarity_fn_name = "dot"
    changed.truncate_dim = 16
    changed.save(str(tmp_path / "saved"))
    models = [library.SentenceTransformer(str(tmp_path / "saved"), device="cpu") for library in (expected, actual)]
    assert_equal(models[1].encode_query(QUERY), models[0].encode_query(QUERY))
    assert [model.similarity_fn_name for model in models] == ["dot", "dot"]
    assert models[1].prompts["query"] == models[0].prompts["query"] == "read: "


@pytest.mark.filterwarnings("ignore")
def test_a_pickled_model_gives_the_same(libraries: list[SimpleNamespace]) -> None:
    model = libraries[1].model
    assert_equal(pickle.loads(pickle.dumps(model)).encode(DOCS), libraries[0].model.encode(DOCS))
