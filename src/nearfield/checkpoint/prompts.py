"""Prompts of a model: names and texts, the default one, and the template of an instruction."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearfield.checkpoint.folder_facts import CatalogFacts, FolderFacts
from nearfield.errors import ModelRefused, nearest
from nearfield.recipe import ROLE_PROMPTS


def read_prompts(facts: FolderFacts) -> dict[str, str]:
    """Return the folder's prompts, the catalogue's where these are missing or empty, and empty ones for both roles.

    An empty ``document`` beside a real ``passage`` or ``corpus`` is sentence-transformers' placeholder, not a choice.
    """
    saved = facts.meta.get("prompts") or {}
    if not isinstance(saved, dict) or not all(isinstance(text, str | None) for text in saved.values()):
        raise ModelRefused(
            f"the prompts of {facts.folder / 'config_sentence_transformers.json'} must map names to texts"
        )
    prompts = {"query": "", "document": ""} | {name: text or "" for name, text in saved.items()}
    for name, text in (facts.entry.prompts if facts.entry else {}).items():
        if text and not prompts.get(name):
            prompts[name] = text
            facts.origins["prompts"] = "catalogue"
    others = [name for name in ROLE_PROMPTS["document"][1:] if prompts.get(name)]
    if others and not prompts["document"]:
        del prompts["document"]
    return prompts


def read_default_prompt(prompts: Mapping[str, str], facts: FolderFacts) -> str | None:
    """Return the name of the prompt that is used without a role, or None."""
    name = facts.meta.get("default_prompt_name")
    if name is None and facts.entry and facts.entry.default_prompt_name:
        facts.origins["default_prompt_name"] = "catalogue"
        name = facts.entry.default_prompt_name
    if name is not None and name not in prompts:
        raise ModelRefused(
            f"the default prompt {name!r} of {facts.folder} does not exist. {nearest(str(name), prompts)}"
        )
    return name


#: A prompt that holds an instruction, with the text before and after it.
_INSTRUCTED = re.compile(r"(?P<before>Instruct: ).+(?P<after>\nQuery: ?)", re.DOTALL)


def instruction_template(prompts: Mapping[str, str], entry: CatalogFacts | None) -> str:
    """Return the catalogue's template, or that of a saved prompt with an instruction in it (E5, Qwen3)."""
    if entry and entry.instruction:
        return entry.instruction
    matches = (_INSTRUCTED.fullmatch(text) for text in prompts.values())
    first = next((match for match in matches if match), None)
    return f"{first['before']}{{instruction}}{first['after']}" if first else ""
