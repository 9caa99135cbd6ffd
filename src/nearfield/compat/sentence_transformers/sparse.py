"""`SparseEncoder`: the class of sentence-transformers for sparse vectors (SPLADE), over `nearfield.Encoder`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from nearfield.argument_checks import require_count, require_optional_counts
from nearfield.compat.arguments import BAR, BATCHES, DEVICE_OF_CALL, USED, ArgumentTable, Effect, wants_bar
from nearfield.compat.sentence_transformers.load_options import (
    CONSTRUCTOR,
    call_length,
    input_list,
    read_kind,
)
from nearfield.compat.sentence_transformers.old_names import accept_old_names
from nearfield.compat.sentence_transformers.pretrained_model import PretrainedModel, check_batch_size
from nearfield.compat.sentence_transformers.sparse_embeddings import (
    as_sparse_vectors,
    decode_tokens,
    intersect,
    measure_sparsity,
    strongest,
    to_requested_form,
)
from nearfield.compat.sentence_transformers.util.similarity import SimilarityFunction
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.encode_options import ROLES
from nearfield.vectors.sparse import SparseVectors

_POOLS = Effect("ignored", "Each call uses all cores, and no further processes.")
_ENCODE = {
    "inputs": USED,
    "prompt_name": USED,
    "prompt": USED,
    "batch_size": BATCHES,
    "show_progress_bar": BAR,
    "convert_to_tensor": Effect("used", "Without torch the result is SparseVectors."),
    "convert_to_sparse_tensor": USED,
    "save_to_cpu": USED,
    "device": DEVICE_OF_CALL,
    "max_active_dims": USED,
    "pool": _POOLS,
    "chunk_size": _POOLS,
    "kwargs": Effect("used", "processing_kwargs: max_length of texts; others are refused."),
}
ARGUMENTS: ArgumentTable = {
    "SparseEncoder": {**CONSTRUCTOR, "similarity_fn_name": USED, "max_active_dims": USED},
    "SparseEncoder.encode": {
        **_ENCODE,
        "kwargs": Effect("used", "task, and processing_kwargs: max_length of texts; others are refused."),
    },
    "SparseEncoder.encode_query": _ENCODE,
    "SparseEncoder.encode_document": _ENCODE,
    "SparseEncoder.decode": {"embeddings": USED, "top_k": USED},
    "SparseEncoder.sparsity": {"embeddings": USED},
    "SparseEncoder.intersection": {"embeddings_1": USED, "embeddings_2": USED},
    "SparseEncoder.similarity": {"embeddings1": USED, "embeddings2": USED},
    "SparseEncoder.similarity_pairwise": {"embeddings1": USED, "embeddings2": USED},
}


class SparseEncoder(PretrainedModel):
    """Encodes texts as sparse vectors. Arguments, results and defaults are those of sentence-transformers' class.

    The model is computed by `nearfield.Encoder`, in float32 unless ``model_kwargs`` has another ``torch_dtype``.
    Results are torch tensors; where torch is not installed, they are `nearfield.SparseVectors`.
    ``docs/reference/compat.md`` says what becomes of each argument.
    """

    default_huggingface_organization = "sparse-encoder"
    model_type = "SparseEncoder"
    _default_prompts: ClassVar = {"query": "", "document": ""}
    _model: Encoder
    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")

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
        max_active_dims: int | None = None,
    ) -> None:
        arguments = dict(locals())
        require_optional_counts(max_active_dims=max_active_dims)
        super().__init__(arguments)
        saved = self._saved
        self.max_active_dims = saved.max_active_dims if max_active_dims is None else max_active_dims
        known = saved.similarity_fn_name in self.SUPPORTED_SIMILARITY_FN_NAMES
        self.similarity_fn_name = similarity_fn_name or (saved.similarity_fn_name if known else None)

    @accept_old_names(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode one text or a list of texts.

        Args:
            inputs: a text, or a list, array or column of texts.
            prompt_name: a prompt of the model by name.
            prompt: the text of a prompt.
            show_progress_bar: show a bar.
            convert_to_tensor: return one tensor; otherwise a list of tensors.
            convert_to_sparse_tensor: return sparse tensors (COO); otherwise dense ones.
            max_active_dims: how many values of each vector stay, those of largest magnitude.
            kwargs: ``task`` ("query" or "document"), and ``processing_kwargs={"text": {"max_length": 128}}``, which
                truncates texts in this call.
            save_to_cpu: return tensors on the CPU, also if the model is on another device.
            batch_size, device, pool, chunk_size: accepted; numbers do not depend on them.

        Returns:
            A tensor [n, dimensions], or [dimensions] for a single text; without torch, ``SparseVectors``.
        """
        check_batch_size(batch_size)
        count = self.max_active_dims if max_active_dims is None else max_active_dims
        require_optional_counts(max_active_dims=count)
        vectors = self._model.encode(
            input_list(inputs),
            show_progress_bar=wants_bar(show_progress_bar),
            prompt=self._resolve_prompt(prompt, prompt_name),
            role=kwargs["task"] if kwargs.get("task") in ROLES else None,
            outputs="sparse",
            max_length=call_length(kwargs, self._max_seq_length, "SparseEncoder.encode"),
        )["sparse"]
        strong: SparseVectors = vectors if count is None else strongest(vectors, count)
        target = None if save_to_cpu else self._result_device(device, pool)
        return to_requested_form(strong, convert_to_tensor, convert_to_sparse_tensor, target)

    @accept_old_names(sentences="inputs")
    def encode_query(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode search queries, with the model's prompt for them. Arguments and result as for ``encode``."""
        prompt_name = self._role_prompt(prompt, prompt_name, ("query",))
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs")}
        return self.encode(**arguments, task="query", **kwargs)

    @accept_old_names(sentences="inputs")
    def encode_document(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: Any = None,
        max_active_dims: int | None = None,
        pool: dict[Literal["input", "output", "processes"], Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode documents, with the model's prompt for them. Arguments and result as for ``encode``."""
        prompt_name = self._role_prompt(prompt, prompt_name, ("document", "passage", "corpus"))
        arguments = {name: value for name, value in locals().items() if name not in ("self", "kwargs")}
        return self.encode(**arguments, task="document", **kwargs)

    def decode(
        self, embeddings: Any, top_k: int | None = None
    ) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """Return the tokens of a vector with their weights, by falling weight; for several vectors a list for each.

        Args:
            embeddings: a tensor or array of one or two dimensions, or ``SparseVectors``.
            top_k: number of tokens of each vector; None for all.

        Raises:
            InputError: ``top_k`` is less than 1, or the vectors have more than two dimensions.
        """
        if top_k is not None:
            require_count("top_k", top_k)
        vectors = as_sparse_vectors(embeddings)
        rows = decode_tokens(vectors, self._model.tokenizer.backend.id_to_token, top_k)
        return rows[0] if vectors.single else rows

    @staticmethod
    def sparsity(embeddings: Any) -> dict[str, float]:
        """Return how sparse vectors are: the mean number of values (``active_dims``), and the share of zeros."""
        return measure_sparsity(embeddings)

    @staticmethod
    def intersection(embeddings_1: Any, embeddings_2: Any) -> Any:
        """Return the products of one vector with another one, or with each of several, where both are positive.

        Raises:
            InputError: the first is not a single vector, or the sizes differ.
        """
        return intersect(embeddings_1, embeddings_2)

    # -- similarity ----------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """The name of the function by which ``similarity`` compares: dot, unless it is set."""
        return self._similarity_fn_name or "dot"

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        name = value.value if isinstance(value, SimilarityFunction) else value
        if name is not None and name not in self.SUPPORTED_SIMILARITY_FN_NAMES:
            hint = " MultiVectorEncoder has maxsim." if "maxsim" in str(name) else ""
            known = ", ".join(self.SUPPORTED_SIMILARITY_FN_NAMES)
            raise InputError(
                f"similarity_fn_name must be one of {known}, and is {name!r}.{hint}", param="similarity_fn_name"
            )
        self._similarity_fn_name = name

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare each vector of one side with each of the other: [n, m], float32.

        Raises:
            SpaceMismatch: both sides are ``SparseVectors``, of different models.
        """
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare vectors row by row: [n], float32."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    @property
    def encoder(self) -> Encoder:
        """The encoder that computes the vectors."""
        return self._model

    def _load_model(self, **options: Any) -> Encoder:
        options = {**self._options, **options}
        encoder = Encoder(read_kind(self._name, options, "sparse"), **options)
        # A call may keep more values than the folder says.
        encoder.recipe = replace(encoder.recipe, max_active_dims=None)
        return encoder

    def _settings(self) -> dict[str, Any]:
        settings = {**super()._settings(), "similarity_fn_name": self._similarity_fn_name}
        return settings if self.max_active_dims is None else {**settings, "max_active_dims": self.max_active_dims}

    def get_embedding_dimension(self) -> int:
        """Return the number of dimensions: the size of the model's vocabulary."""
        return int(self._model.recipe.config["vocab_size"])

    def get_sentence_embedding_dimension(self) -> int:
        """Return ``get_embedding_dimension()``: its old name."""
        return self.get_embedding_dimension()
