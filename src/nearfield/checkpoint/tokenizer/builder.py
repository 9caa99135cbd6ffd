"""Build the `tokenizers` object that a model folder describes, as the reference library would build it.

``tokenizer.json`` says nearly everything, but not all: for the classes in ``styles`` the reference lets
``tokenizer_config.json`` overrule it (case, accents, leading space), and where it is absent the older
vocabulary files take its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.checkpoint.tokenizer.conversion import CLASSES, STYLES, added
from nearfield.checkpoint.tokenizer.guarded_tokenizer import is_failure
from nearfield.errors import ModelRefused

#: Settings that change how a text becomes tokens, and so are part of the tokenizer's digest.
TELLING = frozenset(
    {
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "add_prefix_space",
        "split_special_tokens",
        "added_tokens_decoder",
        "add_bos_token",
        "add_eos_token",
    }
)
#: Those that are part of it only where they are set: digests of version 0.1 lack them.
SELDOM_TELLING = ("keep_accents", "split_by_punct")


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer without padding or truncation, and what its folder says about using it."""

    tokenizer: tokenizers.Tokenizer
    pad_id: int
    side: str
    digest: str


def build_tokenizer(
    folder: Path, settings: Mapping[str, Any] | None = None, *, file_only: bool = False
) -> TokenizerFiles:
    """Build the folder's tokenizer; a folder that has none, or a damaged one, is refused.

    ``settings`` overrule those of tokenizer_config.json. With ``file_only``, tokenizer.json alone counts, as for static
    embeddings.
    """
    config = {**_config(folder), **(settings or {})}
    kind = _kind(folder, config)
    facts = {key: value for key, value in config.items() if key in TELLING or key.endswith("_token")}
    state: list[object] = [kind, facts]
    if file_only:
        kind, config = "", dict(settings or {})
    try:
        tokenizer, source = _build(folder, kind, config)
        if not file_only:
            _add_tokens(tokenizer, folder, config)
            state += _add_special_tokens(tokenizer, config)
            state += [key for key in SELDOM_TELLING if config.get(key)]
    except ModelRefused:
        raise
    except BaseException as error:  # the tokenizers library raises plain Exception, or panics, where it cannot read
        if not isinstance(error, Exception) and not is_failure(error):
            raise
        raise ModelRefused(f"the tokenizer of {folder} cannot be read: {error}") from error
    tokenizer.encode_special_tokens = bool(config.get("split_special_tokens", False))
    side = _truncation_side(folder, tokenizer, config)
    pad_id = _pad_id(folder, tokenizer, config)
    tokenizer.no_padding()  # baked-in padding and truncation serve one use of the file, not ours
    tokenizer.no_truncation()
    _mark_ends(tokenizer, folder, config)
    described = json.dumps(state, sort_keys=True, default=str).encode()
    return TokenizerFiles(tokenizer, pad_id, side, hashlib.sha256(source + described).hexdigest())


def _truncation_side(folder: Path, tokenizer: tokenizers.Tokenizer, config: JsonObject) -> str:
    """Return the side on which the reference cuts: that of the settings, else that of tokenizer.json, else the end."""
    side = config.get("truncation_side", (tokenizer.truncation or {}).get("direction", "right"))
    if side not in ("left", "right"):
        raise ModelRefused(f"{folder}: truncation_side is {side!r}; it must be 'left' or 'right'")
    return str(side)


def _mark_ends(tokenizer: tokenizers.Tokenizer, folder: Path, config: JsonObject) -> None:
    """Put BOS and EOS around a text where the settings ask for them and ``tokenizer.json`` does not.

    The reference ignores these settings once there is a tokenizer.json, and a last-token model (e5-mistral) then reads
    the wrong token.
    """
    ids = tokenizer.encode("a").ids
    missing = []
    for setting, role, at in (("add_bos_token", "bos_token", 0), ("add_eos_token", "eos_token", -1)):
        token = _text(config.get(role))
        if config.get(setting) is not True or token is None:
            continue
        number = tokenizer.token_to_id(token)
        if number is None:
            raise ModelRefused(f"{folder}: {setting} asks for {token!r}, which the tokenizer does not have")
        if not ids or ids[at] != number:
            missing.append((at, token, number))
    if not missing:
        return
    # What the file itself puts around a text stays inside: two processors in a row would undo each other.
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    start = next((at for at in range(len(ids)) if ids[at : at + len(bare)] == bare), 0)
    inner = [("", ids[:start]), ("$A", []), ("", ids[start + len(bare) :])]
    single = [token for at, token, _ in missing if at == 0]
    for text, numbers in inner:
        single += [text] * bool(text) + [str(tokenizer.id_to_token(number)) for number in numbers]
    single += [token for at, token, _ in missing if at == -1]
    special = {token: tokenizer.token_to_id(token) or 0 for token in single if token != "$A"}
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=list(special.items()))


