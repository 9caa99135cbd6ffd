"""The exchange that classifies texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.errors import InputError
from nearfield.inference.calls.prediction import Prediction
from nearfield.reranker import Classifier, Scorer
from nearfield.server.exchange.exchange import Bounds, check_inputs
from nearfield.server.exchange.scored import ScoredExchange
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription


@dataclass(kw_only=True)
class Predict(ScoredExchange):
    """Compute the scores of all labels for texts, or pairs of texts."""

    inputs: Sequence[Any]
    predictions: list[Prediction] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.inputs)

    @property
    def number_count(self) -> int:
        return 0 if self.scores is None else int(self.scores.data.size)

    def fits(self, model: ModelDescription) -> bool:
        return not model.is_encoder

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(f"{model.name} is no classifier: its outputs are {', '.join(model.outputs)}.", param="model")

    def check(self, limits: RequestLimits) -> None:
        check_inputs(self.inputs, limits, "inputs")

    async def run(self, model: Scorer, bounds: Bounds) -> None:
        limits = bounds.call_limits(model, self.size)
        if isinstance(model, Classifier):
            classified = await model.run_predict(self.inputs, self.options, limits)
            self.predictions, self.scores = classified.result
            self.stage_seconds.update(classified.timings)
            return
        firsts, seconds = _split_pairs(self.inputs, model)
        options = self.options
        if self.bounded and options.activation is None:
            options = replace(options, activation="sigmoid")
        scored = await model.run_score(firsts, seconds, options, limits)
        self.scores = scored.result
        self.stage_seconds.update(scored.timings)
        label = model.labels[0]
        self.predictions = [Prediction(label, float(row[0]), {label: float(row[0])}) for row in self.scores.data]


def _split_pairs(inputs: Sequence[Any], model: Scorer) -> tuple[list[str], list[str]]:
    if not all(isinstance(item, (list, tuple)) and len(item) == 2 for item in inputs):
        raise InputError(f"{model.name} scores pairs of texts: give pairs.", param="inputs")
    return [first for first, _ in inputs], [second for _, second in inputs]
