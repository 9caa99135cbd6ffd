"""The exchange that needs a model's tokenizer only: tokenise texts, or decode token ids."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.inference.encode_options import resolve_prompt
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.exchange.exchange import Bounds, Exchange, check_size
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription


@dataclass(kw_only=True)
class Tokenize(Exchange):
    """Make a model's tokenizer available; the dialect's ``write`` uses it."""

    texts: Sequence[str] = ()
    #: Token ids to decode.
    ids: Sequence[Sequence[int]] = ()
    #: Name of the prompt that is put before each text; None: the model's default.
    prompt_name: str | None = None
    #: The model's tokenizer and the text of the prompt, set by ``run``.
    tokenizer: Tokenizer | None = None
    prompt: str = ""

    @property
    def size(self) -> int:
        return len(self.texts) + len(self.ids)

    @property
    def number_count(self) -> int:
        if self.tokenizer is not None and not self.tokenizer.is_bounded:
            return sys.maxsize  # never on the event loop
        return sum(map(len, self.texts)) + sum(map(len, self.ids))

    def fits(self, model: ModelDescription) -> bool:  # noqa: ARG002 - every model has a tokenizer
        return True

    def check(self, limits: RequestLimits) -> None:
        check_size(self.size, limits)

    async def run(self, model: LoadedModel, bounds: Bounds) -> None:  # noqa: ARG002 - no batch is run
        """Set the tokenizer and the prompt.

        Raises:
            InputError: the model has no prompt of that name.
        """
        self.tokenizer = model.tokenizer
        if self.texts:
            self.prompt = resolve_prompt(model.recipe, self.prompt_name, None, None)
