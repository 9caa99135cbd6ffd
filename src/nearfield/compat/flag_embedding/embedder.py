"""`FlagModel` and `FlagLLMModel`: dense vectors, with FlagEmbedding's instructions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nearfield.argument_checks import require_count, require_optional_counts
from nearfield.compat.arguments import report_remote_code
from nearfield.compat.flag_embedding.call_checks import check_templates, fill_template
from nearfield.compat.flag_embedding.model_loading import load_embedder
from nearfield.compat.inputs import read_texts
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.tensors import array_to_tensor

Sentences = str | list[str]


def device_names(devices: Any) -> list[str]:
    """Return FlagEmbedding's list of devices.

    Raises:
        InputError: it is no name, number, or list of these.
    """
    listed = devices if isinstance(devices, list) else ["cpu" if devices is None else devices]
    if not all(isinstance(device, (str, int)) for device in listed):
        raise InputError(f"devices must be a name, a number, or a list of these, not {devices!r}.", param="devices")
    return [device if isinstance(device, str) else f"cuda:{device}" for device in listed]


class AbsEmbedder:
    """What all embedders share: settings, instructions, and the methods of FlagEmbedding's base class."""

    DEFAULT_POOLING_METHOD: ClassVar[str] = "cls"

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: str | int | list[str] | list[int] | None = None,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        convert_to_numpy: bool = True,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        require_count("query_max_length", query_max_length)
        require_count("passage_max_length", passage_max_length)
        require_optional_counts(truncate_dim=truncate_dim)
        check_templates(
            query_instruction_format=query_instruction_format,
            passage_instruction_format=kwargs.get("passage_instruction_format"),
        )
        self.model_name_or_path = model_name_or_path
        self.normalize_embeddings = normalize_embeddings
        self.use_fp16 = use_fp16
        self.use_bf16 = use_bf16
        self.query_instruction_for_retrieval = query_instruction_for_retrieval
        self.query_instruction_format = query_instruction_format
        self.target_devices = self.get_target_devices(devices)
        self.batch_size = batch_size
        self.query_max_length = query_max_length
        self.passage_max_length = passage_max_length
        self.convert_to_numpy = convert_to_numpy
        self.truncate_dim = truncate_dim
        self.kwargs = kwargs
        self.pool = None
        report_remote_code(kwargs.pop("trust_remote_code", None))
        pooling = kwargs.get("pooling_method", self.DEFAULT_POOLING_METHOD)
        #: The `nearfield.Encoder` that computes.
        self.model: Encoder = self._load(pooling)

    def _load(self, pooling: str) -> Encoder:
        return load_embedder(
            self.model_name_or_path,
            pooling=pooling,
            normalize=self.normalize_embeddings,
            half=self.use_fp16 or self.use_bf16,
            min_length=max(self.query_max_length, self.passage_max_length),
        )

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of the library ``tokenizers``."""
        return self.model.tokenizer.backend

    @staticmethod
    def get_target_devices(devices: str | int | list[str] | list[int] | None) -> list[str]:
        """Return the names of devices. They have no effect."""
        return device_names(devices)

    @staticmethod
    def get_detailed_instruct(instruction_format: str, instruction: str, sentence: str) -> str:
        """Return a text with its instruction."""
        return fill_template(instruction_format, instruction, sentence)

    def encode_queries(
        self,
        queries: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode queries, with the instruction of the constructor; ``max_length`` is by default that of queries."""
        return self.encode(
            read_texts(queries, "queries"),
            batch_size=batch_size,
            max_length=self.query_max_length if max_length is None else max_length,
            convert_to_numpy=convert_to_numpy,
            instruction=self.query_instruction_for_retrieval,
            instruction_format=self.query_instruction_format,
            **kwargs,
        )

    def encode_corpus(
        self,
        corpus: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode documents, with ``passage_instruction_for_retrieval`` if the constructor got one."""
        return self.encode(
            read_texts(corpus, "corpus"),
            batch_size=batch_size,
            max_length=self.passage_max_length if max_length is None else max_length,
            convert_to_numpy=convert_to_numpy,
            instruction=self.kwargs.get("passage_instruction_for_retrieval"),
            instruction_format=self.kwargs.get("passage_instruction_format", "{}{}"),
            **kwargs,
        )

    def encode(
        self,
        sentences: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the vectors of texts, float32: [n, dim], or [dim] for one text.

        Args:
            sentences: one text, or a list.
            batch_size: has no effect.
            max_length: tokens to read of each text; by default that of passages.
            convert_to_numpy: False for a tensor.
            kwargs: ``instruction`` and ``instruction_format``; others have no effect.
        """
        del batch_size
        texts = self._with_instruction(
            sentences, kwargs.pop("instruction", None), kwargs.pop("instruction_format", None)
        )
        return self.encode_single_device(
            texts,
            max_length=self.passage_max_length if max_length is None else max_length,
            convert_to_numpy=self.convert_to_numpy if convert_to_numpy is None else convert_to_numpy,
            **kwargs,
        )

    def encode_single_device(
        self,
        sentences: Sentences,
        batch_size: int = 256,
        max_length: int = 512,
        convert_to_numpy: bool = True,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the vectors of texts, without an instruction."""
        del batch_size, device, kwargs
        result = self.model.encode(read_texts(sentences, "sentences"), **self.call_options(max_length))
        return result if convert_to_numpy else array_to_tensor(result)

    def call_options(self, max_length: int) -> dict[str, Any]:
        """Return the keywords of ``Encoder.encode`` for a number of tokens."""
        require_count("max_length", max_length)
        dimensions = None if self.truncate_dim is None else min(self.truncate_dim, self.model.dimensions)
        return {
            "prompt": "",
            "truncate": "right",
            "max_length": min(max_length, self.model.max_length),
            "truncate_dim": dimensions,
            "force_truncate_dim": True,
        }

    def _with_instruction(self, sentences: Sentences, instruction: str | None, template: str | None) -> Sentences:
        texts = read_texts(sentences, "sentences")
        if instruction is None:
            return texts
        check_templates(instruction_format=template)
        if isinstance(texts, str):
            return fill_template(template or "{}{}", instruction, texts)
        return [fill_template(template or "{}{}", instruction, text) for text in texts]

    # -- pools ---------------------------------------------------------------------------------------------------

    def start_multi_process_pool(self, process_target_func: Any = None) -> Mapping[str, Any]:
        """Return an empty pool: the engine is parallel."""
        del process_target_func
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Mapping[str, Any]) -> None:
        """Do nothing."""

    def encode_multi_process(self, sentences: Sentences, pool: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return ``encode_single_device``: the engine is parallel."""
        del pool
        return self.encode_single_device(sentences, **kwargs)

    def stop_self_pool(self) -> None:
        """Do nothing: there are no processes."""


class FlagModel(AbsEmbedder):
    """Dense vectors of encoders such as bge-large-en-v1.5; arguments as in FlagEmbedding.

    ``devices``, ``batch_size``, ``trust_remote_code`` and ``cache_dir`` have no effect. With ``use_fp16=False`` results
    are those of float32; else matrix products have bfloat16 where the CPU multiplies it.
    """

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: str | list[str] | None = None,
        pooling_method: str = "cls",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        convert_to_numpy: bool = True,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        del cache_dir
        self.pooling_method = pooling_method
        super().__init__(
            model_name_or_path,
            normalize_embeddings,
            use_fp16,
            use_bf16,
            query_instruction_for_retrieval,
            query_instruction_format,
            devices,
            batch_size,
            query_max_length,
            passage_max_length,
            convert_to_numpy,
            truncate_dim,
            pooling_method=pooling_method,
            trust_remote_code=trust_remote_code,
            **kwargs,
        )


class FlagLLMModel(AbsEmbedder):
    """Dense vectors of decoders (the last token's), such as Qwen3-Embedding; arguments as for ``FlagModel``."""

    DEFAULT_POOLING_METHOD = "last_token"

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "Instruct: {}\nQuery: {}",
        devices: str | list[str] | None = None,
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        convert_to_numpy: bool = True,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        del cache_dir
        require_last_token(kwargs)
        super().__init__(
            model_name_or_path,
            normalize_embeddings,
            use_fp16,
            use_bf16,
            query_instruction_for_retrieval,
            query_instruction_format,
            devices,
            batch_size,
            query_max_length,
            passage_max_length,
            convert_to_numpy,
            truncate_dim,
            trust_remote_code=trust_remote_code,
            **kwargs,
        )


def require_last_token(kwargs: Mapping[str, Any]) -> None:
    """Raise InputError for another ``pooling_method`` than that of decoders."""
    pooling = kwargs.get("pooling_method", "last_token")
    if pooling != "last_token":
        raise InputError(
            f"pooling_method must be 'last_token' for decoders, not {pooling!r}. FlagModel has others.",
            param="pooling_method",
        )
