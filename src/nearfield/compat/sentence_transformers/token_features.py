"""Tokens as sentence-transformers gives them: tensors of ids and masks, and the tokenizer object."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokens
from nearfield.errors import nearest
from nearfield.recipe import Recipe
from nearfield.tensors import array_to_tensor, is_tensor


def load_tokenizer(folder: Path, max_length: int | None) -> Any:
    """Return the tokenizer of a folder: of transformers if that is installed, else of tokenizers."""
    if find_spec("transformers") is None:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    from transformers import AutoTokenizer

    options = {} if max_length is None else {"model_max_length": max_length}
    return AutoTokenizer.from_pretrained(str(folder), **options)


class TokenFeatures(dict[str, Any]):
    """Tensors by name, which can be read as attributes too, and be moved to a device together."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"There is no {name!r} here. {nearest(name, self)}")
        return self[name]

    def to(self, device: Any) -> TokenFeatures:
        """Move the tensors to a device, and return this."""
        moved = {name: value.to(device) for name, value in self.items() if is_tensor(value)}
        self.update(moved)
        return self


def token_features(tokens: Sequence[Tokens], recipe: Recipe, pad_id: int | None) -> TokenFeatures:
    """Return tensors [inputs, tokens] of ids, masks and, where the model has them, token types, padded on the right."""
    length = max((len(item.ids) for item in tokens), default=0)
    ids = np.full((len(tokens), length), pad_id or 0, np.int64)
    mask = np.zeros_like(ids)
    for row, item in enumerate(tokens):
        ids[row, : len(item.ids)] = item.ids
        mask[row, : len(item.ids)] = 1
    arrays = {"input_ids": ids, "attention_mask": mask}
    if int(recipe.config.get("type_vocab_size") or 0) > 1:
        arrays["token_type_ids"] = np.zeros_like(ids)
    tensors = {name: array_to_tensor(array) for name, array in arrays.items()}
    return TokenFeatures(tensors, modality="text")
