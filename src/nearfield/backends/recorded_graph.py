"""`RecordedGraph`: a graph as a list of operations, so that an eager backend need not read weights for every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Norm
from nearfield.ops import AttentionMask, Graph, Ops, T

#: An argument of an operation: a value, an array of weights, a norm, a mask, a list of values, or a plain option.
Argument: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class Value:
    """The result of a step, or an input of the graph."""

    number: int


@dataclass(frozen=True)
class Step:
    """One operation: its name, arguments (values by number), result, and the values whose last use it is."""

    name: str
    arguments: tuple[Argument, ...]
    options: Mapping[str, Argument]
    result: int
    last: tuple[int, ...] = ()


class RecordedGraph:
    """A graph as a list of steps. ``prepare`` converts each array of weights for the backend."""

    def __init__(self, graph: Graph, prepare: Callable[[Array], object]) -> None:
        self.inputs = graph.inputs
        self._prepare = prepare
        self._known: dict[int, tuple[Array, object]] = {}
        self._count = len(graph.inputs)
        self._steps: list[Step] = []
        values = {name: Value(number) for number, name in enumerate(graph.inputs)}
        results = graph.forward(_recorder(self), values)
        self.outputs = {name: results[name].number for name in graph.outputs}
        self.steps = _with_last_uses(self._steps, set(self.outputs.values()))
        self._known.clear()  # the steps refer to what was prepared

    def __getstate__(self) -> dict[str, object]:
        """Return what ``run`` needs: a recorded graph can be pickled if what was prepared can."""
        return {name: getattr(self, name) for name in ("inputs", "outputs", "steps")}

    def record(self, name: str, arguments: tuple[Argument, ...], options: Mapping[str, Argument]) -> Value:
        """Record one operation."""
        value = Value(self._count)
        self._count += 1
        prepared = tuple(self._prepared(argument) for argument in arguments)
        self._steps.append(
            Step(name, prepared, {key: self._prepared(option) for key, option in options.items()}, value.number)
        )
        return value

    def _prepared(self, argument: Argument) -> Argument:
        """Prepare arrays, alone or in a norm; an array that is used twice is prepared once."""
        if isinstance(argument, Norm):
            return replace(argument, weight=self._prepared(argument.weight), bias=self._prepared(argument.bias))
        if not isinstance(argument, np.ndarray):
            return argument
        if id(argument) not in self._known:
            self._known[id(argument)] = (argument, self._prepare(argument))
        return self._known[id(argument)][1]

    def run(self, ops: Ops[T], values: Mapping[str, T]) -> dict[str, T]:
        """Execute the steps; each result is released after its last use."""
        results = {number: values[name] for number, name in enumerate(self.inputs)}
        resolved_masks: dict[int, AttentionMask[T]] = {}
        for step in self.steps:
            arguments = [_resolved(argument, results, resolved_masks) for argument in step.arguments]
            options = {name: _resolved(option, results, resolved_masks) for name, option in step.options.items()}
            results[step.result] = getattr(ops, step.name)(*arguments, **options)
            for number in step.last:
                results.pop(number, None)
        return {name: results[number] for name, number in self.outputs.items()}


def _resolved(argument: Argument, results: Mapping[int, T], resolved_masks: dict[int, AttentionMask[T]]) -> Argument:
    if isinstance(argument, Value):
        return results[argument.number]
    if isinstance(argument, list):
        return [_resolved(item, results, resolved_masks) for item in argument]
    if not isinstance(argument, AttentionMask):
        return argument
    # One object for all layers, so that a backend can cache what it derives from it.
    if id(argument) not in resolved_masks:
        parts = {
            name: _resolved(getattr(argument, name), results, resolved_masks) for name in ("segments", "places", "keys")
        }
        resolved_masks[id(argument)] = replace(argument, **parts)
    return resolved_masks[id(argument)]


def _with_last_uses(steps: list[Step], outputs: set[int]) -> list[Step]:
    """Record at each step which values it is the last to read."""
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        for number in (step.result, *_numbers((*step.arguments, *step.options.values()))):
            last[number] = at
    ends: dict[int, list[int]] = {}
    for number, at in last.items():
        if number not in outputs:
            ends.setdefault(at, []).append(number)
    return [replace(step, last=tuple(ends.get(at, ()))) for at, step in enumerate(steps)]


def _numbers(arguments: Iterable[Argument]) -> list[int]:
    numbers = []
    for argument in arguments:
        if isinstance(argument, Value):
            numbers.append(argument.number)
        elif isinstance(argument, list):
            numbers += _numbers(argument)
        elif isinstance(argument, AttentionMask):
            numbers += _numbers([argument.segments, argument.places, argument.keys])
    return numbers


def _recorder(graph: RecordedGraph) -> Ops[Value]:
    """Return an ``Ops`` that records each primitive instead of running it."""

    def recorded(name: str) -> Callable[..., Value]:
        return lambda _, *arguments, **options: graph.record(name, arguments, options)

    methods = {name: recorded(name) for name in sorted(Ops.__abstractmethods__)}
    recorder: Ops[Value] = type("Recorder", (Ops,), methods)()
    return recorder
