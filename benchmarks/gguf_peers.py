"""Vectors, scores and tokens of GGUF files beside llama.cpp's: ``python -m benchmarks.gguf_peers --llama-python PATH``.

PATH is the Python of an environment with llama-cpp-python. Tiny models of each architecture are read from the same file
by both, in each type of weights; K types are written by llama.cpp. ``--vocabularies`` names a folder with llama.cpp's
``ggml-vocab-*.gguf``, whose tokens are compared on 1,000 texts, and with those of the original tokenizers if
``--original-python`` names the Python of an environment with transformers 4 and sentencepiece. ``--model`` names a
folder of real weights. ``--long`` takes texts of 60 tokens each, for a llama.cpp with BLAS: for 32 or more tokens it
multiplies in float32.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from nearfield.encoder import Encoder
from nearfield.hub.gguf.header import TYPES, TensorEntry, read_header
from nearfield.hub.gguf.tokenizer_files import tokenizer_files
from nearfield.recipe import RerankPrompt, Template
from nearfield.reranker import Reranker
from tests.checkpoint.weights import test_gguf
from tests.checkpoint.weights.test_gguf import ANSWERS, LAST, OPTIONS, PAIRS, RERANKERS, SHIFTED, Converted
from tests.parity import decoder
from tests.support import gguf_files

PEER = Path(__file__).with_name("llama_peer.py")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Types that the gguf package writes, and those that llama.cpp writes.
WRITTEN, REWRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0"), ("Q4_K", "Q5_K", "Q6_K")
#: Sizes whose rows have whole blocks of 256 values.
WIDE: dict[str, Any] = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "initializer_range": 0.08,
}
WIDE_DECODER: dict[str, Any] = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 512, "initializer_range": 0.08}
_GEMMA: dict[str, Any] = {
    **decoder.WINDOWS,
    **WIDE_DECODER,
    "query_pre_attn_scalar": 64,
    "use_bidirectional_attention": True,
}
_DENSE = [{"out": size, "bias": False, "activation": "Identity"} for size in (512, 256)]
MODELS = {
    "bert": Converted(test_gguf.tiny("bert", pooling="cls", **WIDE), "bert", {"pooling": "cls"}),
    "roberta": Converted(test_gguf.tiny("roberta", **WIDE), "bert", SHIFTED),
    "xlm-roberta": Converted(test_gguf.tiny("xlm-roberta", **WIDE), "bert", SHIFTED),
    "nomic-bert": Converted(lambda folder: test_gguf.nomic(folder, **WIDE), "nomic-bert"),
    "nomic-bert-moe": test_gguf.WIDE["experts"],
    "jina-bert-v2": test_gguf.WIDE["jina"],
    "jina-bert-v2, normed": test_gguf.WIDE["jina, normed"],
    "jina-bert-v2, normed, halves": test_gguf.WIDE["jina, normed, halves"],
    "llama": Converted(
        decoder.model("LlamaConfig", begin=True, **WIDE_DECODER),
        "llama",
        {**LAST, "change": gguf_files.turn_heads(4, 2)},
    ),
    "qwen2": Converted(decoder.model("Qwen2Config", **WIDE_DECODER), "qwen2", {**LAST, "pre": "qwen2"}),
    "qwen3": Converted(decoder.model("Qwen3Config", tie_word_embeddings=True, **WIDE_DECODER), "qwen3", LAST),
    "gemma-embedding": Converted(
        decoder.model("Gemma3TextConfig", begin=True, save={"pooling": "mean", "dense": _DENSE}, **_GEMMA),
        "gemma-embedding",
        {
            "change": gguf_files.shift_norms,
            "dense": True,
            "metadata": {"gemma-embedding.attention.sliding_window_pattern": 2},
        },
    ),
}
#: Vocabularies of llama.cpp whose kinds are read.
VOCABULARIES = ("bert-bge", "nomic-bert-moe", "llama-spm", "llama-bpe", "qwen2")
#: The kinds of their original tokenizers, where transformers has them.
ORIGINALS = {"bert-bge": "bert", "nomic-bert-moe": "xlm-roberta", "qwen2": "qwen2"}
#: Ranges of code points: Latin with marks, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, Hangul, kana, Han, wide
#: forms, emoji, marks, symbols, spaces.
RANGES = (
    (0x41, 0x17F),
    (0x370, 0x3FF),
    (0x400, 0x4FF),
    (0x5D0, 0x5EA),
    (0x620, 0x64A),
    (0x904, 0x939),
    (0xE01, 0xE2E),
    (0xAC00, 0xD7A3),
    (0x3041, 0x30FF),
    (0x4E00, 0x9FA5),
    (0xFF01, 0xFF5E),
    (0x1F300, 0x1F64F),
    (0x300, 0x32F),
    (0x2010, 0x205E),
    (0x20, 0x40),
)


class LlamaCpp:
    """A process with llama.cpp."""

    def __init__(self, python: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([python, str(PEER)], text=True, **pipes)

    def ask(self, *words: Any) -> Any:
        """Return the answer to a request.

        Raises:
            RuntimeError: llama.cpp cannot do it; the message says why.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline() or '{"error": "llama.cpp ended"}')
        if "error" in reply:
            raise RuntimeError(f"{words[0]} {words[1]}: {reply['error']}")
        return reply["result"]


