"""A model in this process as an embedding system, with the prompts, dimensions and dtype of a variant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.attach import open_encoder
from nearfield.encoder import Encoder
from nearfield.evaluation.json_types import JsonDict, Keywords
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.variant import Variant
from nearfield.inference.preparation.unread_inputs import UnreadInputs, unread_unlogged
from nearfield.vectors.dense import Vectors, normalize, quantize, truncate
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.similarity import similarity
from nearfield.vectors.sparse import SparseVectors

#: Dense vectors [n, dimensions], sparse vectors or multi-vectors.
Embeddings: TypeAlias = Array | SparseVectors | MultiVectors
ROLES = ("query", "document", "symmetric")


class LocalModel:
    """Encodes with a local model.

    Args:
        variant: model and options; its output is dense, sparse or multivector.
        encoder: the model, if it is loaded already; ``close`` leaves it open.
        memo: cache of vectors, shared by variants.
        attach: as for ``open_system``.

    Raises:
        ModelNotFound, SourceUnavailable, ModelRefused: as ``Encoder`` raises them.
        InputError: the model lacks the output, dimension or prompt of the variant.
    """

    def __init__(
        self,
        variant: Variant,
        encoder: Encoder | None = None,
        memo: EmbeddingCache | None = None,
        *,
        attach: bool = False,
    ) -> None:
        options: Keywords = {"precision": variant.precision} if variant.precision else {}
        self.variant, self._owned = variant, encoder is None
        open_model = open_encoder if attach else Encoder
        self.encoder = open_model(variant.model, **options) if encoder is None else encoder
        self._memo = EmbeddingCache() if memo is None else memo
        self._kind = variant.output
        #: Number of texts that were longer than the maximum of the model, and were truncated.
        self.truncated = 0
        self._unread = 0
        #: Texts by role that the model may not be able to read, until ``unread`` counts them.
        self._uncounted: dict[str, list[str]] = {role: [] for role in ROLES}
        try:
            self.encoder.require(self._kind)
            self._spaces = {role: self._space(role) for role in ROLES}
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Raise InputError for impossible dimensions and dtypes before anything is encoded."""
        keywords: Keywords = {"truncate_dim": self.variant.dimensions, "force_truncate_dim": True}
        if self._kind == "dense":
            self.encoder.encode([], **(keywords if self.variant.dimensions else {}))
            self.truncate_and_quantize(np.zeros((0, self.encoder.default_dimensions), np.float32))

    @property
    def name(self) -> str:
        """The name in results."""
        return str(self.variant)

    @property
    def unread(self) -> int:
        """Number of texts with more unknown tokens than others, so far; they are counted here, outside of timings."""
        for role, texts in self._uncounted.items():
            self._unread += self._count_unread(texts, role)
            texts.clear()
        return self._unread

    @property
    def identity(self) -> str:
        """A digest of everything that changes vectors: weights, prompts, dimensions, dtype, precision."""
        parts = [self._spaces, self.variant.dimensions, self.variant.dtype, self._kind]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> JsonDict:
        """Return the facts about the model that results contain."""
        encoder, dense = self.encoder, self._kind == "dense"
        trained = (*encoder.recipe.matryoshka, encoder.recipe.truncate_dim)
        facts: JsonDict = {
            "fingerprint": encoder.encode([], outputs=(self._kind,))[self._kind].fingerprint,
            "precision": encoder.precision,
            "max_length": self.variant.max_length or encoder.max_length,
            "prompts": {role: encoder.prompt_of(outputs=(self._kind,), **self._options(role)) for role in ROLES},
        }
        if dense:
            facts["dimensions"] = self.variant.dimensions or encoder.default_dimensions
        if dense and facts["dimensions"] < encoder.dimensions and facts["dimensions"] not in trained:
            facts["note"] = f"not trained to be truncated to {facts['dimensions']} dimensions"
        return facts

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        """Encode texts: float32 [n, dimensions] of dense vectors, else SparseVectors or MultiVectors."""
        self._uncounted[role] += [text for text in texts if not text.isascii()]  # ASCII is always read
        if self._kind != "dense":
            vectors: SparseVectors | MultiVectors = self._run(list(texts), role)
            self.truncated += 0 if vectors.dropped is None else int((vectors.dropped > 0).sum())
            return vectors
        rows, truncated = self._memo.encode(self._spaces[role], texts, lambda new: self._run(new, role))
        self.truncated += truncated
        return self.truncate_and_quantize(rows)

    def encode_late(self, runs: Sequence[Sequence[str]]) -> Array:
        """Encode runs of chunks with late chunking, each run in one pass: float32 [chunks, dimensions]."""
        options = self._options("document")
        chunks = self.encoder.encode_late(runs, **options)
        return self.truncate_and_quantize(np.concatenate([vectors.data for vectors in chunks]))

    def truncate_and_quantize(self, rows: Array) -> Array:
        """Truncate and quantise full rows [n, dimensions] as ``Encoder.encode`` does; return them as float32."""
        recipe, variant = self.encoder.recipe, self.variant
        unit, dim = recipe.normalized, variant.dimensions or self.encoder.default_dimensions
        if dim < rows.shape[1]:
            rows = rows - rows.mean(1, keepdims=True) if recipe.centre else rows
            rows = truncate(rows, dim, renormalize=unit)
        if variant.dtype == "float32":
            return rows
        if variant.dtype in ("int8", "uint8") and not unit and recipe.similarity == "cosine":
            # The fixed range of the bytes fits unit vectors, and a cosine does not depend on the length.
            rows, unit = normalize(rows), True
        return quantize(Vectors(rows, f"evaluated:{dim}:float32", dim), variant.dtype, unit=unit).decode().data

    def similarity(self, a: Any, b: Any) -> Array:
        """Return similarities [len(a), len(b)] by the model's own measure; for bits, by Hamming distance."""
        if isinstance(a, SparseVectors):
            return a.similarity(b)
        if isinstance(a, MultiVectors):
            return a.similarity(b)
        mark = "evaluated"
        left, right = (Vectors(np.asarray(side, np.float32), mark, side.shape[1]) for side in (a, b))
        return similarity(left, right, self.encoder.recipe.similarity)

    def close(self) -> None:
        """Release the model if it was loaded here."""
        if self._owned:
            self.encoder.close()

    def encode_keywords(self, role: str) -> JsonDict:
        """Return the keywords of ``Encoder.encode`` for the vectors of a role, truncated and quantised."""
        keywords = self._options(role)
        if self._kind != self.encoder.recipe.outputs[0]:
            keywords["outputs"] = (self._kind,)
        if self.variant.dimensions:
            keywords |= {"truncate_dim": self.variant.dimensions, "force_truncate_dim": True}
        return keywords if self.variant.dtype == "float32" else {**keywords, "precision": self.variant.dtype}

    def _run(self, texts: list[str], role: str) -> Any:
        options: JsonDict = {"outputs": (self._kind,), **self._options(role)}
        with unread_unlogged():  # results count them
            return self.encoder.encode(texts, show_progress_bar=False, **options)[self._kind]

    def _count_unread(self, texts: Sequence[str], role: str) -> int:
        """Return how many texts the model cannot read; vectors of the cache do not say it."""
        unread, options = UnreadInputs(), {"outputs": (self._kind,), **self._options(role)}
        if texts:
            tokens = self.encoder.tokenize(texts, **options)
            unread.add(self.encoder.tokenizer, self.encoder.prompt_of(**options), texts, tokens)
        return unread.count

    def _options(self, role: str) -> JsonDict:
        """Return the keywords of ``Encoder.encode`` for a role; ``symmetric`` has no role."""
        chosen = self.variant.document_prompt if role == "document" else self.variant.prompt
        keywords: Keywords = {"role": None if role == "symmetric" else role, "task": self.variant.task}
        if chosen is not None:
            named = chosen in self.encoder.recipe.prompts
            keywords |= {"prompt_name": chosen} if named else {"prompt": "" if chosen == "none" else chosen}
        keywords["max_length"] = self.variant.max_length
        if self.variant.dimensions and self.encoder.default_dimensions < self.encoder.dimensions:
            keywords["truncate_dim"] = self.encoder.dimensions  # the folder's own size may be smaller
        return {name: value for name, value in keywords.items() if value is not None}

    def _space(self, role: str) -> str:
        """Return the key of a role's full vectors in the cache; it contains token ids, which show every prompt."""
        options = self._options(role)
        blank = self.encoder.encode([], outputs=(self._kind,), **options)[self._kind]
        ids = self.encoder.tokenize([""], outputs=(self._kind,), **options)[0].ids
        key = [blank.fingerprint, self.encoder.precision, ids, options.get("max_length"), self.variant.task]
        return json.dumps(key, default=int)
