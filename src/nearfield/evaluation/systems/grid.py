"""Variants: several to be compared, from models and lists of what may differ between them, and how they are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from nearfield.errors import InputError
from nearfield.evaluation.systems.variant import Variant

#: What a list may be given of, and to which outputs it applies; None: to all.
AXES: dict[str, tuple[str, ...] | None] = {
    "output": None,
    "dimensions": ("dense", "hybrid"),
    "dtype": ("dense", "hybrid"),
    "chunker": None,
    "rerank": None,
}
#: Said for the value that a variant has without the option.
_PLAIN = ("none", "whole")


def grid(models: Iterable[str | Variant], **axes: Sequence[Any]) -> list[Variant]:
    """Return each model with each combination of the values given: output, dimensions, dtype, chunker, rerank.

    ``none`` (for dimensions: ``whole``) stands for a model without the option. What does not apply to an output is left
    out of it, an endpoint has its dimensions and dtypes alone, and none is returned twice.

    Raises:
        InputError: a variant that cannot be.
    """
    given = {name: values for name, values in axes.items() if values}
    unknown = sorted({*given} - {*AXES})
    if unknown:
        raise InputError(f"A grid has no {unknown[0]!r}; it has {', '.join(AXES)}.", param=unknown[0])
    found: dict[str, Variant] = {}
    for model in models:
        base = model if isinstance(model, Variant) else Variant.parse(model)
        for values in product(*given.values()):
            made = _changed(base, dict(zip(given, values, strict=True)))
            found.setdefault(str(made), made)
    return list(found.values())


def _changed(base: Variant, wanted: dict[str, Any]) -> Variant:
    changes = {name: None if value in _PLAIN and name != "output" else value for name, value in wanted.items()}
    output = changes.get("output") or base.output
    kept = {
        name: value
        for name, value in changes.items()
        if value is not None and (AXES[name] is None or output in (AXES[name] or ()))
    }
    if base.url:
        kept = {name: value for name, value in kept.items() if name in ("dimensions", "dtype")}
    return base.with_(**kept)


def labels(variants: Sequence[Variant]) -> list[str]:
    """Return a short name for each: what tells it from the others, for tables and pictures."""
    several = len({(variant.model, variant.url) for variant in variants if variant.model}) > 1
    return [_label(variant, named=several) for variant in variants]


def _label(variant: Variant, *, named: bool) -> str:
    parts = [] if variant.output == "dense" else [variant.output]
    parts += [f"{variant.dimensions} d"] if variant.dimensions else []
    parts += [] if variant.dtype == "float32" else [variant.dtype]
    parts += [f"rerank {_short(variant.rerank)}"] if variant.rerank else []
    parts += [_chunks(variant)] if variant.chunker else []
    for name in ("prompt", "document_prompt", "task", "fuse", "precision", "max_length"):
        value = getattr(variant, name)
        parts += [f"{name.replace('_', ' ')} {str(value)[:24]}"] if value is not None else []
    model = _short(variant.model)
    if not parts:
        return _at(model, variant.url)
    return ", ".join([*([_at(model, variant.url)] if named and model else []), *parts])


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]


def _at(model: str, url: str | None) -> str:
    return f"{model} at {url.split('//')[-1].split('/')[0]}" if url else model


def _chunks(variant: Variant) -> str:
    size = f" of {variant.chunk_tokens}" if variant.chunk_tokens else ""
    return f"{variant.chunker} chunks{size}"
