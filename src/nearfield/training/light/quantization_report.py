"""What quantising a model saves and costs, and why a folder is not written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.evaluation.json_types import JsonDict
from nearfield.message_text import count_of, quote_name
from nearfield.units import format_bytes

#: Letters of a text that a terminal shows.
_SHOWN = 80


@dataclass(frozen=True)
class QuantizationReport:
    """A quantised model beside the model in float32.

    Args:
        model: its name.
        precision: int8 or int4.
        weights: bytes of the weights in float32, and as they are stored.
        memory: bytes that loading took before and after; None: not known.
        speed: texts per second against float32, of 80 texts in one run; None: not measured.
        sets: for each data set its name, metric, scores ``before`` and ``after``, and of the difference the 95%
            ``interval`` and ``p`` of a paired test.
        cosines: of the vectors of texts before and after: number of texts, least and mean, and the ``worst`` texts;
            None: the model has no dense vectors.
        max_loss: points that each data set may lose.
        accept_unmeasured: whether the folder is written without a data set.
    """

    model: str
    precision: str
    weights: tuple[int, int]
    memory: tuple[int | None, int | None]
    speed: float | None
    sets: Sequence[JsonDict]
    cosines: JsonDict | None
    max_loss: float
    accept_unmeasured: bool

    @property
    def refusal(self) -> str | None:
        """Why the folder is not written; None: it is."""
        if not self.sets and not self.accept_unmeasured:
            return (
                "no data set was measured, and cosines do not say what a task loses. Name one or more of your task "
                "(--data; see the guide on evaluating), or write it all the same with --accept-unmeasured"
            )
        fallen = [one for one in self.sets if one["before"] - one["after"] > self.max_loss]
        if not fallen:
            return None
        losses = ", ".join(f"{one['dataset']} loses {one['before'] - one['after']:.2f} points" for one in fallen)
        advice = "take int8, or " if self.precision == "int4" else ""
        return f"{losses}, and {self.max_loss:g} may be lost: {advice}accept more with --max-loss"

    def to_dict(self) -> JsonDict:
        """Return the figures as JSON data."""
        return {**vars(self), "weights": list(self.weights), "memory": list(self.memory), "sets": list(self.sets)}

    def to_text(self) -> str:
        """Return the figures as lines for a terminal."""
        lines = [f"{self.model} in {self.precision}: weights {_bytes(self.weights)}"]
        if None not in self.memory:
            lines[0] += f", memory of the loaded model {_bytes(self.memory)}"
        if self.speed is not None:
            lines[0] += f", {self.speed:.2f} times the speed of float32"
        lines += [_describe_set(one) for one in self.sets]
        return "\n".join(lines + self._cosine_lines())

    def _cosine_lines(self) -> list[str]:
        if self.cosines is None:
            return []
        facts = self.cosines
        first = f"vectors of {count_of(facts['texts'], 'text')}: cosine to float32 at least {facts['least']:.4f}"
        worst = [f"  {one['cosine']:.4f} {quote_name(one['text'][:_SHOWN])}" for one in facts["worst"]]
        return [f"{first}, mean {facts['mean']:.4f}; the lowest:", *worst]


def _bytes(pair: tuple[int | None, int | None]) -> str:
    return " -> ".join(format_bytes(one or 0) for one in pair)


def _describe_set(one: JsonDict) -> str:
    low, high = one["interval"]
    return (
        f"{one['dataset']}: {one['metric']} {one['before']:.2f} -> {one['after']:.2f} "
        f"({one['after'] - one['before']:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, p = {one['p']:.3f})"
    )
