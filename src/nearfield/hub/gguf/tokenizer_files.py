"""``tokenizer.json`` and ``tokenizer_config.json`` from the vocabulary of a GGUF file.

llama.cpp has four kinds of tokenizers: WordPiece (``bert``), byte-level BPE (``gpt2``), BPE by scores (``llama``) and
Unigram (``t5``). Each is written as the ``tokenizers`` library reads it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nearfield.errors import ModelRefused, nearest
from nearfield.hub.gguf.architectures import find_architecture, pooling_of
from nearfield.hub.gguf.header import GgufHeader
from nearfield.hub.gguf.vocabulary import (
    BYTE,
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    GgufVocabulary,
    read_vocabulary,
    stored_list,
)

JsonDict = dict[str, Any]
#: The mark before a word in llama.cpp's WordPiece, whose other pieces have no mark, and in sentencepiece.
_WORD_START = "\u2581"
#: Names of special tokens of WordPiece, by role, where a file has no ids.
_BERT_NAMES = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
_BRACKETS = re.compile(r"\[.+\]")
#: What current files say of WordPiece's normalisation; without the second, accents are stripped as case is.
_LOWERCASE, _STRIP_ACCENTS = "tokenizer.ggml.normalizer.lowercase", "tokenizer.ggml.normalizer.strip_accents"
#: The share of words with a capital up to which a vocabulary is of a model that reads lower case; others have a tenth.
_MAX_CAPITALS = 0.02
#: How a text is split before byte-level BPE, by llama.cpp's names. GPT-2's split is ByteLevel's own.
_GPT2 = ""
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_SPLITS: Mapping[str, str] = {
    **dict.fromkeys(
        ("gpt-2", "roberta-bpe", "jina-v1-en", "jina-v2-code", "jina-v2-de", "jina-v2-es", "jina-es"), _GPT2
    ),
    "jina-de": _GPT2,
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "f2llmv2"), _QWEN2),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), _LLAMA3),
}


def tokenizer_files(header: GgufHeader) -> dict[str, JsonDict]:
    """Return the contents of the tokenizer's files, by name.

    Raises:
        ModelRefused: the vocabulary is damaged, or of a kind that is not read.
    """
    kind = str(header.metadata.get("tokenizer.ggml.model"))
    if kind not in _WRITERS:
        raise ModelRefused(
            f"{header.path} has a tokenizer of the kind {kind!r}, which is not read. {nearest(kind, _WRITERS)} Load "
            "the model from its safetensors files."
        )
    vocabulary = read_vocabulary(header)
    tokenizer = _WRITERS[kind](header, vocabulary)
    names = {f"{role}_token": vocabulary.tokens[number] for role, number in vocabulary.special.items()}
    # No class of transformers: they would overrule the file.
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    return {"tokenizer.json": {"version": "1.0", **tokenizer}, "tokenizer_config.json": config}


def _wordpiece(header: GgufHeader, vocabulary: GgufVocabulary) -> JsonDict:
    pieces = [_piece(token, kind) for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)]
    vocab = _numbered(header, pieces)
    special = {role: vocab[name] for role, name in _BERT_NAMES.items() if name in vocab} | vocabulary.special
    first, last = special.get("cls", special.get("bos")), special.get("sep", special.get("eos"))
    if first is None or last is None or "unk" not in special:
        raise _incomplete(header, "[CLS], [SEP] and [UNK]")
    added = sorted({*special.values(), *vocabulary.of_kind(CONTROL)})
    return {
        "added_tokens": [_added(number, pieces[number]) for number in added],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": header.metadata.get(_STRIP_ACCENTS),
            "lowercase": header.metadata.get(_LOWERCASE, not _reads_capitals(pieces)),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _template(pieces, [first], [last], [last]),
        "model": {
            "type": "WordPiece",
            "unk_token": pieces[special["unk"]],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def _piece(token: str, kind: int) -> str:
    """Return a piece as BERT's vocabularies have it: ``▁word`` and ``ing`` are ``word`` and ``##ing`` there."""
    if token.startswith(_WORD_START) and len(token) > 1:
        return token[1:]
    return token if kind == CONTROL or _BRACKETS.fullmatch(token) else f"##{token}"


def _reads_capitals(pieces: Sequence[str]) -> bool:
    """Return whether many words have capitals. Older files do not say whether their model reads them."""
    words = [piece for piece in pieces if piece.isalpha() and len(piece) > 1]
    return sum("A" <= word[0] <= "Z" for word in words) > _MAX_CAPITALS * len(words)


def _byte_level(header: GgufHeader, vocabulary: GgufVocabulary) -> JsonDict:
    split = str(header.metadata.get("tokenizer.ggml.pre"))
    if split not in _SPLITS:
        raise ModelRefused(
            f"{header.path} splits texts by the rule {split!r} (tokenizer.ggml.pre), which is not known. "
            f"{nearest(split, _SPLITS)} Load the model from its safetensors files."
        )
    merges = stored_list(header, "merges", str)
    if any(merge.count(" ") != 1 for merge in merges):
        raise ModelRefused(f"{header.path} is damaged: tokenizer.ggml.merges is no list of pairs of tokens.")
    pattern = _SPLITS[split]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": not pattern}
    regex = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": {"type": "NFC"} if pattern == _QWEN2 else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [regex, byte_level]} if pattern else byte_level,
        "post_processor": _frame(header, vocabulary),
        "model": {
            "type": "BPE",
            "vocab": _numbered(header, vocabulary.tokens),
            "merges": [merge.split(" ") for merge in merges],
            "ignore_merges": pattern == _LLAMA3,
        },
    }


