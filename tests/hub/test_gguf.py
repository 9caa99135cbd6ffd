"""What a GGUF file says about its model: a tokenizer by scores against the algorithm, and names for the catalogue."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from nearfield import catalog, hub
from nearfield.errors import ModelNotFound
from nearfield.hub.gguf import GgufFacts
from nearfield.hub.gguf.folder import stated_model
from nearfield.hub.gguf.header import read_header
from nearfield.hub.gguf.tokenizer_files import tokenizer_files
from nearfield.testing import write_tiny_model
from tests.support import gguf_files, tiny_models

gguf = pytest.importorskip("gguf")

#: Pieces that can be merged in several ways, the likeliest first.
PIECES = [
    "▁t",
    "he",
    "▁the",
    "in",
    "er",
    "▁th",
    "ing",
    "▁r",
    "▁ri",
    "ver",
    "▁river",
    "th",
    "ther",
    "nin",
    "ningr",
    "é▁",
]
LETTERS = list("▁abcdefghijklmnopqrstuvwxyzé.")
TEXTS = ["the river", "", " ", "therining  the", "éé the.", "日本 🦊", "inininger", "<s> the</s>", "ther <sep>river"]


def sentencepiece(text: str, scores: dict[str, float]) -> list[str]:
    """Split a text as sentencepiece does: again and again, join the two neighbours that make the best piece."""
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        joined = [(scores[a + b], -at) for at, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]
        if not joined:
            return [part for symbol in symbols for part in _or_bytes(symbol, scores)]
        at = -max(joined)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


def _or_bytes(symbol: str, scores: dict[str, float]) -> list[str]:
    return [symbol] if symbol in scores else [f"<0x{byte:02X}>" for byte in symbol.encode()]


def test_bpe_by_scores_joins_as_sentencepiece_does(tmp_path: Path) -> None:
    special, pieces = ["<unk>", "<s>", "</s>", "<sep>"], [*PIECES, *LETTERS]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    scores = {piece: -float(at) for at, piece in enumerate(pieces)}
    writer: Any = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([scores.get(token, 0.0) for token in tokens])
    writer.add_token_types([2, 3, 3, 4, *[6] * 256, *[1] * len(pieces)])
    for role, number in (("bos", 1), ("eos", 2), ("unk", 0)):
        getattr(writer, f"add_{role}_token_id")(number)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 2), np.float32))
    header = read_header(gguf_files.close(writer, tmp_path / "x.gguf"))
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_files(header)["tokenizer.json"]))
    for text in TEXTS[:-2]:
        assert tokenizer.encode(text).tokens == ["<s>", *sentencepiece(text, scores)]
    assert tokenizer.encode(TEXTS[-2]).tokens.count("<s>") == 2
    assert "<sep>" in tokenizer.encode(TEXTS[-1]).tokens


def test_the_catalogue_knows_a_file_by_its_names_and_dimensions(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", size=384, layers=1, heads=2, inner=64)
    names = {"general.basename": "all-MiniLM-L6-v2", "general.repo_url": "https://huggingface.co/some/copy-GGUF"}
    file = gguf_files.convert(folder, "bert", metadata=names)
    assert stated_model(file).names == ("some/copy", "all-MiniLM-L6-v2", "tiny")
    located = hub.locate(str(file))
    entry = catalog.find_stated(located.stated)
    assert entry is not None and entry.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert located.name == "tiny-F16"
    other = hub.StatedModel(("some/copy", "all-MiniLM-L6-v2"), 512)
    assert catalog.find_stated(other) is None and catalog.find_stated(None) is None


@pytest.mark.parametrize(
    ("metadata", "named"),
    [({"general.file_type": 15}, "Q4_K_M"), ({}, "Q8_0"), ({"general.file_type": 999}, "Q8_0")],
)
def test_the_folder_says_the_type_of_the_file(tmp_path: Path, metadata: dict[str, Any], named: str) -> None:
    file = gguf_files.convert(write_tiny_model(tmp_path / "tiny"), "bert", "Q8_0", metadata=metadata)
    facts = GgufFacts.from_folder(hub.locate(str(file)).folder)
    assert facts is not None and (facts.architecture, facts.file_type) == ("bert", named)
    assert facts.parameters == sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors)
    assert GgufFacts.from_folder(tmp_path / "tiny") is None


def test_a_file_that_changes_has_another_folder(tmp_path: Path) -> None:
    file = gguf_files.convert(write_tiny_model(tmp_path / "tiny"), "bert", "F32")
    first = hub.locate(str(file)).folder
    assert hub.locate(str(file)).folder == first
    file.write_bytes(gguf_files.convert(write_tiny_model(tmp_path / "wide", length=32), "bert", "F32").read_bytes())
    second = hub.locate(str(file)).folder
    assert second != first and not first.exists()
    assert tiny_models.read(second / "config.json")["max_position_embeddings"] == 32


def test_a_folder_of_files_names_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFound, match=r"pass the path of its GGUF file, such as .*a\.gguf"):
        hub.locate(str(tmp_path))
