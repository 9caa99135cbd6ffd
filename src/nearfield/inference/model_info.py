"""`ModelInfo`: the facts about a loaded model that callers use, without weights and graph; it can be pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from nearfield.argument_checks import require_texts
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights.lora import Adapters
from nearfield.engine.job import Batch
from nearfield.errors import InputError, nearest
from nearfield.recipe import Pooling, Recipe

if TYPE_CHECKING:
    from nearfield.inference.preparation.fused import FusedProcessor
    from nearfield.inference.processors import MediaProcessor


class ModelInfo:
    """A model without weights and graph. Its subclass `CompiledModel` has both, and adapters that can change."""

    recipe: Recipe
    name: str
    #: Turns inputs into features: a tokenizer, or the processor of pictures or sounds.
    processor: Tokenizer | MediaProcessor
    #: Length of the result rows of plain inputs; 0 if results are of other kinds.
    width: int
    precision: str
    #: Where batches run: ``cpu``, or a device of torch.
    device: str
    #: The devices of all replicas; ``device`` alone where there is one.
    devices: tuple[str, ...]
    #: Whether each input is computed by itself.
    reproducible: bool
    batch_tokens: int
    #: Tokens up to which inputs share rows.
    shared_length: int
    #: Name of the space of its vectors.
    space: str
    #: What makes sequences of inputs with media, of a model that reads them with texts.
    fused_processor: FusedProcessor | None
    _adapters: Adapters

    @classmethod
    def from_model(cls, model: ModelInfo) -> ModelInfo:
        """Return a copy of a model without weights and graph. It can be pickled if the recipe's mappings can."""
        info = ModelInfo()
        vars(info).update({name: getattr(model, name) for name in ModelInfo.__annotations__ if name != "_adapters"})
        adapters = model.adapters
        info._adapters = Adapters(adapters.weight_prefixes, None, adapters.named, adapters.loaded)
        return info

    def create_lane_function(self) -> Callable[[Batch], object]:
        """Raise RuntimeError: only the process that has the weights runs batches."""
        raise RuntimeError(f"{self.name} has no weights in this process.")

    @property
    def process_bytes(self) -> int:
        """The memory of the processes in which replicas run, beside this one."""
        return 0

    @property
    def media_is_missing(self) -> bool:
        """Whether ``load_media`` has something to do, which takes time."""
        return False

    def load_media(self) -> None:
        """Compile the towers whose rows enter the model's sequence; without weights there is nothing to compile."""

    @property
    def adapters(self) -> Adapters:
        """The loaded adapters."""
        return self._adapters

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            InputError: the model reads no texts.
        """
        if not isinstance(self.processor, Tokenizer):
            raise InputError(f"{self.name} reads no texts.", param="input")
        return self.processor

    @property
    def exclude_prompt(self) -> bool:
        """Whether pooling leaves out the prompt's tokens."""
        return any(isinstance(module, Pooling) and not module.include_prompt for module in self.recipe.modules)

    def skip(self, prompt: str) -> int:
        """Return how many leading tokens of an input with a prompt pooling leaves out."""
        return self.tokenizer.prompt_length(prompt) if prompt and self.exclude_prompt else 0

    def adapter(self, name: str | None) -> int:
        """Return an adapter's number, 0 for none.

        Raises:
            InputError: no adapter of that name is loaded.
        """
        if name is None:
            return 0
        require_texts(adapter=name)
        numbers = self.adapters.numbers
        if name not in numbers:
            raise InputError(f"{self.name} has no adapter {name!r}. {nearest(name, numbers)}", param="adapter")
        return numbers[name]

    def space_of(self, adapter: str | None) -> str:
        """Return the name of the space of an adapter's vectors, from the model's space and the adapter's digest."""
        if adapter is None:
            return self.space
        digest = next((loaded.digest for loaded in self.adapters.loaded.values() if loaded.name == adapter), adapter)
        return hashlib.sha256(f"{self.space} {digest}".encode()).hexdigest()[:16]
