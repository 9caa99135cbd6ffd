"""`AttachedModel`: what attached encoders and rerankers have in common."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from nearfield.attach import SERVER_VARIABLE
from nearfield.attach.attached_client import AttachedClient
from nearfield.attach.model_facts import model_facts
from nearfield.errors import DeadlineExceeded, InputError
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.tower_set import TowerSet
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.recipe import Recipe

ResultT = TypeVar("ResultT")


class AttachedModel(LoadedModel):
    """A model without weights and engine, and the client of the server that computes for it."""

    _client: AttachedClient

    def _attach(
        self, model: UncompiledModel, url: str, max_length: int | None, precision: str, *, discovered: bool
    ) -> None:
        """Connect to the server and set what all models have. Raises as ``open_encoder`` does."""
        recipe = self.recipe = model.recipe
        self._arguments = {**model.arguments, "max_length": max_length, "precision": precision}
        self.default_adapter, self._max_length = model.default_adapter, max_length
        self._client = AttachedClient(url, recipe.name, discovered=discovered)
        # A model that is garbage-collected without being closed closes its connections.
        self._finalizer = cast(Any, weakref.finalize(self, self._client.close))
        self._model = cast(Any, model_facts(model, self._client, max_length, precision))
        self.max_positions = self._model.processor.max_length
        self._towers = TowerSet(recipe, _refuse_tower, None)
        self.load_seconds, self.bytes = time.perf_counter() - model.started, None

    def close(self, *, drain: bool = True) -> None:  # noqa: ARG002 - nothing is queued in this process
        """Close the connections to the server."""
        self._client.close()

    def load_arguments(self) -> dict[str, Any]:
        """Return the arguments with which another process loads the model whose vectors the server computes."""
        return dict(self._arguments)

    def load_towers(self) -> None:
        """Do nothing: the server has the towers."""

    def load_adapter(self, adapter: str | Path, name: str | None = None, *, source: str | None = None) -> str:  # noqa: ARG002
        """Raise InputError: adapters are loaded where the weights are."""
        self._refuse("load_adapter")

    def remove_adapter(self, name: str) -> None:  # noqa: ARG002
        """Raise InputError, as ``load_adapter`` does."""
        self._refuse("remove_adapter")

    async def _in_thread(self, call: Callable[[], ResultT], limits: CallLimits) -> ResultT:
        """Run a call beside the event loop.

        Raises:
            DeadlineExceeded: its deadline passed before the server answered.
            InputError: it limits the tokens, which are counted on the server.
        """
        if limits.max_tokens is not None:
            self._refuse("max_tokens")
        try:
            return await asyncio.wait_for(asyncio.to_thread(call), limits.deadline)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"{self._client.url} did not answer within {limits.deadline} s.") from None

    def _sent_length(self, max_length: int | None) -> int | None:
        """Return the tokens to read that are sent to the server, for those of a call."""
        return self._max_length if max_length is None else max_length

    def _state(self) -> tuple[str, str, dict[str, Any], bool]:
        """Return URL, model, options, and whether the server was found by its file: what attaches another process."""
        arguments = self.load_arguments()
        return self._client.url, arguments.pop("model"), arguments, self._client.discovered

    def _refuse(self, option: str) -> NoReturn:
        raise InputError(
            f"{self.name} is attached to {self._client.url}, and {option} is for a model that is loaded: leave it out, "
            f"or unset {SERVER_VARIABLE} to load it here.",
            param=option,
        )


def _refuse_tower(recipe: Recipe) -> NoReturn:
    raise RuntimeError(f"The tower of {recipe.name} runs on the server.")
