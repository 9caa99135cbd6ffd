"""`CrossEncoder` beside the original: scores, forms of results, activations, arguments, and code that people copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from nearfield.compat.sentence_transformers.cross_encoder import CrossEncoder
from nearfield.errors import InputError
from tests.compat.comparison import assert_equal
from tests.parity import Case, answer, scores
from tests.parity.measure import PAIRS
from tests.parity.scores import classifier

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

#: The library that it compares with takes more than two seconds to import.
pytestmark = pytest.mark.slow

#: Classification heads, and language models whose last module reads the logits of two words.
CASES = [*scores.CASES, *(case for case in answer.CASES if case.reference == scores.REFERENCE)]
QUERY = "how many people live in the city"
DOCUMENTS = ["The city has many people.", "A fox jumps over a dog.", "", "River bank by night, and the city's light."]


def original(folder: Path, **options: Any) -> Any:
    from sentence_transformers import CrossEncoder as Original

    return Original(str(folder), device="cpu", **options)


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier("bert")(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier("roberta", 3)(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def both(one_label: Path) -> tuple[CrossEncoder, Any]:
    return CrossEncoder(str(one_label)), original(one_label)


@pytest.fixture(scope="module")
def both_with_labels(three_labels: Path) -> tuple[CrossEncoder, Any]:
    return CrossEncoder(str(three_labels)), original(three_labels)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.family}: {case.name}" for case in CASES])
def test_scores_are_those_of_the_original(case: Case, tmp_path: Path) -> None:
    folder = case.write(tmp_path)
    ours, theirs = CrossEncoder(str(folder)), original(folder)
    assert ours.num_labels == theirs.num_labels and ours.max_seq_length == theirs.max_seq_length
    assert type(ours.activation_fn) is type(theirs.activation_fn)
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))
    logits = torch.nn.Identity()
    assert_equal(ours.predict(PAIRS, activation_fn=logits), theirs.predict(PAIRS, activation_fn=logits))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"convert_to_numpy": False, "convert_to_tensor": True},
        {"apply_softmax": True},
        {"activation_fn": torch.nn.Tanh()},
        {"activation_fn": lambda logits: logits * 2},
        {"prompt": "search: "},
        {"processing_kwargs": {"text": {"max_length": 8, "truncation": True}}},
        {"batch_size": 1, "show_progress_bar": False, "device": ["cpu"] * 2, "chunk_size": 1},
    ],
    ids=lambda options: " ".join(options) or "none",
)
@pytest.mark.parametrize("inputs", ["many", "pair", "tuple", "array", "array of pairs"])
@pytest.mark.parametrize("model", ["both", "both_with_labels"])
def test_results_have_the_form_of_the_original(
    model: str, inputs: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    ours, theirs = request.getfixturevalue(model)
    pairs: Any = {
        "many": [[QUERY, text] for text in DOCUMENTS],
        "pair": [QUERY, DOCUMENTS[0]],
        "tuple": (QUERY, DOCUMENTS[0]),
        "array": np.array([QUERY, DOCUMENTS[0]]),
        "array of pairs": np.array([[QUERY, text] for text in DOCUMENTS]),
    }[inputs]
    theirs_options = {name: value for name, value in options.items() if name not in ("device", "chunk_size")}
    assert_equal(ours.predict(pairs, **options), theirs.predict(pairs, **theirs_options))


@pytest.mark.parametrize("empty", [[], np.array([], dtype=str)], ids=["list", "array"])
def test_no_pairs_give_no_scores(empty: Any, both: tuple[CrossEncoder, Any]) -> None:
    for model in both:
        assert model.predict(empty).shape == (0,)
        assert model.predict(empty, convert_to_numpy=False) == []
        assert model.predict(empty, convert_to_tensor=True).shape == (0,)


def test_rank_is_that_of_the_original(both: tuple[CrossEncoder, Any]) -> None:
    ours, theirs = both
    settings: list[dict[str, Any]] = [
        {},
        {"top_k": 2},
        {"return_documents": True},
        {"activation_fn": torch.nn.Identity()},
    ]
    for options in settings:
        ranked = ours.rank(QUERY, DOCUMENTS, **options)
        assert_equal(ranked, theirs.rank(QUERY, DOCUMENTS, **options))
        assert all(type(item["score"]) is float for item in ranked)
    assert ours.rank(QUERY, []) == theirs.rank(QUERY, []) == []


def test_a_ranking_needs_one_label(both_with_labels: tuple[CrossEncoder, Any]) -> None:
    for model in both_with_labels:
        with pytest.raises(ValueError, match="only works for models with"):
            model.rank(QUERY, DOCUMENTS)


def test_settings_of_the_constructor(one_label: Path, three_labels: Path) -> None:
    pairs = [[QUERY, text * 9] for text in DOCUMENTS]
    options: list[dict[str, Any]] = [
        {"max_length": 12},
        {"tokenizer_kwargs": {"model_max_length": 12}},
        {"activation_fn": torch.nn.Identity()},
        {"prompts": {"web": "search the river: "}, "default_prompt_name": "web"},
        {"num_labels": 1, "trust_remote_code": True, "model_kwargs": {"torch_dtype": "float32"}},
    ]
    for keywords in options:
        ours, theirs = CrossEncoder(str(one_label), **keywords), original(one_label, **keywords)
        assert ours.max_seq_length == theirs.max_seq_length and ours.prompts == theirs.prompts
        assert_equal(ours.predict(pairs), theirs.predict(pairs))
    with pytest.raises(InputError, match="gives 3 scores a pair, not 1"):
        CrossEncoder(str(three_labels), num_labels=1)
    with pytest.raises(InputError, match="modules"):
        CrossEncoder(modules=[object()])


def test_settings_that_change_after_loading(one_label: Path) -> None:
    pairs = [[QUERY, text * 9] for text in DOCUMENTS]
    ours, theirs = CrossEncoder(str(one_label)), original(one_label)
    for model in (ours, theirs):
        model.max_seq_length = 10
        model.activation_fn = torch.nn.Identity()
        model.prompts = {"web": "search: "}
        model.default_prompt_name = "web"
    assert_equal(ours.predict(pairs), theirs.predict(pairs))
    assert ours.max_seq_length == theirs.max_seq_length == 10
    with pytest.raises(InputError, match="'wed' not found"):
        ours.predict(pairs, prompt_name="wed")


def test_a_length_beyond_the_positions_is_that_of_the_model(one_label: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = CrossEncoder(str(one_label), max_length=512)
    assert model.max_seq_length == 66 and "Its own length is used" in caplog.text
    caplog.clear()
    model.max_seq_length = 9999
    assert model.max_seq_length == 66 and "Its own length is used" in caplog.text
    with pytest.raises(InputError, match="max_seq_length must be a whole number of 1 or more, and is of type str"):
        model.max_seq_length = "5"  # type: ignore[assignment]


def test_labels_are_in_the_configuration(both_with_labels: tuple[CrossEncoder, Any]) -> None:
    ours, theirs = both_with_labels
    assert ours.config.id2label == theirs.config.id2label and ours.config.num_labels == theirs.config.num_labels == 3


def test_a_class_stands_for_its_activation(both: tuple[CrossEncoder, Any]) -> None:
    pairs = [[QUERY, text] for text in DOCUMENTS]
    expected = both[0].predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_array_equal(both[0].predict(pairs, activation_fn=torch.nn.Identity), expected)


def test_a_saved_prompt_is_read_by_the_reranker_too(tmp_path: Path) -> None:
    from nearfield import Reranker

    folder = classifier("bert")(tmp_path)
    theirs = original(folder, prompts={"web": "search the river: "}, default_prompt_name="web")
    theirs.save(str(tmp_path / "prompted"))
    expected = theirs.predict([[QUERY, text] for text in DOCUMENTS])
    with Reranker(str(tmp_path / "prompted"), precision="float32") as reranker:
        assert_equal(reranker.score(QUERY, DOCUMENTS).data, expected)
    assert_equal(CrossEncoder(str(tmp_path / "prompted")).predict([[QUERY, text] for text in DOCUMENTS]), expected)


def test_a_wrong_pair_is_named(both: tuple[CrossEncoder, Any]) -> None:
    model = both[0]
    with pytest.raises(InputError, match="Pair 2: the second text must be a string, and is None"):
        model.predict([(QUERY, "a"), (QUERY, "b"), (QUERY, None)])
    with pytest.raises(InputError, match="Input 1 must be a pair of texts, not 3 of them"):
        model.predict([(QUERY, "a"), (QUERY, "b", "c")])
    with pytest.raises(InputError, match="The input must be a pair of texts, not one text"):
        model.predict("a text")
    with pytest.raises(InputError, match="give two columns, as in list"):
        model.predict({"query": [QUERY], "document": ["a"]})
    with pytest.raises(InputError, match="batch_size"):
        model.predict([(QUERY, "a")], batch_size=0)
    with pytest.raises(InputError, match="no keyword 'normalize'"):
        model.predict([(QUERY, "a")], normalize=True)


NO_RANKING: dict[str, tuple[dict[str, Any], str]] = {
    "a frame": ({"documents": pandas.DataFrame({"text": ["a", "b"]})}, r"columns text.*data\['text'\]"),
    "a dictionary": ({"documents": {"a": "first", "b": "second"}}, "with the keys a, b"),
    "one text": ({"documents": "a text"}, "documents must be a list of texts, and is one text"),
    "nothing": ({"documents": None}, "documents must be a text or a list of texts, and is None"),
    "a number of results": ({"documents": ["a"], "top_k": "x"}, "top_k must be a whole number"),
    "several queries": ({"query": ["a", "b"], "documents": ["a"]}, "query must be a text"),
    "an activation": ({"documents": ["a"], "activation_fn": "sigmoid"}, "activation_fn must be a function or a class"),
}


@pytest.mark.parametrize("name", NO_RANKING)
def test_what_is_not_ranked(name: str, both: tuple[CrossEncoder, Any]) -> None:
    arguments, words = NO_RANKING[name]
    with pytest.raises(InputError, match=words):
        both[0].rank(**{"query": "a query", **arguments})


def test_an_activation_is_a_function(both: tuple[CrossEncoder, Any], one_label: Path) -> None:
    with pytest.raises(InputError, match="activation_fn"):
        both[0].predict([("a", "b")], activation_fn="sigmoid")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="activation_fn"):
        CrossEncoder(str(one_label), activation_fn="sigmoid")  # type: ignore[arg-type]


def test_columns_and_arrays_are_ranked(both: tuple[CrossEncoder, Any]) -> None:
    expected = both[0].rank(QUERY, DOCUMENTS)
    for documents in (np.array(DOCUMENTS), pandas.Series(DOCUMENTS, index=range(4, 8)), iter(DOCUMENTS)):
        assert both[0].rank(QUERY, documents) == expected  # type: ignore[arg-type]


def test_training_says_what_to_do(both: tuple[CrossEncoder, Any]) -> None:
    with pytest.raises(InputError, match="Train with sentence-transformers"):
        both[0].fit([])


#: Code of documentation pages, with MODEL in place of a name on the Hub; each sets ``result``.
SNIPPETS = [
    """
