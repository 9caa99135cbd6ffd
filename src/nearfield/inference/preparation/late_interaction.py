"""Input formats of late-interaction models by role: marker token, length, query expansion, and skipped tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.errors import ModelRefused
from nearfield.heads import OutputRequest
from nearfield.recipe import Multivector, RoleFormat

#: Tokens that fill queries up, in this order of preference, where a folder does not name one.
FILLERS = ("[MASK]", "<mask>", "</s>", "<|endoftext|>", "<eos>")


@dataclass(frozen=True)
class _RoleTokens:
    """The format of one role, in token ids. ``prompt`` is the prefix as text, where it is not one token."""

    format: RoleFormat
    marker: int | None
    prompt: str
    filler: int
    skipped: Array


class LateInteractionFormatter:
    """Formats tokens for a late-interaction model (ColBERT, PyLate, bge-m3).

    A text without a role is treated as a document, as in sentence-transformers.
    """

    def __init__(self, spec: Multivector, tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._roles = {"query": self._role(spec.query), "document": self._role(spec.document)}

    def with_prefix(self, prompt: str, role: str | None) -> str:
        """Return a prompt after the model's prefix, once; without it, where it is a token that is inserted."""
        tokens = self._tokens_of(role)
        return tokens.prompt + prompt.removeprefix(tokens.format.prefix)

    def limit(self, role: str | None) -> int:
        """Return the maximum number of tokens of an input before its marker is inserted."""
        tokens = self._tokens_of(role)
        length = min(tokens.format.length or self._tokenizer.max_length, self._tokenizer.max_length)
        min_length = len(self._tokenizer.prefix) + len(self._tokenizer.suffix) + 1
        return max(min_length, length - (tokens.marker is not None))

    def format(self, inputs: Sequence[Tokens], role: str | None) -> tuple[list[Tokens], list[OutputRequest]]:
        """Insert the marker and expand queries; return the new tokens, and which of them get a vector."""
        tokens = self._tokens_of(role)
        formatted = [Tokens(self._insert(item.ids, tokens), item.dropped) for item in inputs]
        pairs = zip(inputs, formatted, strict=True)
        return formatted, [self._request(item.ids, new.ids, tokens) for item, new in pairs]

    def _tokens_of(self, role: str | None) -> _RoleTokens:
        return self._roles[role or "document"]

    def _insert(self, ids: list[int], role: _RoleTokens) -> list[int]:
        """Return an input's ids with the marker after the first special token, filled up where the role expands."""
        at = min(1, len(self._tokenizer.prefix))
        whole = ids if role.marker is None else [*ids[:at], role.marker, *ids[at:]]
        length = min(role.format.expand_to or role.format.length or 0, self._tokenizer.max_length)
        missing = length - len(whole) if role.format.expand else 0
        return [*whole, *[role.filler] * missing] if missing > 0 else whole

    def _request(self, ids: list[int], formatted: list[int], role: _RoleTokens) -> OutputRequest:
        real = len(ids) + (role.marker is not None)
        unattended = 0 if role.format.attend else len(formatted) - real
        if not len(role.skipped):
            return OutputRequest(outputs=("multivector",), unattended=unattended)
        places = np.flatnonzero(~np.isin(np.asarray(formatted), role.skipped))
        places = places[places >= self._spec.skip_first_tokens]
        return OutputRequest(outputs=("multivector",), kept_tokens=places, unattended=unattended)

    def _role(self, role: RoleFormat) -> _RoleTokens:
        backend = self._tokenizer.backend
        words = [role.prefix, *role.prefix.split()[:1]] if role.inserted and role.prefix.strip() else []
        marker = next((token for word in words if (token := backend.token_to_id(word)) is not None), None)
        if marker is not None:
            self._tokenizer.check_special_tokens([marker])
            if self._tokenizer.max_length < len(self._tokenizer.prefix) + len(self._tokenizer.suffix) + 2:
                raise ModelRefused(f"A maximum length of {self._tokenizer.max_length} leaves no room for a text.")
        prompt = role.prefix if marker is None else ""
        skipped = [token for word in role.skip if (token := backend.token_to_id(word)) is not None]
        return _RoleTokens(role, marker, prompt, self._filler(role), np.asarray(skipped, np.int64))

    def _filler(self, role: RoleFormat) -> int:
        if not role.expand:
            return 0
        names = (role.filler,) if role.filler else FILLERS
        for name in names:
            if (token := self._tokenizer.backend.token_to_id(name)) is not None:
                self._tokenizer.check_special_tokens([token])
                return int(token)
        raise ModelRefused(f"Queries are filled up with {' or '.join(names)}, and the tokenizer has no such token.")
