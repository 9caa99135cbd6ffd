"""Model: a recipe compiled for a backend, as the engine's lanes run it."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import backends, families, heads, ops
from nearfield.backends import Options
from nearfield.checkpoint.tokenizer import Tokenizer
from nearfield.checkpoint.weights import Weights
from nearfield.engine import Batch
from nearfield.errors import InputError, ModelRefused, WeightsError, nearest
from nearfield.machine import plan
from nearfield.ops import Graph, Ops
from nearfield.packing import SHORT, Rows, rows
from nearfield.recipe import Dense, LayerNorm, Pooling, Recipe

Array = np.ndarray[Any, np.dtype[Any]]
PRECISIONS = ("auto", "float32")


class Model:
    """What the engine schedules for (its ``Runner``): name, width, and lanes that turn batches into rows."""

    def __init__(
        self,
        recipe: Recipe,
        precision: str = "auto",
        backend: str = "openvino",
        threads: int | None = None,
        streams: int | None = None,
        max_length: int | None = None,
        cache: Path | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
        self.recipe = recipe
        self.name = recipe.name
        self.width = recipe.dimensions
        self.cpu = plan(threads, streams)
        self.family = families.resolve(recipe.config)
        self.tokenizer = _tokenizer(recipe, self.family, max_length)
        self._weights = Weights.open(recipe.folder).rooted(self.family.roots)
        self._pools = heads.inputs(recipe.modules)
        runtime = backends.SHELF.load(backend)(Options(precision, self.cpu, cache))  # type: ignore[arg-type]
        self.batch_tokens: int = runtime.batch_tokens
        self.shared_length = SHORT if heads.packable(recipe.modules) else 0
        self.space = _space(recipe, self._weights.digest, self.tokenizer.digest)
        self._program = runtime.compile(self._graph(runtime))
        self.precision: str = self._program.precision
        self._probe()
        # The graph owns what it needs; keeping the files' tensors would double the memory.
        del self._weights

    @property
    def exclude_prompt(self) -> bool:
        """Whether pooling leaves the prompt's tokens out."""
        return any(isinstance(module, Pooling) and not module.include_prompt for module in self.recipe.modules)

    def skip(self, prompt: str) -> int:
        """Return how many leading tokens of an input with this prompt pooling leaves out."""
        return self.tokenizer.prompt_length(prompt) if prompt and self.exclude_prompt else 0

    def lane(self) -> Callable[[Batch], Array]:
        """Return a function that runs batches one at a time, for one lane."""
        lane = self._program.lane()

        def run(batch: Batch) -> Array:
            packed = rows([job.ids for job in batch.jobs], shared=self.shared_length > 0)
            batch.computed = packed.ids.size
            # [rows, slots, width]: pick each input's vector from its place.
            return lane.run(self._arrays(batch, packed))[packed.layout.row, packed.layout.slot]

        return run

    def _graph(self, runtime: Any) -> Graph[Any]:
        weights, family, recipe = self._weights, self.family, self.recipe

        def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> Any:
            hidden = family.encode(run, weights, inputs)
            left = weights.untaken(family.unread)
            if left:
                raise WeightsError(
                    f"{recipe.folder} holds weights that {recipe.config.get('model_type')!r} does not use "
                    f"({', '.join(left[:4])}{', …' if len(left) > 4 else ''}): "
                    "it is another architecture than its config.json says."
                )
            return heads.apply(run, hidden, recipe.modules, inputs, family.hidden_size)

        digest = hashlib.sha256(
            (self.space + repr(sorted(recipe.config.items(), key=str)) + _code(family, runtime)).encode()
        )
        return Graph((*family.inputs, *self._pools), forward, self.width, digest.hexdigest())

    def _arrays(self, batch: Batch, packed: Rows) -> dict[str, Array]:
        """Return all that the graph reads: ids, segments, what the family computes, and token weights."""
        arrays = {"ids": packed.ids, "segments": packed.segments, **self.family.host(packed.places)}
        sizes = np.array([len(job.ids) for job in batch.jobs])
        # An input that is all prompt is pooled whole: there is nothing else to pool.
        skips = np.array([job.skip if job.skip < len(job.ids) else 0 for job in batch.jobs])
        for name in self._pools:
            mode = name.removeprefix("pool.")
            values = heads.token_weights(mode, packed.place, sizes[packed.owner], skips[packed.owner])
            weights = packed.weights(values)
            arrays[name] = weights[:, 0] if mode == "max" else weights
        return arrays

    def _probe(self) -> None:
        """Run two inputs of different length together and apart: a wrong load shows now, not in a user's index."""
        short, long = self.tokenizer.encode(["a", "The probe that every model passes before it serves."])
        lane = self.lane()
        both, alone = _run(lane, self, [short.ids, long.ids]), _run(lane, self, [short.ids])
        if both.shape != (2, self.width):
            raise ModelRefused(
                f"{self.name} gives vectors of {both.shape[1]} values, where its recipe says {self.width}."
            )
        if not np.isfinite(both).all():
            raise WeightsError(f"{self.name} gives infinite or undefined values: its weights are damaged.")
        scale = float(np.abs(alone).max()) or 1.0
        if float(np.abs(both[0] - alone[0]).max()) > 0.1 * scale:
            raise ModelRefused(f"{self.name} gives another vector alone than in a batch: padding leaks into it.")


def _run(lane: Callable[[Batch], Array], model: Model, inputs: list[list[int]]) -> Array:
    from nearfield.engine import Ticket

    ticket = Ticket.of(model, inputs)
    return lane(Batch(model, ticket.jobs))


def _tokenizer(recipe: Recipe, family: families.Family, max_length: int | None) -> Tokenizer:
    allowed = min(recipe.max_length, family.positions)
    if max_length is not None and not 1 <= max_length <= family.positions:
        raise InputError(
            f"max_length must be from 1 to {family.positions} for {recipe.name}, not {max_length}.", param="max_length"
        )
    tokenizer = Tokenizer.load(recipe.folder, max_length=max_length or allowed, lowercase=recipe.do_lower_case)
    if tokenizer.vocab_size > family.vocab_size:
        raise ModelRefused(
            f"The tokenizer knows {tokenizer.vocab_size} tokens and the weights {family.vocab_size}: some texts would "
            "read past the end of the table. Tokenizer and weights do not belong together."
        )
    return tokenizer


def _space(recipe: Recipe, weights: str, tokenizer: str) -> str:
    """Name the space that a model's vectors live in, from all that shapes a vector before it is cut or quantised."""
    modules = [(type(module).__name__, *_described(module)) for module in recipe.modules]
    told = [weights, tokenizer, modules, sorted(recipe.prompts.items()), recipe.do_lower_case]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def _described(module: Any) -> tuple[Any, ...]:
    """Return what tells a module apart; its weights by content, wherever they lie."""
    if isinstance(module, (Dense, LayerNorm)):
        facts = [value for name, value in vars(module).items() if name != "weights"]
        return (*facts, Weights.open(module.weights).digest)
    return tuple(vars(module).values())


@lru_cache(maxsize=16)
def _source(module: str) -> bytes:
    return Path(inspect.getfile(sys.modules[module])).read_bytes()


def _code(family: Any, runtime: Any) -> str:
    """Hash the code that builds the graph, so that a compiled model of an older version is never taken."""
    modules = {type(family).__module__, type(runtime).__module__, heads.__name__, ops.__name__}
    return hashlib.sha256(b"".join(_source(module) for module in sorted(modules))).hexdigest()
