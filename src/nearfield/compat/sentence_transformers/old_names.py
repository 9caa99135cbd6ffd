"""Names of sentence-transformers: old ones of arguments, which are accepted, and those of parts that are not here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from typing import Any, TypeVar, cast

_log = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

#: Modules of sentence-transformers with classes that are here, by their names.
_CLASSES = {
    "SentenceTransformer": "SentenceTransformer",
    "sentence_transformer": "SentenceTransformer",
    "sparse_encoder": "SparseEncoder",
    "multi_vector_encoder": "MultiVectorEncoder",
}
#: What this package lacks, and sentence-transformers has.
ELSEWHERE = frozenset(
    (
        *(name for name in _CLASSES if name != "SentenceTransformer"),
        *("InputExample", "ParallelSentencesDataset", "SentencesDataset", "DefaultBatchSampler"),
        *("MultiDatasetDefaultBatchSampler", "SentenceTransformerTrainer", "SentenceTransformerTrainingArguments"),
        *("CrossEncoderTrainer", "CrossEncoderTrainingArguments", "CrossEncoderModelCardData"),
        *("SparseEncoderTrainer", "SparseEncoderTrainingArguments", "SparseEncoderModelCardData"),
        *("MultiVectorEncoderTrainer", "MultiVectorEncoderTrainingArguments", "MultiVectorEncoderModelCardData"),
        *("SentenceTransformerModelCardData", "export_dynamic_quantized_onnx_model", "export_optimized_onnx_model"),
        *("export_static_quantized_openvino_model", "backend", "base", "datasets", "evaluation", "losses"),
        *(
            "model_card",
            "models",
            "peft_mixin",
            "readers",
            "sampler",
            "trainer",
            "training_args",
            "data_collator",
            "resolve_ids",
        ),
    )
)


def missing_part(package: str, name: str) -> ImportError:
    """Return the error for a part of sentence-transformers that is not in the package, with where it is."""
    if name in _CLASSES:
        advice = (
            f"Import {_CLASSES[name]} from {package}; other names of that module, such as evaluators, are in "
            f"sentence_transformers."
        )
    else:
        advice = "Import it from sentence_transformers itself: evaluators and readers work with the models of here."
    return ImportError(f"{package} has no {name!r}. {advice}", name=f"{package}.{name}")


class MissingParts(MetaPathFinder):
    """Says where modules are that a package lacks. It is the last finder, which sees what no other has found."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Raise ImportError for a module of sentence-transformers that is not here."""
        package, _, name = fullname.rpartition(".")
        if package == self._package and name in (*ELSEWHERE, *_CLASSES):
            raise missing_part(package, name)


def accept_old_names(
    positional: Sequence[str] = (), dropped: Sequence[str] = (), **renamed: str
) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator of a method that accepts old names of its arguments; its signature stays.

    Args:
        positional: names of arguments that were positional, after the first one.
        dropped: names of arguments that have no effect any more.
        renamed: new names by old ones. An argument with the new name wins.
    """

    def decorate(function: FunctionT) -> FunctionT:
        @wraps(function)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            if positional:
                args, kwargs = args[:1], {**dict(zip(positional, args[1:], strict=False)), **kwargs}
            for name in [name for name in dropped if name in kwargs]:
                del kwargs[name]
                _warn(f"The argument `{name}` of {function.__qualname__} has no effect.")
            for old, new in renamed.items():
                if old in kwargs:
                    kwargs = {new: kwargs.pop(old), **kwargs}
                    _warn(f"The argument `{old}` of {function.__qualname__} is now called `{new}`.")
            return function(self, *args, **kwargs)

        return cast("FunctionT", run)

    return decorate


@cache
def _warn(message: str) -> None:
    _log.warning(message)
