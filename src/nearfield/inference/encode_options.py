"""Wanted: what a caller asks of an encoder, resolved and checked before anything is tokenised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.errors import InputError, nearest
from nearfield.recipe import Recipe
from nearfield.vectors.dense import PRECISIONS

ROLES = ("query", "document")
#: ``chunk`` encodes an over-long input in pieces and combines them.
TRUNCATE = ("report", "error", "left", "right", "chunk")


@dataclass(frozen=True)
class ResolvedOptions:
    """What a caller asked for: everything before the batch, and everything after it."""

    prompt: str = ""
    skip: int = 0
    role: str | None = None
    truncate: str = "report"
    #: Tokens to read of each input; None: as many as the model reads.
    max_length: int | None = None
    #: Kinds of output, and whether they were asked for by name: the answer is then ``Outputs``.
    outputs: tuple[str, ...] = ("dense",)
    named: bool = False
    adapter: str | None = None
    dim: int = 0
    centre: bool = False
    unit: bool = False
    normalize: bool = False
    precision: str = "float32"
    ranges: Any = None
    space: str = ""


def resolve_outputs(recipe: Recipe, asked: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the kinds of output that are wanted, in the model's order; its main one where none is named.

    Raises:
        InputError: the model does not give one of them.
    """
    if asked is None:
        return recipe.outputs[:1]
    names = {asked} if isinstance(asked, str) else set(asked)
    for name in sorted(names):
        if name not in recipe.outputs:
            raise InputError(
                f"{recipe.name} gives no {name!r} output. {nearest(name, recipe.outputs)}", param="outputs"
            )
    if not names:
        raise InputError("outputs names nothing; leave it out for the model's main output.", param="outputs")
    return tuple(name for name in recipe.outputs if name in names)


def resolve_prompt(
    recipe: Recipe, name: str | None, text: str | None, role: str | None, instruction: str | None = None
) -> str:
    """Resolve what goes before the text: given text, an instruction, a named prompt, the role's, or the default.

    Raises:
        InputError: both were given, or there is no such prompt or role.
    """
    given = {"prompt_name": name, "prompt": text, "instruction": instruction}
    several = [key for key, value in given.items() if value is not None]
    if len(several) > 1:
        raise InputError(f"Give {' or '.join(several)}, not both.", param=several[-1])
    if role is not None and role not in ROLES:
        raise InputError(f"Unknown role {role!r}. {nearest(role, ROLES)}", param="role")
    if text is not None:
        return text
    if instruction is not None:
        return recipe.instruction.replace("{instruction}", instruction) if recipe.instruction else instruction
    chosen = name or (recipe.role_prompt(role) if role else recipe.default_prompt_name)
    if chosen is None:
        return ""
    if chosen not in recipe.prompts:
        hint = nearest(chosen, recipe.prompts)
        raise InputError(f"{recipe.name} has no prompt {chosen!r}. {hint}", param="prompt_name")
    return recipe.prompts[chosen]


def resolve_dimensions(recipe: Recipe, dim: int | None, force: bool) -> int:
    """Return the dimensions to keep.

    Raises:
        InputError: not between 1 and the whole, or not what the model was trained for.
    """
    whole = recipe.dimensions
    if dim is None or dim == whole:
        return whole
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or not 1 <= dim < whole:
        raise InputError(
            f"dimensions must be an integer from 1 to {whole} for {recipe.name}, not {dim!r}.", param="dimensions"
        )
    trained = recipe.matryoshka
    if not force and not (trained and dim >= min(trained)):
        known = f"It was trained for {', '.join(map(str, sorted(trained)))}." if trained else ""
        raise InputError(
            f"{recipe.name} was not trained to be cut to {dim} dimensions: the vectors would lose quality without "
            f"notice. {known} Leave dimensions out, or force it (force_truncate_dim=True).",
            param="dimensions",
        )
    return int(dim)


def resolve_options(truncate: str, precision: str, kinds: tuple[str, ...]) -> None:
    """Refuse an unknown truncation or precision, or one that a kind of output cannot have."""
    if truncate not in TRUNCATE:
        raise InputError(f"Unknown truncate {truncate!r}. {nearest(truncate, TRUNCATE)}", param="truncate")
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
    if "dense" in kinds:
        return
    if truncate == "chunk":
        raise InputError(
            f"truncate='chunk' combines dense vectors; this asks for {', '.join(kinds)}.", param="truncate"
        )
    if precision != "float32":
        raise InputError(f"precision applies to dense vectors; this asks for {', '.join(kinds)}.", param="precision")
