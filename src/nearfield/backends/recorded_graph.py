"""Tape: a graph's operations written down once, so that an eager backend need not read weights at every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nearfield.checkpoint.weights.weights import Norm
from nearfield.ops import AttentionMask, Graph, Ops


@dataclass(frozen=True, eq=False)
class Value:
    """The result of a step, or an input of the graph."""

    number: int


@dataclass(frozen=True)
class Step:
    """One operation: its name, its arguments (values by number), where its result goes, and what is then let go of."""

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: int
    last: tuple[int, ...] = ()


class RecordedGraph:
    """A graph as a list of steps. ``prepare`` turns each array of weights into what the backend keeps of it."""

    def __init__(self, graph: Graph[Any], prepare: Callable[[Any], Any]) -> None:
        self.inputs = graph.inputs
        self._prepare = prepare
        self._known: dict[int, tuple[Any, Any]] = {}
        self._count = len(graph.inputs)
        self._steps: list[Step] = []
        values = {name: Value(number) for number, name in enumerate(graph.inputs)}
        results = graph.forward(_recorder(self), values)
        self.outputs = {name: results[name].number for name in graph.outputs}
        self.steps = _with_last_uses(self._steps, set(self.outputs.values()))
        self._known.clear()  # what was prepared lives in the steps

    def record(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Value:
        """Write down one operation."""
        value = Value(self._count)
        self._count += 1
        kept = tuple(self._kept(argument) for argument in arguments)
        self._steps.append(Step(name, kept, {key: self._kept(option) for key, option in options.items()}, value.number))
        return value

    def _kept(self, argument: Any) -> Any:
        """Prepare arrays, alone or in a norm; an array that comes twice is kept once."""
        if isinstance(argument, Norm):
            return replace(argument, weight=self._kept(argument.weight), bias=self._kept(argument.bias))
        if not isinstance(argument, np.ndarray):
            return argument
        if id(argument) not in self._known:
            self._known[id(argument)] = (argument, self._prepare(argument))
        return self._known[id(argument)][1]

    def run(self, ops: Ops[Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Execute the steps; results that nobody reads any more are let go of on the way."""
        held: dict[int, Any] = {number: values[name] for number, name in enumerate(self.inputs)}
        seen: dict[int, AttentionMask[Any]] = {}
        for step in self.steps:
            arguments = [_resolved(argument, held, seen) for argument in step.arguments]
            options = {name: _resolved(option, held, seen) for name, option in step.options.items()}
            held[step.result] = getattr(ops, step.name)(*arguments, **options)
            for number in step.last:
                held.pop(number, None)
        return {name: held[number] for name, number in self.outputs.items()}


def _resolved(argument: Any, held: Mapping[int, Any], seen: dict[int, AttentionMask[Any]]) -> Any:
    if isinstance(argument, Value):
        return held[argument.number]
    if isinstance(argument, list):
        return [_resolved(item, held, seen) for item in argument]
    if not isinstance(argument, AttentionMask):
        return argument
    # One object for all layers, so that a backend finds again what it derived from it.
    if id(argument) not in seen:
        parts = {name: _resolved(getattr(argument, name), held, seen) for name in ("segments", "places", "keys")}
        seen[id(argument)] = replace(argument, **parts)
    return seen[id(argument)]


def _with_last_uses(steps: list[Step], outputs: set[int]) -> list[Step]:
    """Note at each step which values it is the last to read."""
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        for number in (step.result, *_numbers((*step.arguments, *step.options.values()))):
            last[number] = at
    ends: dict[int, list[int]] = {}
    for number, at in last.items():
        if number not in outputs:
            ends.setdefault(at, []).append(number)
    return [replace(step, last=tuple(ends.get(at, ()))) for at, step in enumerate(steps)]


def _numbers(arguments: Any) -> list[int]:
    found = []
    for argument in arguments:
        if isinstance(argument, Value):
            found.append(argument.number)
        elif isinstance(argument, list):
            found += _numbers(argument)
        elif isinstance(argument, AttentionMask):
            found += _numbers([argument.segments, argument.places, argument.keys])
    return found


def _recorder(tape: RecordedGraph) -> Ops[Value]:
    """Make an ``Ops`` each of whose primitives is written down instead of done."""

    def recorded(name: str) -> Callable[..., Value]:
        return lambda _, *arguments, **options: tape.record(name, arguments, options)

    methods = {name: recorded(name) for name in sorted(Ops.__abstractmethods__)}
    made: Ops[Value] = type("Recorder", (Ops,), methods)()
    return made