def _sentencepiece_bpe(header: GgufHeader, vocabulary: GgufVocabulary) -> JsonDict:
    if not vocabulary.scores:
        raise _incomplete(header, "scores")
    prefix = header.metadata.get("tokenizer.ggml.add_space_prefix", True)
    steps: list[JsonDict] = [{"type": "Prepend", "prepend": _WORD_START}] if prefix else []
    steps += [{"type": "Replace", "pattern": {"String": " "}, "content": _WORD_START}]
    return {
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": _frame(header, vocabulary),
        "model": {
            "type": "BPE",
            "unk_token": vocabulary.token("unk"),
            "fuse_unk": True,
            "byte_fallback": bool(vocabulary.of_kind(BYTE)),
            "vocab": _numbered(header, vocabulary.tokens),
            "merges": _merges(vocabulary),
        },
    }


def _merges(vocabulary: GgufVocabulary) -> list[list[str]]:
    """Return every pair of pieces that makes a piece, those first whose piece has the highest score."""
    left_out = {vocabulary.tokens[number] for number in vocabulary.of_kind(UNKNOWN, CONTROL, USER_DEFINED, BYTE)}
    ids = {token: number for number, token in enumerate(vocabulary.tokens) if token not in left_out}
    pairs = []
    for piece, number in ids.items():
        for place in range(1, len(piece)):
            left, right = piece[:place], piece[place:]
            if left in ids and right in ids:
                pairs.append((-vocabulary.scores[number], len(left), len(right), ids[left], ids[right], left, right))
    return [[left, right] for *_, left, right in sorted(pairs)]


def _unigram(header: GgufHeader, vocabulary: GgufVocabulary) -> JsonDict:
    if not vocabulary.scores:
        raise _incomplete(header, "scores")
    unknown = next(iter(vocabulary.of_kind(UNKNOWN)), vocabulary.special.get("unk"))
    # Some writers store these bytes as numbers with a sign.
    charsmap = bytes(value & 0xFF for value in stored_list(header, "precompiled_charsmap", int))
    prefix = header.metadata.get("tokenizer.ggml.add_space_prefix", True)
    metaspace = {
        "type": "Metaspace",
        "replacement": _WORD_START,
        "prepend_scheme": "always" if prefix else "never",
        "split": True,
    }
    charsmap_text = base64.b64encode(charsmap).decode()
    return {
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap_text} if charsmap else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": _frame(header, vocabulary),
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [list(pair) for pair in zip(vocabulary.tokens, vocabulary.scores, strict=True)],
            "byte_fallback": False,
        },
    }


_WRITERS: Mapping[str, Callable[[GgufHeader, GgufVocabulary], JsonDict]] = {
    "bert": _wordpiece,
    "gpt2": _byte_level,
    "llama": _sentencepiece_bpe,
    "t5": _unigram,
}


def _frame(header: GgufHeader, vocabulary: GgufVocabulary) -> JsonDict | None:
    """Return what puts BOS and EOS around a text. Where old files say nothing, encoders and pooling need them."""
    encoder = not find_architecture(header).decoder
    kind, split = (str(header.metadata.get(f"tokenizer.ggml.{name}")) for name in ("model", "pre"))
    begins = encoder or kind == "llama" or _SPLITS.get(split) == _LLAMA3

    def requested(role: str, usual: bool) -> list[int]:
        is_set = header.metadata.get(f"tokenizer.ggml.add_{role}_token", usual)
        return [vocabulary.special[role]] if is_set and role in vocabulary.special else []

    first, last = requested("bos", begins), requested("eos", encoder or pooling_of(header) == "lasttoken")
    if not first and not last:
        return None
    return _template(vocabulary.tokens, first, last, last * 2 if encoder else last)


def _template(tokens: Any, first: list[int], last: list[int], between: list[int]) -> JsonDict:
    """Return the template of a text and of a pair of texts, with special tokens around and between them."""

    def special(ids: list[int], type_id: int) -> Iterator[JsonDict]:
        for number in ids:
            yield {"SpecialToken": {"id": tokens[number], "type_id": type_id}}

    first_text, second_text = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    return {
        "type": "TemplateProcessing",
        "single": [*special(first, 0), first_text, *special(last, 0)],
        "pair": [*special(first, 0), first_text, *special(between, 0), second_text, *special(last, 1)],
        "special_tokens": {
            tokens[number]: {"id": tokens[number], "ids": [number], "tokens": [tokens[number]]}
            for number in {*first, *last, *between}
        },
    }


def _added_tokens(vocabulary: GgufVocabulary) -> list[JsonDict]:
    """Return the tokens that are recognised within a text before it is split."""
    special = {*vocabulary.special.values(), *vocabulary.of_kind(CONTROL, UNKNOWN)}
    numbers = sorted(special | set(vocabulary.of_kind(USER_DEFINED)))
    mask = vocabulary.special.get("mask")
    return [
        _added(number, vocabulary.tokens[number], special=number in special, lstrip=number == mask)
        for number in numbers
    ]


def _added(number: int, content: str, *, special: bool = True, lstrip: bool = False) -> JsonDict:
    flags = {"single_word": False, "lstrip": lstrip, "rstrip": False, "normalized": False, "special": special}
    return {"id": number, "content": content, **flags}


def _numbered(header: GgufHeader, tokens: Any) -> dict[str, int]:
    numbers = {token: number for number, token in enumerate(tokens)}
    if len(numbers) != len(tokens):
        raise ModelRefused(f"{header.path} is damaged: its vocabulary has a token twice. Convert the model again.")
    return numbers


def _incomplete(header: GgufHeader, what: str) -> ModelRefused:
    return ModelRefused(
        f"{header.path} has a vocabulary without {what}. Convert the model again with a current llama.cpp."
    )
