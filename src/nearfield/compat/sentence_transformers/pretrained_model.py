"""`PretrainedModel`: what the classes of sentence-transformers share."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from nearfield.argument_checks import require_count
from nearfield.compat.model_sources import local_source
from nearfield.compat.sentence_transformers.load_options import (
    load_options,
    load_within_positions,
    model_name,
)
from nearfield.compat.sentence_transformers.saved_folder import SavedSettings, save_folder
from nearfield.compat.sentence_transformers.token_features import load_tokenizer
from nearfield.errors import InputError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.tensors import import_torch, torch_is_installed

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)
_TRAIN = "Train with sentence-transformers, and load the folder that it saves."
_SAVE = "Copy the model's folder, or save with sentence-transformers."
_MODULES = "The model is no torch module: use tokenizer, max_seq_length, config and the other attributes."
_WEIGHTS = (
    "The model is no torch module: use device, dtype and config. For its weights, load it with sentence_transformers."
)
_PARTS = "The model has no modules: use tokenizer, max_seq_length and config, or load it with sentence_transformers."
_FEATURES = "The model is not called with tokens: pass texts to encode, or pairs of texts to predict of CrossEncoder."
#: What torch modules have and this does not, with what to do.
_TORCH_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("parameters", "named_parameters", "buffers", "named_buffers"), _WEIGHTS),
    **dict.fromkeys(("state_dict", "load_state_dict", "zero_grad", "get_parameter"), _WEIGHTS),
    **dict.fromkeys(("modules", "named_modules", "children", "named_children", "get_submodule"), _PARTS),
    **dict.fromkeys(("_modules", "_first_module", "_last_module", "auto_model", "apply"), _PARTS),
    **dict.fromkeys(("register_forward_hook", "register_forward_pre_hook", "append", "insert"), _PARTS),
    **dict.fromkeys(("gradient_checkpointing_enable", "enable_input_require_grads", "smart_batching_collate"), _TRAIN),
}


def _refused(name: str, advice: str) -> Callable[..., Any]:
    def method(self: Any, *_: Any, **__: Any) -> Any:
        raise InputError(f"{type(self).__name__} does not support {name}. {advice}")

    method.__name__ = name
    method.__doc__ = f"Raise InputError. {advice}"
    return method


class ModelCard(SimpleNamespace):
    """What evaluators find out about a model; no model card is written."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        #: The figures of each evaluator that ran last.
        self.eval_results_dict: dict[Any, dict[str, Any]] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0) -> None:
        """Store the figures of an evaluator."""
        self.eval_results_dict[evaluator] = dict(metrics)


