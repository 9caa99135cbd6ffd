"""Marking: how texts are prepared for late interaction by role: marker, length, expansion, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.errors import ModelRefused
from nearfield.heads import OutputRequest
from nearfield.recipe import Multivector, RoleFormat

Array = np.ndarray[Any, np.dtype[Any]]
#: Tried in this order when a folder does not name the token that queries are filled up with.
FILLERS = ("[MASK]", "<mask>", "</s>", "<|endoftext|>", "<eos>")


@dataclass(frozen=True)
class _RoleMarkers:
    """One role's marking, in ids."""

    marking: RoleFormat
    marker: int | None
    prompt: str
    filler: int
    skipped: Array


class LateInteractionFormatter:
    """Prepares texts for a late-interaction model (ColBERT, PyLate, bge-m3)."""

    def __init__(self, spec: Multivector, tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._roles = {"query": self._role(spec.query), "document": self._role(spec.document)}

    def prompt(self, role: str | None) -> str:
        """Return the text that goes before an input where the model's prefix is text and no token."""
        return self._of(role).prompt

    def limit(self, role: str | None) -> int | None:
        """Return the most tokens of an input before its marker is put in, or None for the model's own length."""
        known = self._of(role)
        length = min(known.marking.length or self._tokenizer.max_length, self._tokenizer.max_length)
        least = len(self._tokenizer.prefix) + len(self._tokenizer.suffix) + 1
        return max(least, length - (known.marker is not None))

    def mark(self, tokens: Sequence[Tokens], role: str | None) -> tuple[list[Tokens], list[OutputRequest]]:
        """Put the marker in and fill queries up; return what is read and which of its tokens get a vector."""
        known = self._of(role)
        marked = [Tokens(self._marked(item.ids, known), item.dropped) for item in tokens]
        return marked, [self._extra(item.ids, len(read.ids), known) for item, read in zip(tokens, marked, strict=True)]

    def _of(self, role: str | None) -> _RoleMarkers:
        """A text of no role is a document, as in sentence-transformers."""
        return self._roles[role or "document"]

    def _marked(self, ids: list[int], role: _RoleMarkers) -> list[int]:
        at = min(1, len(self._tokenizer.prefix))
        whole = ids if role.marker is None else [*ids[:at], role.marker, *ids[at:]]
        missing = (role.marking.length or 0) - len(whole) if role.marking.expand else 0
        return [*whole, *[role.filler] * missing] if missing > 0 else whole

    def _extra(self, ids: list[int], read: int, role: _RoleMarkers) -> OutputRequest:
        real = len(ids) + (role.marker is not None)
        filled = 0 if role.marking.attend else read - real
        if not len(role.skipped):
            return OutputRequest(outputs=("multivector",), unattended=filled)
        whole = np.asarray(self._marked(ids, role))
        kept = np.flatnonzero(~np.isin(whole, role.skipped))
        return OutputRequest(outputs=("multivector",), kept=kept[kept >= self._spec.drop], unattended=filled)

    def _role(self, marking: RoleFormat) -> _RoleMarkers:
        backend = self._tokenizer.backend
        words = [marking.prefix, *marking.prefix.split()[:1]] if marking.prefix.strip() else []
        marker = next((number for word in words if (number := backend.token_to_id(word)) is not None), None)
        prompt = marking.prefix if marker is None else ""
        skipped = [number for word in marking.skip if (number := backend.token_to_id(word)) is not None]
        return _RoleMarkers(marking, marker, prompt, self._filler(marking), np.asarray(skipped, np.int64))

    def _filler(self, marking: RoleFormat) -> int:
        if not marking.expand:
            return 0
        names = (marking.filler,) if marking.filler else FILLERS
        for name in names:
            if (number := self._tokenizer.backend.token_to_id(name)) is not None:
                return number
        raise ModelRefused(f"queries are filled up with {' or '.join(names)}, and the tokenizer has no such token")
