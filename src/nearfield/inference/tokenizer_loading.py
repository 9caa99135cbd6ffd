"""Load the tokenizer of a recipe, bounded by the tables of the model's family."""

from __future__ import annotations

from typing import Any

from nearfield import families
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError, ModelRefused
from nearfield.families import Family
from nearfield.recipe import Recipe


def load_tokenizer(recipe: Recipe, family: Family, max_length: int | None = None) -> Tokenizer:
    """Return the tokenizer of a model; ``max_length`` is the number of tokens to read, if fewer than the model reads.

    Raises:
        InputError: ``max_length`` is more than the model has positions.
        ModelRefused: there is no tokenizer, or it belongs to another model.
    """
    allowed = min(recipe.max_length, family.positions)
    if max_length is not None and not 1 <= max_length <= family.positions:
        raise InputError(
            f"max_length must be from 1 to {family.positions} for {recipe.name}, not {max_length}.", param="max_length"
        )
    options: dict[str, Any] = {"lowercase": recipe.do_lower_case, "settings": recipe.tokenizer_settings}
    options["rules"] = recipe.text_rules
    rows = family.vocab_size
    if recipe.config.get("model_type") == "static":
        own = recipe.config["layout"] == "model2vec"
        rows -= 1  # the last one is for texts without a token
        options.update(bare=True, drop_unknown=own, blank=rows, file_only=True)
        options["settings"] = {"truncation_side": "right"} if own else {}
    return Tokenizer.load(recipe.folder, max_length=max_length or allowed, table_rows=rows, **options)


def tokenizer_warnings(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what a user must know about the tokenizer of a model that is loaded all the same."""
    warnings = []
    if tokenizer.tokens_without_row:
        number, token = min(tokenizer.tokens_without_row.items())
        count = len(tokenizer.tokens_without_row)
        warnings.append(
            f"the embedding table has no row for {count} token{'s' * (count > 1)} of the tokenizer (such as {token!r}, "
            f"id {number}): texts that contain {'one of them' if count > 1 else 'it'} are refused"
        )
    if not tokenizer.is_bounded:
        warnings.append(
            f"the tokenizer may take very long for some texts, because of {tokenizer.backend.slow_part}: it runs in a "
            "process, and a text that takes it more than some seconds is refused"
        )
    return tuple(warnings)


def warnings_before_loading(recipe: Recipe) -> tuple[str, ...]:
    """Return the warnings of a model that is not loaded; the error of a tokenizer that cannot be loaded is one."""
    if recipe.exported_graph is not None:
        return ()
    try:
        return tokenizer_warnings(load_tokenizer(recipe, families.resolve(recipe.config)))
    except families.NoFamily:
        return ()
    except ModelRefused as error:
        return (str(error),)