def _config(folder: Path) -> JsonDict:
    """Merge the tokenizer's settings as the reference does: the older special-token map fills and overrules."""
    config = json_file.read_optional(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config.update(json_file.read_optional(folder / "special_tokens_map.json"))
    return config


def _kind(folder: Path, config: JsonObject) -> str:
    model = json_file.read_optional(folder / "config.json")
    named = config.get("tokenizer_class") or model.get("tokenizer_class")
    return str(named or CLASSES.get(str(model.get("model_type")), "")).removesuffix("Fast")


def _build(folder: Path, kind: str, config: JsonObject) -> tuple[tokenizers.Tokenizer, bytes]:
    """Return the tokenizer and the bytes that define it."""
    style = STYLES.get(kind)
    path = folder / "tokenizer.json"
    if path.is_file():
        source = path.read_bytes()
        tokenizer = tokenizers.Tokenizer.from_buffer(source)
        if style is not None:
            style.overrule(tokenizer, config)
        return tokenizer, source
    if style is None or style.build is None or not all((folder / name).is_file() for name in style.files):
        raise ModelRefused(_absent(folder, kind))
    return style.build(folder, config), b"".join((folder / name).read_bytes() for name in style.files)


def _absent(folder: Path, kind: str) -> str:
    there = [path.name for path in sorted(folder.glob("*")) if path.suffix in {".model", ".txt", ".spm"}]
    present = f" It has {', '.join(there)}: not enough for {kind or 'a tokenizer of unnamed class'}." if there else ""
    return (
        f"{folder} has no tokenizer: there is no tokenizer.json.{present} If the model is yours, write one with "
        "transformers' AutoTokenizer.from_pretrained(folder).save_pretrained(folder)."
    )


def _text(token: JsonDict | str | None) -> str | None:
    """The text of a special token, given as a string or as the dict of an AddedToken."""
    return token.get("content") if isinstance(token, dict) else token


def _pad_id(folder: Path, tokenizer: tokenizers.Tokenizer, config: JsonObject) -> int:
    named = _text(config.get("pad_token"))
    number = tokenizer.token_to_id(named) if named else None
    if number is None and tokenizer.padding:
        number = tokenizer.padding.get("pad_id")
    if number is None:
        number = json_file.read_optional(folder / "config.json").get("pad_token_id")
    return number if isinstance(number, int) else 0


def _add_tokens(tokenizer: tokenizers.Tokenizer, folder: Path, config: JsonObject) -> None:
    """Add tokens that stand only in the older files; one that would not get its own id is refused."""
    listed = {int(number): token for number, token in (config.get("added_tokens_decoder") or {}).items()}
    older = json_file.read_optional(folder / "added_tokens.json")
    special = {_text(value) for key, value in config.items() if key.endswith("_token")}
    for text, number in older.items():
        listed.setdefault(number, {"content": text, "special": text in special, "normalized": text not in special})
    known = tokenizer.get_added_tokens_decoder()
    for number, token in sorted(listed.items()):
        if number in known:
            continue
        fields = {key: value for key, value in token.items() if key != "__type"}
        added = AddedToken(**fields)
        (tokenizer.add_special_tokens if added.special else tokenizer.add_tokens)([added])
        if tokenizer.token_to_id(added.content) != number:
            raise ModelRefused(
                f"the added token {added.content!r} of {folder} should have id {number}, and gets "
                f"{tokenizer.token_to_id(added.content)}: its vocabulary is not complete"
            )


def _add_special_tokens(tokenizer: tokenizers.Tokenizer, config: JsonObject) -> list[str]:
    """Let the special tokens that the settings name be recognised within a text; return those that the file lacks."""
    named = [value for key, value in config.items() if key.endswith("_token") and isinstance(value, (str, dict))]
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    named += extra.values() if isinstance(extra, dict) else extra
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [token for token in map(added, named) if token.content not in known]
    tokenizer.add_special_tokens(missing)
    return [token.content for token in missing]
