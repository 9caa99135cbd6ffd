"""The tokenizer classes that the reference library builds itself, with and without a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors

from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused

Config = JsonObject


@dataclass(frozen=True)
class TokenizerStyle:
    """``overrule`` lets settings change a tokenizer read from its file; ``build`` makes one from older ``files``."""

    overrule: Callable[[tokenizers.Tokenizer, Config], None]
    files: tuple[str, ...]
    build: Callable[[Path, Config], tokenizers.Tokenizer] | None = None


def added(value: Any, *, lstrip: bool = False) -> AddedToken:
    """Read a special token, written as text or as an object that also says how the spaces around it are treated."""
    if not isinstance(value, dict):
        return AddedToken(str(value), lstrip=lstrip, normalized=False, special=True)
    return AddedToken(**{key: item for key, item in value.items() if key not in ("__type", "special")}, special=True)


def _frame(tokenizer: tokenizers.Tokenizer, folder: Path, special: Mapping[str, AddedToken]) -> None:
    """Put the special tokens around a text, and let them be recognised within one."""
    ids = {role: tokenizer.token_to_id(token.content) for role, token in special.items()}
    missing = [special[role].content for role in ("cls", "sep", "unk") if ids[role] is None]
    if missing:
        raise ModelRefused(f"the vocabulary of {folder} lacks its own special tokens {', '.join(missing)}")
    tokenizer.add_special_tokens([token for role, token in special.items() if ids[role] is not None])
    cls, sep = special["cls"].content, special["sep"].content
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[cls, "$A", sep], special_tokens=sorted({(cls, ids["cls"]), (sep, ids["sep"])})
    )


# WordPiece: BERT, DistilBERT, ELECTRA, MPNet


def _bert_normalizer(config: Config) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )


def _overrule_bert(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    if isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        tokenizer.normalizer = _bert_normalizer(config)


def _wordpiece(folder: Path, config: Config, special: Mapping[str, AddedToken]) -> tokenizers.Tokenizer:
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    vocab = {line: index for index, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=special["unk"].content))
    tokenizer.normalizer = _bert_normalizer(config)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    _frame(tokenizer, folder, special)
    return tokenizer


def _build_bert(folder: Path, config: Config) -> tokenizers.Tokenizer:
    names = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    special = {role: added(config.get(f"{role}_token") or name) for role, name in names.items()}
    return _wordpiece(folder, config, special)


def _build_mpnet(folder: Path, config: Config) -> tokenizers.Tokenizer:
    names = {"cls": "<s>", "sep": "</s>", "unk": "[UNK]", "pad": "<pad>", "mask": "<mask>"}
    special = {
        role: added(config.get(f"{role}_token") or name, lstrip=role == "mask")  # the mask takes the space before it
        for role, name in names.items()
    }
    return _wordpiece(folder, config, special)


# Byte-level BPE: RoBERTa


def _byte_level(config: Config) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=config.get("add_prefix_space", False))


def _overrule_roberta(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        tokenizer.pre_tokenizer = _byte_level(config)


def _overrule_bytes(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    """Let the setting say whether a space is put before a text, where the file's last step splits into bytes."""
    steps = _steps(tokenizer.pre_tokenizer)
    if steps and isinstance(steps[-1], pre_tokenizers.ByteLevel):
        space = bool(config.get("add_prefix_space"))
        if steps[-1].add_prefix_space != space:
            last = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=steps[-1].use_regex)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps[:-1], last])


def _steps(part: Any) -> list[Any]:
    """Return the steps of a normalizer or pre-tokenizer, which is one step or a sequence of them."""
    is_sequence = isinstance(part, (pre_tokenizers.Sequence, normalizers.Sequence))
    steps: Any = part if is_sequence else [part]
    return [] if part is None else list(steps)


def _build_roberta(folder: Path, config: Config) -> tokenizers.Tokenizer:
    vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = _byte_level(config)
    names = {"sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    _frame(tokenizer, folder, {role: added(config.get(f"{role}_token") or name) for role, name in names.items()})
    return tokenizer


#: What CLIP's tokenizer takes for a word; what matches nothing is white space.
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _build_clip(folder: Path, config: Config) -> tokenizers.Tokenizer:
    """Build the byte-level BPE of CLIP, where the last piece of a word is marked, from the older files."""
    vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    start, end = (
        added(config.get(role) or name)
        for role, name in (("bos_token", "<|startoftext|>"), ("eos_token", "<|endoftext|>"))
    )
    missing = [token.content for token in (start, end) if token.content not in vocab]
    if missing:
        raise ModelRefused(f"the vocabulary of {folder} lacks its own special tokens {', '.join(missing)}")
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab, merges, end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=end.content)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[start.content, "$A", end.content],
        special_tokens=[(token.content, vocab[token.content]) for token in (start, end)],
    )
    return tokenizer


def _unchanged(_tokenizer: tokenizers.Tokenizer, _config: Config) -> None:
    """Let the file say all."""


# Unigram: XLM-RoBERTa, CamemBERT, ALBERT, DeBERTa v2


def _overrule_unigram(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    """Split at white space first: sentencepiece drops what surrounds a text, and older tokenizer.json files don't."""
    if not isinstance(tokenizer.model, models.Unigram):
        return
    scheme = "always" if config.get("add_prefix_space", True) else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)]
    )


def _overrule_albert(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    """Let the settings say what happens to case and accents; the characters' own table stays."""
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not config.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if config.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    tables = [step for step in _steps(tokenizer.normalizer) if isinstance(step, normalizers.Precompiled)]
    tokenizer.normalizer = normalizers.Sequence([*steps, *tables])
    _overrule_unigram(tokenizer, config)


def _overrule_deberta(tokenizer: tokenizers.Tokenizer, config: Config) -> None:
    """Lower-case, and split at punctuation, where the settings ask for it and the file does not."""
    own, splits = _steps(tokenizer.normalizer), _steps(tokenizer.pre_tokenizer)
    if config.get("do_lower_case") and not any(isinstance(step, normalizers.Lowercase) for step in own):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    if config.get("split_by_punct") and not any(isinstance(step, pre_tokenizers.Punctuation) for step in splits):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("isolated"), *splits])


_BERT = TokenizerStyle(_overrule_bert, ("vocab.txt",), _build_bert)
_UNIGRAM = TokenizerStyle(_overrule_unigram, ("sentencepiece.bpe.model",))
_BYTES = TokenizerStyle(_overrule_bytes, ("vocab.json", "merges.txt"))
STYLES: Mapping[str, TokenizerStyle] = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "MPNetTokenizer": TokenizerStyle(_overrule_bert, ("vocab.txt",), _build_mpnet),
    "RobertaTokenizer": TokenizerStyle(_overrule_roberta, ("vocab.json", "merges.txt"), _build_roberta),
    "CLIPTokenizer": TokenizerStyle(_unchanged, ("vocab.json", "merges.txt"), _build_clip),
    "XLMRobertaTokenizer": _UNIGRAM,
    "CamembertTokenizer": _UNIGRAM,
    "AlbertTokenizer": TokenizerStyle(_overrule_albert, ("spiece.model",)),
    "DebertaV2Tokenizer": TokenizerStyle(_overrule_deberta, ("spm.model",)),
    "GPT2Tokenizer": _BYTES,
    "Qwen2Tokenizer": _BYTES,
}
#: Which class the reference takes for a model type, where the folder names none.
CLASSES: Mapping[str, str] = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "clip": "CLIPTokenizer",
    "chinese_clip": "BertTokenizer",
    "altclip": "XLMRobertaTokenizer",
    "clip_text_model": "CLIPTokenizer",
}
