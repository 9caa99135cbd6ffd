"""`DevCurve`: loss and dev figure at each measurement of a run, the best step, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field

from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: The first measurements that all lie below the base, by this many points, mean that training makes the model worse.
_FALLING, _FALL = 3, 1.0


@dataclass
class DevCurve:
    """The measurements of a run; the first is that of the base, at step 0.

    Args:
        metric: the name of the figure.
        patience: measurements without a new best one after which training stops.
        points: ``step``, ``dev``, ``loss`` (the mean since the last measurement) and ``seconds`` of each measurement,
            and whether its weights are ``usable``.
    """

    metric: str
    patience: int
    points: list[JsonDict] = field(default_factory=list)

    def add(self, step: int, dev: float, loss: float | None, seconds: float, *, usable: bool = True) -> bool:
        """Add a measurement; return whether it is the best so far. One that is not usable ends the run."""
        best = self.best["dev"] if self.points else float("-inf")
        self.points.append({"step": step, "dev": dev, "loss": loss, "seconds": seconds, "usable": usable})
        return usable and dev > best

    @property
    def best(self) -> JsonDict:
        """The best usable measurement, the first of equal ones."""
        return max((point for point in self.points if point["usable"]), key=lambda point: point["dev"])

    @property
    def stops(self) -> bool:
        """Whether the last ``patience`` measurements brought nothing, or the last one is not usable."""
        place = self.points.index(self.best)
        return len(self.points) - 1 - place >= self.patience or not self.points[-1]["usable"]

    @property
    def fell_at_once(self) -> bool:
        """Whether the dev figure was clearly below the base's from the first measurement on."""
        first = self.points[1 : 1 + _FALLING]
        return len(first) == _FALLING and all(point["dev"] < self.points[0]["dev"] - _FALL for point in first)

    def to_dict(self) -> JsonDict:
        """Return the curve in a form for JSON."""
        return {"metric": self.metric, "patience": self.patience, "points": self.points}

    @classmethod
    def from_dict(cls, values: JsonMapping) -> DevCurve:
        """Return the curve that ``to_dict`` returned."""
        return cls(values["metric"], values["patience"], list(values["points"]))
