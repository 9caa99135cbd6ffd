"""model2vec's `StaticModel` over `Encoder`: ``from nearfield.compat.model2vec import StaticModel``."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import numpy as np
import tokenizers
from safetensors.numpy import save_file

from nearfield import catalog, hub
from nearfield.argument_checks import require_optional_counts
from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.checkpoint.weights.safetensors_file import read_safetensors
from nearfield.compat.arguments import BATCHES, HUB_TOKEN, USED, ArgumentTable, Effect
from nearfield.compat.inputs import read_texts
from nearfield.compat.model_sources import check_tokens
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.inference.uncompiled_model import read_model
from nearfield.recipe import Pooling
from nearfield.text_inputs import many_texts

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ARGUMENTS", "StaticModel", "quantize_model"]

#: Tokens that are read if neither the caller nor the folder says.
_LENGTH = 512
#: Tokens that are read where there is no limit.
_UNLIMITED = 2**24
#: Names of the table, and the folder that it may be in.
_TABLES = ("embeddings", "embedding.weight")
_FOLDERS = ("", "0_StaticEmbedding")
_MODULES = "sentence_transformers.models"
_PRECISIONS = ("float16", "float32", "float64", "int8")


class _Unset:
    """The default of ``max_length``, where None means no limit."""

    def __repr__(self) -> str:
        return "the model's"


_UNSET: Final = _Unset()
ModelT = TypeVar("ModelT", bound="StaticModel")

_SHARED: Mapping[str, Effect] = {
    "sentences": USED,
    "max_length": USED,
    "batch_size": BATCHES,
    "show_progress_bar": USED,
    "use_multiprocessing": Effect("ignored", "The engine is parallel already."),
    "multiprocessing_threshold": Effect("ignored", "The engine is parallel already."),
}
_KMEANS = Effect("refused", "Quantise the vocabulary with model2vec and save the model; Nearfield loads such folders.")
_UPLOAD = Effect("refused", "Save the model, and upload the folder with huggingface_hub.")
ARGUMENTS: ArgumentTable = {
    "StaticModel": {
        "vectors": USED,
        "tokenizer": USED,
        "config": USED,
        "normalize": USED,
        "base_model_name": Effect("used", "An attribute; no model card is written."),
        "language": Effect("used", "An attribute; no model card is written."),
        "weights": USED,
        "token_mapping": USED,
        "max_length": USED,
    },
    "StaticModel.from_pretrained": {
        "path": USED,
        "token": HUB_TOKEN,
        "normalize": USED,
        "subfolder": USED,
        "quantize_to": Effect("used", "float16, float32, float64 or int8: the table has that precision."),
        "dimensionality": USED,
        "vocabulary_quantization": _KMEANS,
        "max_length": USED,
        "force_download": Effect("ignored", "A model that is in the cache is not fetched again."),
    },
    "StaticModel.encode": {**_SHARED, "normalize": USED, "kwargs": Effect("ignored", "As in model2vec.")},
    "StaticModel.encode_as_sequence": {**_SHARED, "show_progress_bar": Effect("ignored", "No bar is shown.")},
    "StaticModel.tokenize": {"sentences": USED},
    "StaticModel.save_pretrained": {
        "path": USED,
        "model_name": Effect("ignored", "No model card is written."),
        "subfolder": USED,
    },
    "StaticModel.push_to_hub": dict.fromkeys(("repo_id", "private", "token", "subfolder"), _UPLOAD),
    "quantize_model": {
        "model": USED,
        "vocabulary_quantization": _KMEANS,
        "quantize_to": USED,
        "dimensionality": USED,
    },
}


class StaticModel:
    """A table of static embeddings; the vector of a text is the mean of its tokens' rows. Vectors are float32.

    Args:
        vectors: the table [tokens, dim].
        tokenizer: the ``tokenizers.Tokenizer`` that belongs to it.
        config: further values of config.json.
        normalize: scale vectors to unit length.
        base_model_name: the model that was distilled.
        language: its languages.
        weights: a factor for each token.
        token_mapping: the row of each token, if tokens share rows.
        max_length: tokens that ``encode`` reads of each text; None: all.

    Raises:
        InputError: there are not as many rows as tokens, and no mapping.
    """

    def __init__(
        self,
        vectors: Array,
        tokenizer: tokenizers.Tokenizer,
        config: Mapping[str, Any] | None = None,
        normalize: bool = False,
        base_model_name: str | None = None,
        language: list[str] | None = None,
        weights: Array | None = None,
        token_mapping: Array | None = None,
        max_length: int | None = _LENGTH,
    ) -> None:
        vocabulary = tokenizer.get_vocab()
        self.tokens = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
        if token_mapping is None and len(vectors) != len(self.tokens):
            raise InputError(
                f"The tokenizer has {len(self.tokens)} tokens, and there are {len(vectors)} vectors. Pass a vector for "
                "each token, or token_mapping.",
                param="vectors",
            )
        self.embedding, self.weights, self.token_mapping = vectors, weights, token_mapping
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.unk_token_id = _unknown_token(self.tokenizer)
        self.median_token_length = int(np.median([len(token) for token in self.tokens]))
        self.config: dict[str, Any] = dict(config or {})
        self.base_model_name, self.language = base_model_name, language
        self.max_length, self.normalize = max_length, normalize
        #: The folder that the table is from, if it is unchanged.
        self._folder: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        token: str | None = None,
        normalize: bool | None = None,
        subfolder: str | None = None,
        quantize_to: str | None = None,
        dimensionality: int | None = None,
        vocabulary_quantization: int | None = None,
        max_length: int | _Unset | None = _UNSET,
        force_download: bool = True,
    ) -> Self:
        """Load a folder, or a model on the Hub.

        Raises:
            InputError: there is no table in the folder, or an argument has an invalid value.
            ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        """
        check_tokens(token=token)
        root = _locate(str(path), subfolder)
        folder = _table_folder(root)
        tensors = {
            name: tensor.read(name) if tensor.dtype == "BF16" else tensor.load()
            for name, tensor in read_safetensors(folder / "model.safetensors").items()
        }
        config = json_file.read_optional(folder / "config.json")
        model = cls(
            next(tensors[name] for name in _TABLES if name in tensors),
            tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")),
            config,
            bool(config.get("normalize") if normalize is None else normalize),
            weights=tensors.get("weights"),
            token_mapping=tensors.get("mapping"),
            max_length=config.get("max_length", _LENGTH) if isinstance(max_length, _Unset) else max_length,
        )
        if config.get("model_type") == "model2vec" and model.embedding.dtype.kind == "f":
            model._folder = root
        if vocabulary_quantization is None and quantize_to is None and dimensionality is None:
            return model
        return quantize_model(model, vocabulary_quantization, quantize_to, dimensionality)

    @property
    def dim(self) -> int:
        """The dimensions of a vector."""
        return int(self.embedding.shape[1])

    @property
    def normalize(self) -> bool:
        """Whether vectors are scaled to unit length; it can be set."""
        return bool(self.config["normalize"])

    @normalize.setter
    def normalize(self, value: bool) -> None:
        self.config["normalize"] = value

    @property
    def max_length(self) -> int | None:
        """The tokens that ``encode`` reads of each text, None for all; it can be set."""
        return cast("int | None", self.config["max_length"])

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        require_optional_counts(max_length=value)
        self.config["max_length"] = value

    @property
    def embedding_dtype(self) -> str:
        """The precision of the table."""
        return np.dtype(self.embedding.dtype).name

    @property
    def vocabulary_quantization(self) -> int | None:
        """The number of rows that tokens share, or None if each has its own."""
        shared = self.token_mapping is not None or len(self.embedding) != len(self.tokens)
        return len(self.embedding) if shared else None

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        show_progress_bar: bool = False,
        max_length: int | _Unset | None = _UNSET,
        normalize: bool | None = None,
        batch_size: int = 1024,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
        **kwargs: Any,
    ) -> Array:
        """Return the vector [dim] of a text, or the vectors [n, dim] of texts; zeros for a text without tokens."""
        limit = self.max_length if isinstance(max_length, _Unset) else max_length
        require_optional_counts(max_length=limit)
        vectors = self._encoder.encode(
            self._shortened(read_texts(sentences, "sentences"), limit),
            prompt="",
            truncate="right",
            max_length=limit,
            normalize_embeddings=self.normalize if normalize is None else normalize,
            show_progress_bar=show_progress_bar,
        )
        return np.asarray(vectors)

    def encode_as_sequence(
        self,
        sentences: str | Sequence[str],
        *,
        max_length: int | None = None,
        batch_size: int = 1024,
        show_progress_bar: bool = False,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
    ) -> Any:
        """Return the vectors [tokens, dim] of the tokens of a text, or of each text."""
        require_optional_counts(max_length=max_length)
        texts = self._shortened(read_texts(sentences, "sentences"), max_length)
        listed = [texts] if isinstance(texts, str) else texts
        rows = [self._rows(ids) for ids in self._token_ids(listed, max_length)]
        return rows[0] if isinstance(texts, str) else rows

    def tokenize(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text's tokens, at most ``max_length``, without unknown tokens."""
        return self._token_ids(many_texts(sentences, "sentences"), self.max_length)

    def save_pretrained(
        self, path: str | PathLike[str], model_name: str | None = None, subfolder: str | None = None
    ) -> None:
        """Save the model to a folder, in the layout that model2vec and sentence-transformers read."""
        self._write(Path(path) / (subfolder or ""), self.embedding)

    def push_to_hub(
        self, repo_id: str, private: bool = False, token: str | None = None, subfolder: str | None = None
    ) -> NoReturn:
        """Raise InputError: models are not uploaded here."""
        raise InputError(
            "push_to_hub is not available. Call save_pretrained(folder), then "
            f"huggingface_hub.upload_folder(repo_id={repo_id!r}, folder_path=folder).",
            param="repo_id",
        )

    @cached_property
    def _encoder(self) -> Encoder:
        """The table, loaded when it is first used; its folder is written if it is on no disk."""
        if self._folder is not None and self._folder.is_dir():
            return _load(self._folder, compile_cache=True)
        with TemporaryDirectory() as place:
            self._write(Path(place), self.embedding.astype(np.float32, copy=False))
            return _load(Path(place), compile_cache=False)

    def __getstate__(self) -> dict[str, Any]:
        # A copy loads its own table when it is used: the folder of this one may be gone, or another on that machine.
        state = {**self.__dict__, "_folder": None}
        state.pop("_encoder", None)
        return state

    def _write(self, folder: Path, vectors: Array) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"embeddings": vectors, "weights": self.weights, "mapping": self.token_mapping}
        present = {name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}
        save_file(present, folder / "model.safetensors")
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        facts = {"embedding_dtype": vectors.dtype.name, "vocabulary_quantization": self.vocabulary_quantization}
        config = {**self.config, "model_type": "model2vec", **facts}
        modules = ["StaticEmbedding", *(["Normalize"] if self.normalize else [])]
        listed = [
            {"idx": at, "name": str(at), "path": f"{at}_{name}" if at else ".", "type": f"{_MODULES}.{name}"}
            for at, name in enumerate(modules)
        ]
        for name, content in (("config.json", config), ("modules.json", listed)):
            (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")

    def _shortened(self, texts: str | list[str], limit: int | None) -> str | list[str]:
        """Return texts cut after so many characters a token, as model2vec does to save time."""
        if limit is None:
            return texts
        end = limit * self.median_token_length
        if isinstance(texts, str):
            return texts[:end]
        return [text[:end] for text in texts]

    def _token_ids(self, texts: list[str], limit: int | None) -> list[list[int]]:
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [[number for number in item.ids[:limit] if number != self.unk_token_id] for item in encodings]

    def _rows(self, ids: list[int]) -> Array:
        numbers = np.asarray(ids, np.int64)
        rows = self.embedding[numbers if self.token_mapping is None else self.token_mapping[numbers]]
        rows = rows if self.weights is None else rows * self.weights[numbers][:, None]
        return np.asarray(rows, np.float32)


def quantize_model(
    model: ModelT,
    vocabulary_quantization: int | None = None,
    quantize_to: str | None = None,
    dimensionality: int | None = None,
) -> ModelT:
    """Return a model with its table in another precision, or with fewer dimensions.

    Raises:
        InputError: the precision is unknown, or the table has fewer dimensions.
    """
    if vocabulary_quantization is not None:
        raise InputError(f"vocabulary_quantization is not supported. {_KMEANS.note}", param="vocabulary_quantization")
    if dimensionality is not None and not 1 <= dimensionality <= model.dim:
        raise InputError(
            f"dimensionality must be from 1 to {model.dim}, not {dimensionality!r}.", param="dimensionality"
        )
    table = model.embedding if quantize_to is None else _quantized(model.embedding, str(quantize_to))
    return type(model)(
        table[:, :dimensionality],
        model.tokenizer,
        model.config,
        model.normalize,
        model.base_model_name,
        model.language,
        model.weights,
        model.token_mapping,
        model.max_length,
    )


def _quantized(table: Array, precision: str) -> Array:
    """Return the table in a precision; int8 has no scale, so that only directions are meaningful."""
    if precision not in _PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, _PRECISIONS)}", param="quantize_to")
    if precision != "int8" or table.dtype == np.int8:
        return table.astype(precision, copy=False)
    steps = table.astype(np.float16) / (np.abs(table).max() / 127)
    return np.clip(np.rint(steps.astype(np.float16)), -127, 127).astype(np.int8)


