"""GGUF files: vectors as from the model folder they were converted from, and refusals of what cannot be read."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from nearfield.checkpoint.weights.gguf_file import read_gguf
from nearfield.encoder import Encoder
from nearfield.errors import ModelRefused
from nearfield.hub.gguf.header import read_header
from nearfield.recipe import RerankPrompt, Template
from nearfield.reranker import Reranker
from tests.parity import answer, decoder, jina_bert, rotary_bert, scores
from tests.support import gguf_files, tiny_models

pytest.importorskip("gguf")
#: Scripts, spaces, control characters, special tokens, and a text that is too long.
TEXTS = [
    *tiny_models.TEXTS[:-1],
    "what is [SEP] </s> ?",
    "РЕКА и вода",
    "مرحبا بالعالم",
    "हिन्दी पाठ",
    "ไทย",
    "한국어 문장",
    "ＦＵＬＬ ｗｉｄｔｈ ﬁ",
    "e\u0301 x\u200by",
]


CAPITALS = [word.capitalize() for word in tiny_models.WORDS[1:]]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Converted(NamedTuple):
    """A writer of a folder, and how llama.cpp converts it."""

    write: Callable[[Path], Path]
    architecture: str
    options: Mapping[str, Any] = MappingProxyType({})


def tiny(kind: str, **options: Any) -> Callable[[Path], Path]:
    """Return a writer of a tiny BERT."""
    return lambda folder: tiny_models.TINY[kind](folder / kind, **options)


def with_capitals(folder: Path) -> Path:
    """Write a BERT that reads capitals: its vocabulary has a word with one."""
    from transformers import BertTokenizer

    words = [*tiny_models._wordpiece_vocab(SPECIAL), *CAPITALS]
    vocab = {token: at for at, token in enumerate(dict.fromkeys(words))}
    return tiny_models.write(folder / "cased", "BertConfig", BertTokenizer(vocab=vocab, do_lower_case=False), {})


def without_biases(folder: Path, **sizes: int) -> Path:
    """Write Nomic's experts with biases of zero: the converter leaves them out."""
    out = rotary_bert.experts(folder, **sizes)
    tensors = {name: value * 0 if "experts.bias" in name else value for name, value in rotary_bert.weights(out).items()}
    rotary_bert.rewrite(out, tensors)
    return out


def nomic(folder: Path, **options: Any) -> Path:
    """Write NomicBERT with its own config."""
    out = tiny_models.tiny_nomic(folder / "nomic", **options)
    rotary_bert.nomics_own(out)
    return out


OPTIONS: dict[str, Any] = {"precision": "float32", "compile_cache": False, "max_length": 60}
PAIRS = ("the river", ["a bank of water", "the stars and the sun", ""])
#: The tokens whose logits a language model is asked for.
ANSWERS = [300, 310]
#: The smallest cosine of each type; each architecture is read in F16, and one of each sort in more.
LEAST = {"F16": 0.9999, "Q8_0": 0.999}
QUANTIZED = ("xlm-roberta", "qwen3")
LAST = {"pooling": "lasttoken"}
SHIFTED = {"change": gguf_files.cut_positions}
CASES = {
    "bert": Converted(tiny("bert", pooling="cls"), "bert", {"pooling": "cls"}),
    "bert, capitals": Converted(with_capitals, "bert", {"old": True}),
    "bert, accents": Converted(tiny("bert", strip_accents=False), "bert"),
    "roberta": Converted(tiny("roberta"), "bert", SHIFTED),
    "xlm-roberta": Converted(tiny("xlm-roberta"), "bert", SHIFTED),
    "nomic": Converted(nomic, "nomic-bert"),
    "experts": Converted(without_biases, "nomic-bert-moe", {"change": gguf_files.split_experts(4)}),
    "jina": Converted(jina_bert.write(False), "jina-bert-v2"),
    "jina, halves": Converted(jina_bert.write(False), "jina-bert-v2", {"change": gguf_files.split_gates}),
    "jina, normed": Converted(jina_bert.write(True), "jina-bert-v2"),
    "jina, normed, halves": Converted(jina_bert.write(True), "jina-bert-v2", {"change": gguf_files.split_gates}),
    "llama": Converted(
        decoder.model("LlamaConfig", begin=True, initializer_range=0.1),
        "llama",
        {**LAST, "pre": "llama-bpe", "old": True, "change": gguf_files.turn_heads(4, 2)},
    ),
    "qwen2": Converted(decoder.model("Qwen2Config"), "qwen2", {**LAST, "pre": "qwen2"}),
    "qwen3": Converted(decoder.model("Qwen3Config", tie_word_embeddings=True), "qwen3", LAST),
}


