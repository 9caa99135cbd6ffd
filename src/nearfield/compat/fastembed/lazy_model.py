"""What fastembed's classes share: their lists of models, and a model that is loaded when it is first used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cached_property, partial
from typing import Any, ClassVar

from nearfield.compat.fastembed.models import (
    FastembedDescription,
    ModelLocation,
    ModelSource,
    builtin_models,
    read_other,
)
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.fork_safety import ProcessLock
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.uncompiled_model import UncompiledModel

_log = logging.getLogger(__name__)

#: Further arguments of the constructors.
_KEYWORDS = frozenset(
    {"specific_model_path", "local_files_only", "device_id", "task_id", "enable_cpu_mem_arena", "mmap"}
)
_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider")
#: The task of jina-embeddings-v3 for texts without a role, by fastembed's number.
PASSAGE_TASK = 1


class Device(str, Enum):
    """Where fastembed runs a model."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class LazyModel:
    """A model of fastembed's list; it has the attribute ``model`` from its first use on."""

    model: LoadedModel

    def __init__(
        self,
        description: FastembedDescription,
        read: Callable[[], UncompiledModel],
        load: Callable[[UncompiledModel], LoadedModel],
    ) -> None:
        self.model_description = description
        self._read, self._load, self._lock = read, load, ProcessLock()

    @cached_property
    def uncompiled(self) -> UncompiledModel:
        """The model's files and settings."""
        return self._read()

    def load(self) -> LoadedModel:
        """Return the model, loaded."""
        with self._lock:
            if not hasattr(self, "model"):
                self.model = self._load(self.uncompiled)
            return self.model


class FastembedModel:
    """What the four classes share: the list of models, and how one is loaded."""

    kind: ClassVar[str]
    _custom: ClassVar[list[FastembedDescription]] = []

    def __init__(
        self,
        model_name: str,
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        cuda: bool | Device = Device.AUTO,
        device_ids: list[int] | None = None,
        lazy_load: bool = False,
        **kwargs: Any,
    ) -> None:
        _report_unknown(type(self).__name__, kwargs)
        self.model_name, self.cache_dir, self.threads = model_name, cache_dir, threads
        self._task_id = int(PASSAGE_TASK if kwargs.get("task_id") is None else kwargs["task_id"])
        description = self._describe(model_name)
        if description.refused is not None:
            raise InputError(f"{description.model} cannot be loaded: {description.refused}.", param="model_name")
        stored = cache_dir or os.environ.get("FASTEMBED_CACHE_PATH")
        folder, local = kwargs.get("specific_model_path"), bool(kwargs.get("local_files_only"))
        location = ModelLocation(None if folder is None else os.fspath(folder), stored, local)
        numbers = [kwargs["device_id"]] if kwargs.get("device_id") is not None else device_ids
        options = {"threads": threads, "precision": "float32", **_device_options(providers, cuda, numbers)}
        self.model = LazyModel(description, partial(self._read, description, location), partial(self._load, options))
        if not lazy_load:
            self.model.load()

    @classmethod
    def list_supported_models(cls) -> list[dict[str, Any]]:
        """Return the models that can be loaded, with what fastembed's list says of them."""
        return [description.to_dict() for description in cls._list_supported_models()]

    @classmethod
    def _list_supported_models(cls) -> list[FastembedDescription]:
        return [description for description in cls._known() if description.refused is None]

    @classmethod
    def _known(cls) -> list[FastembedDescription]:
        return [*builtin_models()[cls.kind], *cls._custom]

    @classmethod
    def _describe(cls, name: str) -> FastembedDescription:
        known = {description.model.lower(): description for description in cls._known()}
        if name.lower() not in known:
            hint = nearest(name, [description.model for description in cls._list_supported_models()])
            raise InputError(
                f"Model {name} is not supported in {cls.__name__}. {hint} Other models: nearfield.load({name!r}).",
                param="model_name",
            )
        return known[name.lower()]

    @classmethod
    def _register(cls, description: FastembedDescription) -> None:
        if any(description.model.lower() == other.model.lower() for other in cls._known()):
            raise InputError(f"Model {description.model} is already registered in {cls.__name__}.", param="model")
        cls._custom.append(description)

    @classmethod
    def _load(cls, options: Mapping[str, Any], model: UncompiledModel) -> LoadedModel:
        return Encoder(model, **options)

    @classmethod
    def _read(cls, description: FastembedDescription, location: ModelLocation) -> UncompiledModel:
        return read_other(description, cls.kind, location)


def create_custom_model(
    model: str,
    sources: ModelSource,
    model_file: str,
    description: str,
    license: str,
    size_in_gb: float,
    additional_files: list[str] | None,
    **facts: Any,
) -> FastembedDescription:
    """Return the description of a model that a user adds."""
    more = tuple(additional_files or ())
    return FastembedDescription(
        model, sources, model_file, license, size_in_gb, description, more, loads=sources.hf, **facts
    )


def _report_unknown(name: str, arguments: Mapping[str, Any]) -> None:
    unknown = [argument for argument in arguments if argument not in _KEYWORDS]
    if unknown:
        _log.warning("%s ignores %s, as fastembed does.", name, ", ".join(unknown))


def _device_options(
    providers: Sequence[Any] | None, cuda: bool | Device, device_ids: Sequence[int] | None
) -> dict[str, str]:
    """Return where to run: on the CPU by OpenVINO, or on a GPU by PyTorch if that is requested."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers or ()]
    unknown = next((name for name in names if name not in _PROVIDERS), None)
    if unknown is not None:
        raise InputError(f"Provider {unknown} is not available. {nearest(unknown, _PROVIDERS)}", param="providers")
    if "CUDAExecutionProvider" not in names and cuda is not True and cuda != Device.CUDA:
        return {}
    return {"backend": "torch", "device": f"cuda:{device_ids[0]}" if device_ids else "cuda"}
