"""`SentenceTransformer`: the class of sentence-transformers over `nearfield.Encoder`.

Differences that a caller can see: weights are computed in float32 whatever the checkpoint's format is, and results are
float32 (``model_kwargs={"torch_dtype": ...}`` chooses a shorter format for the computation); what is not text is
refused; there are no torch modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np

from nearfield.compat.arguments import wants_bar
from nearfield.compat.sentence_transformers.dense_arguments import ARGUMENTS
from nearfield.compat.sentence_transformers.dense_results import ResultForm, check_truncation, tensor_or_array
from nearfield.compat.sentence_transformers.load_options import (
    call_length,
    input_list,
    read_kind,
)
from nearfield.compat.sentence_transformers.old_names import accept_old_names
from nearfield.compat.sentence_transformers.pretrained_model import PretrainedModel, check_batch_size
from nearfield.compat.sentence_transformers.token_features import TokenFeatures, token_features
from nearfield.compat.sentence_transformers.util.similarity import SimilarityFunction
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.recipe import ROLE_TASKS
from nearfield.tensors import is_tensor

__all__ = ["ARGUMENTS", "SentenceTransformer"]


class SentenceTransformer(PretrainedModel):
    """A model that turns texts into dense vectors, with the interface of sentence-transformers.

    The attribute ``encoder`` is the `Encoder` that does the work. ``docs/reference/compat.md`` says what becomes of
    each argument.
    """

    default_huggingface_organization = "sentence-transformers"
    model_type = "SentenceTransformer"
    _default_prompts: ClassVar[Mapping[str, str]] = {"query": "", "document": ""}
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
        use_auth_token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        model_card_data: Any = None,
        backend: Literal["torch", "onnx", "openvino"] = "torch",
        similarity_fn_name: Any = None,
        truncate_dim: int | None = None,
    ) -> None:
        check_truncation(truncate_dim)
        arguments = {**locals(), "token": _merge_tokens(token, use_auth_token)}
        processor = dict(processor_kwargs or {})
        #: Where inputs are cut; "report" is what the folder says.
        self._side = str(processor.pop("truncation_side", "report"))
        arguments["processor_kwargs"] = processor
        super().__init__(arguments)
        saved = self._saved
        # The catalogue's default is none of the folder's.
        self.default_prompt_name = default_prompt_name or saved.default_prompt_name
        self.truncate_dim = saved.truncate_dim if truncate_dim is None else truncate_dim
        self.similarity_fn_name = similarity_fn_name or _supported(saved.similarity_fn_name)

    @classmethod
    def load(cls, input_path: str) -> SentenceTransformer:
        """Load a model from a folder."""
        return cls(input_path)

    # -- encoding ----------------------------------------------------------------------------------------------------

    @accept_old_names(sentences="inputs")
    def encode_query(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] | None = "sentence_embedding",
        precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode search queries with the prompt ``query``. Arguments are those of ``encode``."""
        return self.encode(
            inputs=inputs,
            prompt_name=self._role_prompt(prompt, prompt_name, ("query",)),
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            task="query",
            **kwargs,
        )

    @accept_old_names(sentences="inputs")
    def encode_document(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] | None = "sentence_embedding",
        precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode documents with the first prompt of ``document``, ``passage``, ``corpus``. Arguments as for ``encode``.

        As in the original, a model always has a prompt ``document``, which may be empty.
        """
        return self.encode(
            inputs=inputs,
            prompt_name=self._role_prompt(prompt, prompt_name, ("document", "passage", "corpus")),
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            output_value=output_value,
            precision=precision,
            convert_to_numpy=convert_to_numpy,
            convert_to_tensor=convert_to_tensor,
            device=device,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
            task="document",
            **kwargs,
        )

    @accept_old_names(sentences="inputs")
    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] | None = "sentence_embedding",
        precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Mapping[str, Any] | None = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode texts; ``docs/reference/compat.md`` says what becomes of each argument.

        Returns:
            For ``sentence_embedding`` an array [n, dim], with ``convert_to_tensor`` a tensor, and without both a list
            of tensors; for ``token_embeddings`` a list of tensors [tokens, dim]; for None a list of dictionaries. One
            text gives one item.

        Raises:
            InputError: an argument or input is invalid; nothing was encoded.
        """
        check_batch_size(batch_size)
        form = ResultForm(
            output_value,
            precision,
            convert_to_numpy,
            convert_to_tensor,
            normalize_embeddings,
            self.truncate_dim if truncate_dim is None else truncate_dim,
            self._result_device(device, pool),
            self.is_singular_input(inputs),
        )
        form.check()
        texts = input_list(inputs)
        texts = [texts] if form.single else texts
        options = self._input_options(self._resolve_prompt(prompt, prompt_name), kwargs)
        if output_value == "sentence_embedding":
            return form.shape_vectors(self._vectors(texts, form, options, wants_bar(show_progress_bar)))
        if output_value == "token_embeddings":
            items = self._token_states(texts, options, form.device)
        else:
            items = self._features(texts, options, form.truncate_dim)
        return items[0] if form.single else items

    def encode_multi_process(
        self,
        sentences: list[str],
        pool: Mapping[str, Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Encode texts with the engine of this process, and return an array."""
        return self.encode(
            sentences,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )

    def is_singular_input(self, inputs: Any) -> bool:
        """Return whether this is one input: a conversation, or anything but a list, column or array of texts."""
        if isinstance(inputs, np.ndarray):
            return inputs.ndim == 0 or inputs.dtype.kind not in "UO"
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], Mapping) and "role" in inputs[0]:
            return True
        return is_tensor(inputs) or super().is_singular_input(inputs)

    def _vectors(self, texts: Sequence[Any], form: ResultForm, options: Mapping[str, Any], bar: bool) -> Any:
        whole = self.encoder.dimensions
        return self.encoder.encode(
            texts,
            show_progress_bar=bar,
            truncate_dim=whole,
            normalize_embeddings=form.normalize and not form.truncates(whole),
            **options,
        )

    def _token_states(self, texts: Sequence[Any], options: Mapping[str, Any], device: str | None = None) -> list[Any]:
        return [tensor_or_array(states, device) for states in self.encoder.encode_tokens(texts, **options)]

    def _features(self, texts: Sequence[Any], options: Mapping[str, Any], dim: int | None) -> list[dict[str, Any]]:
        """Return for each text its tokens, its token states, and its vector before it is scaled."""
        tokens = self.encoder.tokenize(texts, **options)
        states = self._token_states(texts, options)
        vectors = np.asarray(self.encoder.encode(texts, truncate_dim=self.encoder.dimensions, **options))
        shared: dict[str, Any] = {"modality": "text"}
        if options["prompt"]:
            shared["prompt_length"] = self.encoder.tokenizer.prompt_length(options["prompt"])
        rows = [token_features([item], self.encoder.recipe, None) for item in tokens]
        return [
            {
                **{name: value[0] for name, value in row.items() if name != "modality"},
                **shared,
                "token_embeddings": state,
                "sentence_embedding": tensor_or_array(vector[:dim]),
            }
            for row, state, vector in zip(rows, states, vectors, strict=True)
        ]

    def _input_options(self, prompt: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return keywords of ``Encoder.encode`` that concern the input."""
        # Changes of the tokenizer's settings have the effect that they have there.
        default = getattr(self._tokenizer, "model_max_length", self._max_seq_length)
        return {
            "prompt": prompt,
            "max_length": call_length(kwargs, default, "SentenceTransformer.encode"),
            "truncate": getattr(self._tokenizer, "truncation_side", self._side),
            "adapter": self._adapter_of_task(kwargs.get("task")),
        }

    def _load_tokenizer(self) -> Any:
        tokenizer = super()._load_tokenizer()
        if self._side != "report":
            tokenizer.truncation_side = self._side
        return tokenizer

    def _adapter_of_task(self, task: str | None) -> str | None:
        """Return the adapter of a task (jina-embeddings-v3), or None."""
        tasks = self.encoder.recipe.tasks
        if task is not None and tasks and task not in (*tasks, *ROLE_TASKS):
            raise InputError(f"{self.encoder.name} has no task {task!r}. {nearest(task, tasks)}", param="task")
        names = (task, *ROLE_TASKS.get(task, ())) if task is not None else ()
        return next((tasks[name].adapter for name in names if name in tasks), None)

    # -- tokens ------------------------------------------------------------------------------------------------------

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> TokenFeatures:
        """Return tensors of the token ids that the model reads, padded on the right, with their mask."""
        texts = input_list(inputs)
        if not len(texts):
            return TokenFeatures()
        options = self._input_options(prompt or "", kwargs)
        tokens = self.encoder.tokenize(texts, **options)
        features = token_features(tokens, self.encoder.recipe, self.encoder.tokenizer.pad_id)
        if prompt:
            features["prompt_length"] = self.encoder.tokenizer.prompt_length(prompt)
        return features

    def tokenize(self, texts: Sequence[Any], **kwargs: Any) -> TokenFeatures:
        """As ``preprocess``."""
        return self.preprocess(texts, **kwargs)

    # -- similarity --------------------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """The measure of ``similarity``: cosine, dot, euclidean or manhattan. It can be set."""
        return self._similarity_fn_name or "cosine"

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        name = getattr(value, "value", value)
        if name is not None and name not in self.SUPPORTED_SIMILARITY_FN_NAMES:
            raise InputError(
                f"similarity_fn_name={name!r} is not supported. {nearest(name, self.SUPPORTED_SIMILARITY_FN_NAMES)} "
                "MultiVectorEncoder has maxsim.",
                param="similarity_fn_name",
            )
        self._similarity_fn_name = name

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare each vector of one set with each of another: a tensor [n, m], or an array if torch is missing."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compare each vector with the one at the same place: a tensor [n], or an array if torch is missing."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    # -- dimensions --------------------------------------------------------------------------------------------------

    def get_embedding_dimension(self) -> int | None:
        """Return the dimensions of the vectors that ``encode`` returns."""
        whole = self.encoder.dimensions
        return whole if self.truncate_dim is None else min(whole, self.truncate_dim)

    def get_sentence_embedding_dimension(self) -> int | None:
        """As ``get_embedding_dimension``."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within the context, ``encode`` truncates vectors to so many dimensions."""
        check_truncation(truncate_dim)
        before = self.truncate_dim
        self.truncate_dim = truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Any:
        """As ``truncate_embeddings``."""
        return self.truncate_embeddings(truncate_dim)

    # -- loading and saving ------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The encoder that computes the vectors."""
        return self._model

    def _load_model(self, **options: Any) -> Encoder:
        """Load the model with all dimensions by default: truncation does not scale vectors again, as it does there.

        Raises:
            ModelRefused: the model gives no dense vectors.
        """
        options = {**self._options, **options}
        model = read_kind(self._name, options, "dense")
        return Encoder(model, truncate_dim=model.recipe.dimensions, **options)

    def __len__(self) -> int:
        """Return the number of modules, the transformer included."""
        return 1 + len(self.encoder.recipe.modules)

    def _settings(self) -> dict[str, Any]:
        settings = {**super()._settings(), "similarity_fn_name": self.similarity_fn_name}
        return settings if self.truncate_dim is None else {**settings, "truncate_dim": self.truncate_dim}


def _supported(name: str | None) -> str | None:
    """Return a measure that a folder names if it is one for dense vectors."""
    return name if name in SentenceTransformer.SUPPORTED_SIMILARITY_FN_NAMES else None


def _merge_tokens(token: bool | str | None, old: bool | str | None) -> bool | str | None:
    if old is None:
        return token
    warnings.warn("use_auth_token is the old name of token.", FutureWarning, stacklevel=4)
    if token is not None:
        raise InputError("Give token or use_auth_token, not both.", param="use_auth_token")
    return old
