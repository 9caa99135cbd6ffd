"""Fit a bridge between two models on sample texts, choose its form, and measure what searches through it lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearfield import __version__
from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.significance import paired_test
from nearfield.message_text import count_of
from nearfield.training.light.bridge_forms import BridgeCandidate, candidates
from nearfield.training.light.vector_sets import VectorSystem, by_text, encode_full, unit
from nearfield.training.overlap.normalised import normalise
from nearfield.vectors.vector_map import VectorMap

#: Different texts below which no part is large enough.
MIN_TEXTS = 100
#: Shares of the texts that choose the form and that measure it, and the most that each takes.
DEV_SHARE, TEST_SHARE, MAX_PART = 0.15, 0.2, 1_000
#: Results that are compared.
CUTOFF = 10
#: Points that a bridge may lose unless more are accepted: of the new model's first ten results, and of a figure with
#: judgments (a result that was lost is often replaced by one that is as good).
MAX_RECALL_LOSS, MAX_JUDGED_LOSS = 25.0, 5.0
_SAMPLES = 2_000


@dataclass(frozen=True)
class BridgeProof:
    """A bridge and its measures, all in points of 100 with an interval of 95%.

    ``recall`` is the share of the new model's first ten results that a search through the bridge finds too, in an index
    of the old model. ``old`` is the same share for the old model's queries: an index of the old model gives no more
    to anyone. ``labelled`` are figures on a data set with judgments, if there is one.
    """

    bridge: VectorMap
    recall: JsonDict
    old: JsonDict
    tried: Sequence[JsonDict]
    labelled: JsonDict | None

    @property
    def loss(self) -> JsonDict:
        """What is lost against an index of the new model: score and interval, in points."""
        if self.labelled is not None:
            comparison = self.labelled["comparison"]
            low, high = comparison["interval"]
            return {"measure": self.labelled["main"], "score": -comparison["difference"], "interval": [-high, -low]}
        low, high = self.recall["interval"]
        return {"measure": f"recall@{CUTOFF}", "score": 100 - self.recall["score"], "interval": [100 - high, 100 - low]}

    def refusal(self, max_loss: float | None = None) -> str | None:
        """Return why the bridge should not be used: it loses more points than may be lost; None if it may be used.

        ``max_loss`` takes the place of ``MAX_RECALL_LOSS``, or of ``MAX_JUDGED_LOSS`` where there are judgments.
        """
        allowed = (MAX_RECALL_LOSS if self.labelled is None else MAX_JUDGED_LOSS) if max_loss is None else max_loss
        if self.loss["score"] <= allowed:
            return None
        fitted = self.bridge.facts["parts"]["fit"]
        return (
            f"the loss of {self.loss['score']:.1f} points of {self.loss['measure']} is above {allowed:g}. Name more "
            f"texts than the {fitted} that it was fitted on, or accept the loss: --max-loss {self.loss['score']:.0f}"
        )

    def to_text(self) -> str:
        """Return the figures as lines for a terminal."""
        facts, loss = self.bridge.facts, self.loss
        low, high = loss["interval"]
        first = (
            f"{facts['to']} -> index of {facts['from']}: {facts['form']}"
            + (f" ({facts['setting']})" if facts["setting"] else "")
            + f", fitted on {count_of(facts['parts']['fit'], 'text')}"
        )
        second = (
            f"recall of the first {CUTOFF} results of {facts['to']}: {_score(self.recall)} through the bridge, "
            f"{_score(self.old)} with queries of {facts['from']}"
        )
        lines = [first, second]
        if self.labelled is not None:
            figures = ", ".join(f"{name} {_score(self.labelled[name])}" for name in ("old", "bridge", "new"))
            lines.append(f"{self.labelled['main']} on {self.labelled['name']}: {figures}")
        lines.append(f"loss against embedding again: {loss['score']:.1f} points of {loss['measure']}")
        lines[-1] += f" (95% {low:.1f} to {high:.1f})"
        return "\n".join(lines)


def fit_bridge(
    old: Encoder,
    new: Encoder,
    texts: Sequence[str],
    *,
    test: Dataset | None = None,
    seed: int = 1,
    progress: bool | None = False,
) -> BridgeProof:
    """Fit a bridge that moves queries of the new model into an index of the old one; nothing is written.

    Args:
        old: the model of the index.
        new: the model that takes its place.
        texts: a sample of what the index has; equal texts count once.
        test: a retrieval set on which the loss is measured with judgments.
        seed: of the split and of random features.
        progress: show bars.

    Raises:
        InputError: there are too few texts, both models have one space, or a model gives no dense vectors.
    """
    require_count("seed", seed, 0)
    different = list({normalise(text): text for text in texts if text.strip()}.values())
    if len(different) < MIN_TEXTS:
        raise InputError(
            f"{count_of(len(different), 'different text')}: at least {MIN_TEXTS} are needed, and some thousands make a "
            "better bridge.",
            param="texts",
        )
    if test is not None and not isinstance(test.rows, Retrieval):
        raise InputError(f"The test of a bridge is a retrieval set, and {test.name} is one for {test.task}.")
    return _BridgeFit(old, new, different, seed, progress).prove(test)


class _BridgeFit:
    """The parts of the texts and their vectors by both models."""

    def __init__(self, old: Encoder, new: Encoder, texts: list[str], seed: int, progress: bool | None) -> None:
        self._old, self._new, self._seed, self._progress = old, new, seed, progress
        self._source, self._target = (encode_full(model, [], "query")[1] for model in (new, old))
        if self._source == self._target:
            raise InputError(f"{old.name} and {new.name} have one vector space: an index of one serves the other.")
        order = np.random.default_rng(seed).permutation(len(texts))
        shuffled = [texts[number] for number in order]
        test, dev = (min(MAX_PART, int(share * len(texts))) for share in (TEST_SHARE, DEV_SHARE))
        self._parts = {"test": shuffled[:test], "dev": shuffled[test : test + dev], "fit": shuffled[test + dev :]}
        self._queries = {
            name: tuple(encode_full(model, part, "query", progress=progress)[0] for model in (old, new))
            for name, part in self._parts.items()
        }
        index = [encode_full(model, self._parts["fit"], "document", progress=progress)[0] for model in (old, new)]
        self._old_index, self._new_index = map(unit, index)

    def prove(self, test: Dataset | None) -> BridgeProof:
        """Choose a candidate on the dev part, and measure it on the test part, once."""
        old, new = self._queries["fit"]
        tried = [(self._recall_of("dev", candidate), candidate) for candidate in candidates(new, old, seed=self._seed)]
        # The simplest of equal ones: they come in that order.
        best = max(range(len(tried)), key=lambda number: (round(float(tried[number][0].mean()), 3), -number))
        bridge, chosen = self._map(tried[best][1]), tried[best][1]
        recall = _mean(self._recall_of("test", chosen), self._seed)
        original = _mean(100 * self._overlap("test", self._queries["test"][0]), self._seed)
        listed = [
            {"form": candidate.name, "setting": candidate.setting, "recall_on_dev": float(values.mean())}
            for values, candidate in tried
        ]
        facts = {
            "from": self._old.name,
            "to": self._new.name,
            "form": chosen.name,
            "setting": chosen.setting,
            "parts": {name: len(part) for name, part in self._parts.items()},
            "seed": self._seed,
            "version": __version__,
        }
        bridge = replace(bridge, facts=facts)
        labelled = None if test is None else self._labelled(bridge, test)
        proof = BridgeProof(bridge, recall, original, listed, labelled)
        facts |= {"recall": recall, "old": original, "loss": proof.loss, "labelled": labelled, "tried": listed}
        return replace(proof, bridge=replace(bridge, facts=facts))

    def _map(self, candidate: BridgeCandidate) -> VectorMap:
        tensors = {name: tensor.astype(np.float32) for name, tensor in candidate.tensors.items()}
        is_unit = self._old.recipe.normalized
        return VectorMap("bridge", candidate.form, self._source, self._target, tensors, is_unit)

    def _recall_of(self, part: str, candidate: BridgeCandidate) -> Array:
        """Return for each query of a part the share of the new model's results that it keeps, in points."""
        return np.asarray(100 * self._overlap(part, self._map(candidate).apply(self._queries[part][1])))

    def _overlap(self, part: str, queries: Array) -> Array:
        expected = _first(self._queries[part][1], self._new_index)
        results = _first(queries, self._old_index)
        shared = (expected[:, :, None] == results[:, None, :]).any(2)
        return np.asarray(shared.mean(1))

    def _labelled(self, bridge: VectorMap, test: Dataset) -> JsonDict:
        assert isinstance(test.rows, Retrieval)
        queries, documents = list(test.rows.queries.values()), list(test.rows.documents.values())
        sides = {
            name: (
                by_text(model, queries, "query", progress=self._progress),
                by_text(model, documents, "document", progress=self._progress),
            )
            for name, model in (("old", self._old), ("new", self._new))
        }
        systems = {name: VectorSystem(name, *vectors) for name, vectors in sides.items()}
        systems["bridge"] = VectorSystem("bridge", sides["new"][0], sides["old"][1], bridge)
        results = {name: evaluate(system, test, seed=self._seed) for name, system in systems.items()}
        figures = {name: {key: result[key] for key in ("score", "interval")} for name, result in results.items()}
        comparison = paired_test(results["bridge"], results["new"], seed=self._seed)
        return {"name": test.name, "digest": test.digest, "main": results["new"]["main"], **figures} | {
            "comparison": comparison
        }


def _first(queries: Array, index: Array) -> Array:
    """Return the numbers of the first documents for each query, in any order."""
    count = min(CUTOFF, len(index))
    rows = [np.argpartition(-(index @ query), count - 1)[:count] for query in unit(queries)]
    return np.stack(rows)


def _mean(values: Array, seed: int) -> JsonDict:
    """Return the mean with its percentile bootstrap interval."""
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(_SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"score": float(values.mean()), "interval": [float(low), float(high)]}


def _score(figure: JsonDict) -> str:
    low, high = figure["interval"]
    return f"{figure['score']:.1f} (95% {low:.1f} to {high:.1f})"
