"""The rows of towers in a batch of sequences: which towers run for it, and where their rows go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from nearfield.arrays import Array
from nearfield.engine.job import Batch, Runner, Ticket
from nearfield.families import Family
from nearfield.features import Features
from nearfield.fork_safety import ProcessLock
from nearfield.fused_features import FusedFeatures, MediaPart
from nearfield.heads import HeadInput
from nearfield.packing import PackedRows
from nearfield.recipe import Recipe

#: The table of a batch's rows grows in steps of this many, so that there are fewer shapes, and so fewer kernels.
_TABLE_STEP = 256


class RowsTower(Runner, Protocol):
    """A compiled tower."""

    reproducible: bool

    @property
    def process_bytes(self) -> int:
        """The memory of the processes in which it runs, beside this one."""
        ...


class MediaTowers:
    """The towers whose rows enter a model's sequence, each compiled when an input first needs one of them.

    Args:
        recipes: the towers by modality.
    """

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._compile: Callable[[Recipe], RowsTower] | None = None
        self._lock = ProcessLock()
        self._models: dict[str, RowsTower] = {}

    def compile_by(self, compile_tower: Callable[[Recipe], RowsTower]) -> None:
        """Set what compiles a tower."""
        self._compile = compile_tower

    @property
    def is_missing(self) -> bool:
        """Whether a tower has yet to be compiled."""
        return len(self._models) < len(self._recipes)

    @property
    def process_bytes(self) -> int:
        """The memory of the processes in which towers run."""
        return sum(model.process_bytes for model in self._models.values())

    def load(self) -> None:
        """Compile all towers.

        Raises:
            ModelRefused: the files of one cannot be loaded exactly.
        """
        for name in self._recipes:
            self.get(name)

    def get(self, name: str) -> RowsTower:
        """Return a tower, compiled at the first call. Raises as ``load`` does."""
        with self._lock:
            if name not in self._models:
                if self._compile is None:
                    raise RuntimeError(f"nothing compiles the tower of modality {name!r}")
                self._models[name] = self._compile(self._recipes[name])
            return self._models[name]


class MediaLane:
    """Runs towers for one lane.

    ``computed`` counts the rows of their graphs since the count was taken last, padding included.
    """

    def __init__(self, towers: MediaTowers) -> None:
        self._towers = towers
        self._lanes: dict[str, tuple[RowsTower, Callable[[Batch], Sequence[Mapping[str, Array]]]]] = {}
        self.computed = 0

    def take_computed(self) -> int:
        """Return the count, and set it to 0."""
        computed, self.computed = self.computed, 0
        return computed

    def rows(self, parts: Sequence[MediaPart]) -> list[Array]:
        """Return what the towers give for each part, float32 [rows, values]."""
        results: list[Array] = [np.empty(0, np.float32)] * len(parts)
        for name in dict.fromkeys(part.tower for part in parts):
            numbers = [number for number, part in enumerate(parts) if part.tower == name]
            # Those of like size run together: rows are padded to the largest.
            numbers.sort(key=lambda number: parts[number].features.cost, reverse=True)
            tower, run = self._lane(name)
            for group in _groups(numbers, [part.features.cost for part in parts], tower):
                for number, row in zip(group, self._run(tower, run, [parts[at].features for at in group]), strict=True):
                    results[number] = row
        return results

    def _lane(self, name: str) -> tuple[RowsTower, Callable[[Batch], Sequence[Mapping[str, Array]]]]:
        tower = self._towers.get(name)
        if name not in self._lanes or self._lanes[name][0] is not tower:
            self._lanes[name] = (tower, tower.create_lane_function())
        return self._lanes[name]

    def _run(
        self,
        tower: RowsTower,
        run: Callable[[Batch], Sequence[Mapping[str, Array]]],
        features: Sequence[Features],
    ) -> list[Array]:
        ticket = Ticket.create(tower, features)
        batch = Batch(tower, ticket.jobs)
        results = run(batch)
        ticket.jobs = []  # they refer to the ticket
        self.computed += batch.computed
        return [result["rows"] for result in results]


def _groups(numbers: Sequence[int], costs: Sequence[int], tower: RowsTower) -> list[list[int]]:
    """Return consecutive numbers in groups whose rows, as wide as that of the first, are not more than a batch's."""
    groups: list[list[int]] = []
    for number in numbers:
        group = groups[-1] if groups and not tower.reproducible else []
        if not group or costs[group[0]] * (len(group) + 1) > tower.batch_tokens:
            groups.append([number])
        else:
            group.append(number)
    return groups


def place_media(
    arrays: dict[str, Array],
    family: Family,
    shape: tuple[int, int],
    packed: PackedRows,
    items: Sequence[HeadInput],
    lane: MediaLane,
) -> None:
    """Add the rows of a batch's media, and where they go, to the arrays of a graph.

    Args:
        arrays: the arrays; parts of them are replaced by what the family has for inputs with media.
        family: of the model.
        shape: vectors of a row, and values of each of them.
        packed: the places of the batch's tokens.
        items: its inputs.
        lane: what runs the towers.
    """
    fused = [(number, item.features) for number, item in enumerate(items) if isinstance(item.features, FusedFeatures)]
    rows = lane.rows([part for _, features in fused for part in features.parts])
    slots, width = shape
    index, mask = np.zeros_like(packed.segments), np.zeros_like(packed.segments)
    tables, count, remaining = [np.zeros((slots, width), np.float32)], 1, iter(rows)
    for number, features in fused:
        row, start = packed.layout.row[number], packed.layout.start[number]
        for name, values in family.fused_arrays(features).items():
            arrays[name][row, start : start + len(values)] = values
        for part in features.parts:
            table = next(remaining)
            index[row, start + part.places] = slots * (count + np.arange(len(table)))
            mask[row, start + part.places] = 1
            tables.append(table.reshape(-1, width))
            count += len(table)
    if fused:
        tables.append(np.zeros((-count % _TABLE_STEP * slots, width), np.float32))
    arrays.update({"media": np.concatenate(tables), "media.index": index, "media.mask": mask})