def files(peer: LlamaCpp, folder: Path, case: Converted) -> Iterator[tuple[str, Path]]:
    """Yield a model's files by the type of their weights."""
    for name in WRITTEN:
        yield name, gguf_files.convert(folder, case.architecture, name, **case.options)
    for name in REWRITTEN:
        out = folder / f"{name}.gguf"
        peer.ask("quantize", str(folder / f"{folder.name}-F32.gguf"), name, str(out))
        yield name, out


def compare_vectors(peer: LlamaCpp, file: Path, texts: Sequence[str], original: Any) -> str:
    """Return the smallest cosines of our vectors: to llama.cpp's, to its own by the widened file, to the folder's.

    It rounds what it multiplies by blocks to int8; by the values of a file in F32 it multiplies float32.
    """
    with Encoder(str(file), **OPTIONS) as model:
        ours, ids = np.asarray(model.encode(texts)), [tokens.ids for tokens in model.tokenizer.encode(texts)]
    wide = file.with_suffix(".wide.gguf")
    peer.ask("quantize", str(file), "F32", str(wide))
    theirs, widened = (np.array(peer.ask("embed", str(one), ids, ours.shape[1], "")) for one in (file, wide))
    cosines = (test_gguf.close(ours, other) for other in (theirs, widened, original))
    return "  ".join(
        f"{name} {cosine:.6f}" for name, cosine in zip(("llama.cpp", "widened", "folder"), cosines, strict=True)
    )


def lengthened(texts: Sequence[str]) -> list[str]:
    """Return each text with all others behind it, which are cut off at the models' lengths."""
    return [" ".join([*texts[at:], *texts[:at]]) for at in range(len(texts))]


def print_vectors(peer: LlamaCpp, home: Path, names: Sequence[str], texts: Sequence[str]) -> None:
    """Print the smallest cosines of each architecture and type."""
    for name, case in ((name, MODELS[name]) for name in names):
        folder = case.write(home / name.replace(", ", "-"))
        with Encoder(str(folder), **OPTIONS) as model:
            original = model.encode(texts)
        for type_name, file in files(peer, folder, case):
            print(f"{name:28} {type_name:5} {compare_vectors(peer, file, texts, original)}", flush=True)


def print_scores(peer: LlamaCpp, home: Path) -> None:
    """Print the largest difference of a reranker's logits to llama.cpp's."""
    asked = RerankPrompt(ANSWERS[0], ANSWERS[1], template=Template("the ", "{query}: {document}", " [answer]"))
    for name, (write, architecture, converted) in RERANKERS.items():
        folder = write(home / f"rank-{name}")
        file = gguf_files.convert(folder, architecture, "F32", **converted(folder))
        answer = None if name == "xlm-roberta" else asked
        with Reranker(str(file), **OPTIONS, answer=answer) as model:
            ours = np.asarray(model.score(*PAIRS, activation="identity"))
            ids = [_pair_ids(model.tokenizer.backend, text, answer) for text in PAIRS[1]]
        theirs = np.array(peer.ask("embed", str(file), ids, 1 if answer is None else 2, "rank"))
        logits = theirs if answer is None else np.log(theirs)  # llama.cpp gives Qwen3's softmax
        theirs = logits[:, 0] if answer is None else logits[:, 0] - logits[:, 1]
        print(f"{name:28} F32   logits differ by at most {np.abs(ours - theirs).max():.6f}", flush=True)


def _pair_ids(backend: Any, document: str, answer: RerankPrompt | None) -> list[int]:
    if answer is None:
        return list(backend.encode(PAIRS[0], document).ids)
    parts = ("the ", f"{PAIRS[0]}: {document}", " [answer]")
    return [number for part in parts for number in backend.encode(part, add_special_tokens=False).ids]