model = CrossEncoder(MODEL)
scores = model.predict([
    ("How many people live in Berlin?", "Berlin had a population of 3,520,031 registered inhabitants."),
    ("How many people live in Berlin?", "Berlin is well known for its museums."),
])
result = scores.tolist()
""",
    """
model = CrossEncoder(MODEL, max_length=512)
query = "Berlin"
hits = [{"corpus_id": 0}, {"corpus_id": 1}]
passages = ["Berlin is well known for its museums.", "A river by night."]
cross_inp = [[query, passages[hit["corpus_id"]]] for hit in hits]
cross_scores = model.predict(cross_inp)
for idx in range(len(cross_scores)):
    hits[idx]["cross-score"] = cross_scores[idx]
hits = sorted(hits, key=lambda x: x["cross-score"], reverse=True)
result = [float(hit["cross-score"]) for hit in hits]
""",
    """
import torch
model = CrossEncoder(MODEL, default_activation_function=torch.nn.Sigmoid())
ranks = model.rank("What is the river?", ["a river", "the moon", "a bank"], top_k=2, return_documents=True)
result = [rank["score"] for rank in ranks] + [len(rank["text"]) for rank in ranks]
""",
    """
import numpy as np
model = CrossEncoder(MODEL, 1, 64)
pairs = np.array([["a", "b"], ["c", "d"]])
scores = model.predict(sentences=pairs, num_workers=0, show_progress_bar=False)
sim_scores_argsort = reversed(np.argsort(scores))
result = [int(idx) for idx in sim_scores_argsort] + [scores.mean()]
""",
    """
model = CrossEncoder(MODEL, device="cpu", trust_remote_code=True, local_files_only=True)
pool = model.start_multi_process_pool(["cpu"])
scores = model.predict([("a", "b")] * 3, convert_to_tensor=True, batch_size=2)
model.stop_multi_process_pool(pool)
result = scores.cpu().numpy().tolist() + [model.max_length]
""",
]


@pytest.mark.filterwarnings("ignore:The .max_length. property:DeprecationWarning")
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_code_that_people_copy_gives_the_same(snippet: str, one_label: Path) -> None:
    from sentence_transformers import CrossEncoder as Original

    results = []
    for kind in (CrossEncoder, Original):
        names: dict[str, Any] = {"CrossEncoder": kind, "MODEL": str(one_label)}
        exec(snippet, names)
        results.append(names["result"])
    assert_equal(*results)