#: Rows of whole blocks of 256 values, for K types.
WIDE = {
    "experts": Converted(
        lambda folder: without_biases(folder, size=256, inner=256),
        "nomic-bert-moe",
        {"change": gguf_files.split_experts(4)},
    ),
    "jina": Converted(jina_bert.write(False, jina_bert.WIDE), "jina-bert-v2"),
    "jina, normed": Converted(jina_bert.write(True, jina_bert.WIDE), "jina-bert-v2"),
    "jina, normed, halves": Converted(
        jina_bert.write(True, jina_bert.WIDE), "jina-bert-v2", {"change": gguf_files.split_gates}
    ),
}


def close(left: Any, right: Any) -> float:
    """Return the smallest cosine of rows."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float((np.sum(np.asarray(left) * np.asarray(right), 1) / np.maximum(lengths, 1e-9)).min())


@pytest.mark.parametrize("name", CASES)
def test_vectors_are_those_of_the_folder(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    folder = case.write(tmp_path)
    with Encoder(str(folder), **OPTIONS) as original:
        expected = original.encode(TEXTS)
        tokens = original.tokenizer.encode(TEXTS)
    for type_name, least in LEAST.items() if name in QUANTIZED else [("F16", 0.9999)]:
        file = gguf_files.convert(folder, case.architecture, type_name, **case.options)
        with Encoder(str(file), **OPTIONS) as model:
            assert model.tokenizer.encode(TEXTS) == tokens
            assert close(expected, model.encode(TEXTS)) >= least


@pytest.mark.parametrize("name", ["experts", "jina", "jina, normed, halves"])
def test_vectors_of_blocks_of_256_values(tmp_path: Path, name: str) -> None:
    case = WIDE[name]
    folder = case.write(tmp_path)
    file = gguf_files.convert(folder, case.architecture, "Q6_K", **case.options)
    matrices = [entry for entry in read_header(file).tensors.values() if len(entry.shape) > 1]
    assert {entry.type.name for entry in matrices if entry.name != "token_types.weight"} == {"Q6_K"}
    round_matrices(folder)
    with Encoder(str(folder), **OPTIONS) as original, Encoder(str(file), **OPTIONS) as model:
        assert close(original.encode(TEXTS), model.encode(TEXTS)) >= 0.99999


def round_matrices(folder: Path) -> None:
    """Replace matrices by what the gguf package reads of them in Q6_K, where experts' second ones lie turned."""
    tensors = rotary_bert.weights(folder)
    for name, values in tensors.items():
        if values.ndim == 2 and not re.search("position|token_type", name):
            turned = name.endswith(".w2")
            stored = values.unflatten(0, (4, -1)).transpose(1, 2) if turned else values
            kept = gguf_files.values_of(gguf_files.sixths(stored.numpy()), "Q6_K")
            kept = kept.transpose(0, 2, 1) if turned else kept
            tensors[name] = torch_tensor(kept.reshape(values.shape))
    rotary_bert.rewrite(folder, tensors)


def torch_tensor(values: Any) -> Any:
    """Return an array as a tensor of torch."""
    import torch

    return torch.tensor(values)


def answers(folder: Path) -> Mapping[str, Any]:
    """Return how Qwen3 is converted: two rows of its last layer are written apart, or alone if that is not tied."""
    vocab = tiny_models.read(folder / "tokenizer.json")["model"]["vocab"]
    words = [next(word for word, number in vocab.items() if number == answer) for answer in ANSWERS]
    tied = tiny_models.read(folder / "config.json")["tie_word_embeddings"]
    labels = {"qwen3.classifier.output_labels": words}
    return {"pooling": "rank", "change": gguf_files.keep_answers(ANSWERS, tied=tied), "metadata": labels}


