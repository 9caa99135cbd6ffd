"""Shell: a loaded model without what runs it, for processes that leave running to another one."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.model_info import ModelInfo

#: What each process has of its own, and what a shell has of it at first.
_OWN: Mapping[str, Any] = {"engine": None, "cache": None, "observers": (), "_owns_engine": False, "_finalizer": None}


def pack_weightless(models: Sequence[LoadedModel]) -> bytes:
    """Return all that the same models need in another process: recipes, tokenizers and the like, and no weights.

    Nothing is read anew there, and so nothing can be another: names, spaces and token ids are those of the models.
    """
    held = io.BytesIO()
    pickler = pickle.Pickler(held, 5)
    # Recipes hold mappings that pickle itself refuses.
    pickler.dispatch_table = {**copyreg.dispatch_table, MappingProxyType: lambda value: (_frozen, (dict(value),))}
    pickler.dump([(type(model), _state(model)) for model in models])
    return held.getvalue()


def unpack_weightless(packed: bytes, engine: Any) -> list[LoadedModel]:
    """Make shells of what a process of this program has packed; all that they compute, ``engine`` computes.

    They have the methods of models, but for loading and removing adapters.
    """
    shells = []
    for kind, state in pickle.loads(packed):
        made = kind.__new__(kind)
        vars(made).update(state, engine=engine)
        if "observers" in state:
            made.observers = []
        shells.append(made)
    return shells


def _state(model: LoadedModel) -> dict[str, Any]:
    state = vars(model)
    return {**state, **{name: _OWN[name] for name in state if name in _OWN}, "_model": ModelInfo.of(model._model)}


def _frozen(values: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(values)
