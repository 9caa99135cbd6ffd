"""Templates of FlagEmbedding's instructions: check them, and fill them."""

from __future__ import annotations

from typing import Any

from nearfield.errors import InputError

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


def _has_text(template: Any) -> bool:
    try:
        return _MARK in fill_template(template, "", _MARK)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False
