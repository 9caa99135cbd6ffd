"""`FlagICLModel`: a decoder whose queries follow examples (in-context learning), such as bge-en-icl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nearfield.argument_checks import require_count
from nearfield.compat.flag_embedding.embedder import AbsEmbedder, Sentences, require_last_token
from nearfield.compat.inputs import read_texts


class FlagICLModel(AbsEmbedder):
    """Dense vectors of a decoder; queries follow the examples of ``examples_for_task``.

    Arguments as in FlagEmbedding; those without effect as for ``FlagModel``.
    """

    DEFAULT_POOLING_METHOD = "last_token"

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "<instruct>{}\n<query>{}",
        suffix: str = "\n<response>",
        devices: str | list[str] | None = None,
        examples_for_task: list[dict[str, str]] | None = None,
        examples_instruction_format: str = "<instruct>{}\n<query>{}\n<response>{}",
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
        self.suffix = suffix
        self.examples_for_task = examples_for_task
        self.examples_instruction_format = examples_instruction_format
        self.prefix = ""
        self.set_examples()

    def set_examples(self, examples_for_task: Sequence[dict[str, str]] | None = None) -> None:
        """Set the examples before each query: ``instruct``, ``query`` and ``response``; None for the constructor's."""
        examples = self.examples_for_task if examples_for_task is None else examples_for_task
        if examples is None:
            self.prefix = ""
            return
        parts = [
            self.get_detailed_example(
                self.examples_instruction_format,
                example.get("instruct", self.query_instruction_for_retrieval or "None"),
                example.get("query", ""),
                example.get("response", ""),
            )
            for example in examples
        ]
        self.prefix = "\n\n".join(parts) + "\n\n"

    @staticmethod
    def get_detailed_example(instruction_format: str, instruction: str, query: str, response: str) -> str:
        """Return one example as text."""
        return instruction_format.replace("\\n", "\n").format(instruction, query, response)

    def encode_queries(
        self,
        queries: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        convert_to_numpy: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode queries, with the examples before them."""
        del batch_size
        return self.encode_queries_single_device(
            queries,
            max_length=self.query_max_length if max_length is None else max_length,
            convert_to_numpy=self.convert_to_numpy if convert_to_numpy is None else convert_to_numpy,
            **kwargs,
        )

    def encode_queries_single_device(
        self,
        queries: Sentences,
        batch_size: int = 256,
        max_length: int = 512,
        convert_to_numpy: bool = True,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Encode queries, with the examples before them. Only a query's own tokens count for ``max_length``."""
        del batch_size, device, kwargs
        require_count("max_length", max_length)
        template = self.query_instruction_format
        texts = self._with_instruction(read_texts(queries, "queries"), self.query_instruction_for_retrieval, template)
        around = sum(len(self._ids(text)) for text in (self.prefix, self.suffix))
        length = (around + max_length + 8) // 8 * 8 + 8
        room = max_length - len(self._ids("<s>")) - len(self._ids(f"{self.suffix}</s>"))
        framed = [self._frame(text, room) for text in ([texts] if isinstance(texts, str) else texts)]
        inputs = framed[0] if isinstance(texts, str) else framed
        return self.encode_single_device(inputs, max_length=length, convert_to_numpy=convert_to_numpy)

    def _frame(self, text: str, room: int) -> str:
        ids = self._ids(text)[: max(0, room)]
        return self.prefix + self.tokenizer.decode(ids, skip_special_tokens=False) + self.suffix

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def stop_self_query_pool(self) -> None:
        """Do nothing: there are no processes."""
