"""Repositories of GGUF files on the Hub: which of their files a name means, ``org/name:Q8_0`` or ``org/name``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from nearfield.errors import ModelNotFound
from nearfield.hub.gguf import weight_type
from nearfield.hub.sources import SourceSearch


def split_variant(model: str) -> tuple[str, str]:
    """Return the id of a repository, and what a name has after a colon: a type of weights, or the name of a file."""
    repo, _, variant = model.partition(":")
    return (repo, variant) if repo.count("/") == 1 else (model, "")


def choose_file(search: SourceSearch, names: Sequence[str]) -> str | None:
    """Return the GGUF file that a name means; None if it means none, as other files have the weights.

    Raises:
        ModelNotFound: no file fits, or several do; the message names those there are.
    """
    files = sorted(name for name in names if name.endswith(".gguf"))
    others = any(name.endswith((".safetensors", ".bin")) for name in names)
    if not search.variant and (others or not files):
        return None
    fitting = [name for name in files if not search.variant or _fits(name, search.variant)]
    if len(fitting) == 1:
        return fitting[0]
    example = next(filter(None, map(_type_of, files)), "Q8_0")
    raise ModelNotFound(
        f"{search.model} means {len(fitting)} GGUF files. {search.pin.repo} has {', '.join(files) or 'none'}. Name one "
        f"by its type, such as {search.pin.repo}:{example}, or by its name."
    )


def _fits(name: str, variant: str) -> bool:
    return variant.lower() in (_type_of(name).lower(), name.lower())


def _type_of(name: str) -> str:
    return weight_type(PurePosixPath(name).stem)
