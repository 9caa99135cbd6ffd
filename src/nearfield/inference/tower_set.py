"""`TowerSet`: the towers of a model besides its main one, each compiled when an input first needs it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.engine.engine import Engine
from nearfield.errors import InputError, nearest
from nearfield.fork_safety import ProcessLock
from nearfield.inference.compiled_model import CompiledModel
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.media_inputs import NOUNS, listed, tower_modality
from nearfield.inference.preparation.media_preparer import MediaPreparer
from nearfield.inference.processors import space_of_recipe
from nearfield.recipe import Recipe
from nearfield.text_inputs import check_texts


@dataclass(frozen=True)
class LoadedTower:
    """A compiled tower, and what prepares its inputs."""

    model: ModelInfo
    preparer: MediaPreparer

    @classmethod
    def from_model(cls, model: CompiledModel) -> LoadedTower:
        """Return the tower of a model that reads no texts."""
        if isinstance(model.processor, Tokenizer):
            raise TypeError(f"{model.name} reads texts")
        return cls(model, MediaPreparer(model.processor))


class TowerSet:
    """The towers of a model that read other modalities than its main one.

    Args:
        recipe: the model's recipe.
        compile_tower: compiles the recipe of a tower, into the space of the main tower.
        engine: the engine that runs the towers. It releases them once this object is gone.
    """

    def __init__(self, recipe: Recipe, compile_tower: Callable[[Recipe], CompiledModel], engine: Engine | None) -> None:
        self._recipe, self._engine = recipe, engine
        self._compile = compile_tower
        self._lock = ProcessLock()
        self._towers: dict[str, LoadedTower] = {}

    def __iter__(self) -> Iterator[LoadedTower]:
        """Yield the towers that are compiled."""
        return iter(list(self._towers.values()))

    def without_weights(self) -> TowerSet:
        """Return the towers that are compiled without their weights, for a process that leaves computing to another."""
        towers = TowerSet(self._recipe, _refuse, None)
        for modality, tower in self._towers.items():
            towers._towers[modality] = LoadedTower(ModelInfo.from_model(tower.model), tower.preparer)
        return towers

    def load(self, modalities: Sequence[str]) -> None:
        """Compile the towers of some modalities now; the main model itself has the others."""
        for modality in map(tower_modality, modalities):
            if modality in self._recipe.towers:
                self.get(modality)

    def is_missing(self, modality: str, recipe: Recipe) -> bool:
        """Return whether a tower has yet to be compiled, which takes time, before inputs of a modality can be read."""
        return modality != recipe.modality and modality not in self._towers

    def get(self, modality: str) -> LoadedTower:
        """Return the tower of a modality, compiled at the first call.

        Raises:
            InputError: the model has none.
            ModelRefused: its files cannot be loaded exactly.
        """
        tower = self._towers.get(modality)
        if tower is not None:
            return tower
        recipe = self._recipe.towers.get(modality)
        if recipe is None:
            raise InputError(
                f"The input is {NOUNS[modality]}, and {self._recipe.name} reads {listed(self._recipe.reads)}.",
                param="input",
            )
        with self._lock:
            if modality not in self._towers:
                tower = LoadedTower.from_model(self._compile(recipe))
                if self._engine is not None:
                    weakref.finalize(self, self._engine.release, tower.model).atexit = False
                self._towers[modality] = tower
        return self._towers[modality]


def _refuse(recipe: Recipe) -> CompiledModel:
    """Raise RuntimeError: a process without weights compiles nothing."""
    raise RuntimeError(f"The tower of {recipe.name} was not loaded when this process began.")


def select_towers(recipe: Recipe, modalities: Sequence[str] | None) -> tuple[Recipe, str]:
    """Return the recipe with the towers of some modalities alone, and the name of the space of all towers.

    The main tower is that of texts, or of the first modality where texts are not among them. Without ``modalities`` the
    recipe does not change, and the name is empty.

    Raises:
        InputError: the model has no tower of a modality.
    """
    if modalities is None:
        return recipe, ""
    names = [modalities] if isinstance(modalities, str) else list(modalities)
    check_texts(names, "modalities", "modalities: name")
    for name in names:
        if name not in recipe.reads:
            raise InputError(f"{recipe.name} reads no {name!r}. {nearest(name, recipe.reads)}", param="modalities")
    names = list(map(tower_modality, names))
    if not names:
        raise InputError("modalities is empty: leave it out for all that the model reads.", param="modalities")
    # Rows that enter a sequence are no vectors: they need the main model.
    chosen = recipe.modality if recipe.modality in names or recipe.fuses else names[0]
    main = recipe if chosen == recipe.modality else recipe.towers[chosen]
    others = {name: tower for name, tower in recipe.towers.items() if name in names and name != chosen}
    rows = {name: tower for name, tower in main.fused.items() if name in names}
    chosen_recipe = replace(main, towers=MappingProxyType(others), fused=MappingProxyType(rows))
    return chosen_recipe, space_of_recipe(recipe)
