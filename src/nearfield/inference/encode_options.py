"""Options of `Encoder.encode`: `EncodeOptions` as a caller writes them, `ResolvedOptions` checked against a model."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_flag, require_optional_counts, require_optional_texts
from nearfield.errors import InputError, UnsupportedDimensions, nearest
from nearfield.inference.model_info import ModelInfo
from nearfield.recipe import ROLE_TASKS, EncodeTask, Recipe
from nearfield.text_inputs import check_texts, describe
from nearfield.vectors.fingerprint import fingerprint
from nearfield.vectors.quantization import PRECISIONS
from nearfield.vectors.vector_map import VectorMap

if sys.version_info >= (3, 11):
    from typing import Unpack as Unpack
else:
    from typing_extensions import Unpack as Unpack
if TYPE_CHECKING:
    from nearfield.inference.preparation.late_interaction import LateInteractionFormatter

ROLES = ("query", "document")
#: ``chunk`` encodes an over-long input in pieces and combines their vectors.
TRUNCATE = ("report", "error", "left", "right", "chunk")
#: The output of ``Encoder.encode_tokens``; no value of ``outputs``.
TOKEN_STATES = "token_states"


class EncodeKeywordsWithoutRole(TypedDict, total=False):
    """The keywords of ``Encoder.encode_query`` and ``encode_document``, which set the role themselves."""

    prompt_name: str | None
    prompt: str | None
    instruction: str | None
    task: str | None
    outputs: str | Iterable[str] | None
    adapter: str | None
    truncate_dim: int | None
    force_truncate_dim: bool
    normalize_embeddings: bool | None
    precision: str
    ranges: ArrayLike | None
    truncate: str
    max_length: int | None


class EncodeKeywords(EncodeKeywordsWithoutRole, total=False):
    """The keywords of ``Encoder.encode``: the fields of `EncodeOptions`."""

    role: str | None


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Options of one call of ``Encoder.encode``, which documents each of them."""

    prompt_name: str | None = None
    prompt: str | None = None
    role: str | None = None
    instruction: str | None = None
    task: str | None = None
    outputs: str | Iterable[str] | None = None
    adapter: str | None = None
    truncate_dim: int | None = None
    force_truncate_dim: bool = False
    normalize_embeddings: bool | None = None
    precision: str = "float32"
    ranges: ArrayLike | None = None
    truncate: str = "report"
    max_length: int | None = None


@dataclass(frozen=True)
class ResolvedOptions:
    """Options of one call, checked against a model: what happens before the batch, and what happens after it."""

    prompt: str = ""
    role: str | None = None
    truncate: str = "report"
    #: Tokens to read of each input; None: as many as the model reads.
    max_length: int | None = None
    #: Kinds of output in the model's order.
    outputs: tuple[str, ...] = ("dense",)
    #: Whether the result is ``Outputs``: the caller named the outputs.
    returns_outputs: bool = False
    adapter: str | None = None
    #: Dimensions of the dense vector after truncation.
    dimensions: int = 0
    #: Whether a vector's mean is subtracted before truncation.
    subtract_mean: bool = False
    #: Whether vectors are scaled to unit length after truncation.
    rescale_after_truncation: bool = False
    #: Whether vectors are scaled to unit length before all else: the caller requests it, and the model does not.
    normalize_first: bool = False
    precision: str = "float32"
    ranges: ArrayLike | None = None
    space: str = ""
    #: Whether the call chose a prompt or an instruction, rather than a role: neither makes sense for a picture.
    prompt_is_chosen: bool = False
    #: Moves the dense vectors before truncation.
    query_map: VectorMap | None = None


@dataclass(frozen=True, slots=True)
class OptionDefaults:
    """What an encoder uses where a call sets nothing: its adapter, its dimensions, and the prefixes of its roles.

    ``force`` allows dimensions that the model was not trained for. ``query_map`` moves the vectors of queries.
    """

    adapter: str | None = None
    truncate_dim: int | None = None
    force: bool = False
    formatter: LateInteractionFormatter | None = None
    query_map: VectorMap | None = None