def _load(folder: Path, *, compile_cache: bool) -> Encoder:
    """Load a folder as an encoder that reads texts of any length and does not scale vectors."""
    model = read_model(str(folder))
    config = {**model.recipe.config, "layout": "model2vec", "max_position_embeddings": _UNLIMITED}
    recipe = replace(model.recipe, config=config, modules=(Pooling(("mean",)),), max_length=_UNLIMITED)
    return Encoder(replace(model, recipe=recipe), precision="float32", compile_cache=compile_cache)


def _locate(path: str, subfolder: str | None) -> Path:
    """Return the folder of a model, or the one within it."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = hub.locate(path, pin=catalog.pin_of(path)).folder
    return folder / subfolder if subfolder else folder


def _table_folder(folder: Path) -> Path:
    """Return the folder, or the one within it, that has a table and a tokenizer."""
    for name in _FOLDERS:
        file = folder / name / "model.safetensors"
        present = file.is_file() and (folder / name / "tokenizer.json").is_file()
        if present and any(table in read_safetensors(file) for table in _TABLES):
            return folder / name
    raise InputError(
        f"There are no static embeddings in {folder}: model.safetensors with {' or '.join(_TABLES)}, and "
        "tokenizer.json, are needed.",
        param="path",
    )


def _unknown_token(tokenizer: tokenizers.Tokenizer) -> int | None:
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_token") is not None:
        return tokenizer.token_to_id(model["unk_token"])
    number: int | None = model.get("unk_id")
    return number
