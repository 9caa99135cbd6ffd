"""Distil a model into a table of static embeddings, as model2vec does, with our own encoder and without torch.

The recipe is model2vec's (Tulkens & van Dongen 2024, https://github.com/MinishLab/model2vec): one pass over the
vocabulary, principal components, and weights by rank (SIF, Arora et al. 2017, with Zipf's law for frequencies). Tokens
are ranked by the user's texts where there are any, else by their ids, as there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import AddedToken, Tokenizer

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.compat.model2vec import StaticModel, quantize_model
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.metrics import library
from nearfield.fileio.whole_folder import require_new_folder, whole_folder
from nearfield.inference.preparation.unread_inputs import unread_unlogged
from nearfield.message_text import count_of
from nearfield.progress import Progress
from nearfield.training.light.token_pruning import TokenizerState, prune_tokenizer, token_names
from nearfield.units import format_bytes

Pooling = Literal["mean", "model"]
PRECISIONS, POOLINGS = ("float32", "float16", "int8"), ("mean", "model")
#: Tokens that a vocabulary has for later use, and texts never contain.
_UNUSED = re.compile(r"\[unused\d+\]")
#: Tokens that are encoded together: their states are in memory at the same time.
_TOKENS_PER_PASS = 4096


@dataclass(frozen=True)
class StaticSettings:
    """How a table is distilled.

    Args:
        dimensions: principal components; None: no analysis, all dimensions of the model.
        sif: coefficient of the weights by rank, above 0 and below 1; None: no weights.
        words: words that become tokens, beside those of the model.
        clusters: rows of the table that tokens share (quantisation of the vocabulary); None: one for each token.
        precision: number format of the rows: float32, float16 or int8.
        pooling: ``mean`` of the states of a token's ids, as model2vec does, or ``model``: the model's vectors.
    """

    dimensions: int | None = 256
    sif: float | None = 1e-4
    words: tuple[str, ...] = ()
    clusters: int | None = None
    precision: str = "float16"
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        for name in ("dimensions", "clusters"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name), 2)
        if self.sif is not None and not 0 < self.sif < 1:
            raise InputError(f"sif is a number above 0 and below 1, not {self.sif!r}.", param="sif")
        for name, known in (("precision", PRECISIONS), ("pooling", POOLINGS)):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"Unknown {name} {value!r}. {nearest(value, known)}", param=name)


@dataclass(frozen=True)
class StaticTable:
    """A distilled model, and how much of the variance its principal components have (1 without an analysis)."""

    model: StaticModel
    variance: float
    tokens: int

    @property
    def bytes(self) -> int:
        """The bytes of the table."""
        return int(self.model.embedding.nbytes)

    def to_dict(self) -> JsonDict:
        """Return facts as JSON data."""
        return {
            "tokens": self.tokens,
            "dimensions": self.model.dim,
            "rows": len(self.model.embedding),
            "bytes": self.bytes,
            "variance": self.variance,
        }

    def to_text(self) -> str:
        """Return the facts as a line for a terminal."""
        rows = len(self.model.embedding)
        shared = "" if rows == self.tokens else f" in {count_of(rows, 'row')}"
        size = f"{count_of(self.model.dim, 'dimension')}, {format_bytes(self.bytes)}"
        return f"{count_of(self.tokens, 'token')}{shared}, {size}; {100 * self.variance:.1f}% of the variance"


def distil(
    encoder: Encoder, texts: Sequence[str] = (), settings: StaticSettings | None = None, *, progress: bool = False
) -> StaticTable:
    """Return a table of static embeddings for a model; nothing is written (``StaticTable.model.save_pretrained``).

    Args:
        encoder: the model, of texts.
        texts: the user's, which rank the tokens; without them, their ids do.
        settings: how it is distilled.
        progress: show a bar.

    Raises:
        InputError: there are fewer tokens than dimensions or clusters, or values that are no numbers.
        ModelRefused: the model is static itself, or has no tokenizer.json.
    """
    chosen = settings or StaticSettings()
    state = _tokenizer_state(encoder)
    tokenizer = _add_words(_static_tokenizer(state), chosen.words)
    if (chosen.dimensions or 0) > encoder.dimensions:
        raise InputError(
            f"{encoder.name} has {encoder.dimensions} dimensions: {chosen.dimensions} cannot be taken; 0 takes all.",
            param="dimensions",
        )
    names = _ordered_names(tokenizer)
    for name, number in (("dimensions", chosen.dimensions), ("clusters", chosen.clusters)):
        if number is not None and number >= len(names):
            raise InputError(f"{name} is {number:,}, and there are only {count_of(len(names), 'token')}.", param=name)
    if chosen.clusters is not None and chosen.clusters <= (chosen.dimensions or 0):
        raise InputError(f"clusters is {chosen.clusters}: it must be above dimensions, {chosen.dimensions}.")
    rows = _vocabulary_pass(encoder, state, names, chosen.pooling, progress=progress)
    weights = _sif_weights(_ranks(tokenizer, texts, len(names)), chosen.sif)
    return _build(encoder, tokenizer, rows, weights, chosen)


def _tokenizer_state(encoder: Encoder) -> TokenizerState:
    recipe = encoder.recipe
    if recipe.config.get("model_type") == "static":
        raise ModelRefused(f"{recipe.name} is a table of static embeddings already.")
    if recipe.reads != ("text",) or not (recipe.folder / "tokenizer.json").is_file():
        raise ModelRefused(f"{recipe.name} is no model of texts with a tokenizer.json: it cannot be distilled.")
    return json_file.read_object(recipe.folder / "tokenizer.json")


def _static_tokenizer(state: TokenizerState) -> Tokenizer:
    """Return the tokenizer without special tokens around a text, and without tokens that no text has."""
    model = state["model"]
    special = {token["content"] for token in state.get("added_tokens", ()) if token.get("special")}
    # The unknown token must exist; the one for padding stays as it does in model2vec, so that ranks are the same.
    special -= {model.get("unk_token"), (state.get("padding") or {}).get("pad_token"), "[PAD]", "<pad>", "<unk>"}
    names = token_names(state)
    remaining = [number for name, number in names.items() if name not in special and not _UNUSED.fullmatch(name)]
    added = [token for token in state.get("added_tokens", ()) if token["content"] not in special]
    pruned = prune_tokenizer({**state, "added_tokens": added, "post_processor": None}, remaining).state
    tokenizer = Tokenizer.from_str(json.dumps(pruned))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _add_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Return the tokenizer with words as single tokens, as far as they are no tokens yet."""
    normalizer, known = tokenizer.normalizer, tokenizer.get_vocab()
    plain = (word.strip() if normalizer is None else normalizer.normalize_str(word.strip()) for word in words)
    new = [word for word in dict.fromkeys(plain) if word and word not in known]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in new])
    return tokenizer