def resolve(options: EncodeOptions, model: ModelInfo, defaults: OptionDefaults) -> ResolvedOptions:
    """Return a call's options, checked against a model and completed from its recipe.

    Raises:
        InputError: an option is invalid, or the model does not support it.
        SpaceMismatch: the query map was fitted for other vectors than those of this call.
    """
    recipe, role = model.recipe, options.role
    _check_kinds(options)
    kinds = resolve_outputs(recipe, options.outputs)
    check_options(options.truncate, options.precision, kinds)
    prompt_name, prompt, adapter = _resolve_task(options, model)
    text = resolve_prompt(recipe, prompt_name, prompt, role, options.instruction)
    if defaults.formatter is not None and "multivector" in kinds:
        text = defaults.formatter.with_prefix(text, role)
    adapter = defaults.adapter if adapter is None else adapter
    model.adapter(adapter)
    stated = options.normalize_embeddings
    normalize = (recipe.normalize_by_default if stated is None else stated) and not recipe.normalized
    dim, force = options.truncate_dim, options.force_truncate_dim or defaults.force
    dim = defaults.truncate_dim if dim is None else dim
    space = model.space_of(adapter) + ("n" if normalize else "")
    return ResolvedOptions(
        prompt=text,
        role=role,
        truncate=options.truncate,
        max_length=options.max_length,
        outputs=kinds,
        returns_outputs=options.outputs is not None,
        adapter=adapter,
        dimensions=resolve_dimensions(recipe, dim, force) if recipe.modules else 0,
        subtract_mean=recipe.centre,
        rescale_after_truncation=recipe.normalized or normalize,
        normalize_first=normalize,
        precision=options.precision,
        ranges=options.ranges,
        space=space,
        prompt_is_chosen=bool(options.prompt_name or options.prompt or options.instruction),
        query_map=_map_of(defaults, role, kinds, recipe, space),
    )


def _map_of(
    defaults: OptionDefaults, role: str | None, kinds: tuple[str, ...], recipe: Recipe, space: str
) -> VectorMap | None:
    """Return the map for the dense vectors of a call: that of queries.

    Raises:
        SpaceMismatch: it was fitted for other vectors.
    """
    if defaults.query_map is None or role != "query" or "dense" not in kinds:
        return None
    defaults.query_map.require_source(fingerprint(space, recipe.dimensions, "float32"), f"queries of {recipe.name}")
    return defaults.query_map


def resolve_for_tokens(options: EncodeOptions, model: ModelInfo, defaults: OptionDefaults) -> ResolvedOptions:
    """Return the options of a call that requests the token states, resolved as for the model's main output.

    Raises:
        InputError: an option is invalid, or makes no sense for token states.
    """
    if options.truncate == "chunk":
        raise InputError("truncate='chunk' combines dense vectors; token states have none.", param="truncate")
    resolved = resolve(replace(options, outputs=None), model, defaults)
    return replace(resolved, outputs=(TOKEN_STATES,), role=None)


def _check_kinds(options: EncodeOptions) -> None:
    """Raise InputError for an option of another type than it has."""
    require_optional_texts(
        prompt_name=options.prompt_name,
        prompt=options.prompt,
        role=options.role,
        instruction=options.instruction,
        task=options.task,
        adapter=options.adapter,
    )
    require_optional_counts(max_length=options.max_length)
    require_flag("normalize_embeddings", options.normalize_embeddings)
    require_flag("force_truncate_dim", options.force_truncate_dim)


def _resolve_task(options: EncodeOptions, model: ModelInfo) -> tuple[str | None, str | None, str | None]:
    """Return prompt name, prompt and adapter of a call; those that it sets itself win over those of its task.

    Raises:
        InputError: the model has no such task or prompt.
    """
    name, text, adapter, task = options.prompt_name, options.prompt, options.adapter, options.task
    chosen = (name, text, options.instruction, adapter)
    if task is None and options.role is not None and chosen == (None, None, None, None):
        task = _task_of_role(options.role, model)
    if task is None:
        return name, text, adapter
    recipe, adapter_names = model.recipe, model.adapters.named
    known = recipe.tasks.get(task)
    if known is None and task in adapter_names:
        known = EncodeTask(recipe.prompts.get(task, ""), task)
    if known is None and task not in recipe.prompts:
        names = sorted({*recipe.tasks, *recipe.prompts})
        raise InputError(f"{recipe.name} has no task {task!r}. {nearest(task, names)}", param="task")
    if known is None:
        return (task if name is None and text is None else name), text, adapter
    return name, (known.prompt if text is None and name is None else text), adapter or known.adapter


def _task_of_role(role: str, model: ModelInfo) -> str | None:
    """Return the task that serves a role, or None: jina-embeddings-v3 has tasks in place of prompts for roles."""
    recipe = model.recipe
    own = recipe.role_prompt_name(role) if role in ROLE_TASKS else None
    # An empty prompt means nothing: sentence-transformers writes empty ones into every folder.
    if role not in ROLE_TASKS or (own is not None and recipe.prompts[own]):
        return None
    known = {*recipe.tasks, *model.adapters.named}
    return next((name for name in ROLE_TASKS[role] if name in known), None)


