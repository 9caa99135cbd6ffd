"""Grids of variants: combinations of models and option values, and short labels for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from nearfield.errors import InputError
from nearfield.evaluation.json_types import Keywords
from nearfield.evaluation.systems.variant import Variant

#: Options with several values in a grid, and the outputs they apply to; None: all.
AXES: dict[str, tuple[str, ...] | None] = {
    "output": None,
    "dimensions": ("dense", "hybrid"),
    "dtype": ("dense", "hybrid"),
    "chunker": None,
    "rerank": None,
}
#: Values that stand for a variant without the option.
_PLAIN = ("none", "whole")


def grid(models: Iterable[str | Variant], **axes: Sequence[object]) -> list[Variant]:
    """Return each model with each combination of output, dimensions, dtype, chunker and rerank, without duplicates.

    ``none`` (for dimensions: ``whole``) stands for a model without the option. An option is left out where it does not
    apply to the output. An endpoint has dimensions and dtypes only.

    Raises:
        InputError: a variant is invalid.
    """
    values_of = {name: values for name, values in axes.items() if values}
    unknown = sorted({*values_of} - {*AXES})
    if unknown:
        raise InputError(f"A grid has no {unknown[0]!r}; it has {', '.join(AXES)}.", param=unknown[0])
    variants: dict[str, Variant] = {}
    for model in models:
        base = model if isinstance(model, Variant) else Variant.parse(model)
        for values in product(*values_of.values()):
            variant = _change(base, dict(zip(values_of, values, strict=True)))
            variants.setdefault(str(variant), variant)
    return list(variants.values())


def _change(base: Variant, options: Keywords) -> Variant:
    changes = {name: None if value in _PLAIN and name != "output" else value for name, value in options.items()}
    output = changes.get("output") or base.output
    applicable = {
        name: value
        for name, value in changes.items()
        if value is not None and (AXES[name] is None or output in (AXES[name] or ()))
    }
    if base.url:
        applicable = {name: value for name, value in applicable.items() if name in ("dimensions", "dtype")}
    return base.with_(**applicable)


def labels(variants: Sequence[Variant]) -> list[str]:
    """Return a short label for each variant, with the options that differ, for tables and charts.

    Labels that would be equal, such as those of two models whose folders have the same name, are the whole variants.
    """
    several = len({(variant.model, variant.url) for variant in variants if variant.model}) > 1
    short = [_label(variant, named=several) for variant in variants]
    return [str(variant) if short.count(label) > 1 else label for variant, label in zip(variants, short, strict=True)]


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
