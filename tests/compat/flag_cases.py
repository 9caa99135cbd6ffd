"""Tiny checkpoints and calls with which the classes of FlagEmbedding are compared.

FlagEmbedding needs an older transformers than the tests do. So its results are recorded (``flag_golden.json``, written
by ``python -m tools.flagembedding PYTHON``), with a digest of the weights that they belong to.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import answer, decoder, m3, scores
from tests.support import tiny_models

GOLDEN = Path(__file__).with_name("flag_golden.json")
TEXTS = ["the brown fox", "a dog and a cat in the small house", "river " * 40, "Größe: 42%!", "x"]
INSTRUCTION = "search for this: "
PAIRS = [
    ["what is the sun", "the sun is a star"],
    ["what is the sun", "a cat"],
    ["river " * 30, "water of the river " * 30],
    ["a", "b"],
]
EXAMPLES = [{"instruct": "find it", "query": "sun", "response": "a star"}, {"query": "cat", "response": "dog"}]


@dataclass(frozen=True)
class FlagCall:
    """A method, its arguments, and the settings of the object that has it."""

    method: str
    arguments: list[Any]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FlagCase:
    """A class, a writer of its checkpoint, and calls."""

    kind: str
    write: Callable[[Path], Path]
    calls: tuple[FlagCall, ...]


def _bert(folder: Path) -> Path:
    return tiny_models.tiny_bert(folder / "bert")


def _call(method: str, *arguments: Any, settings: Mapping[str, Any] | None = None, **keywords: Any) -> FlagCall:
    return FlagCall(method, list(arguments), keywords, settings or {})


_QUERY = {"query_instruction_for_retrieval": INSTRUCTION}
_ALL: dict[str, Any] = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
#: One text at a time: FlagEmbedding's token scores depend on the padding of a batch.
_ALONE: dict[str, Any] = {"batch_size": 1}
CASES = {
    "FlagModel": FlagCase(
        "FlagModel",
        _bert,
        (
            _call("encode", TEXTS),
            _call("encode", TEXTS[1]),
            _call("encode", TEXTS, max_length=6),
            _call("encode_queries", TEXTS, settings=_QUERY),
            _call("encode_queries", TEXTS[0], settings={**_QUERY, "query_instruction_format": "[{}]\\n{}"}),
            _call("encode_corpus", TEXTS, settings={"passage_instruction_for_retrieval": "text: "}),
            _call("encode", TEXTS, settings={"pooling_method": "mean", "truncate_dim": 8}),
            _call("encode", TEXTS, settings={"normalize_embeddings": False, "truncate_dim": 100}),
        ),
    ),
    "FlagLLMModel": FlagCase(
        "FlagLLMModel",
        decoder.model("LlamaConfig", begin=True),
        (
            _call("encode_corpus", TEXTS, max_length=40),
            _call("encode_queries", TEXTS, max_length=40, settings=_QUERY),
        ),
    ),
    "FlagICLModel": FlagCase(
        "FlagICLModel",
        decoder.model("LlamaConfig", begin=True, max_position_embeddings=400),
        (
            _call("encode_queries", TEXTS, max_length=30, settings={**_QUERY, "examples_for_task": EXAMPLES}),
            _call("encode_queries", TEXTS[1], max_length=20),
            _call("encode_corpus", TEXTS, max_length=30),
        ),
    ),
    "BGEM3FlagModel": FlagCase(
        "BGEM3FlagModel",
        m3.write,
        (
            _call("encode", TEXTS, max_length=60, **_ALL),
            _call("encode_queries", TEXTS[0], settings={**_QUERY, "return_sparse": True}),
            _call("encode_corpus", TEXTS, return_colbert_vecs=True, settings={"truncate_dim": 8}, max_length=60),
            _call("encode", TEXTS, return_colbert_vecs=True, settings={"normalize_embeddings": False}, max_length=60),
            _call("compute_score", PAIRS, max_query_length=20, max_passage_length=40, **_ALONE),
            _call("compute_score", PAIRS[0], weights_for_different_modes=[0.4, 0.2, 0.4]),
        ),
    ),
    "FlagReranker": FlagCase(
        "FlagReranker",
        scores.classifier("xlm-roberta", new=False),
        (
            _call("compute_score", PAIRS, max_length=60),
            _call("compute_score", PAIRS[0], normalize=True),
            _call("compute_score", PAIRS, max_length=20, query_max_length=5),
            _call("compute_score", PAIRS, max_length=60, settings={"query_instruction_for_rerank": "A: "}),
        ),
    ),
    "FlagLLMReranker": FlagCase(
        "FlagLLMReranker",
        answer.causal("Llama"),
        (
            _call("compute_score", PAIRS, max_length=30, prompt="Yes or No?"),
            _call("compute_score", PAIRS[0], max_length=24, query_max_length=4, normalize=True, prompt="true?"),
        ),
    ),
}


def run(case: FlagCase, folder: Path, module: str) -> list[Any]:
    """Run the calls of a case with the classes of a module; return their results as JSON can hold them."""
    results = []
    for call in case.calls:
        model = getattr(importlib.import_module(module), case.kind)(
            str(folder), use_fp16=False, devices="cpu", **call.settings
        )
        results.append(to_json(getattr(model, call.method)(*call.arguments, **call.keywords)))
    return results


def to_json(value: Any) -> Any:
    """Return arrays as lists and numbers rounded to six digits."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return None if value is None else round(float(value), 6)


def difference(ours: Any, expected: Any) -> float:
    """Return the largest difference between two results of one form.

    Raises:
        AssertionError: their forms differ.
    """
    if isinstance(expected, dict):
        # A weight of zero and no weight are the same.
        keys = {*ours, *expected}
        return max((difference(ours.get(key, 0.0), expected.get(key, 0.0)) for key in keys), default=0.0)
    if isinstance(expected, list):
        assert isinstance(ours, list) and len(ours) == len(expected), (len(ours), len(expected))
        return max((difference(a, b) for a, b in zip(ours, expected, strict=True)), default=0.0)
    assert (ours is None) == (expected is None)
    return 0.0 if expected is None else abs(ours - expected)


def digest(folder: Path) -> str:
    """Return a digest of the weights of a checkpoint."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.pt"), folder / "tokenizer.json"])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def read_golden() -> dict[str, Any]:
    """Return the recorded results: for each case a digest and its results."""
    golden: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return golden
