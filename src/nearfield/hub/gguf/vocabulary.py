"""The vocabulary of a GGUF file: its tokens, their kinds and scores, and which of them are special."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.errors import ModelRefused
from nearfield.hub.gguf.header import GgufHeader

#: Kinds of tokens, as llama.cpp numbers them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
#: Roles of special tokens: their keys in the file, and as tokenizer_config.json calls them. A key is misspelt in GGUF.
_ROLES = {
    "bos": ("bos_token_id",),
    "eos": ("eos_token_id",),
    "unk": ("unknown_token_id",),
    "sep": ("seperator_token_id", "separator_token_id"),
    "pad": ("padding_token_id",),
    "cls": ("cls_token_id",),
    "mask": ("mask_token_id",),
}
#: Characters of a token. The longest that are known are 256 spaces; work on BPE by scores grows with the square.
_MAX_TOKEN_LENGTH = 512


@dataclass(frozen=True)
class GgufVocabulary:
    """The tokens of a file by id. ``special`` has the ids of special tokens by role (bos, eos, unk, ...)."""

    tokens: Sequence[str]
    kinds: Sequence[int]
    scores: Sequence[float]
    special: dict[str, int]

    def of_kind(self, *kinds: int) -> list[int]:
        """Return the ids of the tokens of some kinds."""
        return [number for number, kind in enumerate(self.kinds) if kind in kinds]

    def token(self, role: str) -> str | None:
        """Return the special token that has a role."""
        number = self.special.get(role)
        return None if number is None else self.tokens[number]


def read_vocabulary(header: GgufHeader) -> GgufVocabulary:
    """Return a file's vocabulary.

    Raises:
        ModelRefused: there is none, its lists differ in length, or it does not fit the embedding table.
    """
    tokens = stored_list(header, "tokens", str)
    if not tokens:
        raise ModelRefused(f"{header.path} has no vocabulary (tokenizer.ggml.tokens): take a file of the whole model.")
    table = header.tensors.get("token_embd.weight")
    rows = table.shape[0] if table is not None else 0
    if rows != len(tokens):
        raise ModelRefused(
            f"{header.path} has {len(tokens)} tokens and {rows} embeddings (token_embd.weight): tokenizer and weights "
            "do not belong together. Convert the model again."
        )
    if any(len(token) > _MAX_TOKEN_LENGTH for token in tokens):
        raise ModelRefused(f"{header.path} is damaged: a token has more than {_MAX_TOKEN_LENGTH} characters.")
    kinds, scores = stored_list(header, "token_type", int), stored_list(header, "scores", float)
    for name, values in (("token_type", kinds), ("scores", scores)):
        if values and len(values) != len(tokens):
            raise ModelRefused(f"{header.path} is damaged: {len(values)} values of {name} for {len(tokens)} tokens.")
    return GgufVocabulary(tokens, kinds or [NORMAL] * len(tokens), scores, _special(header, len(tokens)))


def stored_list(header: GgufHeader, name: str, kind: type) -> list[Any]:
    """Return a list of the tokenizer's metadata, an empty one where there is none.

    Raises:
        ModelRefused: it is no list, or one of another type.
    """
    values = header.metadata.get(f"tokenizer.ggml.{name}", [])
    if not isinstance(values, list) or (values and not isinstance(values[0], kind)):
        raise ModelRefused(f"{header.path} is damaged: tokenizer.ggml.{name} is no list of {kind.__name__}.")
    return values


def _special(header: GgufHeader, count: int) -> dict[str, int]:
    special = {}
    for role, keys in _ROLES.items():
        values = (header.metadata.get(f"tokenizer.ggml.{key}") for key in keys)
        number = next((value for value in values if value is not None), None)
        if number is None:
            continue
        if type(number) is not int or not 0 <= number < count:
            raise ModelRefused(
                f"{header.path}: the id of the {role} token is {number!r}, and there are {count} tokens."
            )
        special[role] = number
    return special
