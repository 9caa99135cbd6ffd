"""`CrossEncoder`: the class of sentence-transformers that scores pairs of texts, over `nearfield.Reranker`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from nearfield.argument_checks import require_count, require_optional_counts
from nearfield.arrays import Array
from nearfield.compat.arguments import BAR, BATCHES, DEVICE_OF_CALL, USED, ArgumentTable, Effect, wants_bar
from nearfield.compat.inputs import iterate_pairs
from nearfield.compat.sentence_transformers.load_options import (
    CONSTRUCTOR,
    call_length,
    read_kind,
)
from nearfield.compat.sentence_transformers.old_names import accept_old_names
from nearfield.compat.sentence_transformers.pretrained_model import PretrainedModel, check_batch_size
from nearfield.errors import InputError
from nearfield.inference.calls.rerank_options import activate
from nearfield.inference.preparation.pair_inputs import check_pairs, list_texts
from nearfield.progress import Progress
from nearfield.reranker import Reranker
from nearfield.tensors import array_to_tensor, import_torch, is_tensor, tensor_to_array, torch_is_installed
from nearfield.text_inputs import advice, describe, one_text

#: Pairs between two steps of a progress bar.
_STEP = 256
#: Classes of ``torch.nn`` by the names of activations here.
_CLASSES = {"identity": "Identity", "sigmoid": "Sigmoid", "softmax": "Softmax", "tanh": "Tanh"}
_POOLS = Effect("ignored", "Each call uses all cores, and no further processes.")
_CALL = {
    "prompt_name": USED,
    "prompt": USED,
    "batch_size": BATCHES,
    "show_progress_bar": BAR,
    "activation_fn": USED,
    "device": DEVICE_OF_CALL,
    "pool": _POOLS,
    "chunk_size": _POOLS,
}
ARGUMENTS: ArgumentTable = {
    "CrossEncoder": {
        **CONSTRUCTOR,
        "num_labels": Effect("used", "It must be the model's: a new head would be untrained."),
        "max_length": USED,
        "activation_fn": USED,
        "keep_in_fp32_modules": Effect("ignored", "The whole model is computed in float32 by default."),
    },
    "CrossEncoder.predict": {
        "inputs": USED,
        **_CALL,
        "apply_softmax": USED,
        "convert_to_numpy": USED,
        "convert_to_tensor": USED,
        "kwargs": Effect("used", "processing_kwargs: max_length of texts."),
    },
    "CrossEncoder.rank": {
        "query": USED,
        "documents": USED,
        "top_k": USED,
        "return_documents": USED,
        **_CALL,
        "device": Effect("ignored", "Scores are numbers of Python."),
    },
}


class CrossEncoder(PretrainedModel):
    """Scores pairs of texts. Arguments, results and defaults are those of ``sentence_transformers.CrossEncoder``.

    The model is computed by `nearfield.Reranker`, in float32 unless ``model_kwargs`` has another ``torch_dtype``.
    ``docs/reference/compat.md`` says what becomes of each argument.
    """

    default_huggingface_organization = "cross-encoder"
    model_type = "CrossEncoder"
    _model: Reranker

    @accept_old_names(
        positional=("num_labels", "max_length", "activation_fn", "device"),
        dropped=("classifier_dropout",),
        model_name="model_name_or_path",
        automodel_args="model_kwargs",
        tokenizer_args="processor_kwargs",
        tokenizer_kwargs="processor_kwargs",
        config_args="config_kwargs",
        cache_dir="cache_folder",
        default_activation_function="activation_fn",
    )
    def __init__(
        self,
        model_name_or_path: str | None = None,
        *,
        modules: Any = None,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: Any = None,
        backend: Literal["torch", "onnx", "openvino"] = "torch",
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[..., Any] | None = None,
        keep_in_fp32_modules: list[str] | None = None,
    ) -> None:
        arguments = dict(locals())
        _check_activation(activation_fn)
        require_optional_counts(max_length=max_length)
        super().__init__(arguments)
        self._check_labels(num_labels if num_labels is not None else (config_kwargs or {}).get("num_labels"))
        self._activation_fn = activation_fn

    def _check_labels(self, num_labels: int | None) -> None:
        if num_labels not in (None, self.num_labels):
            raise InputError(
                f"{self._name} gives {self.num_labels} scores a pair, not {num_labels}: a new head would be untrained. "
                "Leave num_labels out.",
                param="num_labels",
            )

    @property
    def num_labels(self) -> int:
        """The number of scores of a pair."""
        return len(self._model.labels)

    @property
    def activation_fn(self) -> Callable[..., Any]:
        """The function applied to the model's logits unless a call selects another one. It can be set."""
        return _activation_named(self._model.activation) if self._activation_fn is None else self._activation_fn

    @activation_fn.setter
    def activation_fn(self, function: Callable[..., Any] | None) -> None:
        _check_activation(function)
        self._activation_fn = function

    default_activation_function = activation_fn

    def get_default_activation_fn(self) -> Callable[..., Any]:
        """Return the model's own activation function."""
        return _activation_named(self._model.activation)

    @property
    def max_length(self) -> int | None:
        """The old name of ``max_seq_length``."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        self.max_seq_length = value

    @property
    def config(self) -> SimpleNamespace:
        """The values of the model's config.json, with ``num_labels``, ``id2label`` and ``label2id``."""
        labels = dict(enumerate(self._model.labels))
        named = {"num_labels": len(labels), "id2label": labels, "label2id": {label: n for n, label in labels.items()}}
        return SimpleNamespace(**{**self._model.recipe.config, **named})

    @property
    def model(self) -> SimpleNamespace:
        """What is known of the model of transformers: its ``config`` and ``device``."""
        return SimpleNamespace(config=self.config, device=self.device)

    @accept_old_names(dropped=("num_workers",), sentences="inputs", activation_fct="activation_fn")
    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[..., Any] | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score one pair of texts, or a list of pairs.

        Args:
            inputs: a pair (a list or tuple of two texts, or an array of them), or a list, array or generator of pairs.
            prompt_name: a prompt of the model by name, put before the first text of each pair.
            prompt: the text of such a prompt.
            show_progress_bar: show a bar.
            activation_fn: a function of logits [n, labels], in place of the model's own. It gets a tensor if torch is
                installed; a class, such as ``torch.nn.Identity``, is instantiated.
            apply_softmax: apply the softmax to scores of several labels, after the activation.
            convert_to_numpy: return an array; otherwise a list of tensors.
            convert_to_tensor: return a tensor.
            kwargs: ``processing_kwargs={"text": {"max_length": 128}}`` truncates pairs in this call.
            batch_size, device, pool, chunk_size: accepted; the result does not depend on them.

        Returns:
            float32 [n], or [n, labels] if the model has several labels; for a single pair its score or scores.

        Raises:
            InputError: an input is no pair of texts; the message has its number.
        """
        check_batch_size(batch_size)
        _check_activation(activation_fn)
        single, firsts, seconds = self._pairs(inputs)
        options = {
            "prompt": self._resolve_prompt(prompt, prompt_name),
            "max_length": call_length(kwargs, self._max_seq_length, "CrossEncoder.predict"),
        }
        function = self._activation_fn if activation_fn is None else activation_fn
        scores = self._scores(firsts, seconds, function, options, wants_bar(show_progress_bar))
        scores = np.ascontiguousarray(_softmax(scores) if apply_softmax else scores)
        if convert_to_numpy and not convert_to_tensor:
            return scores[0] if single else scores
        tensor = array_to_tensor(scores, self._result_device(device, pool))
        result = tensor if convert_to_tensor else list(tensor)
        return result[0] if single else result

    @accept_old_names(
        dropped=("num_workers", "apply_softmax", "convert_to_numpy", "convert_to_tensor"),
        activation_fct="activation_fn",
    )
    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[..., Any] | None = None,
        device: Any = None,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the documents by falling score, as dictionaries with ``corpus_id``, ``score`` and, if requested, text.

        Args:
            query: the query.
            documents: the texts to rank.
            top_k: number of results; None for all.
            return_documents: add each document's ``text``.
            prompt_name, prompt, batch_size, show_progress_bar, activation_fn, device, pool, chunk_size: as for
                ``predict``.

        Raises:
            InputError: the model gives several scores a pair, or an input is no text.
        """
        if self.num_labels != 1:
            raise InputError(
                f"CrossEncoder.rank() only works for models with one label, and {self._model.name} has "
                f"{self.num_labels}: use CrossEncoder.predict()."
            )
        query, texts = one_text(query, "query"), list_texts(documents, "documents")
        if top_k is not None:
            require_count("top_k", top_k, 0)
        scores = self.predict(
            [(query, text) for text in texts],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
        ).tolist()
        order = sorted(range(len(texts)), key=lambda index: -scores[index])[:top_k]
        results = [{"corpus_id": index, "score": scores[index]} for index in order]
        return [{**item, "text": texts[item["corpus_id"]]} for item in results] if return_documents else results

    def is_singular_input(self, inputs: Any) -> bool:
        """Return whether a value is one pair, not a list of pairs."""
        if isinstance(inputs, np.ndarray) and inputs.ndim:
            return inputs.size > 0 and inputs.ndim < 2
        if isinstance(inputs, (list, tuple)):
            return len(inputs) > 0 and not isinstance(inputs[0], (list, tuple, np.ndarray))
        return isinstance(inputs, (str, bytes)) or not hasattr(inputs, "__iter__")

    def _pairs(self, inputs: Any) -> tuple[bool, list[str], list[str]]:
        """Return whether it is a single pair, and the first and the second texts."""
        single = self.is_singular_input(inputs)
        pairs = [inputs] if single else list(iterate_pairs(inputs, "inputs"))
        for index, pair in enumerate(pairs):
            if not isinstance(pair, (list, tuple, np.ndarray)) or len(pair) != 2:
                which = "The input" if single else f"Input {index}"
                raise InputError(f"{which} must be a pair of texts, not {_describe(pair)}", param="inputs")
        firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        check_pairs(firsts, seconds, "inputs")  # those that are scored later, beside a progress bar, included
        return single, firsts, seconds

    def _scores(
        self,
        firsts: list[str],
        seconds: list[str],
        function: Callable[..., Any] | None,
        options: Mapping[str, Any],
        shown: bool,
    ) -> Array:
        """Return scores [n] or [n, labels], after the activation."""
        own = {**options, "activation": None if function is None else "identity"}
        parts = []
        step = _STEP if shown else max(1, len(firsts))
        with Progress(len(firsts), label="Scoring", unit="pairs", shown=shown) as progress:
            for start in range(0, len(firsts), step):
                part = slice(start, start + step)
                scores = self._model.score(firsts[part], seconds[part], **own)
                progress.advance(len(scores), 0 if scores.tokens is None else int(scores.tokens.sum()))
                parts.append(scores.data)
        if not parts:
            return np.zeros(0, np.float32)
        data = np.concatenate(parts)
        if function is None:
            return data
        result = _apply_activation(data.reshape(len(data), -1), function)
        return result[:, 0] if self.num_labels == 1 and result.ndim > 1 else result

    # -- loading and saving ------------------------------------------------------------------------------------------

    @property
    def reranker(self) -> Reranker:
        """The reranker that computes the scores."""
        return self._model

    def _load_model(self, **options: Any) -> Reranker:
        options = {**self._options, **options}
        return Reranker(read_kind(self._name, options, "scores"), **options)

    def _settings(self) -> dict[str, Any]:
        function = type(self.activation_fn)
        return {**super()._settings(), "activation_fn": f"{function.__module__}.{function.__qualname__}"}

    def __repr__(self) -> str:
        return f"CrossEncoder({self._name!r}, num_labels={self.num_labels}, max_seq_length={self.max_seq_length})"


