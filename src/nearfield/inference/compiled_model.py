"""Model: a recipe compiled for a backend, as the engine's lanes run it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import backends, families, heads, ops
from nearfield.arrays import Array
from nearfield.backends import BackendOptions
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights.digest import of_files
from nearfield.checkpoint.weights.lora import Adapter, Adapters
from nearfield.checkpoint.weights.weights import Weights
from nearfield.engine.engine import Batch, Job, Ticket
from nearfield.errors import InputError, ModelRefused, WeightsError, nearest
from nearfield.families.exported import Exported
from nearfield.hardware import plan_cpu, return_memory
from nearfield.heads import Head, HeadInput, OutputRequest, Results
from nearfield.heads.pooled import PooledHead, token_weights
from nearfield.heads.scores import ClassificationHead, LanguageModelScoreHead
from nearfield.inference.model_info import ModelInfo
from nearfield.ops import Graph, Ops
from nearfield.packing import SHORT, PackedRows, pack_rows
from nearfield.recipe import ClassScores, Dense, LayerNorm, Recipe, RerankPrompt, RoleFormat

#: What a backend may be asked for; the last two are torch's alone.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
#: Inputs that hold a value for each pair of columns: over one row of a whole batch they would fill the memory.
_PAIRWISE = frozenset({"buckets", "buckets.back", "distances"})


class CompiledModel(ModelInfo):
    """What the engine schedules for (its ``Runner``): name, width, and lanes that turn batches into results."""

    def __init__(
        self,
        recipe: Recipe,
        precision: str = "auto",
        backend: str = "openvino",
        threads: int | None = None,
        streams: int | None = None,
        max_length: int | None = None,
        cache: Path | None = None,
        adapters: Sequence[Adapter] = (),
        device: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
        self.recipe = recipe
        self.name = recipe.name
        self.cpu = plan_cpu(threads, streams)
        self.family, backend = _family(recipe, backend)
        self.tokenizer = _tokenizer(recipe, self.family, max_length)
        self.heads = _heads(recipe, self.family, self.tokenizer)
        #: Size of the rows that plain inputs give; 0 where results are of other kinds.
        self.width = recipe.dimensions if recipe.modules else 0
        self._inputs = tuple(dict.fromkeys(name for head in self.heads.values() for name in head.inputs))
        _check_precision(precision, backend, recipe)
        runtime = backends.REGISTRY.load(backend)(BackendOptions(precision, self.cpu, cache, device))  # type: ignore[arg-type]
        self.batch_tokens: int = runtime.batch_tokens
        self.packable = self.family.packable and all(head.packable for head in self.heads.values())
        #: Whether a batch is one row, end to end.
        self.one = runtime.packed and self.packable and not _PAIRWISE & set(self.family.inputs)
        self.shared_length = _ANY if self.one else SHORT if self.packable else 0
        self._runtime = runtime
        weights, named, own = self._weights()
        if isinstance(self.family.body, Path) and self.family.body.is_dir():
            digest = Weights.open(recipe.folder).digest
        else:
            digest = weights.digest
        self.space = _space(recipe, digest, self.tokenizer.digest)
        first = Adapters(self.family.roots, own, named)
        for number, adapter in enumerate(adapters, len(named) + 1):
            first = first.added(adapter, number)
        self._changing = threading.Lock()
        self._loaded = self._compile(first)
        self.precision: str = self._loaded[1].precision
        self._probe()
        return_memory()

    # -- adapters ----------------------------------------------------------------------------------------------

    @property
    def adapters(self) -> Adapters:
        """The adapters that are loaded now."""
        return self._loaded[0]

    def add_adapter(self, adapter: Adapter) -> None:
        """Load one more while others are served: batches that have begun end with the old graph.

        Raises:
            WeightsError: it was made for another model.
        """
        with self._changing:
            self._loaded = self._compile(self.adapters.added(adapter, self.adapters.count + 1))

    def remove_adapter(self, name: str) -> None:
        """Unload an adapter; what still waits for it ends with an error.

        Raises:
            InputError: none of that name is loaded, or it lies in the model's own weights.
        """
        with self._changing:
            self.adapter(name)
            if name in self.adapters.named:
                raise InputError(f"{name!r} lies in {self.name}'s own weights and cannot be unloaded.", param="adapter")
            self._loaded = self._compile(self.adapters.without(name))

    def _weights(self) -> tuple[Weights, tuple[str, ...], Any]:
        if self.family.body is not None:
            return Weights.none(self.recipe.folder), (), None
        return self.family.adapted(Weights.open(self.recipe.folder).rooted(self.family.roots))

    def _compile(self, adapters: Adapters) -> tuple[Adapters, Any]:
        program = self._runtime.compile(self._graph(adapters))
        adapters.release()
        return adapters, program

    # -- running -----------------------------------------------------------------------------------------------

    def lane(self) -> Callable[[Batch], Results]:
        """Return a function that runs batches one at a time, for one lane.

        Its result is [inputs, width] where all want the dense vector alone; otherwise an item for each input: its row,
        or what it wants by output's name.
        """
        adapters, program = self._loaded
        lane = program.lane()

        def run(batch: Batch) -> Results:
            nonlocal adapters, program, lane
            if program is not self._loaded[1]:
                adapters, program = self._loaded
                lane = program.lane()
            return self._execute(batch, lane, adapters)

        return run

    def _execute(self, batch: Batch, lane: Any, adapters: Adapters) -> Results:
        items = [HeadInput(job.ids, job.extra or self._plain) for job in batch.jobs]
        _check_adapters(items, adapters)
        spanned = any(item.extra.spans for item in items)
        packed = pack_rows(
            [job.ids for job in batch.jobs], shared=self.packable and not spanned, one=self.one and not spanned
        )
        batch.computed = packed.ids.size
        wanted = tuple(dict.fromkeys(name for item in items for name in item.extra.outputs))
        values = lane.run(self._arrays(batch, packed, items, bool(adapters)), wanted)
        results = {name: self.heads[name].read(values[name], packed, items) for name in wanted}
        if self.width and all(job.extra is None for job in batch.jobs):
            return results["dense"]
        return [_result(job, index, results, self._plain) for index, job in enumerate(batch.jobs)]

    @property
    def _plain(self) -> OutputRequest:
        return _PLAIN.setdefault(self.recipe.outputs[0], OutputRequest(outputs=self.recipe.outputs[:1]))

    def _graph(self, adapters: Adapters) -> Graph[Any]:
        family, recipe = self.family, self.recipe
        weights = self._weights()[0].adapted(adapters.factors) if adapters else self._weights()[0]

        def forward(run: Ops[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
            run.adapters = inputs.get("adapters")
            hidden = family.encode(run, weights, inputs)
            results = {name: head.build(run, hidden, inputs, family, weights) for name, head in self.heads.items()}
            own = [pattern for head in self.heads.values() for pattern in head.unread]
            left = [] if family.body else weights.untaken((*family.unread, *own))
            if left:
                raise WeightsError(
                    f"{recipe.folder} holds weights that {recipe.config.get('model_type')!r} does not use "
                    f"({', '.join(left[:4])}{', …' if len(left) > 4 else ''}): "
                    "it is another architecture than its config.json says."
                )
            adapters.check(family.unread)
            return results

        told = self.space + repr(sorted(recipe.config.items(), key=str)) + _code(family, self._runtime)
        told += repr([(number, adapter.digest) for number, adapter in sorted(adapters.loaded.items())])
        digest = hashlib.sha256(told.encode()).hexdigest()
        inputs = tuple(dict.fromkeys((*family.inputs, *self._inputs, *(["adapters"] * bool(adapters)))))
        return Graph(inputs, forward, tuple(self.heads), digest, family.sizes, family.body)

    def _arrays(self, batch: Batch, packed: PackedRows, items: Sequence[HeadInput], adapted: bool) -> dict[str, Array]:
        """Return all that the graph reads: ids, segments, what the family computes, and what the heads read."""
        arrays = {"ids": packed.ids, "segments": packed.segments, "places": packed.places}
        arrays.update(self.family.host(packed.places))
        if adapted:
            arrays["adapters"] = _MARKS["adapters"](packed, items)
        sizes = np.array([len(job.ids) for job in batch.jobs])
        # An input that is all prompt is pooled whole: there is nothing else to pool.
        skips = np.array([job.skip if job.skip < len(job.ids) else 0 for job in batch.jobs])
        for name in self._inputs:
            if name.startswith("pool."):
                arrays[name] = self._pool(name.removeprefix("pool."), packed, sizes, skips, items)
            else:
                arrays[name] = _MARKS[name](packed, items)
        return arrays

    def _pool(self, mode: str, packed: PackedRows, sizes: Array, skips: Array, items: Sequence[HeadInput]) -> Array:
        if any(item.extra.spans for item in items):
            return _spans(mode, packed, items)
        values = token_weights(mode, packed.place, sizes[packed.owner], skips[packed.owner])
        weights = packed.weights(values)
        return weights[:, 0] if mode == "max" else weights

    def _probe(self) -> None:
        """Run two inputs of different length together and apart: a wrong load shows now, not in a user's index."""
        short, long = self.tokenizer.encode(["a", "The probe that every model passes before it serves."])
        lane = self.lane()
        both, alone = _run(lane, self, [short.ids, long.ids]), _run(lane, self, [short.ids])
        if self.width and both[0].shape != (self.width,):
            raise ModelRefused(
                f"{self.name} gives vectors of {len(both[0])} values, where its recipe says {self.width}."
            )
        if not all(np.isfinite(one).all() for one in (*both, *alone)):
            raise WeightsError(f"{self.name} gives infinite or undefined values: its weights are damaged.")
        # Of both: sparse weights of the short one may be next to nothing, and rounding then seems large beside them.
        scale = max(float(np.abs(one).max(initial=0)) for one in both) or 1.0
        if both[0].shape != alone[0].shape or float(np.abs(both[0] - alone[0]).max(initial=0)) > 0.1 * scale:
            raise ModelRefused(f"{self.name} gives another vector alone than in a batch: padding leaks into it.")


