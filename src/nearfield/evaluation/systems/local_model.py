"""Local: a model that runs here, as a subject: its vectors cut, quantised and prompted as a variant says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.variant import Variant
from nearfield.vectors.dense import Vectors, normalize, quantize, similarity, truncate
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

ROLES = ("query", "document", "symmetric")


class LocalModel:
    """Encodes with a loaded model.

    Args:
        variant: what is measured; its output is dense, sparse or multivector.
        encoder: the model where it is loaded already; it is then left open.
        memo: vectors that were encoded before, shared by variants.

    Raises:
        ModelNotFound, SourceUnavailable, ModelRefused: as ``Encoder`` raises them.
        InputError: the model does not give that output, dimension or prompt.
    """

    def __init__(self, variant: Variant, encoder: Encoder | None = None, memo: EmbeddingCache | None = None) -> None:
        options: dict[str, Any] = {"precision": variant.precision} if variant.precision else {}
        self.variant, self._owned = variant, encoder is None
        self.encoder = Encoder(variant.model, **options) if encoder is None else encoder
        self._memo = EmbeddingCache() if memo is None else memo
        self._kind = variant.output
        #: How many texts were longer than what the model reads, and were cut.
        self.truncated = 0
        try:
            self.encoder.require(self._kind)
            self._spaces = {role: self._space(role) for role in ROLES}
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """Refuse dimensions and dtypes that cannot be before anything is encoded."""
        asked: dict[str, Any] = {"truncate_dim": self.variant.dimensions, "force_truncate_dim": True}
        if self._kind == "dense":
            self.encoder.encode([], **(asked if self.variant.dimensions else {}))
            self.shaped(np.zeros((0, self.encoder.dimensions), np.float32))

    @property
    def name(self) -> str:
        """As shown."""
        return str(self.variant)

    @property
    def identity(self) -> str:
        """A digest of all that changes vectors: weights, prompts, dimensions, dtype, precision."""
        told = [self._spaces, self.variant.dimensions, self.variant.dtype, self._kind]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def told(self) -> dict[str, Any]:
        """Return what a result says of the model."""
        encoder, dense = self.encoder, self._kind == "dense"
        trained = encoder.recipe.matryoshka or ()
        found: dict[str, Any] = {
            "fingerprint": encoder.encode([], outputs=(self._kind,))[self._kind].fingerprint,
            "precision": encoder.precision,
            "max_length": self.variant.max_length or encoder.max_length,
            "prompts": {role: encoder.prompt_of(outputs=(self._kind,), **self._options(role)) for role in ROLES},
        }
        if dense:
            found["dimensions"] = self.variant.dimensions or encoder.dimensions
        if dense and found["dimensions"] < encoder.dimensions and found["dimensions"] not in trained:
            found["note"] = f"not trained to be cut to {found['dimensions']} dimensions"
        return found

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        """Encode texts: float32 [n, dimensions] of dense vectors, else SparseVectors or MultiVectors."""
        if self._kind != "dense":
            found: SparseVectors | MultiVectors = self._run(list(texts), role)
            self.truncated += 0 if found.dropped is None else int((found.dropped > 0).sum())
            return found
        rows, gone = self._memo.encode(self._spaces[role], texts, lambda new: self._run(new, role))
        self.truncated += gone
        return self.shaped(rows)

    def late(self, runs: Sequence[Sequence[str]]) -> Array:
        """Encode runs of chunks, each with the rest of its run in view: float32 [chunks, dimensions]."""
        options = self._options("document")
        found = self.encoder.encode_late(runs, **options)
        return self.shaped(np.concatenate([each.data for each in found]))

    def shaped(self, rows: Array) -> Array:
        """Cut and quantise whole rows [n, dimensions], as ``Encoder.encode`` does, and return them as float32."""
        recipe, variant = self.encoder.recipe, self.variant
        unit, dim = recipe.normalized, variant.dimensions or self.encoder.dimensions
        if dim < rows.shape[1]:
            rows = rows - rows.mean(1, keepdims=True) if recipe.centre else rows
            rows = truncate(rows, dim, renormalize=unit)
        if variant.dtype == "float32":
            return rows
        if variant.dtype in ("int8", "uint8") and not unit and recipe.similarity == "cosine":
            # The fixed range of bytes is that of unit vectors, and a cosine is the same at any length.
            rows, unit = normalize(rows), True
        return quantize(Vectors(rows, f"evaluated:{dim}:float32", dim), variant.dtype, unit=unit).decode().data

    def similarity(self, a: Any, b: Any) -> Array:
        """Compare by the model's own measure: [len(a), len(b)], higher is nearer; bits by their Hamming distance."""
        if isinstance(a, (SparseVectors, MultiVectors)):
            found: Array = a.similarity(b)
            return found
        mark = "evaluated"
        left, right = (Vectors(np.asarray(each, np.float32), mark, each.shape[1]) for each in (a, b))
        return similarity(left, right, self.encoder.recipe.similarity)

    def close(self) -> None:
        """Let go of the model, where it was loaded for this."""
        if self._owned:
            self.encoder.close()

    def wanted(self, role: str) -> dict[str, Any]:
        """Return the keywords of ``Encoder.encode`` that give a role's vectors as they would be stored."""
        told = self._options(role)
        if self._kind != self.encoder.recipe.outputs[0]:
            told["outputs"] = (self._kind,)
        if self.variant.dimensions:
            told |= {"truncate_dim": self.variant.dimensions, "force_truncate_dim": True}
        return told if self.variant.dtype == "float32" else {**told, "precision": self.variant.dtype}

    def _run(self, texts: list[str], role: str) -> Any:
        options = self._options(role)
        return self.encoder.encode(texts, outputs=(self._kind,), show_progress_bar=False, **options)[self._kind]

    def _options(self, role: str) -> dict[str, Any]:
        """Return the keywords of ``Encoder.encode`` for a role; ``symmetric`` is neither query nor document."""
        chosen = self.variant.document_prompt if role == "document" else self.variant.prompt
        told: dict[str, Any] = {"role": None if role == "symmetric" else role, "task": self.variant.task}
        if chosen is not None:
            named = chosen in self.encoder.recipe.prompts
            told |= {"prompt_name": chosen} if named else {"prompt": "" if chosen == "none" else chosen}
        told["max_length"] = self.variant.max_length
        return {name: value for name, value in told.items() if value is not None}

    def _space(self, role: str) -> str:
        """Return what tells whole vectors of one role from others: with token ids, for they show every prompt."""
        options = self._options(role)
        blank = self.encoder.encode([], outputs=(self._kind,), **options)[self._kind]
        ids = self.encoder.tokenize([""], outputs=(self._kind,), **options)[0].ids
        told = [blank.fingerprint, self.encoder.precision, ids, options.get("max_length"), self.variant.task]
        return json.dumps(told, default=int)
