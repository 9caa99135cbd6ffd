"""How the text tower of a two-tower model is fed: padding, case and punctuation, as its training had them."""

from __future__ import annotations

from pathlib import Path

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonObject
from nearfield.recipe import TextRules


def read_text_rules(folder: Path, config: JsonObject) -> tuple[TextRules, bool]:
    """Return the rules for texts, and whether they are lower-cased before the tokenizer's own steps.

    SigLIP's first tokenizer class removes punctuation in code that no tokenizer file shows. SigLIP 2 was trained on
    lower-cased texts, which older tokenizer files do not show either.
    """
    if config["model_type"] == "clip_text_model":
        return TextRules(ends_at_eos=True), False
    if not str(config["model_type"]).startswith("siglip"):
        return TextRules(), False
    length = int(config["max_position_embeddings"])
    if "text_cleaning" in config:
        # open_clip's files say it.
        cleaning = config["text_cleaning"]
        return TextRules(pad_to=length, canonicalize=cleaning == "canonicalize"), cleaning != "whitespace"
    settings = json_file.read_optional(folder / "tokenizer_config.json")
    first = str(settings.get("tokenizer_class", "")).removesuffix("Fast") == "SiglipTokenizer"
    lowercase = bool(settings.get("do_lower_case", True)) if first else True
    return TextRules(pad_to=length, canonicalize=first), lowercase