class PretrainedModel:
    """A loaded model with the attributes that all classes of sentence-transformers have."""

    #: The organization on the Hub of names without one.
    default_huggingface_organization: ClassVar[str] = ""
    #: Prompts that exist even if a model names none.
    _default_prompts: ClassVar[Mapping[str, str]] = {}
    model_type: ClassVar[str] = ""
    #: Whether the model is trained: it never is.
    training: ClassVar[bool] = False
    _model: LoadedModel

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Load a model.

        Args:
            arguments: those of the class's constructor, by name.

        Raises:
            InputError: an argument has a value that is not supported.
            ModelRefused: the model is none of this class.
        """
        self._options = load_options(arguments, self.model_type)
        self._name = model_name(arguments["model_name_or_path"], self.default_huggingface_organization)
        if arguments["local_files_only"]:
            files = [self._options["file"]] if "file" in self._options else []
            self._options["source"] = local_source(self._name, files, self._options.get("revision"))
        self._model = load_within_positions(self._load_model, self._options)
        self._saved = SavedSettings.read(self._model.recipe.folder, self.model_type)
        self._max_seq_length: int | None = None
        self._tokenizer: Any = None
        self.backend: str = arguments["backend"]
        self.model_card_data = arguments["model_card_data"] or ModelCard()
        self.trust_remote_code = bool(arguments["trust_remote_code"])
        changed = arguments["prompts"] or {}
        merged = {**self._default_prompts, **self._model_prompts(), **changed}
        self.prompts: dict[str, str] = {name: text or "" for name, text in merged.items()}
        own = self._model.recipe.default_prompt_name
        chosen = arguments["default_prompt_name"] or self._saved.default_prompt_name
        self.default_prompt_name: str | None = chosen or (own if own in self.prompts else None)
        if self.default_prompt_name is not None:
            self._prompt_named(self.default_prompt_name)

    def _model_prompts(self) -> Mapping[str, str | None]:
        """Return the prompts of the model itself, by name."""
        return self._saved.prompts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model.name!r}, max_seq_length={self.max_seq_length})"

    def __copy__(self) -> Self:
        """Return a copy that shares the loaded model, which calls do not change."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with its own settings, which shares the loaded model."""
        twin = copy.copy(self)
        twin.prompts, twin._tokenizer = dict(self.prompts), copy.deepcopy(self._tokenizer, memo)
        return twin

    # -- prompts -------------------------------------------------------------------------------------------------

    def _prompt_named(self, name: str) -> str:
        if name not in self.prompts:
            raise InputError(
                f"Prompt name {name!r} not found: the model has {list(self.prompts)}.", param="prompt_name"
            )
        return self.prompts[name]

    def _resolve_prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """Return the text of a call's prompt; the literal one wins, and the default one comes last."""
        if prompt is not None:
            if prompt_name is not None:
                _log.warning("Both prompt and prompt_name were passed: prompt_name has no effect.")
            return prompt
        chosen = self.default_prompt_name if prompt_name is None else prompt_name
        return "" if chosen is None else self._prompt_named(chosen)

    def _role_prompt(self, prompt: str | None, prompt_name: str | None, names: Sequence[str]) -> str | None:
        """Return the name of a role's prompt, unless the call says what prompt to use."""
        if prompt is not None or prompt_name is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    # -- the model -----------------------------------------------------------------------------------------------

    @property
    def max_seq_length(self) -> int:
        """Tokens read of each input. It can be set; beyond the positions of the model, its own length is used."""
        return self._model.max_length if self._max_seq_length is None else self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        if value is not None:
            require_count("max_seq_length", value)
            if value > self._model.max_length:
                options = {"max_length": value}
                self._model = load_within_positions(lambda: self._load_model(**options), options)
            value = min(value, self._model.max_length)
        self._max_seq_length = value
        # The same object stays, as other settings of it may have been changed.
        if hasattr(self._tokenizer, "model_max_length"):
            self._tokenizer.model_max_length = self.max_seq_length

    def get_max_seq_length(self) -> int:
        """Return ``max_seq_length``."""
        return self.max_seq_length

    @property
    def tokenizer(self) -> Any:
        """The folder's tokenizer: of transformers if that is installed, else of tokenizers.

        Of its changes, those of ``truncation_side`` and ``model_max_length`` have an effect in `SentenceTransformer`.
        """
        if self._tokenizer is None:
            self._tokenizer = self._load_tokenizer()
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        raise InputError(
            "tokenizer cannot be set: save the other tokenizer into a copy of the model's folder, and load that. "
            "Settings of the present one are changed in place, such as model.tokenizer.truncation_side.",
            param="tokenizer",
        )

    def _load_tokenizer(self) -> Any:
        return load_tokenizer(self._model.recipe.folder, self.max_seq_length)

    @property
    def device(self) -> Any:
        """The device of the model, as ``torch.device`` if torch is installed."""
        name = self._options.get("device", "cpu")
        return import_torch().device(name) if torch_is_installed() else name

    def _result_device(self, device: Any, pool: Any) -> str | None:
        """Return the device for the tensors of a call; None for the CPU, where results are."""
        if pool is not None or isinstance(device, (list, tuple)):
            return None
        name = str(device or self._options.get("device") or "cpu")
        return None if name == "cpu" else name

    @property
    def dtype(self) -> Any:
        """The dtype of results: float32. It is a ``torch.dtype`` if torch is installed."""
        return import_torch().float32 if torch_is_installed() else "float32"

    @property
    def config(self) -> SimpleNamespace:
        """The values of the model's config.json."""
        return SimpleNamespace(**self._model.recipe.config)

    @property
    def transformers_model(self) -> None:
        """None: there is no model of transformers."""
        return None

    @property
    def modalities(self) -> list[str]:
        """The kinds of inputs: text alone."""
        return ["text"]

    def supports(self, modality: object) -> bool:
        """Return whether a kind of inputs is supported."""
        return modality in self.modalities

    def get_backend(self) -> str:
        """Return the name that was passed as ``backend``."""
        return self.backend

    def get_model_kwargs(self) -> list[str]:
        """Return the names of further keywords of calls: there are none."""
        return []

    def is_singular_input(self, inputs: Any) -> bool:
        """Return whether a value is one input, not a list, array or column of inputs."""
        return isinstance(inputs, (str, bytes)) or getattr(inputs, "ndim", 1) == 0 or not hasattr(inputs, "__iter__")

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """Run an evaluator of sentence-transformers on this model; the folder of its output is created."""
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    # -- saving --------------------------------------------------------------------------------------------------

    def save(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: Sequence[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Copy the model's folder, with the prompts and settings as they are now."""
        if path is not None:
            save_folder(self._model, Path(path), self._settings(), self._max_seq_length)

    def save_pretrained(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As ``save``."""
        self.save(path, *args, **kwargs)

    def _settings(self) -> dict[str, Any]:
        """Return the settings for ``config_sentence_transformers.json``."""
        prompts = {"prompts": self.prompts, "default_prompt_name": self.default_prompt_name}
        return {"model_type": self.model_type, **prompts}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._model = self._load_model()
        if self._max_seq_length is not None:
            self.max_seq_length = self._max_seq_length

    def _load_model(self, **options: Any) -> LoadedModel:
        """Load the model once more: in another process, or for longer inputs."""
        raise NotImplementedError

    # -- what torch modules have ---------------------------------------------------------------------------------

    def to(self, *_: Any, **__: Any) -> Self:
        """Return the model: its device is chosen when it is loaded."""
        return self

    cpu = cuda = eval = float = half = bfloat16 = requires_grad_ = to

    def compile(self, *_: Any, **__: Any) -> None:
        """Do nothing: the model is compiled."""

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> dict[str, Any]:
        """Return an empty pool: each call uses all cores."""
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Mapping[str, Any]) -> None:
        """Do nothing: pools are empty."""

    fit = _refused("fit", _TRAIN)
    old_fit = _refused("old_fit", _TRAIN)
    train = _refused("train", _TRAIN)
    add_adapter = _refused("add_adapter", _TRAIN)
    merge = _refused("merge", _TRAIN)
    save_to_hub = _refused("save_to_hub", _SAVE)
    push_to_hub = _refused("push_to_hub", _SAVE)
    forward = _refused("forward", _MODULES)
    preprocess = _refused("preprocess", _MODULES)
    __getitem__ = _refused("modules by index", _MODULES)
    __call__ = _refused("calls", _FEATURES)

    if not TYPE_CHECKING:  # a checker of types is to find misspelt names

        def __getattr__(self, name: str) -> Any:
            """Say what to do in place of what only torch modules have; called for names that are missing."""
            if name in _TORCH_NAMES:
                raise AttributeError(f"{type(self).__name__} has no {name!r}. {_TORCH_NAMES[name]}")
            return object.__getattribute__(self, name)


def check_batch_size(batch_size: int) -> None:
    """Raise InputError for a size that no batch has."""
    require_count("batch_size", batch_size)
