"""The original tokenizers of BERT, XLM-R and Qwen2, in a separate process: token ids, on requests in JSON lines.

Run by `benchmarks.gguf_peers` in an environment with ``transformers<5``, whose slow classes are the originals in Python
(of XLM-R in the sentencepiece library), and with sentencepiece. It imports nothing of Nearfield.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers  # type: ignore[import-not-found,unused-ignore]

_WORD_START = "\u2581"
_SPECIAL = re.compile(r"\[[A-Z]+\]|\[unused\d+\]")


def _bert(folder: Path, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``vocab.txt``: in GGUF files a mark begins words, there one continues them. Special tokens have none."""
    pieces = [
        token.removeprefix(_WORD_START) if token.startswith(_WORD_START) or _SPECIAL.fullmatch(token) else f"##{token}"
        for token in vocabulary["tokens"]
    ]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.txt"), "do_lower_case": True}


def _qwen2(folder: Path, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``vocab.json`` and ``merges.txt``."""
    numbers = {token: number for number, token in enumerate(vocabulary["tokens"])}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *vocabulary["merges"]]), encoding="utf-8")
    return {"vocab_file": str(folder / "vocab.json"), "merges_file": str(folder / "merges.txt")}


def _xlm_roberta(folder: Path, vocabulary: Mapping[str, Any]) -> dict[str, Any]:
    """Write sentencepiece's model: it has three special tokens before the pieces, XLM-R four, and one behind them."""
    from sentencepiece import sentencepiece_model_pb2 as proto  # type: ignore[import-not-found,unused-ignore]

    model = proto.ModelProto()
    model.trainer_spec.model_type = 1
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = base64.b64decode(vocabulary["charsmap"])
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    pieces = list(zip(vocabulary["tokens"], vocabulary["scores"], strict=True))[4:]
    for piece, score in [*((name, 0.0) for name in kinds), *(pair for pair in pieces if pair[0] != "<mask>")]:
        model.pieces.add(piece=piece, score=score, type=kinds.get(piece, 1))
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    return {"vocab_file": str(folder / "sentencepiece.bpe.model")}


#: What writes the files, and the name of the class.
_KINDS: Mapping[str, tuple[Callable[[Path, Mapping[str, Any]], dict[str, Any]], str]] = {
    "bert": (_bert, "BertTokenizer"),
    "qwen2": (_qwen2, "Qwen2Tokenizer"),
    "xlm-roberta": (_xlm_roberta, "XLMRobertaTokenizer"),
}


def tokenize(kind: str, vocabulary: Mapping[str, Any], texts: list[str]) -> dict[str, list[list[int]]]:
    """Return the ids of texts, with special tokens, by the slow class and by the fast one."""
    write, name = _KINDS[kind]
    ids = {}
    with tempfile.TemporaryDirectory() as place:
        options = write(Path(place), vocabulary)
        for sort, suffix in (("slow", ""), ("fast", "Fast")):
            tokenizer = getattr(transformers, name + suffix)(**options)
            ids[sort] = [list(tokenizer(text)["input_ids"]) for text in texts]
    return ids


def main() -> None:
    """Answer each line with the ids."""
    for line in sys.stdin:
        print(json.dumps(tokenize(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
