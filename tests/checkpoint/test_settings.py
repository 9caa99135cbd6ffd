"""Settings in a model's own folder: read as the reference does, without effect, or refused (``settings.toml``)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.errors import InputError, ModelRefused
from nearfield.inference.calls.rerank_options import RerankOptions
from tests.parity import decoder, dense, multivector, scores, sparse, static
from tests.support import tiny_models

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.slow

#: The long ones have other words at their ends, at any of the lengths here.
TEXTS = (
    " ".join(tiny_models.WORDS[:100]),
    "Größe, naïve CAFÉ STARS 日本語の",
    "nightly mynight [MASK] <mask> light",
    "river",
)
PAIRS = [(TEXTS[0], TEXTS[1]), (TEXTS[3], TEXTS[0]), (TEXTS[0], " ".join(tiny_models.WORDS[60:140])), ("sun", "moon")]
SETTINGS = tomllib.loads((Path(__file__).parent / "settings.toml").read_text(encoding="utf-8"))["setting"]
Rows = list[np.ndarray[Any, Any]]


def _one_by_one(expect: Callable[..., Sequence[Any]]) -> Callable[[Path, Sequence[Any]], Rows]:
    """Return a reference that computes each input alone, so that no padding is involved."""
    return lambda folder, inputs: [np.asarray(expect(folder, [item])[0]) for item in inputs]


def _encode(folder: Path, **options: Any) -> Rows:
    with Encoder(str(folder), precision="float32") as encoder:
        return [np.asarray(encoder.encode(text, **options)) for text in TEXTS]


def _encode_role(role: str) -> Callable[[Path], Rows]:
    def run(folder: Path) -> Rows:
        with Encoder(str(folder), precision="float32") as encoder:
            return [np.asarray(encoder.encode([text], role=role)[0]) for text in TEXTS]

    return run


def _score(folder: Path) -> Rows:
    with Reranker(str(folder), precision="float32") as reranker:
        return [np.asarray(reranker.score([first], [second])) for first, second in PAIRS]


def _plain(kind: str, **options: Any) -> Callable[[Path], Path]:
    return dense.pooled(kind, normalize=False, **options)


def _other_tokenizer(name: str) -> Callable[[Path], Path]:
    """Return a writer of a BERT with the tokenizer of another class."""

    def write(folder: Path) -> Path:
        import transformers

        if name in ("GPT2Tokenizer", "Qwen2Tokenizer"):
            vocab, merges = tiny_models._bytelevel_vocab()
            options: dict[str, Any] = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "</s>")
            words = getattr(transformers, name)(vocab=vocab, merges=merges, **options)
        else:
            words = getattr(transformers, name)(vocab=tiny_models._unigram_vocab(SPECIAL[name]))
        return tiny_models.write(folder / "model", "BertConfig", words, {"normalize": False})

    return write


#: The special tokens at the start of a vocabulary.
SPECIAL = {
    "AlbertTokenizer": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "DebertaV2Tokenizer": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
}
_PROMPTED = {"prompts": {"query": "night light "}, "default_prompt_name": "query"}
_LATE = {role: (_one_by_one(multivector.expect(role)), _encode_role(role), TEXTS) for role in ("query", "document")}
_DENSE = (_one_by_one(dense.expect), _encode, TEXTS)
#: How each kind of folder is written, and what computes it: the reference, and ours.
MODELS: dict[str, Any] = {
    "bert": (_plain("bert"), *_DENSE),
    "roberta": (_plain("roberta"), *_DENSE),
    "prompted": (_plain("bert", **_PROMPTED), *_DENSE),
    "decoder": (decoder.model("Qwen3Config"), *_DENSE),
    "albert": (_other_tokenizer("AlbertTokenizer"), *_DENSE),
    "deberta": (_other_tokenizer("DebertaV2Tokenizer"), *_DENSE),
    "gpt2": (_other_tokenizer("GPT2Tokenizer"), *_DENSE),
    "qwen2": (_other_tokenizer("Qwen2Tokenizer"), *_DENSE),
    "static": (static.table, *_DENSE),
    "model2vec": (static.distilled(normalize=False, shared=False), _one_by_one(static.expect), _encode, TEXTS),
    "sparse": (sparse.masked("bert"), _one_by_one(sparse.expect), _encode, TEXTS),
    "reranker": (scores.classifier("bert"), _one_by_one(scores.expect), _score, PAIRS),
    "multivector": (multivector.own("bert"), *_LATE["document"]),
    "pylate": (multivector.pylate, *_LATE["document"]),
    "pylate-query": (multivector.pylate, *_LATE["query"]),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Rows, Rows]]:
    """Write the folder of a model once; return it with the reference's result and ours."""
    folders: dict[str, tuple[Path, Rows, Rows]] = {}

    def write(name: str) -> tuple[Path, Rows, Rows]:
        if name not in folders:
            writer, expect, run, inputs = MODELS[name]
            folder = writer(tmp_path_factory.mktemp(name))
            folders[name] = folder, expect(folder, inputs), run(folder)
        return folders[name]

    return write


