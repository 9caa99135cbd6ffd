"""`TrainOptions`: the settings of a run, from ``train.toml`` and from options; each has a default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.strict_toml import parse_toml
from nearfield.validation_message import describe_validation

#: Names of losses; ``auto`` chooses by the shape of the data (see ``losses``).
LossName: TypeAlias = Literal[
    "auto", "mnrl", "cached-mnrl", "gist", "cosent", "margin-mse", "kl", "label", "bce", "lambda"
]
_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0.01, le=1)]
_Part: TypeAlias = Annotated[float, msgspec.Meta(ge=0.01, le=0.5)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
_Weight: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1000)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class TrainOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a run.

    Args:
        loss: name of the loss; ``auto`` chooses by the shape of the data.
        epochs: passes over the rows.
        batch: rows of one step. The other rows of a batch are negatives of a ranking loss.
        rate: highest learning rate; ``auto`` is 2e-5, or 1e-4 for an adapter, times two below 50 million parameters.
        warmup: share of the steps in which the rate rises; it then falls as a cosine.
        negatives: mined negatives of each query; 0 for none.
        teacher: a cross-encoder, or a model of dense vectors, that scores negatives: one that scores nearly as high as
            the answer is left out, and the scores are learnt from.
        guide: a model of dense vectors that masks false negatives in a batch, for the loss ``gist``; by default the
            base.
        pairs_per_class: pairs of texts of each class in an epoch, for labels.
        max_length: tokens that are read of each text in training; None: as many as the model reads.
        matryoshka: sizes to which vectors may be truncated afterwards.
        flops_query: weight of the FLOPS regulariser for queries of a SPLADE model; ``auto`` by the loss.
        flops_document: the same for documents.
        adapter: rank of a LoRA adapter, which is written in place of a whole model; 0 for none.
        average: share of the trained weights in those that are written, the rest being the base's; ``dev`` chooses.
        guard: data sets on which the model must not lose more than ``max_fall`` points.
        max_fall: points of 100.
        dev_share: share of the sources that choose the best step.
        test_share: share of the sources that are held out for the test, where no test set is named.
        measurements: of the dev set in a run, at least two steps apart.
        patience: measurements without a new best one after which training stops early.
        leak_vectors: compare rows with the test and guard sets by vectors too; ``auto`` where that takes seconds, and
            True in the parts that are held out too.
        seed: of all random draws.
    """

    loss: LossName = "auto"
    epochs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    batch: Annotated[int, msgspec.Meta(ge=2, le=65_536)] = 64
    rate: Literal["auto"] | Annotated[float, msgspec.Meta(ge=1e-9, le=0.1)] = "auto"
    warmup: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    negatives: Annotated[int, msgspec.Meta(ge=0, le=64)] = 3
    teacher: _Name | None = None
    guide: _Name | None = None
    pairs_per_class: _Count = 64
    max_length: Annotated[int, msgspec.Meta(ge=8)] | None = None
    matryoshka: tuple[_Count, ...] = ()
    flops_query: Literal["auto"] | _Weight = "auto"
    flops_document: Literal["auto"] | _Weight = "auto"
    adapter: Annotated[int, msgspec.Meta(ge=0, le=512)] = 0
    average: Literal["dev"] | _Share = "dev"
    guard: tuple[str, ...] = ()
    max_fall: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    dev_share: _Part = 0.1
    test_share: _Part = 0.2
    measurements: _Count = 20
    patience: _Count = 6
    leak_vectors: Literal["auto"] | bool = "auto"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 1

    def to_dict(self) -> JsonDict:
        """Return all settings in a form for JSON."""
        values: JsonDict = msgspec.to_builtins(self)
        return values


#: The rank of ``adapter = true``.
DEFAULT_RANK = 16


def read_options(path: Path | None = None, **flags: Any) -> TrainOptions:
    """Return the settings of a ``train.toml``, with those of ``flags`` that are not None in their place.

    ``adapter`` is a rank, or true for a rank of 16.

    Raises:
        InputError: the file is no TOML, or a setting is unknown or out of range.
    """
    values = _read_toml(path) if path is not None else {}
    values |= {name: value for name, value in flags.items() if value is not None}
    if isinstance(values.get("adapter"), bool):
        values["adapter"] = DEFAULT_RANK if values["adapter"] else 0
    place = f"{path}: " if path is not None else ""
    try:
        return msgspec.convert(values, TrainOptions)
    except msgspec.ValidationError as error:
        raise InputError(f"{place}{describe_validation(error, TrainOptions)}", param="options") from None


def _read_toml(path: Path) -> JsonDict:
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", param="config") from None
    except ValueError as error:
        raise InputError(f"{path} is no TOML: {error}", param="config") from None


#: Learning rates of a whole model and of an adapter; the parameters below which both are doubled.
_FULL_RATE, _ADAPTER_RATE, _SMALL = 2e-5, 1e-4, 50_000_000
_BYTES_PER_PARAMETER = 4


def resolve_rate(weight_bytes: int, options: TrainOptions) -> float:
    """Return the rate of a run: 2e-5, or 1e-4 for an adapter, times two below 50 million parameters of float32."""
    if options.rate != "auto":
        return options.rate
    rate = _ADAPTER_RATE if options.adapter else _FULL_RATE
    return rate * 2 if weight_bytes / _BYTES_PER_PARAMETER < _SMALL else rate