RERANKERS: Mapping[str, tuple[Callable[[Path], Path], str, Callable[[Path], Mapping[str, Any]]]] = {
    "xlm-roberta": (
        scores.classifier("xlm-roberta", new=False, type_vocab_size=1),
        "bert",
        lambda folder: {**SHIFTED, "pooling": None},
    ),
    "qwen3": (answer.causal("Qwen3"), "qwen3", answers),
    "qwen3, not tied": (answer.causal("Qwen3", tied=False), "qwen3", answers),
}


@pytest.mark.parametrize("kind", RERANKERS)
def test_scores_are_those_of_the_folder(tmp_path: Path, kind: str) -> None:
    template = Template(head="the ", body="{query}: {document}", tail=" [answer]")
    asked = RerankPrompt(ANSWERS[0], ANSWERS[1], template=template) if kind != "xlm-roberta" else None
    options: dict[str, Any] = {**OPTIONS, "answer": asked}
    write, architecture, converted = RERANKERS[kind]
    folder = write(tmp_path)
    file = gguf_files.convert(folder, architecture, "F32", **converted(folder))
    with Reranker(str(folder), **options) as original, Reranker(str(file), **options) as model:
        np.testing.assert_allclose(model.score(*PAIRS), original.score(*PAIRS), atol=1e-4)


def test_dense_layers_of_embedding_gemma_are_read_and_needed(tmp_path: Path) -> None:
    fields = {**decoder.WINDOWS, "query_pre_attn_scalar": decoder.SIZES["head_dim"]}
    write = decoder.model(
        "Gemma3TextConfig", begin=True, save=decoder.GEMMA, use_bidirectional_attention=True, **fields
    )
    folder = write(tmp_path)
    options: dict[str, Any] = {"pooling": "mean", "change": gguf_files.shift_norms}
    options["metadata"] = {"gemma-embedding.attention.sliding_window_pattern": 2}
    bare = gguf_files.convert(folder, "gemma-embedding", "F32", **options)
    with pytest.raises(ModelRefused, match="lacks the layers dense_2 and dense_3"):
        Encoder(str(bare))
    file = gguf_files.convert(folder, "gemma-embedding", dense=True, **options)
    with Encoder(str(folder), **OPTIONS) as original, Encoder(str(file), **OPTIONS) as model:
        assert close(original.encode(TEXTS), model.encode(TEXTS)) >= 0.9999


