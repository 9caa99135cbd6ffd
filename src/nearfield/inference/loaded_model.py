"""Loaded: a model found, read and compiled, with the engine it runs on. What encoders and rerankers have in common."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield import catalog, hub
from nearfield.checkpoint import model_folder as folder
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights import lora as peft
from nearfield.engine.engine import Engine, default_engine
from nearfield.errors import ModelRefused
from nearfield.hardware import memory_used
from nearfield.inference.compiled_model import CompiledModel
from nearfield.recipe import Recipe, RerankPrompt
from nearfield.settings import cache_dir


class OtherKind(ModelRefused):
    """The model's output is of another kind than was asked for; ``labels`` counts its scores, 0 where it has none."""

    def __init__(self, message: str, labels: int) -> None:
        super().__init__(message)
        self.labels = labels


class LoadedModel:
    """A model that is ready to run.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        source: ``folder``, ``cache``, ``hub`` or ``index``, to look nowhere else.
        revision: commit, tag or branch on the Hub; the catalogue's pinned one when left out.
        precision: ``auto`` (bf16 where the hardware multiplies it natively) or ``float32``; for torch also ``bfloat16``
            and ``float16``.
        backend: ``openvino``, ``torch`` or ``reference`` (plain numpy, slow).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``, for torch.
        threads: cores to use, all that this process may use when left out.
        streams: batches that run at once.
        max_length: tokens read of each input, at most what the model allows.
        kind: ``dense``, ``sparse``, ``multivector`` or ``scores``, where the model's files don't say which it is.
        engine: the engine to run on; by default all models of the process share one.
        compile_cache: whether compiled graphs are kept on disk for the next start.
        file: an ONNX or OpenVINO file of the model to run in place of its weights, such as ``onnx/model_O3.onnx``;
            pooling and what follows still come from the folder.
        adapters: PEFT LoRA adapters to load at once: names to folders or ids on the Hub.
        accept_license: load a model whose licence does not allow commercial use.
        answer: how a language model is asked to rerank, where neither folder nor catalogue says (see ``Reranker``).

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be had.
        ModelRefused: its files cannot be loaded exactly.
    """

    def __init__(
        self,
        model: str,
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
    ) -> None:
        started, before = time.perf_counter(), memory_used()
        entry = catalog.find(str(model))
        if entry is not None:
            catalog.check_licence(entry, accepted=accept_license)
        located = hub.locate(
            str(model),
            pin=entry.pin if entry else None,
            source=source,
            revision=revision,
            progress=progress,
            files=_files(file),
        )
        name = entry.id if entry else located.name
        found = [peft.read(_adapter_folder(where, source, progress), name) for name, where in (adapters or {}).items()]
        #: The adapter of a call that names none: the model's own folder, where that is an adapter.
        self.default_adapter: str | None = None
        if (located.folder / peft.CONFIG).is_file():
            own = peft.read(located.folder, located.folder.name)
            self.default_adapter, found = own.name, [own, *found]
            self.recipe: Recipe = _on_base(own, name, kind, source, progress)
        else:
            facts: dict[str, Any] = {
                "name": name,
                "revision": located.revision,
                "entry": entry,
                "kind": kind,
                "body": file,
                "answer": answer,
            }
            self.recipe = folder.read_model_folder(located.folder, **facts)
        self._check_kind()
        cache = cache_dir() / "compiled" if compile_cache else None
        self._model = CompiledModel(self.recipe, precision, backend, threads, streams, max_length, cache, found, device)
        self._owns_engine = engine is None and (threads is not None or streams is not None)
        self.engine = engine or (Engine(self._model.cpu.streams) if self._owns_engine else default_engine())
        # One that is dropped without being closed gives its memory back too, after what it was asked for.
        self._dropped = weakref.finalize(self, self.engine.release, self._model, last=self._owns_engine)
        self._dropped.atexit = False
        self.load_seconds = time.perf_counter() - started
        after = memory_used()
        #: Memory that loading took, while nothing else was loaded; None where it cannot be known.
        self.bytes = max(1, after - before) if before is not None and after is not None else None

    def _check_kind(self) -> None:
        """Refuse a model whose output is of another kind; called before anything costly."""

    @property
    def name(self) -> str:
        """The model's full id, or its folder's name."""
        return self.recipe.name

    @property
    def max_length(self) -> int:
        """Tokens read of each input, special tokens and prompt included."""
        return self.tokenizer.max_length

    @property
    def precision(self) -> str:
        """What the matrix units use: ``bf16`` or ``float32``."""
        return self._model.precision

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
        """The names of the adapters that are loaded."""
        return tuple(self._model.adapters.numbers)

    def load_adapter(self, adapter: str | Path, name: str | None = None, *, source: str | None = None) -> str:
        """Load a PEFT LoRA adapter beside those there are, while requests are served; return its name.

        ``adapter`` is a folder or an id on the Hub; ``name`` is what calls choose it by, the folder's own when left
        out. The graph is compiled anew with all adapters stacked; the base weights exist once.

        Raises:
            ModelRefused: it is no plain LoRA adapter, or was made for another model.
        """
        folder = _adapter_folder(adapter, source, progress=False)
        chosen = name or folder.name
        self._model.add_adapter(peft.read(folder, chosen))
        return chosen

    def remove_adapter(self, name: str) -> None:
        """Unload an adapter; what still waits for it ends with an error.

        Raises:
            InputError: none of that name is loaded.
        """
        self._model.remove_adapter(name)

    def close(self, *, drain: bool = True) -> None:
        """Unload: finish accepted work unless ``drain`` is False, then let go of the memory."""
        self._dropped.detach()
        if self._owns_engine:
            self.engine.close(drain=drain)
        self.engine.forget(self._model)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _files(file: str | None) -> tuple[str, ...]:
    """Name what must be there for an exported file: OpenVINO keeps the weights in one beside it."""
    if file is None:
        return ()
    return (file, file.removesuffix(".xml") + ".bin") if file.endswith(".xml") else (file,)


def _adapter_folder(adapter: str | Path, source: str | None, progress: bool) -> Path:
    if Path(adapter).is_dir():
        return Path(adapter)
    return hub.locate(str(adapter), pin=None, source=source, revision=None, progress=progress).folder


def _on_base(own: peft.Adapter, name: str, kind: str | None, source: str | None, progress: bool) -> Recipe:
    """Read the model that an adapter's folder stands on; pooling and prompts of the folder itself win."""
    if not own.base:
        raise ModelRefused(f"{own.folder} is an adapter, and does not name the model it was made for.")
    entry = catalog.find(own.base)
    # The adapter's own revision says nothing about its base.
    base = hub.locate(own.base, pin=entry.pin if entry else None, source=source, revision=None, progress=progress)
    recipe = folder.read_model_folder(base.folder, name=name, revision=base.revision, entry=entry, kind=kind)
    return folder.overlay(recipe, own.folder)


def until(deadline: float | None) -> float | None:
    """Turn seconds from now into a time of ``time.monotonic``."""
    return None if deadline is None else time.monotonic() + deadline
