"""`LoadedModel`: a model that is located, compiled and ready to run; the base class of encoders and rerankers."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfield.argument_checks import require_count, require_device, require_flag, require_kind, require_texts
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights import lora
from nearfield.devices import ModelDevice, parse_devices
from nearfield.engine.engine import Engine, default_engine
from nearfield.errors import InputError, SpaceMismatch
from nearfield.hardware import memory_used
from nearfield.inference.calls.keywords import report_remote_code
from nearfield.inference.compiled_model import CompiledModel
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.tower_set import TowerSet, select_towers
from nearfield.inference.uncompiled_model import (
    ReadModelKeywords,
    UncompiledModel,
    adapter_folder,
    model_name,
    read_model,
)
from nearfield.recipe import Recipe, RerankPrompt
from nearfield.settings import cache_dir

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger(__name__)
_SMALLER = (
    "there is not enough memory for its weights in float, so that they are in {precision}. Its vectors are of another "
    "space than those of a machine with more memory: set precision to the one that you want on all"
)
#: More threads than any machine has: the runtime would fail in words that name nothing.
_MAX_THREADS = 65_536


class LoadKeywords(ReadModelKeywords, total=False):
    """The keywords of ``nearfield.load``, which documents them."""

    precision: str
    backend: str
    threads: int | None
    streams: int | None
    max_length: int | None
    engine: Engine | None
    compile_cache: bool
    device: str
    devices: str | Sequence[str] | None
    reproducible: bool
    trust_remote_code: bool
    modalities: Sequence[str] | None


class LoadedModel:
    """A model that is ready to run.

    ``default_adapter`` is the adapter of calls that name none: the model's own folder, if it is an adapter.
    ``max_positions`` is the largest ``max_length``: the tokens for which the model has a position. ``bytes`` is the
    memory that loading took, if nothing else was loaded at the same time, or None if it is not known.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder; or
            an `UncompiledModel`, and then source, revision, kind, progress, adapters, file, answer and accept_license
            have no effect.

    Further arguments are those of ``nearfield.load``.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: its files cannot be loaded exactly.
        OutOfMemory: it does not fit into the memory that this process may take.
    """

    _logged: tuple[str, ...] = ()

    def __init__(
        self,
        model: str | UncompiledModel,
        *,
        source: str | None = None,
        revision: str | None = None,
        precision: str = "auto",
        backend: str = "openvino",
        threads: int | None = None,
        streams: int | None = None,
        max_length: int | None = None,
        kind: str | None = None,
        engine: Engine | None = None,
        compile_cache: bool = True,
        progress: bool = False,
        adapters: Mapping[str, str | Path] | None = None,
        file: str | None = None,
        answer: RerankPrompt | None = None,
        accept_license: bool = False,
        device: str = "auto",
        devices: str | Sequence[str] | None = None,
        reproducible: bool = False,
        trust_remote_code: bool = False,
        modalities: Sequence[str] | None = None,
    ) -> None:
        _check_runtime(precision, backend, device, reproducible)
        require_computing(threads, streams, max_length)
        replicas = _parse_replicas(devices, device, engine)
        report_remote_code(trust_remote_code)
        if not isinstance(model, UncompiledModel):
            model = read_model(
                model_name(model),
                source=source,
                revision=revision,
                kind=kind,
                progress=progress,
                adapters=adapters,
                file=file,
                answer=answer,
                accept_license=accept_license,
            )
        self.recipe: Recipe = model.recipe
        self.check_kind(self.recipe)
        if backend == "openvino":  # others may load the weights elsewhere
            precision = self._fit(model, precision, max(1, len(replicas)))
        self._arguments = {**model.arguments, "precision": precision, "backend": backend, "threads": threads}
        self._arguments |= {"streams": streams, "compile_cache": compile_cache, "device": device, "devices": devices}
        self._arguments |= {"reproducible": reproducible, "modalities": modalities}
        self.default_adapter = model.default_adapter
        compile_model = _compiler(precision, backend, threads, streams, compile_cache, device, replicas, reproducible)
        main, space = select_towers(self.recipe, modalities)
        with model.reporting_memory():
            self._model = compile_model(main, max_length=max_length, adapters=model.adapters, space=space)
        self.recipe = self._model.recipe
        self.max_positions = self._model.family.positions
        self._use_engine(engine, own=threads is not None or streams is not None or len(replicas) > 0)
        self._create_towers(partial(compile_model, space=self._model.space), modalities)
        self.load_seconds = time.perf_counter() - model.started
        before, after = model.memory_before, self._memory_used()
        self.bytes = max(1, after - before, self._process_bytes) if before is not None and after is not None else None

    def _fit(self, model: UncompiledModel, precision: str, copies: int) -> str:
        """Return the precision that fits into the memory; warn if it is not the one that was requested."""
        chosen = model.choose_precision(precision, copies)
        if chosen not in (precision, self.recipe.quantized):
            warning = _SMALLER.format(precision=chosen)
            _LOG.warning("%s: %s", self.recipe.name, warning)
            self._logged = (warning,)
            self.recipe = replace(self.recipe, warnings=(*self.recipe.warnings, warning))
        return chosen

    def _create_towers(
        self, compile_tower: Callable[[Recipe], CompiledModel], modalities: Sequence[str] | None
    ) -> None:
        """Create the towers besides the main one; those of ``modalities`` are compiled now."""
        self._towers = TowerSet(self.recipe, compile_tower, self.engine)
        self._model.compile_towers_by(compile_tower)
        if modalities is not None:
            self._towers.load(self.modalities)
            self._model.load_media()

    def load_towers(self) -> None:
        """Load the towers of all modalities now, rather than when an input first needs them."""
        before = self._memory_used()
        self._towers.load(self.modalities)
        self._model.load_media()
        after = self._memory_used()
        if self.bytes is not None and before is not None and after is not None:
            self.bytes += max(0, after - before)

    def _memory_used(self) -> int | None:
        """Return the memory of this process, and of those in which replicas of this model run."""
        used = memory_used()
        return None if used is None else used + self._process_bytes

    @property
    def _process_bytes(self) -> int:
        """The memory of the processes in which replicas of this model run."""
        return sum(runner.process_bytes for runner in self.runners)

    def _use_engine(self, engine: Engine | None, *, own: bool) -> None:
        self._owns_engine = engine is None and own
        self.engine = engine or (Engine(self._model.streams) if self._owns_engine else default_engine())
        # A model that is garbage-collected without being closed is released too, once its work has ended.
        self._finalizer = weakref.finalize(self, self.engine.release, self._model, last=self._owns_engine)
        self._finalizer.atexit = False

    @property
    def unlogged_warnings(self) -> tuple[str, ...]:
        """The warnings of the recipe, except those that loading has logged."""
        return tuple(warning for warning in self.recipe.warnings if warning not in self._logged)

    @classmethod
    def check_kind(cls, recipe: Recipe) -> None:
        """Raise ModelRefused if this class cannot use a model's outputs. Called before the model is compiled."""

    @property
    def name(self) -> str:
        """The model's full id, or the name of its folder."""
        return self.recipe.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads: ``text``, ``image``, ``video`` (the frames are pictures to it), ``audio``."""
        return self.recipe.reads

    @property
    def runners(self) -> tuple[ModelInfo, ...]:
        """What the engine runs for this model: the main tower, and the others that are loaded."""
        return self._model, *(tower.model for tower in self._towers)

    @property
    def max_length(self) -> int:
        """Tokens read of each text, special tokens and prompt included; patches of a model of pictures alone."""
        return self._model.processor.max_length

    @property
    def precision(self) -> str:
        """The number format of matrix products: ``bf16`` or ``float32``, for torch also ``float16``."""
        return self._model.precision

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices on which replicas of the model run, such as ``cpu:0-15``; ``cpu`` alone where there is one."""
        return self._model.devices

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included."""
        return self._model.batch_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the loaded adapters."""
        return tuple(self._model.adapters.numbers)

    def load_adapter(self, adapter: str | Path, name: str | None = None, *, source: str | None = None) -> str:
        """Load a PEFT LoRA adapter while requests are served; return its name.

        The graph is compiled again with all adapters stacked. The base weights are in memory once.

        Args:
            adapter: a folder, or an id on the Hub.
            name: the name by which calls select it; by default the folder's.
            source: the only place to search, as for ``nearfield.load``.

        Raises:
            ModelRefused: it is not a plain LoRA adapter, or it belongs to another model.
        """
        folder = adapter_folder(adapter, source)
        chosen = name or folder.name
        self._model.add_adapter(lora.read_adapter(folder, chosen))
        return chosen

    def remove_adapter(self, name: str) -> None:
        """Unload an adapter. Inputs that still wait for it end with an error.

        Raises:
            InputError: no adapter of that name is loaded.
        """
        self._model.remove_adapter(name)

    def load_arguments(self) -> dict[str, Any]:
        """Return the arguments with which another process loads the same model: ``model``, and keywords."""
        adapters = self._model.adapters.loaded.values()
        added = {adapter.name: adapter.folder.resolve() for adapter in adapters if adapter.name != self.default_adapter}
        max_length = self.max_length if self.recipe.modality == "text" else None
        return {**self._arguments, "max_length": max_length, "adapters": added}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how the model is loaded, not its weights: the other process loads it again, and runs it there."""
        return _load_again, (type(self), self.load_arguments(), self._model.space)

    def close(self, *, drain: bool = True) -> None:
        """Unload the model: finish accepted work unless ``drain`` is False, then release the memory."""
        self._finalizer.detach()
        if self._owns_engine:
            self.engine.close(drain=drain)
        for runner in self.runners:
            self.engine.forget(runner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _compiler(
    precision: str,
    backend: str,
    threads: int | None,
    streams: int | None,
    compile_cache: bool,
    device: str,
    devices: Sequence[ModelDevice],
    reproducible: bool,
) -> Callable[..., CompiledModel]:
    """Return the function that compiles a tower, with the options that all towers of a model share."""
    return partial(
        CompiledModel,
        precision=precision,
        backend=backend,
        threads=threads,
        streams=streams,
        cache=cache_dir() / "compiled" if compile_cache else None,
        device=device,
        devices=devices,
        reproducible=reproducible,
    )


def _check_runtime(precision: object, backend: object, device: Any, reproducible: object) -> None:
    """Raise InputError for arguments of wrong types, and for an unknown device."""
    require_texts(precision=precision, backend=backend, device=device)
    require_flag("reproducible", reproducible)
    if device != "auto" and backend != "torch":  # torch checks its own
        require_device(device)


def _parse_replicas(devices: str | Sequence[str] | None, device: str, engine: Engine | None) -> tuple[ModelDevice, ...]:
    """Return the devices of the replicas; none where the model has one device.

    Raises:
        InputError: they cannot be used, ``device`` is stated too, or the engine is none or has fewer lanes.
    """
    require_kind("engine", engine, Engine, "an Engine")
    if devices is None:
        return ()
    if device != "auto":
        raise InputError(f"device={device!r} and devices exclude each other: state one of them.", param="devices")
    parsed = parse_devices(devices)
    lanes = len(parsed) if engine is None else engine.lanes
    if lanes < len(parsed):
        raise InputError(
            f"devices names {len(parsed)}, and the engine runs {lanes} at the same time: create it with as many lanes.",
            param="devices",
        )
    return parsed


def _load_again(kind: type[LoadedModel], arguments: dict[str, Any], space: str) -> LoadedModel:
    """Load a model that another process has sent.

    Raises:
        SpaceMismatch: the files here give other vectors than those of the other process.
    """
    model = kind(**arguments)
    if model._model.space != space:
        model.close()
        raise SpaceMismatch(
            f"{kind.__name__} {model.name} was sent from a process whose files give other vectors than those here: "
            "use the same files in both, or send the model's path or name and load it here."
        )
    return model


def require_computing(threads: int | None, streams: int | None, max_length: int | None) -> None:
    """Raise InputError for numbers of threads, streams or tokens that cannot be used."""
    numbers = {
        "threads": (threads, _MAX_THREADS),
        "streams": (streams, _MAX_THREADS),
        "max_length": (max_length, 2**31),
    }
    for name, (value, maximum) in numbers.items():
        if value is not None:
            require_count(name, value, 1, maximum)