@pytest.mark.parametrize("type_name", ["F32", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_values_of_a_type_are_those_of_the_gguf_package(tmp_path: Path, type_name: str) -> None:
    values = np.random.default_rng(3).standard_normal((6, 64)).astype(np.float32)
    file = gguf_files.write_tensors(tmp_path / "x.gguf", {"token_embd.weight": values}, type_name)
    read = read_gguf(file)["embeddings.word_embeddings.weight"].read("embeddings")
    np.testing.assert_array_equal(read, gguf_files.rounded(values, type_name))


@pytest.mark.parametrize("type_name", ["Q4_K", "Q5_K", "Q6_K"])
def test_blocks_of_256_values_are_read(tmp_path: Path, type_name: str) -> None:
    blocks = gguf_files.random_blocks(type_name, rows=3, seed=4)
    file = gguf_files.write_tensors(tmp_path / "x.gguf", {"token_embd.weight": blocks}, type_name, raw=True)
    read = read_gguf(file)["embeddings.word_embeddings.weight"].read("embeddings")
    assert read.shape == (3, 512)
    np.testing.assert_array_equal(read, gguf_files.values_of(blocks, type_name))


# Refusals


def number(value: int) -> bytes:
    """Return a count, as it is stored."""
    return struct.pack("<Q", value)


def text(value: str) -> bytes:
    """Return a text, as it is stored."""
    return number(len(value.encode())) + value.encode()


def tensor(name: str, kind: int, *shape: int, start: int = 0) -> bytes:
    """Return an entry of the table of tensors."""
    return text(name) + struct.pack("<I", len(shape)) + b"".join(map(number, shape)) + struct.pack("<IQ", kind, start)


def header(body: bytes = b"", *, tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    """Return a file's first bytes."""
    return b"GGUF" + struct.pack("<I", version) + number(tensors) + number(entries) + body


HUGE = 2**60
ARRAY = text("a") + struct.pack("<I", 9)
DAMAGED = {
    "empty": (b"", "cannot be read"),
    "another format": (b"PK\3\4" + bytes(40), "does not begin with GGUF"),
    "old version": (header(version=1), "has version 1 of GGUF"),
    "big-endian": (header(version=3 << 24), "big-endian"),
    "cut in the header": (header()[:14], "is cut short"),
    "tensors": (header(tensors=HUGE), f"claims {HUGE} tensors"),
    "metadata": (header(entries=HUGE), f"claims {HUGE} entries"),
    "text": (header(number(HUGE) + bytes(20), entries=1), "is cut short"),
    "texts": (header(ARRAY + struct.pack("<IQ", 8, HUGE), entries=1), f"claims {HUGE} elements of a"),
    "numbers": (header(ARRAY + struct.pack("<IQ", 6, HUGE), entries=1), f"claims {HUGE} elements of a"),
    "lists of lists": (header(ARRAY + struct.pack("<IQ", 9, 1) + bytes(20), entries=1), "unknown type 9"),
    "type of an entry": (header(text("a") + struct.pack("<I", 99), entries=1), "unknown type 99"),
    "entry twice": (header((text("a") + struct.pack("<IB", 0, 1)) * 2, entries=2), "'a' twice"),
    "no Unicode": (header(number(1) + b"\xff" + bytes(20), entries=1), "no text in UTF-8"),
    "alignment": (header(text("general.alignment") + struct.pack("<II", 4, 3), entries=1), "no power of two"),
    "dimensions": (header(tensor("x", 0, 1, 1, 1, 1, 1), tensors=1), "has 5 dimensions"),
    "size": (header(tensor("x", 0, HUGE, HUGE), tensors=1), "is cut short: x"),
    "no values": (header(tensor("x", 0, 0), tensors=1), "has no values"),
    "type": (header(tensor("x", 16, 256), tensors=1), "stored as IQ2_XXS, which is not read"),
    "blocks": (header(tensor("x", 8, 33), tensors=1), "whose blocks have 32 values"),
    "tensor twice": (header(tensor("x", 0, 1) * 2 + bytes(64), tensors=2), "'x' twice"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_before_anything_is_allocated(tmp_path: Path, name: str) -> None:
    content, reason = DAMAGED[name]
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelRefused, match=re.escape(reason)):
        Encoder(str(tmp_path / "x.gguf"))


def test_models_that_would_give_wrong_vectors_are_refused(tmp_path: Path) -> None:
    bert = tiny("bert")(tmp_path)
    broken = gguf_files.convert(bert, "bert", "F32").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(broken[:-1000])
    values = rotary_bert.weights(bert)["encoder.layer.1.output.dense.weight"].numpy().tobytes()
    (tmp_path / "nan.gguf").write_bytes(broken.replace(values, np.full(2048, np.nan, np.float32).tobytes()))
    chat = {"tokenizer.chat_template": "{{ messages }}"}
    qwen = decoder.model("Qwen3Config")(tmp_path / "chat")
    refused = {
        tmp_path / "cut.gguf": "is cut short: .* Download it again",
        tmp_path / "nan.gguf": "values that are no numbers",
        gguf_files.convert(qwen, "qwen3", pooling=None, metadata=chat): "holds a language model that chats",
        gguf_files.convert(bert, "bert", "Q8_0", pooling=None): "does not say how a text's tokens become one vector",
        gguf_files.convert(bert, "bert", "Q5_0", metadata={"split.count": 3}): "one of 3 parts of a model",
        gguf_files.convert(
            bert, "bert", "Q5_1", metadata={"general.type": "adapter"}
        ): "holds no model but the type 'adapter'",
        gguf_files.convert(bert, "bert", "Q4_0", drop="token_embd.weight"): "tokens and 0 embeddings",
        gguf_files.convert(bert, "bert", "Q4_1", extra="blk.0.ssm_in.weight"): "tensors that bert does not have",
    }
    for file, reason in refused.items():
        with pytest.raises(ModelRefused, match=reason):
            Encoder(str(file), precision="float32", compile_cache=False)
    whole = header(text("general.architecture") + struct.pack("<I", 8) + text("mamba") + bytes(99), entries=1)
    (tmp_path / "x.gguf").write_bytes(whole)
    with pytest.raises(ModelRefused, match="architecture 'mamba', which is not read from GGUF"):
        Encoder(str(tmp_path / "x.gguf"))