#: On a packed backend inputs of any length go together.
_ANY = 1 << 30
#: For each main output, the wish of an input that wants nothing else.
_PLAIN: dict[str, OutputRequest] = {}


def _check_adapters(items: Sequence[HeadInput], adapters: Adapters) -> None:
    """Refuse what was queued for an adapter that is gone: the base model's vectors would be others."""
    known = {0, *adapters.numbers.values()}
    if any(item.extra.adapter not in known for item in items):
        raise InputError("The adapter was unloaded before this input's turn came.", param="adapter")


def _result(job: Job, index: int, results: Mapping[str, Results], plain: OutputRequest) -> Any:
    if job.extra is None and "dense" in plain.outputs:
        return results["dense"][index]
    return {name: results[name][index] for name in (job.extra or plain).outputs}


def _types(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """1 for the tokens of a pair's second text."""
    seconds = np.array([item.extra.second or len(item.ids) for item in items])
    return packed.spread((packed.place >= seconds[packed.owner]).astype(np.int32))


def _keys(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """The segments, without the tokens that are not to be attended to."""
    ends = np.array([len(item.ids) - item.extra.unattended for item in items])
    attended = packed.place < ends[packed.owner]
    return packed.spread((packed.layout.slot[packed.owner] + 1) * attended)


def _adapters(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """The number of each token's adapter."""
    return packed.spread(np.array([item.extra.adapter for item in items])[packed.owner])


_MARKS: Mapping[str, Callable[[PackedRows, Sequence[HeadInput]], Array]] = {
    "types": _types,
    "keys": _keys,
    "adapters": _adapters,
}


def _spans(mode: str, packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """Weights [rows, slots, width] that pool each span apart; an input without spans is one span."""
    wanted = [item.extra.spans or ((0, len(item.ids)),) for item in items]
    weights = np.zeros((packed.layout.rows, max(map(len, wanted)), packed.layout.width), np.float32)
    for row, spans in enumerate(wanted):
        for slot, (start, stop) in enumerate(spans):
            places = np.arange(stop - start)
            weights[row, slot, start:stop] = token_weights(
                mode, places, np.full(len(places), len(places)), np.zeros(len(places), int)
            )
    return weights


def _heads(recipe: Recipe, family: families.Family, tokenizer: Tokenizer) -> dict[str, Head]:
    made: dict[str, Head] = {"dense": PooledHead(recipe.modules)} if recipe.modules else {}
    for spec in recipe.heads:
        head = heads.make(spec)
        if isinstance(head, ClassificationHead):
            head.bind(family, typed=max(tokenizer.backend.encode("a", "a").type_ids, default=0) > 0)
        if isinstance(head, LanguageModelScoreHead):
            head.bind(tokenizer.backend.token_to_id)
        made[head.output] = head
    return made


def _run(lane: Callable[[Batch], Results], model: CompiledModel, inputs: list[list[int]]) -> list[Array]:
    """Run inputs and return one array each: the main output's values."""
    ticket = Ticket.create(model, inputs)
    results = lane(Batch(model, ticket.jobs))
    ticket.jobs = []  # jobs point back to it: a cycle would keep the model when everyone has let go of it
    return [_values(result, model.family.vocab_size) for result in results]


def _values(result: Any, size: int) -> Array:
    if isinstance(result, dict):
        return _values(next(iter(result.values())), size)
    if not isinstance(result, tuple):
        return np.asarray(result)
    # Spread over the vocabulary: rounding alone may take a weight to zero, and leave the others in other places.
    spread = np.zeros(size, np.float32)
    spread[result[0]] = result[1]
    return spread


def _check_precision(precision: str, backend: str, recipe: Recipe) -> None:
    """Refuse a number format that the runtime lacks, or that the model does not bear."""
    if precision in ("float16", "bfloat16") and backend not in ("torch", "transformers"):
        raise InputError(
            f"precision {precision!r} is for backends 'torch' and 'transformers'; {backend!r} has auto and float32.",
            param="precision",
        )
    if precision in recipe.forbid:
        raise InputError(f"{recipe.name} does not bear {precision}: its values overflow. Take auto.", param="precision")


def _family(recipe: Recipe, backend: str) -> tuple[families.Family, str]:
    """Return what runs the architecture, and the backend: transformers, where no family of ours knows it."""
    if recipe.body is not None:
        return Exported(recipe.config, recipe.body, recipe.max_length), backend
    try:
        if backend != "transformers":
            return families.resolve(recipe.config), backend
        if recipe.config.get("auto_map"):
            raise ModelRefused("Nearfield runs no remote code (auto_map), through transformers neither.")
    except families.NoFamily as unknown:
        if any(find_spec(name) is None for name in ("torch", "transformers")):
            raise families.NoFamily(f"{unknown} With pip install 'nearfield[torch]' transformers may run it.") from None
    return Exported(recipe.config, recipe.folder, recipe.max_length), "transformers"


def _tokenizer(recipe: Recipe, family: families.Family, max_length: int | None) -> Tokenizer:
    allowed = min(recipe.max_length, family.positions)
    if max_length is not None and not 1 <= max_length <= family.positions:
        raise InputError(
            f"max_length must be from 1 to {family.positions} for {recipe.name}, not {max_length}.", param="max_length"
        )
    options: dict[str, Any] = {"lowercase": recipe.do_lower_case}
    if recipe.config.get("model_type") == "static":
        unknown = recipe.config["layout"] == "model2vec"
        options.update(bare=True, drop_unknown=unknown, blank=family.vocab_size - 1)
    tokenizer = Tokenizer.load(recipe.folder, max_length=max_length or allowed, **options)
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
    if recipe.body is not None:
        told.append(of_files([recipe.body, *recipe.body.parent.glob(f"{recipe.body.stem}.bin")]))
    told += [(_recorded_name(head), *_described(head)) for head in recipe.heads]
    return hashlib.sha256(json.dumps(told, default=_recorded_text).encode()).hexdigest()[:16]


#: Names that fingerprints of version 0.1 hold. A class may be renamed, and its name here stays.
_RECORDED_NAMES = {ClassScores: "Classes", RerankPrompt: "Answer", RoleFormat: "Marking"}


def _recorded_name(part: Any) -> str:
    return _RECORDED_NAMES.get(type(part), type(part).__name__)


def _recorded_text(value: Any) -> str:
    """Return ``str(value)`` as version 0.1 wrote it; of a dataclass it begins with the name of its class."""
    return str(value).replace(type(value).__name__, _recorded_name(value), 1)


def _described(module: Any) -> tuple[Any, ...]:
    """Return what tells a module apart; its weights by content, wherever they lie."""
    if isinstance(module, (Dense, LayerNorm)):
        facts = [value for name, value in vars(module).items() if name != "weights"]
        return (*facts, Weights.open(module.weights).digest)
    return tuple(vars(module).values())


_HEADS = [f"{heads.__name__}.{name}" for name in ("pooled", "sparse", "multivector", "scores")]


@lru_cache(maxsize=16)
def _source(module: str) -> bytes:
    return Path(inspect.getfile(importlib.import_module(module))).read_bytes()


def _code(family: Any, runtime: Any) -> str:
    """Hash the code that builds the graph, so that a compiled model of an older version is never taken."""
    modules = {type(family).__module__, type(runtime).__module__, *runtime.code_modules, ops.__name__, *_HEADS}
    return hashlib.sha256(b"".join(_source(module) for module in sorted(modules))).hexdigest()
