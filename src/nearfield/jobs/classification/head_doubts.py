"""Reasons not to trust a head: it is as good as chance, or its test has texts from which it has learnt."""

from __future__ import annotations

from collections import Counter

from nearfield.evaluation.json_types import JsonDict
from nearfield.jobs.classification.examples import LabelExamples
from nearfield.message_text import count_of
from nearfield.training.overlap.normalised import normalise


def find_doubts(
    examples: LabelExamples, test: LabelExamples | None, figures: JsonDict | None, measured: JsonDict | None
) -> list[str]:
    """Return warnings for a person.

    Args:
        examples: what a head has learnt from.
        test: what it was measured on.
        figures: those of cross-validation, if there are any.
        measured: those of the test.
    """
    doubts = [] if test is None else _describe_overlap(examples, test)
    judged = [(figures, examples), (measured, test)]
    return doubts + [
        text for rows, source in judged if rows and source and (text := _describe_chance(rows, source)) is not None
    ]


def _describe_overlap(examples: LabelExamples, test: LabelExamples) -> list[str]:
    learnt = set(map(normalise, examples.texts))
    count = sum(normalise(text) in learnt for text in test.texts)
    if not count:
        return []
    part = f"{count:,} of {count_of(len(test.texts), 'text')} of the test"
    return [f"{part} are among the examples: the figures of the test are too good. Take them out."]


def _describe_chance(figures: JsonDict, source: LabelExamples) -> str | None:
    """Return a warning if the interval of the accuracy includes what the most frequent label alone would reach."""
    labels, count = Counter(tuple(sorted(labels)) for labels in source.labels_of).most_common(1)[0]
    share = 100 * count / len(source.texts)
    if figures["interval"][0] > share or count == len(source.texts):
        return None
    name = ", ".join(labels) or "(none)"
    return (
        f"an accuracy of {figures['accuracy']:.1f} is no better than to answer {name!r} always ({share:.1f}): there "
        "are too few examples, or the labels do not follow from the texts."
    )
