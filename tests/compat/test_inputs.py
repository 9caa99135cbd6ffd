"""What is no text or no pair of texts, in all classes of other libraries: it is refused, not read by its parts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pytest

from nearfield.compat import fastembed, flag_embedding, sentence_transformers
from nearfield.compat.instructor import INSTRUCTOR
from nearfield.compat.model2vec import StaticModel
from nearfield.compat.sentence_transformers import util
from nearfield.errors import InputError
from tests.compat import onnx_folders
from tests.parity import decoder, m3, multivector, scores, sparse, static, t5
from tests.support import tiny_models

pytest.importorskip("sentence_transformers")
pytest.importorskip("model2vec")
#: The libraries that write the checkpoints take more than two seconds to import.
pytestmark = pytest.mark.slow

TABLE = pandas.DataFrame({"query": ["the sun", "the moon"], "passage": ["a star", "a cat"]})
#: What is no list of texts, and what the error says of it.
NO_TEXTS: dict[str, tuple[Callable[[], Any], str]] = {
    "table": (lambda: TABLE, "of type DataFrame with the columns query, passage"),
    "mapping": (lambda: {"query": "the sun"}, "of type dict with the keys query"),
    "set": (lambda: {"the sun", "the moon"}, "of type set, which has no order"),
    "file": (lambda: io.StringIO("the sun\nthe moon\n"), "an open file"),
    "path": (lambda: Path("notes.txt"), "(?i)read the file"),
    "bytes": (lambda: b"the sun", "(?i)decode"),
    "number": (lambda: 3, "the number 3"),
    "nothing": (lambda: None, "None"),
    "an item without a text": (lambda: ["the sun", None], "1 is None, not a? ?text"),
    "a number in a list": (lambda: ["the sun", 3], "1 is the number 3, not a? ?text"),
    "token ids": (lambda: [3, 4], "0 is the number 3, not a text"),
    "rows of a table": (lambda: TABLE.to_dict("records"), "0 is of type dict with the keys query, passage"),
}


class Pair(NamedTuple):
    """A row of a table."""

    query: str
    passage: str


#: What is no list of pairs, and what the error says of it.
NO_PAIRS: dict[str, tuple[Callable[[], Any], str]] = {
    **{name: NO_TEXTS[name] for name in ("table", "mapping", "set", "file", "path", "bytes", "number", "nothing")},
    "one text": (lambda: "the sun", "must be a (pair|list of pairs).*(and is|not one text)"),
    "texts": (lambda: ["ab", "cd", "ef"], "must (have two texts|be a pair of texts)"),
    "three texts": (lambda: [("a", "b"), ("a", "b", "c")], "1 must .* (3 texts|3 of them)"),
    "sets": (lambda: [("a", "b"), {"a", "b"}], "1 must .* set"),
    "mappings": (lambda: [("a", "b"), {"query": "a", "passage": "b"}], "1 must .* dict"),
    "a pair without a text": (lambda: [("a", "b"), ("a", None)], "1: the second text must be a string, and is None"),
    "a pair of numbers": (lambda: [("a", "b"), (3, 4)], "1: the first text must be a string, and is the number 3"),
}


@pytest.fixture(scope="module")
def create(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that creates an object of a class, over a checkpoint that is written for the first one."""
    folders: dict[Any, str] = {}
    models: dict[str, Any] = {}

    def folder(write: Callable[[Path], Path]) -> str:
        if write not in folders:
            folders[write] = str(write(tmp_path_factory.mktemp("checkpoint") / "model"))
        return folders[write]

    def build(name: str) -> Any:
        if name not in models:
            models[name] = CLASSES[name][0](folder(CLASSES[name][1]))
        return models[name]

    return build


def _flag(name: str) -> Callable[[str], Any]:
    return lambda folder: getattr(flag_embedding, name)(folder, use_fp16=False, query_instruction_for_retrieval="a: ")