def frequent_words(texts: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the most frequent words of texts, of three letters and more, the most frequent first."""
    counts = Counter(word for text in texts for word in re.findall(r"(?<!\w)[^\W\d_]{3,}(?!\w)", text))
    return tuple(word for word, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:count])


def _ordered_names(tokenizer: Tokenizer) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


# -- the pass over the vocabulary --------------------------------------------------------------------------------------


def _vocabulary_pass(
    encoder: Encoder, state: TokenizerState, names: Sequence[str], pooling: Pooling, *, progress: bool
) -> Array:
    """Return a vector for each token [tokens, dimensions]: a token of the model by its id, a new word by its pieces."""
    ids, splitter = token_names(state), Tokenizer.from_str(json.dumps(state))
    inputs = [[ids[name]] if name in ids else splitter.encode(name, add_special_tokens=False).ids for name in names]
    parts = []
    with Progress(len(inputs), label="Vocabulary", unit="tokens", shown=progress) as bar:
        for part in _passes(inputs):
            with unread_unlogged():  # the unknown token is one of them
                parts.append(_encode(encoder, part, pooling))
            bar.advance(len(part), sum(map(len, part)))
    rows = np.concatenate(parts)
    if not np.isfinite(rows).all():
        raise InputError(f"{encoder.name} gives values that are no numbers for tokens of its vocabulary.")
    return rows


def _passes(inputs: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    for start in range(0, len(inputs), _TOKENS_PER_PASS):
        yield [ids or [0] for ids in inputs[start : start + _TOKENS_PER_PASS]]


def _encode(encoder: Encoder, inputs: list[list[int]], pooling: Pooling) -> Array:
    options: dict[str, Any] = {"prompt": ""}
    if pooling == "model":
        vectors = encoder.encode(inputs, show_progress_bar=False, truncate_dim=encoder.dimensions, **options)
        return np.asarray(vectors, np.float32)
    states = encoder.encode_tokens(inputs, **options)
    sums = np.add.reduceat(states.data.astype(np.float32), states.indptr[:-1], axis=0)
    return np.asarray(sums / np.diff(states.indptr)[:, None], np.float32)


# -- weights and components --------------------------------------------------------------------------------------------


def _ranks(tokenizer: Tokenizer, texts: Sequence[str], count: int) -> Array:
    """Return the rank of each token, from 0: by how often texts have it, ties by its id."""
    counts = np.zeros(count, np.int64)
    for start in range(0, len(texts), 1000):
        for item in tokenizer.encode_batch_fast(list(texts[start : start + 1000]), add_special_tokens=False):
            np.add.at(counts, item.ids, 1)
    ranks = np.empty(count, np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(count)
    return ranks


def _sif_weights(ranks: Array, coefficient: float | None) -> Array:
    """Return ``a / (a + p)`` for each token, where ``p`` follows Zipf's law by rank."""
    if coefficient is None:
        return np.ones(len(ranks))
    inverse = 1 / (ranks + 2.0)
    return np.asarray(coefficient / (coefficient + inverse / inverse.sum()))


def principal_components(rows: Array, count: int | None) -> tuple[Array, float]:
    """Return rows in their first principal components, and the share of the variance that these have."""
    if count is None:
        return rows, 1.0
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)
    share = float(values[::-1][:count].sum() / max(values.sum(), 1e-30))
    return np.asarray(centred @ directions[:, ::-1][:, :count]), share


