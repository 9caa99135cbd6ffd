"""`FlagReranker` and `FlagLLMReranker`: scores of pairs of texts, as FlagEmbedding computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nearfield.argument_checks import require_count, require_optional_counts
from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.pairs import PairTokens
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.compat.arguments import report_remote_code
from nearfield.compat.flag_embedding.call_checks import check_templates, fill_template
from nearfield.compat.flag_embedding.embedder import device_names
from nearfield.compat.flag_embedding.model_loading import precision_of, readable_length, with_recipe
from nearfield.compat.flag_embedding.pair_tokens import (
    CrossEncoderPairs,
    PairLengths,
    PairTokenizer,
    PromptedPairs,
    bare_ids,
)
from nearfield.compat.inputs import read_pairs
from nearfield.errors import ModelRefused
from nearfield.inference.calls.rerank_options import activate
from nearfield.inference.uncompiled_model import UncompiledModel, read_model
from nearfield.recipe import RerankPrompt, Template
from nearfield.reranker import Reranker

#: The question that bge-reranker-v2-gemma was trained with.
PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
#: Pairs that are tokenised and queued together, so that memory stays bounded.
_WINDOW = 1024


class TokenPairReranker(Reranker):
    """A `Reranker` that scores pairs which are tokenised already."""

    def score_tokens(self, tokens: list[PairTokens]) -> Array:
        """Return the logits [n] of pairs."""
        ticket = self.engine.submit(self._create_ticket(tokens, None, bulk=True), wait=True)
        return self._build_scores(tokens, ticket.result(), "identity").data[:, 0]


class AbsReranker:
    """What all rerankers share: settings, instructions, and the methods of FlagEmbedding's base class."""

    def __init__(
        self,
        model_name_or_path: str,
        use_fp16: bool = False,
        query_instruction_for_rerank: str | None = None,
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = None,
        passage_instruction_format: str = "{}{}",
        devices: str | int | list[str] | list[int] | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        require_optional_counts(query_max_length=query_max_length)
        require_count("max_length", max_length)
        check_templates(
            query_instruction_format=query_instruction_format, passage_instruction_format=passage_instruction_format
        )
        self.model_name_or_path = model_name_or_path
        self.use_fp16 = use_fp16
        self.query_instruction_for_rerank = query_instruction_for_rerank
        self.query_instruction_format = query_instruction_format
        self.passage_instruction_for_rerank = passage_instruction_for_rerank
        self.passage_instruction_format = passage_instruction_format
        self.target_devices = self.get_target_devices(devices)
        self.batch_size = batch_size
        self.query_max_length = query_max_length
        self.max_length = max_length
        self.normalize = normalize
        report_remote_code(kwargs.pop("trust_remote_code", None))
        self.kwargs = kwargs
        self.pool = None
        uncompiled = self._read()
        length = readable_length(uncompiled.recipe, max_length)
        half = use_fp16 or bool(kwargs.get("use_bf16"))
        #: The `nearfield.Reranker` that computes.
        self.model = TokenPairReranker(uncompiled, precision=precision_of(half), max_length=length)
        if len(self.model.labels) > 1:
            raise ModelRefused(
                f"{self.model.name} has {len(self.model.labels)} labels: load it as nearfield.Classifier."
            )

    def _read(self) -> UncompiledModel:
        return read_model(self.model_name_or_path, kind="scores")

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of the library ``tokenizers``."""
        return self.model.tokenizer.backend

    @staticmethod
    def get_target_devices(devices: str | int | list[str] | list[int] | None) -> list[str]:
        """Return the names of devices. They have no effect."""
        return device_names(devices)

    def get_detailed_instruct(self, instruction_format: str, instruction: str, sentence: str) -> str:
        """Return a text with its instruction."""
        return fill_template(instruction_format, instruction, sentence)

    def get_detailed_inputs(self, sentence_pairs: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return pairs with the instructions of queries and passages."""
        sides = (
            (self.query_instruction_format, self.query_instruction_for_rerank),
            (self.passage_instruction_format, self.passage_instruction_for_rerank),
        )
        return [
            [
                text if instruction is None else fill_template(template, instruction, text)
                for text, (template, instruction) in zip(pair, sides, strict=True)
            ]
            for pair in sentence_pairs
        ]

    def compute_score(self, sentence_pairs: Any, **kwargs: Any) -> list[float]:
        """Return the scores of pairs of texts, also for one pair; they are logits, unless ``normalize`` is true.

        Args:
            sentence_pairs: pairs, or one pair.
            kwargs: ``max_length`` (tokens of a pair), ``query_max_length`` (by default three quarters of it),
                ``normalize`` (apply a sigmoid), for language models ``prompt``; others have no effect.
        """
        pairs, _ = read_pairs(sentence_pairs, "sentence_pairs")
        return self.compute_score_single_gpu(self.get_detailed_inputs(pairs), **kwargs)

    def compute_score_single_gpu(
        self,
        sentence_pairs: Any,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """Return the scores of pairs, without instructions; see ``compute_score``."""
        del batch_size, device
        require_optional_counts(max_length=max_length, query_max_length=query_max_length)
        lengths = self._lengths(query_max_length, max_length)
        pairs, _ = read_pairs(sentence_pairs, "sentence_pairs")
        tokenizer = self._pair_tokenizer(kwargs.get("prompt"))
        scores: list[float] = []
        for start in range(0, len(pairs), _WINDOW):
            logits = self.model.score_tokens(tokenizer.encode_pairs(pairs[start : start + _WINDOW], lengths))
            wants_sigmoid = self.normalize if normalize is None else normalize
            scores += (activate(logits, "sigmoid") if wants_sigmoid else logits).tolist()
        return scores

    def _lengths(self, query_max_length: int | None, max_length: int | None) -> PairLengths:
        """Return the lengths of a call: without one of queries, they get three quarters of the pair's."""
        pair = self.max_length if max_length is None else max_length
        query = self.query_max_length if query_max_length is None else query_max_length
        return PairLengths(pair * 3 // 4 if query is None else query, pair)

    def _pair_tokenizer(self, prompt: str | None) -> PairTokenizer:
        del prompt
        return CrossEncoderPairs(self.model.tokenizer)

    def start_multi_process_pool(self) -> dict[str, Any]:
        """Return an empty pool: the engine is parallel."""
        return {"input": None, "output": None, "processes": []}

    def encode_multi_process(self, sentence_pairs: Any, pool: Any, **kwargs: Any) -> list[float]:
        """Return ``compute_score_single_gpu``: the engine is parallel."""
        del pool
        return self.compute_score_single_gpu(sentence_pairs, **kwargs)

    @staticmethod
    def stop_multi_process_pool(pool: Any) -> None:
        """Do nothing."""

    def stop_self_pool(self) -> None:
        """Do nothing: there are no processes."""


class FlagReranker(AbsReranker):
    """Cross-encoders such as bge-reranker-v2-m3; arguments as in FlagEmbedding.

    ``devices``, ``batch_size``, ``trust_remote_code`` and ``cache_dir`` have no effect. With ``use_fp16`` matrix
    products have bfloat16 where the CPU multiplies it, else float32.
    """

    def __init__(
        self,
        model_name_or_path: str,
        use_fp16: bool = False,
        query_instruction_for_rerank: str | None = None,
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = None,
        passage_instruction_format: str = "{}{}",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        devices: str | list[str] | list[int] | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        del cache_dir
        super().__init__(
            model_name_or_path,
            use_fp16,
            query_instruction_for_rerank,
            query_instruction_format,
            passage_instruction_for_rerank,
            passage_instruction_format,
            devices,
            batch_size,
            query_max_length,
            max_length,
            normalize,
            trust_remote_code=trust_remote_code,
            **kwargs,
        )


class FlagLLMReranker(AbsReranker):
    """Language models that answer Yes: the logit of that token. Arguments as in FlagEmbedding.

    ``peft_path`` is the folder of an adapter. Those without effect are as for ``FlagReranker``.
    """

    def __init__(
        self,
        model_name_or_path: str,
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
        devices: str | list[str] | list[int] | None = None,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        del cache_dir
        self.prompt = prompt
        self._peft_path = peft_path
        super().__init__(
            model_name_or_path,
            use_fp16,
            query_instruction_for_rerank,
            query_instruction_format,
            passage_instruction_for_rerank,
            passage_instruction_format,
            devices,
            batch_size,
            query_max_length,
            max_length,
            normalize,
            trust_remote_code=trust_remote_code,
            use_bf16=use_bf16,
            **kwargs,
        )

    def _read(self) -> UncompiledModel:
        adapters = None if self._peft_path is None else {"peft": self._peft_path}
        model = read_model(self.model_name_or_path, answer=RerankPrompt(0, template=Template()), adapters=adapters)
        tokenizer = Tokenizer.load(model.recipe.folder, max_length=model.recipe.max_length)
        answer = RerankPrompt(bare_ids(tokenizer, "Yes")[0], template=Template())
        return with_recipe(model, heads=(answer,))

    def compute_score_single_gpu(  # type: ignore[override]
        self,
        sentence_pairs: Any,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        use_dataloader: bool = False,
        num_workers: int | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """Return the scores of pairs, without instructions; see ``compute_score``."""
        del batch_size, use_dataloader, num_workers, device, kwargs
        lengths: dict[str, Any] = {"query_max_length": query_max_length, "max_length": max_length}
        return super().compute_score_single_gpu(sentence_pairs, normalize=normalize, prompt=prompt, **lengths)

    def _pair_tokenizer(self, prompt: str | None) -> PairTokenizer:
        chosen = self.prompt if prompt is None else prompt
        return PromptedPairs(self.model.tokenizer, self.model.recipe, PROMPT if chosen is None else chosen)


class UnsupportedModel:
    """A class of FlagEmbedding whose models Nearfield does not run; its constructor raises ModelRefused."""

    _advice = "Run it with FlagEmbedding."

    def __init__(self, model_name_or_path: str, *_: Any, **__: Any) -> None:
        raise ModelRefused(f"{model_name_or_path}: {type(self).__name__} is not supported. {self._advice}")


class LayerWiseFlagLLMReranker(UnsupportedModel):
    """Not supported: raises ModelRefused."""

    _advice = "Use FlagReranker with BAAI/bge-reranker-v2-m3, or run bge-reranker-v2-minicpm-layerwise elsewhere."


class LightWeightFlagLLMReranker(UnsupportedModel):
    """Not supported: raises ModelRefused."""

    _advice = "Use FlagReranker with BAAI/bge-reranker-v2-m3, or run bge-reranker-v2.5-gemma2-lightweight elsewhere."