def _describe(pair: Any) -> str:
    if isinstance(pair, (list, tuple, np.ndarray)):
        return f"{len(pair)} of them."
    return "one text." if isinstance(pair, str) else f"{describe(pair)}.{advice(pair)}"


def _check_activation(function: object) -> None:
    if function is not None and not callable(function):
        raise InputError(
            f"activation_fn must be a function or a class, such as torch.nn.Sigmoid, and is {describe(function)}.",
            param="activation_fn",
        )


def _activation_named(name: str) -> Callable[..., Any]:
    """Return an activation as an object of ``torch.nn``; without torch, as a function of arrays."""
    if not torch_is_installed():
        return partial(activate, name=name)
    nn = import_torch().nn
    # Without a dimension torch warns, and takes the last one of a matrix too.
    return nn.Softmax(dim=-1) if name == "softmax" else getattr(nn, _CLASSES[name])()


def _apply_activation(logits: Array, function: Callable[..., Any]) -> Array:
    """Return a function's result for logits [n, labels], which it gets as a tensor if torch is installed.

    A class, such as ``torch.nn.Sigmoid``, stands for an object of it.
    """
    chosen = function() if isinstance(function, type) else function
    result = chosen(array_to_tensor(logits) if torch_is_installed() else logits)
    return tensor_to_array(result) if is_tensor(result) else np.asarray(result)


def _softmax(scores: Array) -> Array:
    """Return the softmax over labels; scores [n] of a single label stay."""
    return activate(scores, "softmax") if scores.ndim > 1 else scores
