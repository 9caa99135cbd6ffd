"""Models without weights, for processes that leave computing to another one.

They are passed as pickles, and only between processes of one server: never unpack bytes from anywhere else.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.model_info import ModelInfo

if TYPE_CHECKING:
    from nearfield.engine.engine import Engine
    from nearfield.engine.ipc.remote_engine import RemoteEngine

#: Attributes that belong to one process, with their values in a packed model.
_PROCESS_STATE: Mapping[str, object] = {
    "engine": None,
    "cache": None,
    "observers": (),
    "_owns_engine": False,
    "_finalizer": None,
}


def pack_weightless(models: Sequence[LoadedModel]) -> bytes:
    """Return models without weights as bytes: recipes, tokenizers and everything else that another process needs.

    The other process reads no file, so names, spaces and token ids are those of these models.
    """
    packed = io.BytesIO()
    pickler = pickle.Pickler(packed, 5)
    # Recipes hold mappings that pickle does not support.
    pickler.dispatch_table = {**copyreg.dispatch_table, MappingProxyType: lambda value: (_frozen, (dict(value),))}
    pickler.dump([(type(model), _state(model)) for model in models])
    return packed.getvalue()


def unpack_weightless(packed: bytes, engine: Engine | RemoteEngine) -> list[LoadedModel]:
    """Return the models that another process of this program has packed; ``engine`` computes for them.

    They have all methods of models except loading and removing adapters.
    """
    models = []
    for model_class, state in pickle.loads(packed):
        model = model_class.__new__(model_class)
        vars(model).update(state, engine=engine)
        if "observers" in state:
            model.observers = []
        models.append(model)
    return models


def _state(model: LoadedModel) -> dict[str, object]:
    state = vars(model)
    reset = {name: value for name, value in _PROCESS_STATE.items() if name in state}
    weightless = {"_model": ModelInfo.from_model(model._model), "_towers": model._towers.without_weights()}
    return {**state, **reset, **weightless}


def _frozen(values: dict[object, object]) -> Mapping[object, object]:
    return MappingProxyType(values)