def _fastembed(name: str, model: str) -> Callable[[str], Any]:
    return lambda folder: getattr(fastembed, name)(model, specific_model_path=folder)


#: Created once each, so that classes that share a checkpoint find it.
_BERT, _LLAMA = tiny_models.tiny_bert, decoder.model("LlamaConfig", begin=True)
_SPLADE, _COLBERT = sparse.masked("bert"), multivector.own("bert", multivector.FIXED)
_CLASSIFIER, _STATIC = scores.classifier("xlm-roberta", new=False), static.distilled(normalize=True, shared=False)
_T5 = t5.encoder({"normalize": False})
#: How to create an object of each class from a folder, and the writer of a checkpoint.
CLASSES: dict[str, tuple[Callable[[str], Any], Callable[[Path], Path]]] = {
    "SentenceTransformer": (sentence_transformers.SentenceTransformer, _BERT),
    "SparseEncoder": (sentence_transformers.SparseEncoder, _SPLADE),
    "MultiVectorEncoder": (sentence_transformers.MultiVectorEncoder, _COLBERT),
    "CrossEncoder": (sentence_transformers.CrossEncoder, _CLASSIFIER),
    "FlagModel": (_flag("FlagModel"), _BERT),
    "FlagLLMModel": (_flag("FlagLLMModel"), _LLAMA),
    "FlagICLModel": (_flag("FlagICLModel"), _LLAMA),
    "BGEM3FlagModel": (_flag("BGEM3FlagModel"), m3.write),
    "FlagReranker": (flag_embedding.FlagReranker, _CLASSIFIER),
    "StaticModel": (StaticModel.from_pretrained, _STATIC),
    "INSTRUCTOR": (INSTRUCTOR, _T5),
    "TextEmbedding": (_fastembed("TextEmbedding", "BAAI/bge-small-en-v1.5"), _BERT),
    "SparseTextEmbedding": (_fastembed("SparseTextEmbedding", "prithivida/Splade_PP_en_v1"), _SPLADE),
    "LateInteractionTextEmbedding": (
        _fastembed("LateInteractionTextEmbedding", "colbert-ir/colbertv2.0"),
        onnx_folders.colbert_folder,
    ),
    "TextCrossEncoder": (_fastembed("TextCrossEncoder", "Xenova/ms-marco-MiniLM-L-6-v2"), _CLASSIFIER),
}
_ENCODE = ("encode", "encode_query", "encode_document")
_FLAG = ("encode", "encode_queries", "encode_corpus", "encode_single_device")
_FASTEMBED = ("embed", "query_embed", "passage_embed", "token_count")
#: The methods that take texts, and those that take pairs.
TEXTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder"), _ENCODE),
    **dict.fromkeys(("FlagModel", "FlagLLMModel", "BGEM3FlagModel"), _FLAG),
    "FlagICLModel": (*_FLAG, "encode_queries_single_device"),
    "StaticModel": ("encode", "encode_as_sequence", "tokenize"),
    **dict.fromkeys(("TextEmbedding", "SparseTextEmbedding", "LateInteractionTextEmbedding"), _FASTEMBED),
}
PAIRS: dict[str, tuple[str, ...]] = {
    "CrossEncoder": ("predict",),
    "FlagReranker": ("compute_score", "compute_score_single_gpu"),
    "BGEM3FlagModel": ("compute_score", "compute_score_single_device"),
    "TextCrossEncoder": ("rerank_pairs", "token_count"),
}


def _calls(methods: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, method) for name, names in methods.items() for method in names]


def _result(model: Any, method: str, *arguments: Any) -> Any:
    result = getattr(model, method)(*arguments)
    return list(result) if hasattr(result, "__next__") else result


@pytest.mark.parametrize("what", NO_TEXTS)
@pytest.mark.parametrize(("name", "method"), _calls(TEXTS))
def test_what_is_no_list_of_texts(name: str, method: str, what: str, create: Callable[[str], Any]) -> None:
    value, message = NO_TEXTS[what]
    with pytest.raises(InputError, match=message):
        _result(create(name), method, value())


