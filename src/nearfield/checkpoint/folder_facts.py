"""`FolderFacts`: the sources of a recipe (a model folder and the catalogue's entry), and a record of origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nearfield.checkpoint.json_file import JsonObject
from nearfield.recipe import EncodeTask, RerankPrompt


class CatalogFacts(Protocol):
    """What the catalogue says about a model, as far as a folder may omit it."""

    @property
    def pooling(self) -> str | None:
        """Name of the pooling mode."""

    @property
    def normalize(self) -> bool | None:
        """Whether vectors are scaled to unit length."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompts by name."""

    @property
    def default_prompt_name(self) -> str | None:
        """Name of the prompt that is used without a role."""

    @property
    def similarity(self) -> str:
        """Name of the similarity measure."""

    @property
    def matryoshka(self) -> tuple[int, ...]:
        """Dimensions that the model was trained to be truncated to."""

    @property
    def max_length(self) -> int:
        """Maximum number of tokens that the model was trained for."""

    @property
    def licence(self) -> str:
        """SPDX identifier or name of the licence."""

    @property
    def kind(self) -> str:
        """Main output: dense, sparse, multivector or scores."""

    @property
    def instruction(self) -> str | None:
        """Template of a prompt with an instruction in it."""

    @property
    def tail(self) -> str:
        """What follows each text in the model's template."""

    @property
    def answer(self) -> RerankPrompt | None:
        """How a language model is asked to score pairs."""

    @property
    def tasks(self) -> Mapping[str, EncodeTask]:
        """Tasks by name."""

    @property
    def exclude_prompt(self) -> bool:
        """Whether pooling leaves out the prompt's tokens."""

    @property
    def centre(self) -> bool:
        """Whether the mean of a vector is subtracted before truncation."""

    @property
    def is_causal(self) -> bool | None:
        """Whether tokens attend to earlier tokens only."""

    @property
    def forbid(self) -> tuple[str, ...]:
        """Number formats that the model cannot be computed in."""


@dataclass(frozen=True)
class FolderFacts:
    """A model folder with its sentence-transformers config (``meta``) and the catalogue's entry.

    ``origins`` and ``warnings`` are filled while a recipe is read: where facts came from when not from the obvious
    place, and what the user should know.
    """

    folder: Path
    meta: JsonObject
    entry: CatalogFacts | None = None
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
