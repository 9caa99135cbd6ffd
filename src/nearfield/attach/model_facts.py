"""What an attached model knows of itself without weights, and the checks that the server has the same model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nearfield import families
from nearfield.attach import SERVER_VARIABLE
from nearfield.attach.attached_client import AttachedClient
from nearfield.checkpoint.weights.lora import Adapters
from nearfield.errors import InputError, SpaceMismatch
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.processors import load_processor, space_of_recipe
from nearfield.inference.uncompiled_model import UncompiledModel

#: Options that say how a model is computed, and their values without effect.
_COMPUTING: Mapping[str, object] = {
    "backend": "openvino",
    "device": "auto",
    "devices": None,
    "reproducible": False,
    "streams": None,
    "threads": None,
}


def check_load_options(options: Mapping[str, Any]) -> None:
    """Raise InputError for an option that a server cannot honour, by its name."""
    for name, default in _COMPUTING.items():
        if options.get(name, default) != default:
            raise InputError(
                f"{name}={options[name]!r} is for a model that is loaded, and {SERVER_VARIABLE} is set: a server "
                f"computes with its own settings. Leave {name} out, or unset {SERVER_VARIABLE} to load the model here.",
                param=name,
            )


def model_facts(model: UncompiledModel, client: AttachedClient, max_length: int | None, precision: str) -> ModelInfo:
    """Return a model without weights, once the server is known to have the same one.

    Raises:
        SpaceMismatch: the server's model has another fingerprint.
        InputError: it reads fewer tokens than the model here, or computes in another precision than requested.
    """
    recipe = model.recipe
    family = families.resolve(recipe.config)
    info = ModelInfo()
    info.recipe, info.name = recipe, recipe.name
    info.processor = load_processor(recipe, family, max_length)
    info.width = recipe.dimensions if recipe.modules else 0
    info.precision, info.device, info.devices = precision, "server", ("server",)
    info.reproducible, info.batch_tokens, info.shared_length = False, 1, 0
    info.fused_processor = None
    info._adapters = _adapters_of(model)
    info.space = space_of_recipe(recipe)
    # Models that scale vectors on request have an n after the space of vectors that are scaled.
    fingerprint = str(client.facts.get("fingerprint") or "").replace("n:", ":", 1)
    check_space(client, info.space_of(model.default_adapter), fingerprint)
    if "scores" in recipe.outputs:
        client.expected["fingerprint"] = info.space
    client.check_settings = lambda facts: _check_settings(client, info, precision, facts)
    if client.facts.get("precision"):  # it is loaded; otherwise the first reply has them
        client.check_reply({**client.facts, "fingerprint": info.space})
    return info


def _adapters_of(model: UncompiledModel) -> Adapters:
    """Return the adapters by name, without their factors: the tasks in the model's own weights, and those loaded."""
    names = dict.fromkeys(task.adapter for task in model.recipe.tasks.values() if task.adapter)
    adapters = Adapters(("",), None, tuple(cast("dict[str, None]", names)))
    for number, adapter in enumerate(model.adapters, len(names) + 1):
        adapters = adapters.added(adapter, number)
    return adapters


def check_space(client: AttachedClient, space: str, fingerprint: str) -> None:
    """Raise SpaceMismatch unless a fingerprint of the server, if it names one, is of a space."""
    if not fingerprint or fingerprint.partition(":")[0] == space:
        return
    raise SpaceMismatch(
        f"{client.url} has a model {client.model} with other weights, tokenizer, prompts or settings than the files "
        f"here ({fingerprint} is not of {space}). Use the same files in both, or unset {SERVER_VARIABLE} to load the "
        "model here."
    )


def _check_settings(client: AttachedClient, info: ModelInfo, precision: str, facts: Mapping[str, Any]) -> None:
    """Record the server's precision, and raise InputError if settings of its model do not allow the results of here."""
    length, here = facts["max_length"], info.processor.max_length
    info.precision = facts["precision"]
    if length < here:
        raise InputError(
            f"{client.url} reads {length} tokens of each input of {info.name}, and here it would be {here}: pass "
            f"max_length={length}, or unset {SERVER_VARIABLE} to load the model here.",
            param="max_length",
        )
    if precision not in ("auto", info.precision):
        raise InputError(
            f"{client.url} computes {info.name} in {info.precision}, not in {precision}: leave precision out, or "
            f"unset {SERVER_VARIABLE} to load the model here.",
            param="precision",
        )
