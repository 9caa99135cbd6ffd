"""Models: what is served, by each of its names."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelNotFound, nearest
from nearfield.loaded import Loaded

#: Characters of a model's or prompt's name; a longer one is not even compared with those there are.
LONGEST_NAME = 512


class Models:
    """The models that are served, each by its full id and its short name."""

    def __init__(self, loaded: Sequence[Loaded], aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        self.loaded = tuple(loaded)
        self.started = int(time.time())
        claims: dict[str, set[Loaded]] = {}
        for model in self.loaded:
            for name in (model.name.rpartition("/")[2], *(aliases or {}).get(model.name, ())):
                claims.setdefault(name.lower(), set()).add(model)
        # A short name that several models could mean is nobody's: their full ids stay clear.
        self._by_name = {name: next(iter(found)) for name, found in claims.items() if len(found) == 1}
        self._by_name |= {model.name.lower(): model for model in self.loaded}

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Those that give vectors."""
        return tuple(model for model in self.loaded if isinstance(model, Encoder))

    @asynccontextmanager
    async def use(self, name: str | None, fits: Callable[[Loaded], bool]) -> AsyncIterator[Loaded]:
        """Lend the model of a name for as long as the block lasts; without a name, the first that fits.

        Raises:
            ModelNotFound: it is not served, or none that fits is.
            InputError: it is of another kind.
        """
        yield self.find(name) if name is not None else self.first(fits)

    def first(self, fits: Callable[[Loaded], bool]) -> Loaded:
        """Return the first model that fits.

        Raises:
            ModelNotFound: none does.
        """
        found = next((model for model in self.loaded if fits(model)), None)
        if found is None:
            raise ModelNotFound(f"No model for this is served here. Served are: {', '.join(self.names())}.")
        return found

    def find(self, name: str) -> Loaded:
        """Return the model of a name, whatever its case; ``:latest`` at its end says nothing.

        Raises:
            ModelNotFound: it is not served.
        """
        if len(name) > LONGEST_NAME:
            raise ModelNotFound(
                f"A model's name of {len(name)} characters is none of ours. {nearest('', self.names())}"
            )
        model = self._by_name.get(name.lower()) or self._by_name.get(name.lower().removesuffix(":latest"))
        if model is None:
            raise ModelNotFound(f"The model {name!r} is not served here. {nearest(name, self.names())}")
        return model

    def encoder(self, name: str) -> Encoder:
        """Return the encoder of a name.

        Raises:
            ModelNotFound: it is not served.
            InputError: it gives scores, no vectors.
        """
        model = self.find(name)
        if not isinstance(model, Encoder):
            raise InputError(f"{model.name} scores texts and gives no vectors.", param="model")
        return model

    def names(self) -> list[str]:
        """Return the full id of each served model."""
        return [model.name for model in self.loaded]
