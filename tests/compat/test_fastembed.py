"""fastembed's classes against fastembed itself, over tiny checkpoints whose graph is exported as ONNX."""

from __future__ import annotations

import inspect
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.compat import fastembed as ours
from nearfield.errors import InputError, ModelRefused
from tests.compat import onnx_folders
from tests.support import tiny_models

#: torch, transformers and fastembed take more than two seconds to import.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

original = pytest.importorskip("fastembed")

TEXTS = [text for text in tiny_models.TEXTS if text.strip()]
LONG = "read the song of the old king, and " * 20
SMALL, MINI = "BAAI/bge-small-en-v1.5", "sentence-transformers/all-MiniLM-L6-v2"
SPLADE, INFERENCE_FREE = "prithivida/Splade_PP_en_v1", "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte"
COLBERT, RERANKER = "colbert-ir/colbertv2.0", "Xenova/ms-marco-MiniLM-L-6-v2"
#: A model of each pooling, with the file that fastembed reads.
DENSE = {
    SMALL: "model_optimized.onnx",
    MINI: "model.onnx",
    "nomic-ai/nomic-embed-text-v1.5": "onnx/model.onnx",
    "Qwen/Qwen3-Embedding-0.6B": "onnx/model.onnx",
}
ATOL = 2e-5


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with prompts and modules, which fastembed does not read."""
    options: dict[str, Any] = {"pooling": "max", "prompts": {"query": "search: "}, "default_prompt_name": "query"}
    place = tmp_path_factory.mktemp("dense") / "model"
    return onnx_folders.dense_folder(place, *dict.fromkeys(DENSE.values()), **options)


@pytest.fixture(scope="module")
def weights(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same folder without ONNX files."""
    ignored = shutil.ignore_patterns("*.onnx")
    return Path(shutil.copytree(dense, tmp_path_factory.mktemp("weights") / "model", ignore=ignored))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.sparse_folder(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def inference_free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.inference_free_folder(tmp_path_factory.mktemp("free"))


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.colbert_folder(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.cross_encoder_folder(tmp_path_factory.mktemp("reranker"))


@pytest.fixture(autouse=True)
def _custom_models() -> Iterator[None]:
    from fastembed.rerank.cross_encoder.custom_text_cross_encoder import CustomTextCrossEncoder
    from fastembed.text.custom_text_embedding import CustomTextEmbedding

    registries = [
        (ours.TextEmbedding, "_custom"),
        (ours.TextCrossEncoder, "_custom"),
        (CustomTextEmbedding, "SUPPORTED_MODELS"),
        (CustomTextCrossEncoder, "SUPPORTED_MODELS"),
    ]
    before = [list(getattr(holder, name)) for holder, name in registries]
    yield
    for (holder, name), models in zip(registries, before, strict=True):
        getattr(holder, name)[:] = models


def _both(name: str, model: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """Return our object of a class and fastembed's."""
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    theirs = TextCrossEncoder if name == "TextCrossEncoder" else getattr(original, name)
    arguments = {"specific_model_path": str(folder), **options}
    return getattr(ours, name)(model, **arguments), theirs(model, **arguments)


def _equal(rows: Any, truth: Any) -> None:
    rows, truth = list(rows), list(truth)
    assert len(rows) == len(truth)
    for row, other in zip(rows, truth, strict=True):
        assert row.shape == other.shape and row.dtype == np.float32
        np.testing.assert_allclose(row, other, atol=ATOL)


def _equal_sparse(rows: Any, truth: Any) -> None:
    rows, truth = list(rows), list(truth)
    assert len(rows) == len(truth)
    for row, other in zip(rows, truth, strict=True):
        # Weights within noise of zero may be there on one side alone.
        here, there = row.as_dict(), other.as_dict()
        for index in here.keys() | there.keys():
            assert here.get(index, 0) == pytest.approx(there.get(index, 0), abs=ATOL)


# -- dense -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", DENSE)
def test_dense_vectors_are_those_of_fastembed(model: str, dense: Path, weights: Path) -> None:
    here, there = _both("TextEmbedding", model, dense)
    truth = list(there.embed(TEXTS))
    _equal(here.embed(TEXTS), truth)
    _equal(here.query_embed(TEXTS[0]), there.query_embed(TEXTS[0]))
    _equal(here.passage_embed(TEXTS[:2]), there.passage_embed(TEXTS[:2]))
    assert here.token_count(TEXTS) == there.token_count(TEXTS)
    # From the weights, pooling and length are fastembed's too.
    _equal(ours.TextEmbedding(model, specific_model_path=weights).embed(TEXTS), truth)


def test_a_tokenizer_that_reads_fewer_tokens(dense: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense, tmp_path / "model"))
    tiny_models.edit(folder / "tokenizer_config.json", max_length=9)
    here, there = _both("TextEmbedding", MINI, folder)
    _equal(here.embed([LONG]), there.embed([LONG]))
    assert here.token_count(LONG) == there.token_count(LONG) == 9


def test_the_known_lengths_of_fastembeds_repositories() -> None:
    lengths = {item.model: item.max_length for item in ours.TextEmbedding._known() if item.max_length}
    assert lengths[MINI] == lengths["thenlper/gte-large"] == 128


def test_methods_that_embed_are_lazy_generators(dense: Path) -> None:
    model = ours.TextEmbedding(SMALL, specific_model_path=dense, lazy_load=True)
    assert all(inspect.isgenerator(method("a")) for method in (model.embed, model.query_embed, model.passage_embed))
    assert not hasattr(model.model, "model")
    endless = ("fox" for _ in itertools.count())
    assert next(iter(model.embed(endless))).shape == (32,)
    assert hasattr(model.model, "model")


def test_hints_change_nothing(dense: Path) -> None:
    model = ours.TextEmbedding(SMALL, None, 1, ["CPUExecutionProvider"], False, [0], specific_model_path=dense)
    _equal(model.embed(TEXTS, batch_size=2, parallel=2), model.embed(iter(TEXTS)))


def test_the_file_in_fastembeds_cache_is_loaded(dense: Path, tmp_path: Path) -> None:
    shutil.copytree(dense, tmp_path / "models--Qdrant--bge-small-en-v1.5-onnx-Q" / "snapshots" / "abc")
    model = ours.TextEmbedding(SMALL, cache_dir=str(tmp_path), local_files_only=True)
    assert model.model.load().recipe.exported_graph is not None
    _equal(model.embed(TEXTS), original.TextEmbedding(SMALL, specific_model_path=str(dense)).embed(TEXTS))


@pytest.mark.parametrize("pooling", ["CLS", "MEAN", "LAST_TOKEN"])
@pytest.mark.parametrize("normalization", [True, False])
def test_custom_models(pooling: str, normalization: bool, dense: Path) -> None:
    from fastembed.common.model_description import ModelSource
    from fastembed.common.model_description import PoolingType as TheirPoolingType

    name = f"me/{pooling}-{normalization}"
    facts: dict[str, Any] = {"normalization": normalization, "dim": 32, "model_file": "model.onnx"}
    ours.TextEmbedding.add_custom_model(name, ours.PoolingType(pooling), sources=ours.ModelSource(hf="me/x"), **facts)
    original.TextEmbedding.add_custom_model(name, TheirPoolingType(pooling), sources=ModelSource(hf="me/x"), **facts)
    here, there = _both("TextEmbedding", name, dense)
    _equal(here.embed(TEXTS), there.embed(TEXTS))
    assert here.embedding_size == there.embedding_size == 32
    with pytest.raises(InputError, match="already registered"):
        ours.TextEmbedding.add_custom_model(name, ours.PoolingType.CLS, sources=ours.ModelSource(hf="me/x"), **facts)


def test_a_custom_model_without_pooling_is_the_models_own(dense: Path) -> None:
    from nearfield import Encoder

    source = ours.ModelSource(hf="me/x")
    ours.TextEmbedding.add_custom_model("me/own", ours.PoolingType.DISABLED, False, source, 32)
    model = ours.TextEmbedding("me/own", specific_model_path=dense)
    _equal(model.embed(TEXTS), np.asarray(Encoder(str(dense), precision="float32").encode(TEXTS, prompt="")))


# -- sparse, late interaction, scores ----------------------------------------------------------------------------------


def test_splade(sparse: Path) -> None:
    here, there = _both("SparseTextEmbedding", SPLADE, sparse)
    _equal_sparse(here.embed(TEXTS), there.embed(TEXTS))
    _equal_sparse(here.query_embed(TEXTS[0]), there.query_embed(TEXTS[0]))
    row = next(iter(here.embed(TEXTS[0])))
    assert row.indices.dtype == np.int64 and row.values.dtype == np.float32 and (np.diff(row.indices) > 0).all()
    assert here.token_count(TEXTS) == there.token_count(TEXTS)


def test_inference_free_splade(inference_free: Path) -> None:
    here, there = _both("SparseTextEmbedding", INFERENCE_FREE, inference_free)
    _equal_sparse(here.embed(TEXTS), there.embed(TEXTS))
    _equal_sparse(here.query_embed(TEXTS), there.query_embed(TEXTS))
    # Queries need no weights.
    lazy = ours.SparseTextEmbedding(INFERENCE_FREE, specific_model_path=inference_free, lazy_load=True)
    _equal_sparse(lazy.query_embed(TEXTS), there.query_embed(TEXTS))
    assert not hasattr(lazy.model, "model")


def test_sparse_vectors_by_index() -> None:
    vector = ours.SparseEmbedding.from_dict({3: 0.5, 9: 1.5})
    truth = original.SparseEmbedding.from_dict({3: 0.5, 9: 1.5})
    assert vector.as_dict() == truth.as_dict() == {3: 0.5, 9: 1.5}
    assert {name: array.tolist() for name, array in vector.as_object().items()} == {
        name: array.tolist() for name, array in truth.as_object().items()
    }
    assert ours.SparseEmbedding.from_dict({}).as_dict() == {}


def test_late_interaction(colbert: Path) -> None:
    here, there = _both("LateInteractionTextEmbedding", COLBERT, colbert)
    _equal(here.embed(TEXTS), there.embed(TEXTS))
    # A short query is filled up to 32 tokens, a long one is read to its end.
    queries = ["fox", LONG, TEXTS[0]]
    _equal(here.query_embed(queries), there.query_embed(queries))
    assert [len(row) for row in here.query_embed(queries)] == [32, 66, 32]
    for options in itertools.product((True, False), repeat=2):
        count = {"is_doc": options[0], "include_extension": options[1]}
        assert here.token_count([*TEXTS, LONG], **count) == there.token_count([*TEXTS, LONG], **count)


def test_scores(reranker: Path) -> None:
    here, there = _both("TextCrossEncoder", RERANKER, reranker)
    scores = list(here.rerank("the fox", TEXTS))
    assert scores == pytest.approx(list(there.rerank("the fox", TEXTS)), abs=1e-4)
    assert all(isinstance(score, float) for score in scores)
    pairs = [(text, other) for text in TEXTS[:3] for other in (*TEXTS, LONG)]
    assert list(here.rerank_pairs(iter(pairs))) == pytest.approx(list(there.rerank_pairs(iter(pairs))), abs=1e-4)
    assert here.token_count(pairs) == there.token_count(pairs)
    assert list(here.rerank_pairs(pairs[0])) == pytest.approx(list(there.rerank_pairs(pairs[0])), abs=1e-4)


# -- lists, refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TextEmbedding", "SparseTextEmbedding", "LateInteractionTextEmbedding"])
def test_the_list_is_that_of_fastembed_without_what_cannot_be_loaded(name: str) -> None:
    here, there = getattr(ours, name), getattr(original, name)
    theirs = {item["model"]: item for item in there.list_supported_models()}
    known = {item.model: item for item in here._known()}
    assert known.keys() == theirs.keys()
    assert {item["model"] for item in here.list_supported_models()} == {
        model for model, item in known.items() if item.refused is None
    }
    for model, item in known.items():
        assert item.dim == theirs[model].get("dim") and item.sources.hf == theirs[model]["sources"]["hf"]
        assert item.model_file == theirs[model]["model_file"]


def test_poolings_are_those_of_fastembeds_classes() -> None:
    from fastembed.text.onnx_embedding import OnnxTextEmbedding
    from fastembed.text.pooled_embedding import PooledEmbedding
    from fastembed.text.pooled_normalized_embedding import PooledNormalizedEmbedding

    known = {item.model: item for item in ours.TextEmbedding._known()}
    expected = [(OnnxTextEmbedding, "cls", True), (PooledEmbedding, "mean", False)]
    for kind, pooling, normalize in [*expected, (PooledNormalizedEmbedding, "mean", True)]:
        for item in kind._list_supported_models():
            if known[item.model].refused is None and known[item.model].pooling != "own":
                assert (known[item.model].pooling, known[item.model].normalize) == (pooling, normalize), item.model


def test_sizes() -> None:
    assert ours.TextEmbedding.get_embedding_size("sentence-transformers/ALL-minilm-l6-v2") == 384
    assert ours.LateInteractionTextEmbedding.get_embedding_size(COLBERT) == 128


def _with_url_alone() -> ours.TextCrossEncoder:
    ours.TextCrossEncoder.add_custom_model("me/url", ours.ModelSource(url="https://localhost/x.tar.gz"))
    return ours.TextCrossEncoder("me/url")


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: ours.SparseTextEmbedding("Qdrant/bm25"), "Qdrant computes it"),
        (lambda: ours.SparseTextEmbedding("Qdrant/bm42-all-minilm-l6-v2-attentions"), "attention"),
        (lambda: ours.TextEmbedding("Qdrant/clip-ViT-B-32-text"), "pictures"),
        (lambda: ours.TextEmbedding("BAAI/bge-smal-en-v1.5"), "BAAI/bge-small-en-v1.5"),
        (lambda: ours.TextEmbedding(providers=["TensorrtExecutionProvider"]), "TensorrtExecutionProvider"),
        (lambda: ours.ImageEmbedding("Qdrant/clip-ViT-B-32-vision"), "Keep fastembed"),
        (lambda: ours.LateInteractionMultimodalEmbedding("Qdrant/colpali-v1.3-fp16"), "Keep fastembed"),
        (lambda: ours.ModelSource(), "hf"),
        (_with_url_alone, "Unpack"),
    ],
)
def test_refusals_say_what_to_do(create: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create()


def test_sparse_models_need_weights(dense: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelRefused, match="has no weights"):
        ours.SparseTextEmbedding(SPLADE, specific_model_path=folder)


def test_unknown_arguments_are_reported(dense: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours.TextEmbedding(SMALL, specific_model_path=dense, lazy_load=True, max_length=12)
    assert "ignores max_length" in caplog.text


def test_the_readme(dense: Path, reranker: Path) -> None:
    """The quickstart and the rerankers of fastembed's README, with the import changed."""
    documents: list[str] = ["a light and fast library", "the stone of the city"]
    embedding_model = ours.TextEmbedding(specific_model_path=dense)
    embeddings_list = list(embedding_model.embed(documents))
    assert len(embeddings_list[0]) == 32 and np.stack(embeddings_list).shape == (2, 32)
    encoder = ours.TextCrossEncoder(model_name=RERANKER, specific_model_path=reranker)
    assert len(list(encoder.rerank("who keeps the stone?", documents))) == 2
