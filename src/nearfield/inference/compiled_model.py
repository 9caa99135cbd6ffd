"""`CompiledModel`: a recipe compiled for a backend, with the function that the engine's lanes run."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np

from nearfield import backends, families, heads, ops
from nearfield.arrays import Array, ResultRow
from nearfield.backends import BackendOptions, Executor, Program
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights.lora import Adapter, Adapters
from nearfield.checkpoint.weights.merged import open_weights
from nearfield.checkpoint.weights.weights import Weights
from nearfield.devices import ModelDevice, check_backend, plan_devices
from nearfield.engine.job import Batch, Job, Ticket
from nearfield.errors import ForkedProcess, InputError, ModelRefused, WeightsError, nearest
from nearfield.families import SplitWeights, fused
from nearfield.families.exported import Exported
from nearfield.features import Features
from nearfield.fork_safety import PerProcess, ProcessLock, fork_count
from nearfield.hardware import return_memory
from nearfield.heads import Head, HeadInput, OutputRequest, Results
from nearfield.heads.multivector import RowsHead, TokenStatesHead
from nearfield.heads.pooled import PooledHead
from nearfield.heads.scores import ClassificationHead, LanguageModelScoreHead
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.fused import load_fused_processor
from nearfield.inference.preparation.graph_inputs import graph_inputs
from nearfield.inference.preparation.media_rows import MediaLane, MediaTowers, place_media
from nearfield.inference.processors import MediaProcessor, load_processor, probe_features, processor_warnings
from nearfield.inference.space import QUANTIZED, precision_space, space_name
from nearfield.ops import Graph, Ops, T
from nearfield.packing import SHORT, pack_rows
from nearfield.recipe import Recipe

#: Number formats of backends: two are those of torch alone, three those of OpenVINO.
PRECISIONS = ("auto", "float32", "bfloat16", "float16", *QUANTIZED)
_BACKENDS_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("float16", "bfloat16"), ("torch", "transformers")),
    **dict.fromkeys(QUANTIZED, ("openvino",)),
}
#: Inputs with a value for each pair of columns: for one row with a whole batch they would fill the memory.
_PAIRWISE = frozenset({"buckets", "buckets.back", "distances"})


class CompiledModel(ModelInfo):
    """A model that the engine can run (a ``Runner``): its lanes turn batches into results.

    Args:
        recipe: the model's files and settings.
        precision: number format of matrix products.
        backend: ``openvino``, ``torch``, ``reference`` or ``transformers``.
        threads: cores to use.
        streams: batches that run at the same time.
        max_length: tokens to read of each input.
        cache: folder of compiled graphs, None to store none.
        adapters: LoRA adapters to load with the model.
        device: device of torch.
        devices: those of the replicas, in place of ``device``; none: a single one.
        reproducible: compute each input by itself, so that its result does not depend on the inputs beside it.
        space: the name of its vectors' space, for a tower of a model that has one already.

    Raises:
        InputError: an argument has a value that the model or the backend does not support.
        ModelRefused: the model cannot be loaded exactly.
    """

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
        devices: Sequence[ModelDevice] = (),
        reproducible: bool = False,
        space: str = "",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
        self.recipe = recipe
        self.name = recipe.name
        self.reproducible = reproducible
        plans = plan_devices(devices, threads, streams)
        #: Batches that run at the same time, on all devices together.
        self.streams = sum(plan.streams for plan in plans)
        self.family, backend = _family(recipe, backend)
        self.processor = load_processor(recipe, self.family, max_length)
        recipe = replace(recipe, warnings=(*recipe.warnings, *processor_warnings(self.processor)))
        self.recipe = recipe = self._fuse(recipe)
        self.heads = _heads(recipe, self.family, self.processor)
        #: Length of the result rows of plain inputs; 0 if results are of other kinds.
        self.width = recipe.dimensions if recipe.modules else 0
        self._inputs = tuple(dict.fromkeys(name for head in self.heads.values() for name in head.inputs))
        _check_precision(precision, backend, recipe)
        check_backend(devices, backend)
        options = BackendOptions(precision, plans[0], cache, device, reproducible)  # type: ignore[arg-type]
        runtime = backends.create_backend(backends.REGISTRY.load(backend), options, devices, plans)
        self.batch_tokens: int = max(1, runtime.batch_tokens // self.family.states_per_row)
        self.device = str(getattr(runtime, "device", "cpu"))
        self.devices = tuple(device.name for device in devices) or (self.device,)
        self.packable = self.family.packable and all(head.packable for head in self.heads.values())
        #: Whether a batch is one row, with its inputs end to end.
        self.single_row = runtime.packed and self.packable and not _PAIRWISE & set(self.family.inputs)
        self.shared_length = _ANY_LENGTH if self.single_row else SHORT if self.packable else 0
        self._runtime = runtime
        split = self._weights()
        if isinstance(self.family.external_encoder, Path) and self.family.external_encoder.is_dir():
            digest = Weights.open(recipe.folder).digest
        else:
            digest = split.weights.digest
        self.space = space or precision_space(space_name(recipe, digest, self.processor.digest), precision)
        first = Adapters(self.family.weight_prefixes, split.factors, split.adapter_names)
        for number, adapter in enumerate(adapters, len(split.adapter_names) + 1):
            first = first.added(adapter, number)
        self._changing = ProcessLock()
        self._forks = fork_count()
        #: The loaded adapters and the program. A forked process compiles its own: a runtime's threads are not copied.
        self._compiled = PerProcess[tuple[Adapters, Program]]()
        self._adapters = self._compile(first)
        self.precision: str = self._loaded[1].precision
        self._probe()
        return_memory()

    @property
    def process_bytes(self) -> int:
        program = self._compiled.peek()
        own: int = getattr(program[1], "bytes", 0) if program is not None else 0
        return own + self._towers.process_bytes

    # -- media -------------------------------------------------------------------------------------------------

    def _fuse(self, recipe: Recipe) -> Recipe:
        """Let the family read the rows of towers, and create what builds sequences; return the recipe."""
        self.fused_processor, self._row_shape = None, (1, 0)
        if self.family.external_encoder is not None:
            recipe = replace(recipe, fused={})  # another runtime's graph has no place for rows
        self._towers = MediaTowers(recipe.fused)
        if not recipe.fused:
            return recipe
        towers = {name: families.resolve(tower.config) for name, tower in recipe.fused.items()}
        self.family.fuse(towers)
        first = next(iter(towers.values()))
        self._row_shape = first.row_slots, first.hidden_size
        media = {name: cast(MediaProcessor, load_processor(recipe.fused[name], towers[name])) for name in towers}
        self.fused_processor = load_fused_processor(recipe, cast(Tokenizer, self.processor), media)
        return recipe

    def compile_towers_by(self, compile_tower: Callable[[Recipe], CompiledModel]) -> None:
        """Set what compiles the towers whose rows enter the sequence, when an input first needs them."""
        self._towers.compile_by(compile_tower)

    @property
    def media_is_missing(self) -> bool:
        """Whether a tower whose rows enter the sequence has yet to be compiled."""
        return self._towers.is_missing

    def load_media(self) -> None:
        """Compile the towers whose rows enter the sequence, unless they are.

        Raises:
            ModelRefused: their files cannot be loaded exactly.
        """
        self._towers.load()

    # -- adapters ----------------------------------------------------------------------------------------------

    @property
    def adapters(self) -> Adapters:
        """The loaded adapters."""
        return self._adapters

    def add_adapter(self, adapter: Adapter) -> None:
        """Load one more adapter; batches that run now end with the old graph.

        Raises:
            WeightsError: the adapter belongs to another model.
        """
        with self._changing:
            self._adapters = self._compile(self.adapters.added(adapter, self.adapters.count + 1))

    def remove_adapter(self, name: str) -> None:
        """Unload an adapter. Inputs that still wait for it end with an error.

        Raises:
            InputError: no adapter of that name is loaded, or it is part of the model's weights.
        """
        with self._changing:
            self.adapter(name)
            if name in self.adapters.named:
                raise InputError(f"{name!r} is part of {self.name}'s weights and cannot be unloaded.", param="adapter")
            self._adapters = self._compile(self.adapters.without(name))

    def add_token_states(self) -> None:
        """Compile the graph again with the output ``token_states``, if it lacks that; running batches end first."""
        with self._changing:
            if TokenStatesHead.output in self.heads:
                return
            before = self.heads
            self.heads = {**before, TokenStatesHead.output: TokenStatesHead()}
            try:
                self._compile(self.adapters)
            except BaseException:
                self.heads = before  # the program of before is still the one that runs
                raise

    def _weights(self) -> SplitWeights:
        if self.family.external_encoder is not None:
            return SplitWeights(Weights.none(self.recipe.folder))
        return self.family.split_adapters(open_weights(self.recipe.weights).first_scope(self.family.weight_prefixes))

    def _compile(self, adapters: Adapters) -> Adapters:
        self._enter_fork()
        program = self._runtime.compile(self._graph(adapters))
        adapters.release()
        self._compiled.set((adapters, program))
        return adapters

    @property
    def _loaded(self) -> tuple[Adapters, Program]:
        """The adapters and the program of this process.

        Raises:
            ForkedProcess: the process was forked after the model was loaded, and the runtime does not work there.
        """
        loaded = self._compiled.peek()
        while loaded is None:
            with self._changing:
                if self._compiled.peek() is None:
                    self._compile(self._adapters)
                    return_memory()
            loaded = self._compiled.peek()
        return loaded

    def _enter_fork(self) -> None:
        if self._forks == fork_count():
            return
        if not self._runtime.enter_fork():
            raise ForkedProcess(
                f"This process was forked after {self.name} was loaded, and its runtime does not work in a forked "
                "process: load the model in the new process only, or start that one with spawn or forkserver."
            )
        self._forks = fork_count()

    # -- running -----------------------------------------------------------------------------------------------

    def create_lane_function(self) -> Callable[[Batch], Results]:
        """Return a function that runs batches one at a time, for one lane.

        Its result is an array [inputs, width] if all inputs request the dense vector alone; otherwise an item for each
        input: its row, or its outputs by name.
        """
        adapters, program = self._loaded
        executor, media = program.create_executor(), MediaLane(self._towers)

        def run(batch: Batch) -> Results:
            nonlocal adapters, program, executor
            if program is not self._loaded[1]:
                adapters, program = self._loaded
                executor = program.create_executor()
            return self._execute(batch, executor, adapters, media)

        return run

    def _execute(self, batch: Batch, executor: Executor, adapters: Adapters, media: MediaLane) -> Results:
        if not self.reproducible or len(batch.jobs) == 1:
            return self._execute_together(batch, executor, adapters, media)
        # How a matrix product is divided, and so how its sums are rounded, depends on its shape: that of one input
        # depends on nothing but its length.
        parts = [Batch(batch.runner, [job], batch.started) for job in batch.jobs]
        results = [self._execute_together(part, executor, adapters, media) for part in parts]
        batch.computed = sum(part.computed for part in parts)
        if all(isinstance(result, np.ndarray) for result in results):
            return np.concatenate(results)
        return [result[0] for result in results]

    def _execute_together(self, batch: Batch, executor: Executor, adapters: Adapters, media: MediaLane) -> Results:
        items = [HeadInput(job.features, job.features.rows, job.extra or self._plain) for job in batch.jobs]
        _check_adapters(items, adapters)
        spanned = any(item.request.spans for item in items)
        packed = pack_rows(
            [item.length for item in items],
            shared=self.packable and not spanned,
            one=self.single_row and not spanned,
            unit=self.family.patches_per_row,
            padded=not self.family.fixed_length,
        )
        outputs = tuple(dict.fromkeys(name for item in items for name in item.request.outputs))
        names = (*self._inputs, "adapters") if adapters else self._inputs
        arrays = graph_inputs(names, self.family, batch, packed, items)
        if self.recipe.fused:
            place_media(arrays, self.family, self._row_shape, packed, items, media)
        batch.computed = packed.segments.size + media.take_computed()
        values = executor.run(arrays, outputs)
        results = {name: self.heads[name].split_results(values[name], packed, items) for name in outputs}
        if self.width and all(job.extra is None for job in batch.jobs):
            return results["dense"]
        return [_result(job, index, results, self._plain) for index, job in enumerate(batch.jobs)]

    @property
    def _plain(self) -> OutputRequest:
        return _PLAIN.setdefault(self.recipe.outputs[0], OutputRequest(outputs=self.recipe.outputs[:1]))

    def _graph(self, adapters: Adapters) -> Graph:
        family, recipe = self.family, self.recipe
        weights = self._weights().weights.adapted(adapters.factors) if adapters else self._weights().weights

        def forward(run: Ops[T], inputs: Mapping[str, T], /) -> dict[str, T]:
            run.adapters = inputs.get("adapters")
            hidden = family.encode(run, weights, inputs)
            results = {name: head.build(run, hidden, inputs, family, weights) for name, head in self.heads.items()}
            own = [pattern for head in self.heads.values() for pattern in head.unused_weights]
            left = [] if family.external_encoder else weights.untaken((*family.unused_weights, *own))
            if left:
                raise WeightsError(
                    f"{recipe.folder} holds weights that {recipe.config.get('model_type')!r} does not use "
                    f"({', '.join(left[:4])}{', …' if len(left) > 4 else ''}): "
                    "its architecture is not the one in its config.json."
                )
            adapters.check(family.unused_weights)
            return results

        identity = self.space + repr(sorted(recipe.config.items(), key=str)) + _code_digest(family, self._runtime)
        if TokenStatesHead.output in self.heads:
            identity += TokenStatesHead.output
        identity += repr(sorted(recipe.fused)) if recipe.fused else ""
        identity += repr([(number, adapter.digest) for number, adapter in sorted(adapters.loaded.items())])
        digest = hashlib.sha256(identity.encode()).hexdigest()
        inputs = tuple(dict.fromkeys((*family.inputs, *self._inputs, *(["adapters"] if adapters else ()))))
        return Graph(inputs, forward, tuple(self.heads), digest, family.sizes, family.external_encoder)

    def _probe(self) -> None:
        """Run each replica once, so that a wrongly loaded model, and a device that fails, do at once."""
        for lane in [self.create_lane_function() for _ in self.devices]:  # each has the replica with the fewest lanes
            self._check_padding(lane)

    def _check_padding(self, lane: Callable[[Batch], Results]) -> None:
        """Compare an input in a batch with the same input alone."""
        short, long = probe_features(self.processor)
        both, alone = _run(lane, self, [short, long]), _run(lane, self, [short])
        if self.width and both[0].shape != (self.width,):
            raise ModelRefused(
                f"{self.name} gives vectors of {len(both[0])} values, where its recipe says {self.width}."
            )
        if not all(np.isfinite(one).all() for one in (*both, *alone)):
            raise WeightsError(f"{self.name} gives infinite or undefined values: its weights are damaged.")
        # The scale of both inputs: sparse weights of the short one can be so small that rounding exceeds 10% of them.
        scale = max(float(np.abs(one).max(initial=0)) for one in both) or 1.0
        if both[0].shape != alone[0].shape or float(np.abs(both[0] - alone[0]).max(initial=0)) > 0.1 * scale:
            raise ModelRefused(
                f"{self.name} gives another vector for an input alone than in a batch: padding changes the result."
            )


#: On a packed backend, inputs of any length share a row.
_ANY_LENGTH = 1 << 30
#: The request for one output alone, by its name.
_PLAIN: dict[str, OutputRequest] = {}


def _check_adapters(items: Sequence[HeadInput], adapters: Adapters) -> None:
    """Raise InputError if an input is for an adapter that was unloaded: the base model gives other vectors."""
    known = {0, *adapters.numbers.values()}
    if any(item.request.adapter not in known for item in items):
        raise InputError("The adapter was unloaded before this input's turn came.", param="adapter")


def _result(job: Job, index: int, results: Mapping[str, Results], plain: OutputRequest) -> ResultRow:
    if job.extra is None and "dense" in plain.outputs:
        return results["dense"][index]
    return {name: results[name][index] for name in (job.extra or plain).outputs}


def _heads(recipe: Recipe, family: families.Family, processor: Tokenizer | MediaProcessor) -> dict[str, Head]:
    by_output: dict[str, Head] = {"dense": PooledHead(recipe.modules)} if recipe.modules else {}
    for spec in recipe.heads:
        head = heads.create_head(spec)
        tokenizer = cast(Tokenizer, processor)  # heads of these kinds are on models of texts alone
        if isinstance(head, ClassificationHead):
            head.bind(family, typed=max(tokenizer.backend.encode("a", "a").type_ids, default=0) > 0)
        if isinstance(head, LanguageModelScoreHead):
            head.bind(tokenizer.backend.token_to_id, family.vocab_size)
        if isinstance(head, RowsHead):
            head.bind(family)
        by_output[head.output] = head
    return by_output


def _run(lane: Callable[[Batch], Results], model: CompiledModel, inputs: list[Features]) -> list[Array]:
    """Return the values of the main output of each input, as an array."""
    ticket = Ticket.create(model, inputs)
    results = lane(Batch(model, ticket.jobs))
    ticket.jobs = []  # they refer to the ticket: a cycle would keep a closed model in memory
    return [_values(result, model.family.vocab_size) for result in results]


def _values(result: ResultRow, size: int) -> Array:
    if isinstance(result, dict):
        return _values(next(iter(result.values())), size)
    if not isinstance(result, tuple):
        return np.asarray(result)
    # As a vector over the vocabulary: a weight that rounds to zero is missing from the indices.
    spread = np.zeros(size, np.float32)
    indices, values = cast(tuple[Array, Array], result)
    spread[indices] = values
    return spread


def _check_precision(precision: str, backend: str, recipe: Recipe) -> None:
    """Raise InputError for a number format that the backend lacks, or in which the model overflows."""
    known = _BACKENDS_OF.get(precision, (backend,))
    if backend not in known:
        names = ("backends " if len(known) > 1 else "backend ") + " and ".join(map(repr, known))
        raise InputError(
            f"precision {precision!r} is for {names}; {backend!r} has auto and float32.", param="precision"
        )
    if precision in QUANTIZED and not recipe.has_matrices:
        what = "an exported graph" if recipe.exported_graph is not None else "a table of word vectors"
        raise InputError(f"{recipe.name} is {what}, whose weights are not quantised here. Use auto.", param="precision")
    if recipe.quantized and backend == "transformers":
        raise InputError(
            f"{recipe.name} has weights in {recipe.quantized}, which transformers does not read: use another backend, "
            "or the model that they are from.",
            param="backend",
        )
    if precision in recipe.unsupported_precisions:
        raise InputError(f"{recipe.name} overflows in {precision}. Use auto.", param="precision")


def _family(recipe: Recipe, backend: str) -> tuple[families.Family, str]:
    """Return the family of an architecture, and the backend: transformers if no family supports it."""
    if recipe.exported_graph is not None:
        return Exported(recipe.config, recipe.exported_graph, recipe.max_length), backend
    try:
        if backend != "transformers":
            return families.resolve(recipe.config), backend
        if recipe.config.get("auto_map"):
            raise ModelRefused("Nearfield runs no remote code (auto_map), not even through transformers.")
    except families.NoFamily as unknown:
        if any(find_spec(name) is None for name in ("torch", "transformers")):
            raise families.NoFamily(
                f"{unknown} After pip install 'nearfield[torch]' transformers may run it."
            ) from None
    return Exported(recipe.config, recipe.folder, recipe.max_length), "transformers"


@lru_cache(maxsize=16)
def _source(module: str) -> bytes:
    """Return the code of a module, or of all modules of a package: those share parts."""
    file = Path(inspect.getfile(importlib.import_module(module)))
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return b"".join(path.read_bytes() for path in files)


def _code_digest(family: families.Family, runtime: backends.Backend) -> str:
    """Return a digest of the code that builds the graph: a change of it makes stored graphs invalid."""
    names = [fused.__name__, type(family).__module__, *runtime.modules]
    modules = {*names, ops.__name__, families.__name__, heads.__name__}
    return hashlib.sha256(b"".join(_source(module) for module in sorted(modules))).hexdigest()
