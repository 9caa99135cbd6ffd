"""Checks of FlagEmbedding's arguments: lengths, templates of instructions, and pairs of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nearfield.errors import InputError
from nearfield.text_inputs import describe

#: A text that no template contains.
_MARK = "\0"


def fill_template(template: str, instruction: str, sentence: str) -> str:
    """Return a text in FlagEmbedding's template, which has a place for the instruction and one for the text."""
    return template.replace("\\n", "\n").format(instruction, sentence)


def check_templates(**templates: Any) -> None:
    """Raise InputError if a template, which may be None, cannot be filled, or would leave the text out."""
    for name, template in templates.items():
        if template is not None and not _has_text(template):
            raise InputError(
                f"{name} must be a text with a place for the instruction and one for the text, such as "
                f"'Instruct: {{}}\\nQuery: {{}}', and is {template!r}.",
                param=name,
            )


def read_pairs(sentence_pairs: Any) -> tuple[list[Sequence[str]], bool]:
    """Return pairs of texts, and whether they were a single pair.

    Raises:
        InputError: something in the list is no pair.
    """
    if isinstance(sentence_pairs, str) or not isinstance(sentence_pairs, Iterable):
        raise InputError(
            f"sentence_pairs must be a pair of texts or a list of pairs, and is {describe(sentence_pairs)}.",
            param="sentence_pairs",
        )
    listed = list(sentence_pairs)
    single = bool(listed) and isinstance(listed[0], str)
    pairs: list[Any] = [listed] if single else [pair if isinstance(pair, str) else _as_tuple(pair) for pair in listed]
    for number, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            what = describe(pair) if isinstance(pair, str) else f"{len(pair)} text{'s' * (len(pair) != 1)}"
            hint = " Pass a list of pairs: [[query, passage], ...]." if single else ""
            raise InputError(
                f"Pair {number} must have two texts, a query and a passage, and is {what}.{hint}",
                param="sentence_pairs",
            )
    return pairs, single


def _as_tuple(pair: Any) -> Any:
    return tuple(pair) if isinstance(pair, Iterable) else (pair,)


def _has_text(template: Any) -> bool:
    try:
        return _MARK in fill_template(template, "", _MARK)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False
