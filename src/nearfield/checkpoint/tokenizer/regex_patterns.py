"""Regular expressions of a tokenizer: which of them can take more than linear time on some text.

The ``tokenizers`` library matches them by backtracking. Its limit of ten million steps is for one start in the text:
``(a+)+$`` takes two seconds for 480 characters, and ``\\s+$`` six seconds for 32,768 spaces before a letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

#: WordPiece compares every part of a word with its vocabulary: the work grows with the square of this limit.
_MAX_WORD_CHARACTERS = 200
#: Alternatives that may read a run of white space in vain, once, if ``\s+`` then reads it: of GPT-2 and its successors.
_BEFORE_SPACES = frozenset({r"\s*[\r\n]+", r"\s+(?!\S)", r"\s*[\r\n]", r"\s*[\r\n/]+"})
#: Pairs of alternatives: the first reads a run of letters in vain, once, and then the second reads it (o200k, Tekken).
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LETTERS = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
#: A group of literal alternatives without regard to case: ``(?i:'s|'t|'re)``.
_LITERAL_GROUP = re.compile(r"\(\?i:[^()\[\]*+?{}\\.^$]+\)")
#: One character: an escaped one, a property, or any that has no special meaning.
_CHARACTER = re.compile(r"\\[pP]\{\^?\w+\}|\\x[0-9a-fA-F]{2}|\\[sSdDwWnrtvf]|\\[^\w\s]|[^\\\[\](){}*+?|^$]")
_QUANTIFIER = re.compile(r"(\?|\*|\+|\{\d+\}|\{\d+,\d*\})\+?")
#: Optional characters of one alternative: each may double its work.
_MAX_OPTIONAL = 3


def slow_part(tokenizer: tokenizers.Tokenizer) -> str | None:
    """Return the part of a tokenizer whose time may grow faster than the text, or None if there is none."""
    max_word = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if max_word > _MAX_WORD_CHARACTERS:
        return f"max_input_chars_per_word {max_word}"
    for component in (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder):
        if component is None:
            continue
        for pattern in _patterns(json.loads(component.__getstate__())):
            if not is_linear(pattern):
                return f"the pattern {pattern[:80]!r}"
    return None


def is_linear(pattern: str) -> bool:
    """Return whether a pattern is known to take time in proportion to the text, whatever the text."""
    alternatives = list(_alternatives(_LITERAL_GROUP.sub("x", pattern)))
    if r"\s+" in alternatives:
        alternatives = [part for part in alternatives if part not in _BEFORE_SPACES]
    plain = [part.removesuffix("x?") for part in alternatives]
    if all(part in plain for part in _LETTERS):
        alternatives = [part for part in alternatives if part.removesuffix("x?") not in _LETTERS]
    return all(map(_never_backtracks, alternatives))


def _patterns(state: Any) -> Iterator[str]:
    if isinstance(state, dict):
        if isinstance(state.get("Regex"), str):
            yield state["Regex"]
        state = list(state.values())
    if isinstance(state, list):
        for item in state:
            yield from _patterns(item)


def _never_backtracks(alternative: str) -> bool:
    """Return whether nothing can fail after a repetition: ``ab?c+d*``, but not ``a+b``."""
    position, optional, repeated = 0, 0, False
    while position < len(alternative):
        end = _end_of_character(alternative, position)
        if end is None:
            return False
        quantifier = _QUANTIFIER.match(alternative, end)
        kind = quantifier[1] if quantifier else ""
        if repeated and kind not in ("*", "?"):
            return False
        optional += kind == "?"
        repeated = repeated or kind not in ("", "?")
        position = quantifier.end() if quantifier else end
    return optional <= _MAX_OPTIONAL


def _end_of_character(pattern: str, start: int) -> int | None:
    """Return where one character or class of characters ends, or None if there is something else."""
    if pattern[start] != "[":
        match = _CHARACTER.match(pattern, start)
        return match.end() if match else None
    depth, position = 0, start
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 1
        elif pattern[position] == "[":
            depth += 1
        elif pattern[position] == "]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return None


def _alternatives(pattern: str) -> Iterator[str]:
    """Split a pattern at each ``|`` that is neither escaped nor in a class or a group."""
    start, position, depth = 0, 0, 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "|" and depth == 0:
            yield pattern[start:position]
            start = position + 1
        position += 1
    yield pattern[start:]