def _build(
    encoder: Encoder, tokenizer: Tokenizer, rows: Array, weights: Array, settings: StaticSettings
) -> StaticTable:
    config: Mapping[str, Any] = {
        "architectures": ["StaticModel"],
        "tokenizer_name": encoder.name,
        "apply_pca": settings.dimensions,
        "sif_coefficient": settings.sif,
        "hidden_dim": settings.dimensions or rows.shape[1],
        "seq_length": 1_000_000,
        "pooling": settings.pooling,
    }
    mapping, factors = None, None
    if settings.clusters is None:
        components, variance = principal_components(rows, settings.dimensions)
        table = components * weights[:, None]
    else:
        # As model2vec: shared rows are those before the analysis, and each token keeps its weight.
        kmeans = library("sklearn.cluster").KMeans(n_clusters=settings.clusters, random_state=42, init="random")
        mapping = kmeans.fit(rows).labels_.astype(np.int64)
        table, variance = principal_components(kmeans.cluster_centers_, settings.dimensions)
        factors = weights.astype(np.float32)
    model = StaticModel(
        table.astype(np.float32),
        tokenizer,
        config,
        normalize=True,
        base_model_name=encoder.name,
        weights=factors,
        token_mapping=mapping,
    )
    return StaticTable(quantize_model(model, quantize_to=settings.precision), variance, len(rows))


def check_static_folder(output: Path) -> None:
    """Raise InputError unless a table can be written to a folder: a new one, or an empty one."""
    require_new_folder(output)


def write_table(table: StaticTable, output: Path) -> None:
    """Write a table as a folder of model2vec's, in one step."""
    with whole_folder(output) as partial:
        table.model.save_pretrained(partial)
