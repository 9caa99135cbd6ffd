"""InstructorEmbedding's `INSTRUCTOR` over `Encoder`: ``from nearfield.compat.instructor import INSTRUCTOR``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.arguments import (
    BAR,
    BATCHES,
    HUB_TOKEN,
    REMOTE_CODE,
    USED,
    ArgumentTable,
    Effect,
    report_remote_code,
    wants_bar,
)
from nearfield.compat.inputs import iterate_pairs
from nearfield.compat.model_sources import check_tokens, device_options
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.inference.uncompiled_model import UncompiledModel, read_model
from nearfield.progress import Progress
from nearfield.recipe import Pooling
from nearfield.tensors import array_to_tensor
from nearfield.text_inputs import describe

__all__ = ["ARGUMENTS", "INSTRUCTOR"]

_NO_PROMPTS = Effect("ignored", "INSTRUCTOR's encode uses the instruction of each pair alone.")
ARGUMENTS: ArgumentTable = {
    "INSTRUCTOR": {
        "model_name_or_path": USED,
        "modules": Effect("refused", "Save them as a folder, and pass its path."),
        "device": Effect("used", "None and cpu compute with OpenVINO, all others with torch."),
        "prompts": _NO_PROMPTS,
        "default_prompt_name": _NO_PROMPTS,
        "cache_folder": Effect("ignored", "Set HF_HOME."),
        "trust_remote_code": REMOTE_CODE,
        "revision": USED,
        "token": HUB_TOKEN,
        "use_auth_token": HUB_TOKEN,
    },
    "INSTRUCTOR.encode": {
        "sentences": Effect("used", "Pairs [instruction, text], or mappings with these two keys."),
        "batch_size": BATCHES,
        "show_progress_bar": BAR,
        "output_value": Effect("used", "sentence_embedding or token_embeddings."),
        "convert_to_numpy": USED,
        "convert_to_tensor": USED,
        "device": Effect("ignored", "The device is chosen when the model is loaded."),
        "normalize_embeddings": USED,
    },
}
_OUTPUTS = ("sentence_embedding", "token_embeddings")


class INSTRUCTOR:
    """Vectors of texts with instructions, which pooling leaves out. Weights and vectors are float32."""

    def __init__(
        self,
        model_name_or_path: str | None = None,
        modules: Iterable[Any] | None = None,
        device: str | None = None,
        prompts: dict[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
    ) -> None:
        report_remote_code(trust_remote_code)
        if model_name_or_path is None or modules is not None:
            raise InputError("INSTRUCTOR needs the id of a model or a folder, and no modules.", param="modules")
        check_tokens(token=token, use_auth_token=use_auth_token)
        model = _without_instructions(read_model(str(model_name_or_path), revision=revision))
        self.encoder = Encoder(model, precision="float32", **device_options(device))
        #: Tokens read of each instruction and text together. It can be set to fewer than the model reads.
        self.max_seq_length = self.encoder.max_length

    def get_max_seq_length(self) -> int:
        """Return ``max_seq_length``."""
        return self.max_seq_length

    def get_sentence_embedding_dimension(self) -> int:
        """Return the dimensions of a vector."""
        return self.encoder.dimensions

    def encode(
        self,
        sentences: Sequence[Sequence[str] | Mapping[str, str]],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
    ) -> Any:
        """Encode pairs [instruction, text].

        Returns:
            An array [n, dim]; with ``convert_to_tensor`` a tensor; without ``convert_to_numpy`` a list of tensors.
            ``token_embeddings`` gives a list of tensors [tokens, dim], those of the instruction included.

        Raises:
            InputError: an input is no pair of texts, or an argument has an invalid value.
        """
        if output_value not in _OUTPUTS:
            raise InputError(
                f"output_value={output_value!r} is not supported. {nearest(str(output_value), _OUTPUTS)}",
                param="output_value",
            )
        pairs = _pairs(sentences)
        tokens = output_value == "token_embeddings"
        with Progress(len(pairs), shown=wants_bar(show_progress_bar)) as progress:
            rows = self._rows(pairs, tokens, normalize_embeddings and not tokens, progress)
        if tokens:
            return [array_to_tensor(row) for row in rows]
        vectors = np.stack(rows) if rows else np.zeros((0, self.encoder.dimensions), np.float32)
        if convert_to_tensor or not convert_to_numpy:
            tensor = array_to_tensor(vectors)
            return tensor if convert_to_tensor else list(tensor)
        return vectors

    def _rows(self, pairs: Sequence[tuple[str, str]], tokens: bool, normalize: bool, progress: Progress) -> list[Array]:
        """Return the result of each pair; pairs with the same instruction are encoded together."""
        groups: dict[str, list[int]] = {}
        for place, (instruction, _) in enumerate(pairs):
            groups.setdefault(instruction, []).append(place)
        rows: dict[int, Array] = {}
        options: dict[str, Any] = {} if tokens else {"normalize_embeddings": normalize, "show_progress_bar": False}
        encode: Callable[..., Any] = self.encoder.encode_tokens if tokens else self.encoder.encode
        length = min(self.max_seq_length, self.encoder.max_length)
        for instruction, places in groups.items():
            texts = [pairs[place][1] for place in places]
            result = encode(texts, prompt=instruction, truncate="right", max_length=length, **options)
            rows.update(zip(places, result if tokens else np.asarray(result), strict=True))
            progress.advance(len(places), int(result.tokens.sum()))
        return [rows[place] for place in range(len(pairs))]


def _without_instructions(model: UncompiledModel) -> UncompiledModel:
    """Return a model whose pooling leaves out the prompt, whatever its folder says."""
    modules = tuple(
        replace(module, include_prompt=False) if isinstance(module, Pooling) else module
        for module in model.recipe.modules
    )
    return replace(model, recipe=replace(model.recipe, modules=modules))


def _pairs(sentences: Any) -> list[tuple[str, str]]:
    """Return instructions and texts, split so that they join to what is tokenised (see ``_split``).

    Raises:
        InputError: an input is no pair of texts.
    """
    if isinstance(sentences, (str, Mapping)):
        what = "one text" if isinstance(sentences, str) else describe(sentences)
        raise InputError(
            f"sentences must be a list of pairs [instruction, text], and is {what}: give [['', text]] for a text "
            "without an instruction.",
            param="sentences",
        )
    return [_pair(item, index) for index, item in enumerate(iterate_pairs(sentences, "sentences"))]


def _split(instruction: str, text: str) -> tuple[str, str]:
    """Return an instruction without white space around it, which then begins the text.

    As in InstructorEmbedding 1.0.1, the white space of an instruction is part of the input, and pooling leaves out as
    many tokens as the instruction has without it.
    """
    stripped = instruction.strip()
    if not stripped:
        return "", text
    return stripped, (instruction[len(instruction.rstrip()) :] + text).rstrip()


def _pair(item: Any, index: int) -> tuple[str, str]:
    if isinstance(item, Mapping) and set(item) == {"instruction", "text"}:
        item = (item["instruction"], item["text"])
    if isinstance(item, (list, tuple, np.ndarray)) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return _split(item[0], item[1].strip())
    raise InputError(
        f"Input {index} is {item!r:.80}, not a pair [instruction, text]. For a text without an instruction give "
        "['', text].",
        param="sentences",
    )
