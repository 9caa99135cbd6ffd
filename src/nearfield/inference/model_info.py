"""Outline: what callers ask of a model beside running it, which is all of it that another process needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights.lora import Adapters
from nearfield.engine.job import Batch
from nearfield.errors import InputError, nearest
from nearfield.recipe import Pooling, Recipe


class ModelInfo:
    """A model without weights and graph. The subclass that runs it says the same, and knows adapters that change.

    ``space`` names what its vectors live in, ``width`` is the size of the rows that plain inputs give (0 where results
    are of other kinds), ``shared_length`` the length up to which inputs share rows.
    """

    recipe: Recipe
    name: str
    tokenizer: Tokenizer
    width: int
    precision: str
    batch_tokens: int
    shared_length: int
    space: str
    _adapters: Adapters

    @classmethod
    def of(cls, model: ModelInfo) -> ModelInfo:
        """Return the outline of a model: it can be pickled, where the recipe's mappings can."""
        made = ModelInfo()
        vars(made).update({name: getattr(model, name) for name in ModelInfo.__annotations__ if name != "_adapters"})
        known = model.adapters
        made._adapters = Adapters(known.roots, None, known.named, known.loaded)
        return made

    def lane(self) -> Callable[[Batch], Any]:
        """Raise RuntimeError: only the process that has the weights runs batches."""
        raise RuntimeError(f"{self.name} has no weights in this process.")

    @property
    def adapters(self) -> Adapters:
        """The adapters that are loaded."""
        return self._adapters

    @property
    def exclude_prompt(self) -> bool:
        """Whether pooling leaves the prompt's tokens out."""
        return any(isinstance(module, Pooling) and not module.include_prompt for module in self.recipe.modules)

    def skip(self, prompt: str) -> int:
        """Return how many leading tokens of an input with this prompt pooling leaves out."""
        return self.tokenizer.prompt_length(prompt) if prompt and self.exclude_prompt else 0

    def adapter(self, name: str | None) -> int:
        """Return an adapter's number, 0 for none.

        Raises:
            InputError: no adapter of that name is loaded.
        """
        if name is None:
            return 0
        numbers = self.adapters.numbers
        if name not in numbers:
            raise InputError(f"{self.name} has no adapter {name!r}. {nearest(name, numbers)}", param="adapter")
        return numbers[name]

    def space_of(self, adapter: str | None) -> str:
        """Name the space of an adapter's vectors, from the model's and what the adapter adds."""
        if adapter is None:
            return self.space
        mark = next((one.digest for one in self.adapters.loaded.values() if one.name == adapter), adapter)
        return hashlib.sha256(f"{self.space} {mark}".encode()).hexdigest()[:16]
