"""Remove tokens from a tokenizer.json, so that every text of remaining tokens is split as before.

Why the result is exact, by kind of model:

- WordPiece takes the longest token at each place. If that one remains, no longer one appears.
- Unigram takes the most probable path. If its tokens remain, no other path gains: probabilities do not change, and the
  least probable token, which sets the price of unknown characters, always remains.
- BPE applies the earliest merge first. A token arises by the same merges wherever it arises; these merges, and the
  tokens between, remain with it. The earliest of all merges that apply is then the earliest of those that remain.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nearfield.errors import ModelRefused

#: A parsed tokenizer.json.
TokenizerState = dict[str, Any]
#: Symbols of bytes in byte-level BPE: the printable Latin-1 characters, and 68 from U+0100 on for the others.
BYTE_SYMBOLS = frozenset(map(chr, (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))))
_WORD_PREFIXES = ("##", "\u2581")


@dataclass(frozen=True)
class PrunedTokenizer:
    """A tokenizer with fewer tokens. ``old_ids`` has for each new id the old one."""

    state: TokenizerState
    old_ids: tuple[int, ...]

    @property
    def new_ids(self) -> dict[int, int]:
        """The new id of each old one that remains."""
        return {old: new for new, old in enumerate(self.old_ids)}


def prune_tokenizer(state: Mapping[str, Any], seen: Collection[int], *, first_ids: int = 0) -> PrunedTokenizer:
    """Return a tokenizer with the tokens that were seen, added and special ones, and single characters or bytes.

    Args:
        state: the parsed tokenizer.json.
        seen: ids of tokens that must remain.
        first_ids: ids below this number remain too.

    Raises:
        ModelRefused: the model of the tokenizer is of another kind, or drops merges at random.
    """
    model, names = state["model"], token_names(state)
    kind = model.get("type") or _guess_kind(model)
    if kind not in ("WordPiece", "Unigram", "BPE", "WordLevel"):
        raise ModelRefused(f"Vocabularies of the kind {kind!r} cannot be pruned: WordPiece, Unigram and BPE can.")
    if kind == "BPE" and (model.get("dropout") or model.get("continuing_subword_prefix")):
        raise ModelRefused("BPE with dropout or a prefix of continuing subwords cannot be pruned exactly.")
    ids = {number: name for name, number in names.items()}
    added = {int(token["id"]) for token in state.get("added_tokens", ())}
    keep = {*seen, *added, *range(first_ids), *_always(kind, model, names)} & ids.keys()
    merges: list[Any] = []
    if kind == "BPE":
        merges, parts = _used_merges(model, [ids[number] for number in keep])
        keep |= {names[part] for part in parts if part in names}
    old_ids = tuple(sorted(keep))
    return PrunedTokenizer(_rewrite(state, kind, old_ids, merges), old_ids)


def token_names(state: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of all tokens by name, added ones included."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, Mapping):
        names = {name: int(number) for name, number in vocabulary.items()}
    else:
        names = {entry[0]: number for number, entry in enumerate(vocabulary)}
    return {**names, **{token["content"]: int(token["id"]) for token in state.get("added_tokens", ())}}


def _guess_kind(model: Mapping[str, Any]) -> str:
    """Return the kind of a model in a file of an older version, which does not name it."""
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model["vocab"], list) else "WordPiece"


def _always(kind: str, model: Mapping[str, Any], names: Mapping[str, int]) -> Iterator[int]:
    """Yield the ids that remain whatever was seen: unknown token, bytes, ASCII characters, the least probable piece."""
    if kind == "Unigram":
        scores = [float(entry[1]) for entry in model["vocab"]]
        yield min(range(len(scores)), key=scores.__getitem__)
        if model.get("unk_id") is not None:
            yield int(model["unk_id"])
    unknown = model.get("unk_token")
    if unknown is not None and unknown in names:
        yield names[unknown]
    for name, number in names.items():
        if _is_character(name.removesuffix(model.get("end_of_word_suffix") or "")):
            yield number


def _is_character(name: str) -> bool:
    """Return whether a token is one character of ASCII, a byte, or the mark of a word alone."""
    bare = next((name.removeprefix(prefix) for prefix in _WORD_PREFIXES if name.startswith(prefix)), name)
    return not bare or (len(bare) == 1 and (bare.isascii() or bare in BYTE_SYMBOLS)) or _is_byte(name)


def _is_byte(name: str) -> bool:
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")


# -- BPE ---------------------------------------------------------------------------------------------------------------


def _used_merges(model: Mapping[str, Any], tokens: Sequence[str]) -> tuple[list[Any], set[str]]:
    """Return the merges by which tokens arise, in their order, and all tokens on the way."""
    pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(pairs)))}
    suffix = model.get("end_of_word_suffix") or ""
    used: set[int] = set()
    parts: set[str] = set()
    for token in tokens:
        for rank, left, right in _merge_steps(_symbols(token, suffix), ranks):
            used.add(rank)
            parts |= {left, right, left + right}
    return [model["merges"][rank] for rank in sorted(used)], parts


def _symbols(token: str, suffix: str) -> list[str]:
    """Return the symbols that a word begins with; the end of a word is part of its last character."""
    if not suffix or not token.endswith(suffix):
        return list(token)
    letters = list(token.removesuffix(suffix))
    return [*letters[:-1], letters[-1] + suffix] if letters else [suffix]


def _merge_steps(symbols: list[str], ranks: Mapping[tuple[str, ...], int]) -> Iterator[tuple[int, str, str]]:
    """Yield the merges of a word, the earliest first, as byte-pair encoding applies them."""
    while len(symbols) > 1:
        candidates = [(ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not candidates:
            return
        rank, place = min(candidates)
        yield rank, symbols[place], symbols[place + 1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


# -- the file ----------------------------------------------------------------------------------------------------------


def _rewrite(state: Mapping[str, Any], kind: str, old_ids: Sequence[int], merges: list[Any]) -> TokenizerState:
    result, new_ids = copy.deepcopy(dict(state)), {old: new for new, old in enumerate(old_ids)}
    model = result["model"]
    if kind == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in old_ids if old < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[int(model["unk_id"])]
    else:
        model["vocab"] = {
            name: new_ids[number]
            for name, number in sorted(model["vocab"].items(), key=lambda entry: entry[1])
            if number in new_ids
        }
    if kind == "BPE":
        model["merges"] = merges
    for token in result.get("added_tokens", ()):
        token["id"] = new_ids[int(token["id"])]
    if result.get("padding"):
        result["padding"]["pad_id"] = new_ids.get(int(result["padding"]["pad_id"]), 0)
    _renumber_post_processor(result.get("post_processor"), new_ids)
    return result


def _renumber_post_processor(processor: Any, new_ids: Mapping[int, int]) -> None:
    """Replace the ids of special tokens in a post-processor, in place."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", ()):
        _renumber_post_processor(part, new_ids)
    specials = processor.get("special_tokens")
    for token in specials.values() if isinstance(specials, dict) else ():
        token["ids"] = [new_ids[int(number)] for number in token["ids"]]
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            content, number = processor[name]
            processor[name] = [content, new_ids[int(number)]]