def resolve_outputs(recipe: Recipe, requested: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the requested kinds of output in the model's order; the model's main output if None.

    Raises:
        InputError: the model does not give one of them.
    """
    if requested is None:
        return recipe.outputs[:1]
    if not isinstance(requested, Iterable):
        raise InputError(f"outputs must be names of outputs, and is {describe(requested)}.", param="outputs")
    requested = [requested] if isinstance(requested, str) else list(requested)
    check_texts(requested, "outputs", "outputs: name")
    names = set(requested)
    for name in sorted(names):
        if name not in recipe.outputs:
            raise InputError(
                f"{recipe.name} gives no {name!r} output. {nearest(name, recipe.outputs)}", param="outputs"
            )
    if not names:
        raise InputError("outputs is empty; leave it out for the model's main output.", param="outputs")
    return tuple(name for name in recipe.outputs if name in names)


def resolve_prompt(
    recipe: Recipe, name: str | None, text: str | None, role: str | None, instruction: str | None = None
) -> str:
    """Return the prompt text of a call: the literal one, the instruction's, the named one, the role's, or the default.

    Raises:
        InputError: more than one of prompt, prompt name and instruction is set, or there is no such prompt or role.
    """
    if (name is not None) + (text is not None) + (instruction is not None) > 1:
        values = {"prompt_name": name, "prompt": text, "instruction": instruction}
        several = [key for key, value in values.items() if value is not None]
        raise InputError(f"Give {' or '.join(several)}, not both.", param=several[-1])
    if role is not None and role not in ROLES:
        raise InputError(f"Unknown role {role!r}. {nearest(role, ROLES)}", param="role")
    if text is not None:
        return text
    if instruction is not None and (instruction.strip() or not recipe.ends_instruction):
        return _instructed(recipe, instruction)
    chosen = name or (recipe.role_prompt_name(role) if role else recipe.default_prompt_name)
    if chosen is None:
        return ""
    if chosen not in recipe.prompts:
        hint = nearest(chosen, recipe.prompts)
        raise InputError(f"{recipe.name} has no prompt {chosen!r}. {hint}", param="prompt_name")
    return recipe.prompts[chosen]


def _instructed(recipe: Recipe, instruction: str) -> str:
    """Return the prompt with an instruction, in the model's template for it."""
    if recipe.ends_instruction:
        instruction = instruction.strip()
        # Category P of Unicode is punctuation.
        if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
            instruction += "."
    return recipe.instruction.replace("{instruction}", instruction) if recipe.instruction else instruction


def resolve_dimensions(recipe: Recipe, dim: int | None, force: bool) -> int:
    """Return the number of dimensions to keep.

    A size that the model's folder states counts as one that it was trained for.

    Raises:
        UnsupportedDimensions: not from 1 to the model's dimensions, or not a size that the model was trained for.
    """
    whole = recipe.dimensions
    if dim is None or dim == whole:
        return whole
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or not 1 <= dim < whole:
        raise UnsupportedDimensions(f"must be an integer from 1 to {whole} for {recipe.name}, not {dim!r}.")
    trained = {*recipe.matryoshka, *((recipe.truncate_dim,) if recipe.truncate_dim else ())}
    if not force and not (trained and dim >= min(trained)):
        known = f" It was trained for {', '.join(map(str, sorted(trained)))}." if trained else ""
        raise UnsupportedDimensions(
            f"{recipe.name} was not trained to be cut to {dim} dimensions: the vectors would lose quality without "
            f"notice.{known}",
            can_force=True,
        )
    return int(dim)


def check_options(truncate: str, precision: str, kinds: tuple[str, ...]) -> None:
    """Raise InputError for an unknown truncation or precision, or for one that a kind of output does not support."""
    if truncate not in TRUNCATE:
        raise InputError(f"Unknown truncate {truncate!r}. {nearest(truncate, TRUNCATE)}", param="truncate")
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISIONS)}", param="precision")
    if "dense" in kinds:
        return
    if truncate == "chunk":
        raise InputError(
            f"truncate='chunk' combines dense vectors; this call requests {', '.join(kinds)}.", param="truncate"
        )
    if precision != "float32":
        raise InputError(
            f"precision applies to dense vectors; this call requests {', '.join(kinds)}.", param="precision"
        )
