"""Write a model with the tokens of the user's texts alone: the same vectors for such texts, in less memory.

Multilingual models spend half of their bytes on tokens that texts of one language never use. Time per token does not
change.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.checkpoint.weights.lazy_tensor import LAYOUT, LazyTensor
from nearfield.checkpoint.weights.safetensors_file import read_safetensors
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.whole_folder import require_new_folder, whole_folder
from nearfield.message_text import count_of
from nearfield.training.light.token_pruning import PrunedTokenizer, prune_tokenizer
from nearfield.units import format_bytes

#: Names of tensors with a row for each token: input tables, and output layers that share them.
_TABLES = re.compile(r"(word_embeddings|embed_tokens|tok_embeddings|token_embedding|wte|shared|lm_head|predictions)")
#: Files that are written again, or describe what no longer exists.
_REPLACED = re.compile(
    r"(.*\.safetensors|.*\.safetensors\.index\.json|.*\.bin|.*\.onnx.*|.*\.gguf|vocab\.(txt|json)|merges\.txt|.*\.model"
    r"|tokenizer\.json|added_tokens\.json|\..*|onnx|openvino|.*\.h5|.*\.msgpack|.*\.ot)"
)
#: Architectures whose positions begin after the id of the padding token, so that it must not change.
_PADDING_OFFSET = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl"}
#: Share of the tokens of other texts that must remain. all-MiniLM-L6-v2 on SQuAD: 200 questions cover 71% of the tokens
#: of others, and none is read as before; 5,000 cover 95%, and half are; 1,000 paragraphs cover 96% of others' tokens.
MIN_COVERAGE = 0.95
#: Texts whose vectors are compared, texts that are split at once, and the largest difference of a value.
_COMPARED, _TEXTS_PER_BATCH, TOLERANCE = 16, 1_000, 1e-6


@dataclass(frozen=True)
class PruneReport:
    """What was removed, and how other texts are read: a tenth of them, left out once for this.

    ``unseen`` is the share of these texts that are read as before, and ``coverage`` the share of their tokens that the
    other nine tenths have too.
    """

    tokens: int
    remaining: int
    bytes_before: int
    bytes_after: int
    texts: int
    unseen: float
    coverage: float
    difference: float

    def to_dict(self) -> JsonDict:
        """Return the figures as JSON data."""
        return dict(vars(self))

    def to_text(self) -> str:
        """Return the figures as lines for a terminal."""
        sizes = f"{format_bytes(self.bytes_before)} -> {format_bytes(self.bytes_after)}"
        checked = f"{count_of(self.texts, 'text')} split as before"
        others = (
            f"{100 * self.unseen:.1f}% of texts that were left out for this check are split as before, and "
            f"{100 * self.coverage:.2f}% of their tokens remain"
        )
        return "\n".join(
            [
                f"{self.remaining:,} of {self.tokens:,} tokens remain: {sizes}",
                f"{checked}, vectors differ by at most {self.difference:.1g}",
                f"{others}; the rest falls back to characters, bytes or unknown tokens",
            ]
        )


def prune_model(encoder: Encoder, texts: Sequence[str], output: Path, *, force: bool = False) -> PruneReport:
    """Write a model with the tokens of some texts, and check that it gives the same vectors.

    Args:
        encoder: the model.
        texts: all that it shall read as before.
        output: the folder to create.
        force: write it also if the texts cover too few tokens of others.

    Raises:
        InputError: there are no texts, they cover too few tokens, or the folder exists and is not empty.
        ModelRefused: the model cannot be pruned exactly; nothing is written.
    """
    if not texts:
        raise InputError("There are no texts to find the tokens in.", param="corpus")
    require_new_folder(output)
    folder = _model_folder(encoder)
    state = json_file.read_object(folder / "tokenizer.json")
    whole = _splitter(state)
    unseen = _unseen_shares(state, whole, texts, _fixed_ids(encoder))
    if not force:
        _check_coverage(unseen, len(texts))
    pruned = prune_tokenizer(state, _token_ids(whole, texts), first_ids=_fixed_ids(encoder))
    _check_splits(whole, pruned, texts)
    with whole_folder(output) as partial:
        sizes = _write(encoder, folder, partial, pruned)
        difference = _check_vectors(encoder, partial, texts)
    tokens = len(whole.get_vocab())
    return PruneReport(tokens, len(pruned.old_ids), *sizes, len(texts), unseen.texts, unseen.tokens, difference)


def _check_coverage(unseen: _UnseenShares, texts: int) -> None:
    if unseen.tokens >= MIN_COVERAGE:
        return
    raise InputError(
        f"{count_of(texts, 'text')} cover {100 * unseen.tokens:.1f}% of the tokens of others like them (a tenth was "
        f"left out to measure that), and {100 * unseen.texts:.1f}% of such texts would be read as before: at least "
        f"{100 * MIN_COVERAGE:g}% of the tokens are needed. Take a larger corpus, with the words of your queries too, "
        "or write the model all the same with --force.",
        param="corpus",
    )


def _model_folder(encoder: Encoder) -> Path:
    """Return the folder of the model.

    Raises:
        ModelRefused: its vocabulary is part of its vectors, or its files are not those of a single table and tokenizer.
    """
    recipe = encoder.recipe
    if recipe.outputs != ("dense",) or recipe.reads != ("text",):
        raise ModelRefused(f"{recipe.name} is no model of texts with dense vectors alone: it cannot be pruned.")
    if recipe.config.get("model_type") == "static":
        raise ModelRefused(
            f"{recipe.name} is a table of tokens. Distil a new one for your texts: nearfield train static."
        )
    if recipe.quantized:
        raise ModelRefused(f"{recipe.name} has weights in {recipe.quantized}: prune the model first, then quantise it.")
    if recipe.exported_graph is not None or encoder.adapters:
        raise ModelRefused(f"{recipe.name} has an exported graph or adapters: prune the model itself.")
    folder = recipe.folder
    if not (folder / "tokenizer.json").is_file() or not list(folder.glob("*.safetensors")):
        raise ModelRefused(f"{folder} needs tokenizer.json and safetensors weights for this: save the model with both.")
    return folder


def _fixed_ids(encoder: Encoder) -> int:
    """Return how many of the first ids must keep their number."""
    config = encoder.recipe.config
    if config.get("model_type") not in _PADDING_OFFSET:
        return 0
    return int(config.get("pad_token_id") or 0) + 1


def _splitter(state: Mapping[str, Any]) -> Tokenizer:
    """Return a tokenizer that reads whole texts."""
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _TEXTS_PER_BATCH):
        yield texts[start : start + _TEXTS_PER_BATCH]


def _token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> set[int]:
    encodings = (item for batch in _batches(texts) for item in tokenizer.encode_batch_fast(list(batch)))
    return {number for item in encodings for number in item.ids}


def _check_splits(whole: Tokenizer, pruned: PrunedTokenizer, texts: Sequence[str]) -> None:
    """Raise ModelRefused unless each text is split as before."""
    smaller = _splitter(pruned.state)
    for batch in _batches(texts):
        before, after = (tokenizer.encode_batch_fast(list(batch)) for tokenizer in (whole, smaller))
        for text, old, new in zip(batch, before, after, strict=True):
            if [pruned.old_ids[number] for number in new.ids] != old.ids:
                raise ModelRefused(f"The tokenizer cannot be pruned exactly: it would split {text!r:.120} differently.")


@dataclass(frozen=True)
class _UnseenShares:
    """The shares of texts whose tokens remain, and of their tokens that do."""

    texts: float
    tokens: float


def _unseen_shares(state: Mapping[str, Any], whole: Tokenizer, texts: Sequence[str], first_ids: int) -> _UnseenShares:
    """Return the shares of a tenth of the texts, and of their tokens, if the tokens of the others remain."""
    left_out = list(texts[::10])
    others = [text for number, text in enumerate(texts) if number % 10]
    if not others:
        return _UnseenShares(0.0, 0.0)
    known = np.zeros(whole.get_vocab_size(), bool)
    known[list(prune_tokenizer(state, _token_ids(whole, others), first_ids=first_ids).old_ids)] = True
    rows = [item.ids for batch in _batches(left_out) for item in whole.encode_batch_fast(list(batch))]
    remaining = [known[ids] for ids in rows if len(ids)]
    if not remaining:
        return _UnseenShares(0.0, 0.0)
    return _UnseenShares(float(np.mean([row.all() for row in remaining])), float(np.concatenate(remaining).mean()))


# -- files -------------------------------------------------------------------------------------------------------------


def _write(encoder: Encoder, folder: Path, output: Path, pruned: PrunedTokenizer) -> tuple[int, int]:
    """Write the model to an empty folder; return the bytes of its weights before and after."""
    shutil.copytree(folder, output, ignore=_replaced_names, dirs_exist_ok=True)
    for path in (path for path in folder.rglob("*.safetensors") if path.parent != folder):
        shutil.copy(path, output / path.relative_to(folder))  # of further modules
    sizes = _write_weights(folder, output, pruned, encoder)
    (output / "tokenizer.json").write_text(json.dumps(pruned.state, ensure_ascii=False), encoding="utf-8")
    _write_configs(output, pruned)
    return sizes


def _replaced_names(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if _REPLACED.fullmatch(name)]


def _write_weights(folder: Path, output: Path, pruned: PrunedTokenizer, encoder: Encoder) -> tuple[int, int]:
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in read_safetensors(file).items()}
    rows = int(encoder.recipe.config["vocab_size"])
    tables = [name for name, tensor in tensors.items() if _is_table(name, tensor, rows)]
    if not tables:
        raise ModelRefused(f"{folder} has no table of tokens with {rows:,} rows under a known name.")
    if max(pruned.old_ids) >= rows:
        raise ModelRefused(f"{folder} has tokens without a row in its table of {rows:,}.")
    places = np.array(pruned.old_ids)
    _write_safetensors(output / "model.safetensors", tensors, dict.fromkeys(tables, places))
    return sum(file.stat().st_size for file in files), (output / "model.safetensors").stat().st_size


def _write_safetensors(path: Path, tensors: Mapping[str, LazyTensor], rows: Mapping[str, Array]) -> None:
    """Write tensors in their own number format, one by one; ``rows`` are those that remain of some.

    The library's writer takes no bfloat16 from numpy, and all tensors at once.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        shape = [len(rows[name]), *tensor.shape[1:]] if name in rows else list(tensor.shape)
        start, end = end, end + int(np.prod(shape)) * LAYOUT[tensor.dtype].itemsize
        header[name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, tensor in tensors.items():
            data = tensor.load()
            file.write(np.ascontiguousarray(data[rows[name]] if name in rows else data).tobytes())


def _is_table(name: str, tensor: LazyTensor, rows: int) -> bool:
    return bool(tensor.shape) and tensor.shape[0] == rows and _TABLES.search(name) is not None


def _write_configs(output: Path, pruned: PrunedTokenizer) -> None:
    """Write the ids and the size of the vocabulary in the configs."""
    new_ids = pruned.new_ids
    config = json_file.read_object(output / "config.json")
    config["vocab_size"] = len(pruned.old_ids)
    for name, value in config.items():
        if name.endswith("_token_id") and value is not None:
            ids = [new_ids.get(int(number)) for number in (value if isinstance(value, list) else [value])]
            config[name] = ids if isinstance(value, list) else ids[0]
    _write_json(output / "config.json", config)
    path = output / "tokenizer_config.json"
    settings = json_file.read_optional(path)
    decoder = settings.get("added_tokens_decoder")
    if decoder:
        settings["added_tokens_decoder"] = {
            str(new_ids[int(old)]): token for old, token in decoder.items() if int(old) in new_ids
        }
        _write_json(path, settings)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_vectors(encoder: Encoder, folder: Path, texts: Sequence[str]) -> float:
    """Return the largest difference of vectors of some texts.

    Raises:
        ModelRefused: it is not that of rounding.
    """
    sample = list(texts[:: max(1, len(texts) // _COMPARED)])[:_COMPARED]
    # Plain numpy in float32: what is equal here does not depend on how a runtime batches texts.
    options: dict[str, Any] = {"backend": "reference", "precision": "float32"}
    sides = []
    for model in (str(encoder.recipe.folder), str(folder)):
        with Encoder(model, **options) as loaded:
            sides.append(np.asarray(loaded.encode(sample), np.float64))
    before, after = sides
    difference = float(np.abs(before - after).max())
    if difference > TOLERANCE * max(1.0, float(np.abs(before).max())):
        raise ModelRefused(f"The pruned model gives other vectors: a value differs by {difference:.2g}.")
    return difference
