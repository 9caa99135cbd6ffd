"""Keywords of calls: those of sentence-transformers that are accepted, and a plain error for an unknown one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypedDict

import numpy as np

from nearfield.argument_checks import require_device, require_optional_counts
from nearfield.errors import InputError, UnknownKeyword, nearest
from nearfield.inference.calls.rerank_options import RerankKeywords
from nearfield.inference.encode_options import EncodeKeywords, EncodeKeywordsWithoutRole, EncodeOptions
from nearfield.tensors import array_to_tensor
from nearfield.vectors.multivector import MultiVectors

_log = logging.getLogger(__name__)
OUTPUT_VALUES = ("sentence_embedding", "token_embeddings")


class ScoreHints(TypedDict, total=False):
    """Keywords of a ``CrossEncoder`` of sentence-transformers. All but ``convert_to_tensor`` change nothing here."""

    #: Batches are built from tokens, across calls.
    batch_size: int
    show_progress_bar: bool | None
    num_workers: int
    convert_to_numpy: bool
    #: The scores become a tensor; calls that return none refuse it.
    convert_to_tensor: bool


class RerankCallKeywords(RerankKeywords, ScoreHints, total=False):
    """All keywords of ``Reranker.rank``."""


class EncodeHints(TypedDict, total=False):
    """Keywords of ``SentenceTransformer.encode`` besides those that `EncodeOptions` has too."""

    #: Changes nothing: batches are built from tokens, across calls.
    batch_size: int
    #: Changes nothing: a result is a NumPy array, or a tensor by ``convert_to_tensor``.
    convert_to_numpy: bool
    #: Vectors become a tensor.
    convert_to_tensor: bool
    #: The device of that tensor; where the model runs is set when it is loaded.
    device: Any
    #: Change nothing: all cores are used already.
    chunk_size: int | None
    pool: Any
    #: ``sentence_embedding`` or ``token_embeddings``.
    output_value: str | None


class EncodeCallKeywords(EncodeKeywords, EncodeHints, total=False):
    """All keywords of ``Encoder.encode``."""


class EncodeRoleKeywords(EncodeKeywordsWithoutRole, EncodeHints, total=False):
    """All keywords of ``Encoder.encode_query`` and ``encode_document``."""


_OPTIONS = frozenset(field.name for field in fields(EncodeOptions))
_ENCODE_HINTS = EncodeHints.__optional_keys__
_SCORE_HINTS = ScoreHints.__optional_keys__
#: Names of other interfaces and libraries, and of the keyword that does the same.
_OTHER_NAMES = {
    "dtype": "precision",
    "torch_dtype": "precision",
    "dimensions": "truncate_dim",
    "force_dimensions": "force_truncate_dim",
    "normalize": "normalize_embeddings",
}
_NO_VALUES = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class ReturnForm:
    """The form of a call's result: an array, or a tensor on a device; for each text, or for each of its tokens."""

    as_tensor: bool = False
    device: str | None = None
    token_states: bool = False

    def convert(self, result: Any) -> Any:
        """Return a result in this form.

        Raises:
            InputError: a tensor is requested, and the result is no array.
        """
        if not self.as_tensor:
            return result
        if not isinstance(result, np.ndarray):
            raise InputError(
                f"convert_to_tensor is for dense vectors, and this call gives {type(result).__name__}. Leave it out.",
                param="convert_to_tensor",
            )
        return array_to_tensor(result, self.device)

    def convert_tokens(self, states: MultiVectors) -> Any:
        """Return the states of tokens: a list with an array [tokens, dim] for each text, or one for a single text."""
        rows = [self.convert(row) for row in states]
        return rows[0] if states.single else rows


def check_keywords(call: str, keywords: Iterable[str], known: Iterable[str], further: Iterable[str] = ()) -> None:
    """Check the keywords of a call.

    Args:
        call: the name of the method or class, as users write it.
        keywords: the keywords of the call.
        known: those that it takes.
        further: others that it takes, for the message.

    Raises:
        UnknownKeyword: it takes no such keyword.
    """
    unknown = next((name for name in keywords if name not in known), None)
    if unknown is not None:
        names = {*known, *further}
        other = _OTHER_NAMES.get(unknown)
        hint = nearest(other if other in names else unknown, names)
        raise UnknownKeyword(f"{call} takes no argument {unknown!r}. {hint}", param=unknown)


def read_options(
    call: str, keywords: Mapping[str, Any], further: Iterable[str] = (), *, role: str | None = None
) -> EncodeOptions:
    """Return the options of a call that takes no keywords of other libraries; raises as ``check_keywords`` does."""
    known = _OPTIONS if role is None else _OPTIONS - {"role"}
    check_keywords(call, keywords, known, further)
    return EncodeOptions(**keywords) if role is None else EncodeOptions(**keywords, role=role)


def read_encode_keywords(
    call: str,
    keywords: Mapping[str, Any],
    further: Iterable[str] = (),
    *,
    role: str | None = None,
    tokens: bool = True,
) -> tuple[EncodeOptions, ReturnForm]:
    """Return the options of a call of ``encode``, and the form of its result.

    Args:
        call: the name of the method, as users write it.
        keywords: the keywords of the call.
        further: other keywords of the method, for messages.
        role: the role that the method sets itself.
        tokens: whether the method can give the states of tokens.

    Raises:
        UnknownKeyword: there is no such keyword.
        InputError: a value makes no sense, or the method cannot give what it asks for.
    """
    own = {name: value for name, value in keywords.items() if name not in _ENCODE_HINTS}
    options = read_options(call, own, (*_ENCODE_HINTS, *further), role=role)
    form = _read_form(keywords) if len(own) < len(keywords) else ReturnForm()
    if form.token_states and not tokens:
        raise InputError(f"{call} gives no states of tokens. Use Encoder.encode_tokens.", param="output_value")
    return options, form


def read_score_form(call: str, hints: Mapping[str, Any], further: Iterable[str] = ()) -> ReturnForm:
    """Return the form of the result of a call that scores; raises as ``read_encode_keywords`` does."""
    check_keywords(call, hints, _SCORE_HINTS, (*RerankKeywords.__optional_keys__, *further))
    return _read_form(hints)


def _read_form(keywords: Mapping[str, Any]) -> ReturnForm:
    require_optional_counts(batch_size=keywords.get("batch_size"), chunk_size=keywords.get("chunk_size"))
    _check_output_value(keywords.get("output_value", OUTPUT_VALUES[0]))
    device = keywords.get("device")
    for item in device if isinstance(device, (list, tuple)) else [device]:
        if item is not None:
            require_device(str(item))
    # A list of devices is that of several processes, whose result is on the CPU.
    on = None if device is None or isinstance(device, (list, tuple)) else str(device)
    of_tokens = keywords.get("output_value") == OUTPUT_VALUES[1]
    form = ReturnForm(bool(keywords.get("convert_to_tensor")), on, of_tokens)
    form.convert(_NO_VALUES)  # a missing torch, or a missing device, is reported before anything is encoded
    return form


def _check_output_value(value: str | None) -> None:
    if value not in OUTPUT_VALUES:
        raise InputError(f"Unknown output_value {value!r}. {nearest(value, OUTPUT_VALUES)}", param="output_value")


def report_remote_code(trust_remote_code: bool | None) -> None:
    """Warn once in a process that code of models is never run, if it was to be trusted."""
    if trust_remote_code:
        _warn_once("trust_remote_code=True has no effect: Nearfield runs no code of a model, only its own.")


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)