def _close(one: Rows, other: Rows) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.shape == b.shape and np.allclose(a, b, atol=3e-5, rtol=1e-4) for a, b in pairs)


def _name(setting: dict[str, Any]) -> str:
    keys = "-".join(setting["values"])
    return f"{setting.get('model', 'bert')}-{setting['file']}-{keys}-{setting['effect']}"


@pytest.mark.parametrize("setting", SETTINGS, ids=[_name(setting) for setting in SETTINGS])
def test_each_setting(setting: dict[str, Any], written: Callable[..., Any], tmp_path: Path) -> None:
    name = setting.get("model", "bert")
    _, expect, run, inputs = MODELS[name]
    base, reference_before, ours_before = written(name)
    folder = Path(shutil.copytree(base, tmp_path / "model"))
    tiny_models.edit(folder / setting["file"], **dict.fromkeys(setting.get("without", ())), **setting["values"])
    assert "why" in setting or setting["effect"] == "read"
    if setting["effect"] == "refused":
        with pytest.raises(ModelRefused, match=setting.get("names", "|".join(setting["values"]))):
            run(folder)
        return
    reference, ours = expect(folder, inputs), run(folder)
    assert _close(ours_before, reference_before) and _close(ours, reference)
    assert _close(reference, reference_before) == (setting["effect"] == "none")