def sample_texts(count: int) -> list[str]:
    """Return sentences of several languages, and characters of many scripts and of several mixed."""
    rng = random.Random(0)
    lines = [line for file in sorted(DATA.glob("tatoeba/*.tsv")) for line in file.read_text("utf-8").splitlines()]
    sentences = [part for line in rng.sample(lines, count // 4) for part in line.split("\t")[:2]]
    return [*sentences[: count // 2], *(_random_text(rng) for _ in range(count - count // 2))]


def _random_text(rng: random.Random) -> str:
    scripts = rng.sample(RANGES, rng.randint(1, 3))
    words = ("".join(chr(rng.randint(*rng.choice(scripts))) for _ in range(rng.randint(1, 9))) for _ in range(8))
    return rng.choice(("", " ", "\n")) + "".join(word + rng.choice((" ", "  ", "\n", " ", "")) for word in words)


def originals(python: str, file: Path, name: str, texts: Sequence[str]) -> dict[str, list[list[int]]]:
    """Return the ids of texts by the original tokenizers of a vocabulary: the slow class and the fast one."""
    if name not in ORIGINALS:
        return {}
    metadata = read_header(file).metadata
    vocabulary = {part: metadata.get(f"tokenizer.ggml.{part}") for part in ("tokens", "scores", "merges")}
    charsmap = bytes(value & 0xFF for value in metadata.get("tokenizer.ggml.precompiled_charsmap", []))
    request = [ORIGINALS[name], {**vocabulary, "charsmap": base64.b64encode(charsmap).decode()}, texts]
    command = [python, str(Path(__file__).with_name("original_tokenizers.py"))]
    answer = subprocess.run(command, input=json.dumps(request) + "\n", text=True, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(answer.stdout))


def print_originals(python: str, files: Mapping[str, Path]) -> None:
    """Print of how many texts our tokens are those of the original, and the first that differ."""
    texts = sample_texts(1000)
    for name, file in files.items():
        ours = [row.ids for row in _tokenizer(file).encode_batch(texts)]
        for sort, ids in originals(python, file, name, texts).items():
            differ = [at for at in range(len(texts)) if ours[at] != ids[at]]
            print(f"{name:28} {len(texts) - len(differ)} of {len(texts)} as the original, {sort}", flush=True)
            for at in differ[:3]:
                print(f"    {texts[at]!r}\n      ours      {ours[at]}\n      {sort:9} {ids[at]}")


def print_tokens(peer: LlamaCpp, files: Mapping[str, Path]) -> None:
    """Print of how many texts the tokens are llama.cpp's, and the first that differ."""
    texts = sample_texts(1000)
    for name, file in files.items():
        ours, theirs = [row.ids for row in _tokenizer(file).encode_batch(texts)], peer.ask("tokenize", str(file), texts)
        differ = [at for at in range(len(texts)) if ours[at] != theirs[at]]
        print(f"{name:28} {len(texts) - len(differ)} of {len(texts)} equal", flush=True)
        for at in differ[:3]:
            print(f"    {texts[at]!r}\n      ours      {ours[at]}\n      llama.cpp {theirs[at]}")


def _tokenizer(file: Path) -> tokenizers.Tokenizer:
    """Return our tokenizer of a file; files of a vocabulary alone get a table of embeddings."""
    header = read_header(file)
    table = TensorEntry("token_embd.weight", TYPES[0], (len(header.metadata["tokenizer.ggml.tokens"]), 1), 0)
    whole = replace(header, tensors={table.name: table, **header.tensors})
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_files(whole)["tokenizer.json"]))


def print_real(peer: LlamaCpp, home: Path, source: Path, texts: Sequence[str]) -> Path:
    """Print the cosines of real weights (BERT, mean) in each type, and return the file in F32."""
    folder = home / source.name
    shutil.copytree(source, folder)
    with Encoder(str(folder), **OPTIONS) as model:
        original = model.encode(texts)
    for type_name, file in files(peer, folder, Converted(lambda folder: folder, "bert")):
        print(f"{source.name:28} {type_name:5} {compare_vectors(peer, file, texts, original)}", flush=True)
    file, texts = folder / f"{folder.name}-F32.gguf", sample_texts(1000)
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    pairs = zip(whole.encode_batch(texts), _tokenizer(file).encode_batch(texts), strict=True)
    print(f"{source.name:28} {sum(left.ids == right.ids for left, right in pairs)} of 1000 as the folder's tokenizer")
    return file


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.gguf_peers", description=__doc__)
    parser.add_argument("--llama-python", required=True)
    parser.add_argument("--vocabularies", type=Path)
    parser.add_argument("--original-python")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", nargs="*", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    peer, change = LlamaCpp(options.llama_python), lengthened if options.long else list
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        vocabularies = (
            {name: options.vocabularies / f"ggml-vocab-{name}.gguf" for name in VOCABULARIES}
            if options.vocabularies
            else {}
        )
        if options.original_python:
            print_originals(options.original_python, vocabularies)
        if options.model:
            texts = change([text for text in sample_texts(40) if text.strip()])
            vocabularies[options.model.name] = print_real(peer, home, options.model.resolve(), texts)
        print_tokens(peer, vocabularies)
        print_vectors(peer, home, options.only, change(test_gguf.TEXTS))
        print_scores(peer, home)


if __name__ == "__main__":
    main()
