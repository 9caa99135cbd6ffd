"""`MultiVectorEncoder`: the class of sentence-transformers for late interaction (ColBERT), over `nearfield.Encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.compat.arguments import BAR, BATCHES, DEVICE_OF_CALL, USED, ArgumentTable, Effect, wants_bar
from nearfield.compat.sentence_transformers.load_options import (
    CONSTRUCTOR,
    call_length,
    input_list,
    read_kind,
)
from nearfield.compat.sentence_transformers.old_names import accept_old_names
from nearfield.compat.sentence_transformers.pretrained_model import PretrainedModel, check_batch_size
from nearfield.compat.sentence_transformers.saved_folder import SETTINGS
from nearfield.compat.sentence_transformers.util.similarity import SimilarityFunction
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.recipe import Multivector
from nearfield.tensors import array_to_tensor, tensor_to_array, torch_is_installed
from nearfield.vectors.dense import normalize

#: The type of a model in PyLate's layout, whose folder stays in that layout when it is copied.
_PYLATE = "ColBERT"
_POOLS = Effect("ignored", "Each call uses all cores, and no further processes.")
_ENCODE = {
    "inputs": USED,
    "prompt_name": USED,
    "prompt": Effect("used", "The model's marker of the role comes before it."),
    "batch_size": BATCHES,
    "show_progress_bar": BAR,
    "output_value": Effect("used", "token_embeddings. Outputs of modules (None) are refused."),
    "convert_to_numpy": USED,
    "device": DEVICE_OF_CALL,
    "normalize_embeddings": USED,
    "pool": _POOLS,
    "chunk_size": _POOLS,
    "token_pooling": Effect("used", "It is applied to the tensors of each text; it needs torch."),
    "kwargs": Effect("used", "processing_kwargs: max_length of texts; others are refused."),
}
_SIMILARITY = {
    "embeddings1": USED,
    "embeddings2": USED,
    "kwargs": Effect("used", "Keywords of util.maxsim."),
}
ARGUMENTS: ArgumentTable = {
    "MultiVectorEncoder": {**CONSTRUCTOR, "similarity_fn_name": USED},
    "MultiVectorEncoder.encode": {**_ENCODE, "task": USED},
    "MultiVectorEncoder.encode_query": _ENCODE,
    "MultiVectorEncoder.encode_document": _ENCODE,
    "MultiVectorEncoder.similarity": _SIMILARITY,
    "MultiVectorEncoder.similarity_pairwise": _SIMILARITY,
}


class MultiVectorEncoder(PretrainedModel):
    """Encodes texts as one vector for each token. Arguments and results are those of sentence-transformers' class.

    The model is computed by `nearfield.Encoder`, in float32 unless ``model_kwargs`` has another ``torch_dtype``.
    Results are torch tensors; where torch is not installed, they are arrays.
    ``docs/reference/compat.md`` says what becomes of each argument.
    """

    default_huggingface_organization = "multi-vector-encoder"
    model_type = "MultiVectorEncoder"
    _default_prompts: ClassVar = {"query": "", "document": ""}
    _model: Encoder
    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("maxsim", "meanmaxsim")

    @accept_old_names(tokenizer_kwargs="processor_kwargs")
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
        similarity_fn_name: str | SimilarityFunction | None = None,
    ) -> None:
        arguments = dict(locals())
        super().__init__(arguments)
        self.similarity_fn_name = similarity_fn_name

    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["token_embeddings"] | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        task: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode one text or a list of texts.

        Args:
            inputs: a text, or a list, array or column of texts.
            prompt_name: a prompt of the model by name.
            prompt: the text of a prompt.
            show_progress_bar: show a bar.
            output_value: ``token_embeddings``.
            convert_to_numpy: return arrays in place of tensors.
            normalize_embeddings: scale each vector to unit length; most models do so anyway.
            token_pooling: an object of sentence-transformers that reduces the number of vectors.
            task: ``query`` or ``document``; without it texts are documents.
            kwargs: ``processing_kwargs={"text": {"max_length": 128}}`` truncates texts in this call.
            batch_size, device, pool, chunk_size: accepted; the result does not depend on them.

        Returns:
            A list with a tensor or array [tokens, dimensions] for each text; for a single text, that alone.
        """
        check_batch_size(batch_size)
        self._check_output(output_value, kwargs)
        text = self._resolve_prompt(prompt, prompt_name)
        vectors = self._model.encode(
            input_list(inputs),
            show_progress_bar=wants_bar(show_progress_bar),
            prompt=text.removeprefix(self._markers.get(task or "document", "")),
            role=task if task in self._markers else None,
            outputs="multivector",
            max_length=call_length(kwargs, self._max_seq_length, "MultiVectorEncoder.encode"),
        )["multivector"]
        rows = [normalize(row) if normalize_embeddings else row for row in vectors]
        target = self._result_device(device, pool)
        results = _as_requested(rows, task, token_pooling, convert_to_numpy, target)
        return results[0] if vectors.single else results

    @staticmethod
    def _check_output(output_value: str | None, kwargs: dict[str, Any]) -> None:
        if output_value != "token_embeddings":
            raise InputError(
                f'output_value must be "token_embeddings", and is {output_value!r}: modules have no outputs here.',
                param="output_value",
            )
        if "convert_to_tensor" in kwargs:
            raise InputError(
                "MultiVectorEncoder.encode() has no `convert_to_tensor`: texts have different numbers of vectors, and "
                "each gets a tensor. Leave it out.",
                param="convert_to_tensor",
            )

    def encode_query(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["token_embeddings"] | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Encode search queries, with the model's prompt for them. Arguments and result as for ``encode``."""
        prompt_name = self._role_prompt(prompt, prompt_name, ("query",))
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs")}
        return self.encode(**arguments, task="query", **kwargs)

    def encode_document(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["token_embeddings"] | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        token_pooling: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Encode documents, with the model's prompt for them. Arguments and result as for ``encode``."""
        prompt_name = self._role_prompt(prompt, prompt_name, ("document", "passage", "corpus"))
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs")}
        return self.encode(**arguments, task="document", **kwargs)

    @property
    def similarity_fn_name(self) -> str:
        """The name of the function by which ``similarity`` compares: the model's, unless it is set."""
        if self._similarity_fn_name is not None:
            return self._similarity_fn_name
        return "meanmaxsim" if self._spec.divide_by_query_length else "maxsim"

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        name = value.value if isinstance(value, SimilarityFunction) else value
        if name is not None and name not in self.SUPPORTED_SIMILARITY_FN_NAMES:
            known = " or ".join(self.SUPPORTED_SIMILARITY_FN_NAMES)
            raise InputError(f"similarity_fn_name must be {known}, and is {name!r}.", param="similarity_fn_name")
        self._similarity_fn_name = name

    def similarity(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Any:
        """Score each query with each document by MaxSim: float32 [queries, documents]; keywords of ``util.maxsim``."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(embeddings1, embeddings2, **kwargs)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Any:
        """Score queries and documents row by row: float32 [n]."""
        compare = SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)
        return compare(embeddings1, embeddings2, **kwargs)

    @property
    def encoder(self) -> Encoder:
        """The encoder that computes the vectors."""
        return self._model

    @property
    def _spec(self) -> Multivector:
        return cast(Multivector, self._model.recipe.head("multivector"))

    @property
    def _markers(self) -> dict[str, str]:
        """The texts of the markers of roles, which the model inserts as tokens."""
        return {"query": self._spec.query.prefix, "document": self._spec.document.prefix}

    def _model_prompts(self) -> Mapping[str, str | None]:
        return _marked_prompts(self._model.recipe.prompts, self._markers)

    def _load_model(self, **options: Any) -> Encoder:
        options = {**self._options, **options}
        return Encoder(read_kind(self._name, options, "multivector"), **options)

    def _settings(self) -> dict[str, Any]:
        settings = {**super()._settings(), "similarity_fn_name": self.similarity_fn_name}
        if json_file.read_optional(self._model.recipe.folder / SETTINGS).get("model_type") != _PYLATE:
            return settings
        # PyLate inserts the markers itself, and has other names of the measures.
        prompts = {name: text.removeprefix(self._markers.get(name, "")) for name, text in self.prompts.items()}
        if self._similarity_fn_name is None:
            del settings["similarity_fn_name"]
        return {**settings, "model_type": _PYLATE, "prompts": prompts}

    def get_embedding_dimension(self) -> int:
        """Return the dimensions of a token's vector."""
        return self._spec.dimensions


def _marked_prompts(prompts: Mapping[str, str], markers: Mapping[str, str]) -> dict[str, str]:
    """Return prompts of which those of roles begin with the role's marker, as sentence-transformers has them."""
    marked = {role: marker + prompts.get(role, "").removeprefix(marker) for role, marker in markers.items()}
    return {**prompts, **marked}


def _as_requested(
    rows: list[Array], task: str | None, token_pooling: Any, convert_to_numpy: bool, device: str | None
) -> list[Any]:
    """Return the vectors of each text as tensors or arrays, after a pooling of tokens if there is one."""
    if token_pooling is None and (convert_to_numpy or not torch_is_installed()):
        return rows
    tensors = [array_to_tensor(np.ascontiguousarray(row), device) for row in rows]
    if token_pooling is not None:
        tensors = list(token_pooling.pool(tensors, task=task))
    return [tensor_to_array(tensor) for tensor in tensors] if convert_to_numpy else tensors
