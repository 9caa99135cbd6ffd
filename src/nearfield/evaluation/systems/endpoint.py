"""A model behind a URL as an embedding system: a Nearfield server or an OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.client import Client
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict, Keywords
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.variant import Variant
from nearfield.vectors.dense import Vectors, quantize
from nearfield.vectors.similarity import similarity


class EndpointModel:
    """A model that a server runs.

    A Nearfield server gets the role of a text (query or document). Any other server gets the text, after the prompt's
    text if the variant has a prompt. The server truncates dimensions; vectors are quantised here and compared by their
    cosine. How many texts the server truncated is unknown.

    Raises:
        InputError: the environment variable of the API key is not set.
        NearfieldError: the server does not answer, or refuses.
    """

    truncated = None
    unread = None

    def __init__(self, variant: Variant, memo: EmbeddingCache | None = None) -> None:
        self.variant = variant
        self._memo = EmbeddingCache() if memo is None else memo
        self._client = Client(variant.url or "", variant.model, key=api_key(variant.key_env))

    @property
    def name(self) -> str:
        """The name in results, without the API key."""
        return str(self.variant)

    @property
    def identity(self) -> str:
        """A digest of the URL, the model's name there, its fingerprint if the server has one, and all options.

        Without a fingerprint, another model under the same name has the same digest.
        """
        parts = [str(self.variant), self._client.remote.fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def to_dict(self) -> JsonDict:
        """Return the facts about the model that results contain."""
        return {"url": self._client.url, "fingerprint": self._client.remote.fingerprint, "model": self._client.name}

    def encode(self, texts: Sequence[str], *, role: str) -> Array:
        """Encode texts: float32 [n, dimensions]."""
        options = self._options(role)
        space = json.dumps([self._client.url, self.variant.model, options], sort_keys=True)
        rows, _ = self._memo.encode(space, texts, lambda new: self._client.encode(new, **options))
        if self.variant.dtype == "float32":
            return rows
        unit = bool(np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3))
        vectors = Vectors(rows, "evaluated:0:float32", rows.shape[1])
        return quantize(vectors, self.variant.dtype, unit=unit).decode().data

    def similarity(self, a: Array, b: Array) -> Array:
        """Return cosines [len(a), len(b)]."""
        left, right = (Vectors(side, "evaluated", side.shape[1]) for side in (a, b))
        return similarity(left, right, "cosine")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _options(self, role: str) -> JsonDict:
        chosen = self.variant.document_prompt if role == "document" else self.variant.prompt
        options: Keywords = {"truncate_dim": self.variant.dimensions}
        if self._client.remote.native:
            options["role"] = None if role == "symmetric" else role
            options["force_truncate_dim"] = True if self.variant.dimensions else None
        if chosen is not None:
            named = chosen in self._client.remote.prompts
            options |= {"prompt_name": chosen} if named else {"prompt": "" if chosen == "none" else chosen}
        return {name: value for name, value in options.items() if value is not None}


def api_key(variable: str | None) -> str | None:
    """Return the API key in an environment variable; None without a variable.

    Raises:
        InputError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise InputError(f"The key is to come from ${variable}, which is not set.", param="key_env")
    return key