@pytest.mark.parametrize("what", NO_PAIRS)
@pytest.mark.parametrize(("name", "method"), _calls(PAIRS))
def test_what_is_no_list_of_pairs(name: str, method: str, what: str, create: Callable[[str], Any]) -> None:
    value, message = NO_PAIRS[what]
    with pytest.raises(InputError, match=message):
        _result(create(name), method, value())


@pytest.mark.parametrize(("name", "method"), _calls(TEXTS))
def test_columns_arrays_and_generators_are_texts(name: str, method: str, create: Callable[[str], Any]) -> None:
    model, column = create(name), TABLE["query"]
    expected = repr(_result(model, method, list(column)))
    for value in (column, column.to_numpy(), np.array(column, str), tuple(column), iter(list(column))):
        assert repr(_result(model, method, value)) == expected, type(value)


@pytest.mark.parametrize(("name", "method"), _calls(PAIRS))
def test_rows_arrays_and_generators_are_pairs(name: str, method: str, create: Callable[[str], Any]) -> None:
    model, rows = create(name), TABLE.to_numpy().tolist()
    expected = repr(_result(model, method, rows))
    columns = zip(TABLE["query"], TABLE["passage"], strict=True)
    for value in (TABLE.to_numpy(), [Pair(*row) for row in rows], tuple(map(tuple, rows)), iter(rows), columns):
        assert repr(_result(model, method, value)) == expected, type(value)


@pytest.mark.parametrize("what", [*NO_TEXTS, "one text"])
def test_what_is_no_list_of_instructions(what: str, create: Callable[[str], Any]) -> None:
    value, message = NO_TEXTS.get(what, (lambda: "the sun", "must be a list of pairs .*, and is one text"))
    with pytest.raises(InputError, match=f"{message}|Input [01] is .*, not a pair"):
        create("INSTRUCTOR").encode(value())


def test_instructions_in_arrays(create: Callable[[str], Any]) -> None:
    model, rows = create("INSTRUCTOR"), TABLE.to_numpy().tolist()
    np.testing.assert_array_equal(model.encode(TABLE.to_numpy()), model.encode(rows))
    records = [{"instruction": query, "text": passage} for query, passage in rows]
    np.testing.assert_array_equal(model.encode(records), model.encode(rows))


@pytest.mark.parametrize("what", [*(name for name in NO_TEXTS if name != "nothing"), "one text"])
def test_a_corpus_of_mined_negatives(what: str, create: Callable[[str], Any]) -> None:
    value, message = NO_TEXTS.get(what, (lambda: "the sun", "corpus must be a list of texts, and is one text"))
    with pytest.raises(InputError, match=message):
        util.mine_hard_negatives(TABLE, create("SentenceTransformer"), corpus=value(), verbose=False)


@pytest.mark.parametrize("dataset", ["texts", ["ab", "cd"], [("a", "b"), ("c", None)], {"a": ["b"], "c": [3]}, {"a"}])
def test_pairs_of_mined_negatives(dataset: Any, create: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"(?i)pair|row 0 is the number 3|has no order|two columns"):
        util.mine_hard_negatives(dataset, create("SentenceTransformer"), verbose=False)


@pytest.mark.parametrize("name", ["rank", "rerank"])
@pytest.mark.parametrize("what", NO_TEXTS)
def test_documents_to_rank(name: str, what: str, create: Callable[[str], Any]) -> None:
    value, message = NO_TEXTS[what]
    model = create("CrossEncoder" if name == "rank" else "TextCrossEncoder")
    with pytest.raises(InputError, match=f"{message}|second text must be a string"):
        _result(model, name, "the sun", value())
    with pytest.raises(InputError, match="query must be a text"):
        _result(model, name, value(), ["a star"])