@pytest.mark.parametrize(
    "kind",
    [
        *("Asym", "BoW", "CLIPModel", "CNN", "LSTM", "SparseAutoEncoder", "TokenPooling", "WeightedLayerPooling"),
        *("HierarchicalTokenPooling", "LambdaTokenPooling"),
        *("WordEmbeddings", "WordWeights", "Router", "SparseStaticEmbedding", "SpladePooling", "LogitScore", "Novel"),
    ],
)
@pytest.mark.parametrize("place", [1, 2])
def test_modules_that_are_not_run_are_refused(
    kind: str, place: int, written: Callable[..., Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(written("bert")[0], tmp_path / "model"))
    listed = tiny_models.read(folder / "modules.json")
    module = {"path": "9_Module", "type": f"sentence_transformers.models.{kind}"}
    tiny_models.dump(folder / "modules.json", [*listed[:place], module, *listed[place:]])
    with pytest.raises(ModelRefused, match=f"{kind}|holds a (routed|CLIP|token-pooled)"):
        Encoder(str(folder))


def test_every_module_of_the_reference_is_known_or_refused() -> None:
    """A module that a new version adds shows here: it must be read, or be listed above."""
    from sentence_transformers.base import modules as shared
    from sentence_transformers.cross_encoder import modules as crossed
    from sentence_transformers.multi_vector_encoder import modules as multi
    from sentence_transformers.sentence_transformer import modules as own
    from sentence_transformers.sparse_encoder import modules as thin

    from nearfield.checkpoint.modules import KNOWN

    names = {name for package in (shared, crossed, multi, own, thin) for name in package.__all__}
    (marker,) = (mark for mark in test_modules_that_are_not_run_are_refused.pytestmark if mark.args[0] == "kind")
    bases = {"InputModule", "Module", "BaseTokenPooling"}
    assert names <= KNOWN | {*marker.args[1]} | bases


# -- sides of truncation ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = dense.pooled("bert", prompts={"query": "night light "})(tmp_path_factory.mktemp("left"))
    tiny_models.edit(folder / "tokenizer_config.json", truncation_side="left")
    return folder


def test_an_argument_of_the_call_wins(left: Path) -> None:
    with Encoder(str(left), precision="float32") as encoder:
        by_folder, by_end = encoder.encode(TEXTS[0]), encoder.encode(TEXTS[0], truncate="right")
        np.testing.assert_allclose(encoder.encode(TEXTS[0], truncate="left"), by_folder, atol=1e-6)
        assert np.abs(np.asarray(by_folder) - np.asarray(by_end)).max() > 0.01
        read = encoder.tokenize([TEXTS[0]])[0]
        end = encoder.tokenize([" ".join(TEXTS[0].split()[-60:])])[0]
        assert read.ids[-60:] == end.ids[-60:] and len(read.ids) == 66 and read.dropped == 36
        with pytest.raises(InputError, match="has 102 tokens"):
            encoder.encode(TEXTS[0], truncate="error")


def test_a_prompt_is_cut_with_the_text_as_in_the_reference_unless_left_is_requested(left: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(left), device="cpu")
    truth = model.preprocess([TEXTS[0]], prompt="night light ")["input_ids"][0].tolist()
    with Encoder(str(left), precision="float32") as encoder:
        assert encoder.tokenize([TEXTS[0]], role="query")[0].ids == truth
        kept = encoder.tokenize([TEXTS[0]], role="query", truncate="left")[0]
        prompt = encoder.tokenize(["night light "])[0].ids[:-1]
        assert kept.ids[:3] == prompt != truth[:3] and kept.ids[3:] == truth[3:] and kept.dropped == 38
        np.testing.assert_allclose(encoder.encode_query(TEXTS[0]), model.encode_query(TEXTS[0]), atol=3e-5)


def test_token_ids_and_pieces_with_a_side(left: Path) -> None:
    with Encoder(str(left), precision="float32") as encoder:
        words = [encoder.tokenizer.backend.token_to_id(word) for word in TEXTS[0].split()]
        np.testing.assert_allclose(encoder.encode([words]), encoder.encode([TEXTS[0]]), atol=1e-6)
        whole = encoder.encode([TEXTS[0]], truncate="chunk")
        assert whole.dropped is not None and whole.dropped.tolist() == [0]
        with Encoder(str(left), precision="float32", max_length=66) as other:
            np.testing.assert_allclose(other.encode([TEXTS[0]], truncate="chunk"), whole, atol=1e-6)


def test_a_very_long_text_is_read_from_its_end(left: Path) -> None:
    text = "river bank " * 40_000 + TEXTS[0]
    with Encoder(str(left), precision="float32") as encoder:
        read = encoder.tokenize([text])[0]
        assert read.ids == encoder.tokenize([TEXTS[0]])[0].ids
        assert read.dropped == pytest.approx(80_000 + 102 - 66, rel=0.01)


@pytest.mark.parametrize("first", [True, False])
def test_a_very_long_text_of_a_pair_is_read_from_its_end(tmp_path: Path, first: bool) -> None:
    folder = scores.classifier("bert")(tmp_path)
    tiny_models.edit(folder / "tokenizer_config.json", truncation_side="left")
    long, short = "river bank " * 40_000 + TEXTS[0], "sun"
    with Reranker(str(folder), precision="float32") as reranker:
        pair = (long, short) if first else (short, long)
        same = (TEXTS[0], short) if first else (short, TEXTS[0])
        result = reranker.score([pair[0]], [pair[1]])
        np.testing.assert_allclose(result, reranker.score([same[0]], [same[1]]), atol=1e-6)
        assert np.asarray(result.dropped)[0] == pytest.approx(80_000 + 101 + 3 - 66, rel=0.01)


@pytest.mark.parametrize("role", ["query", "document"])
def test_late_interaction_with_a_side(tmp_path: Path, role: str) -> None:
    folder = multivector.own("bert", multivector.FIXED)(tmp_path)
    tiny_models.edit(folder / "tokenizer_config.json", truncation_side="left")
    with Encoder(str(folder), precision="float32") as encoder:
        encode = encoder.encode_query if role == "query" else encoder.encode_document
        for text in TEXTS:
            (truth,) = multivector.expect(role)(folder, [text])
            np.testing.assert_allclose(encode([text])[0], truth, atol=3e-5)


def test_a_language_model_that_reranks_with_a_side(tmp_path: Path) -> None:
    from tests.parity import answer

    folder = answer.causal("Qwen3")(tmp_path)
    tiny_models.edit(folder / "tokenizer_config.json", truncation_side="left")
    with Reranker(str(folder), precision="float32", **answer.asked(folder)) as reranker:
        body = answer.BODY.format(instruction=answer.INSTRUCTION, query="sun", document=TEXTS[0])
        ids = reranker.tokenizer.backend.encode(body, add_special_tokens=False).ids
        (pair,) = reranker._tokenize(["sun"], [TEXTS[0]], RerankOptions())
        head = len(reranker._pairs._head)
        room = 60 - head - len(reranker._pairs._tail)
        assert pair.ids[head : head + room] == ids[-room:] and pair.dropped == len(ids) - room


# -- dimensions ------------------------------------------------------------------------------------------------------


def test_dimensions_of_the_folder(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model", truncate_dim=12)
    with Encoder(str(folder), precision="float32") as encoder:
        vectors = encoder.encode(TEXTS)
        assert vectors.shape == (4, 12) and encoder.dimensions == 32
        truth = np.stack(dense.expect(folder, TEXTS))
        cosines = (np.asarray(vectors) * truth).sum(1) / np.linalg.norm(truth, axis=1)
        np.testing.assert_allclose(cosines, 1, atol=1e-5)
        assert encoder.encode(TEXTS, truncate_dim=32).shape == (4, 32)
        assert encoder.encode(TEXTS, truncate_dim=20).shape == (4, 20)
        with pytest.raises(InputError, match="trained for 12"):
            encoder.encode(TEXTS, truncate_dim=8)
        assert encoder.encode(TEXTS, truncate_dim=8, force_truncate_dim=True).shape == (4, 8)
    with Encoder(str(folder), precision="float32", truncate_dim=32) as encoder:
        assert encoder.encode(TEXTS).shape == (4, 32)


def test_the_error_names_an_argument_that_exists(tmp_path: Path) -> None:
    folder = str(tiny_models.tiny_bert(tmp_path / "model"))
    with pytest.raises(InputError, match=r"force_truncate_dim=True"):
        Encoder(folder, truncate_dim=8)
    with Encoder(folder, truncate_dim=8, force_truncate_dim=True) as encoder:
        assert encoder.encode(TEXTS).shape == (4, 8)
    with pytest.raises(InputError, match="from 1 to 32"):
        Encoder(folder, truncate_dim=0)


def test_dimensions_of_a_model_without_dense_vectors(tmp_path: Path) -> None:
    folder = sparse.masked("bert")(tmp_path)
    before = _encode(folder)
    tiny_models.edit(folder / "config_sentence_transformers.json", truncate_dim=5)
    assert _close(_encode(folder), before)
