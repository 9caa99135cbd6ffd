"""The way beside the model: a decision tree from facts of a need to advice, read from ``decisions.toml``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

from nearfield.catalog import CatalogEntry
from nearfield.evaluation.planning.advice.candidates import ModelCandidate, matching_models
from nearfield.evaluation.planning.advice.purposes import best_figure
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.speed.speed_model import SpeedModel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fact = str | int


@dataclass(frozen=True)
class TreeAnswer:
    """An answer to a question: when it applies, and what follows, with the reason and its source."""

    label: str
    advice: str
    because: str
    source: str
    values: tuple[str, ...] = ()
    below: int | None = None
    command: str | None = None

    def applies(self, fact: Fact) -> bool:
        """Return whether a fact is one of the values, or below the number; without either always."""
        if self.values:
            return fact in self.values
        return self.below is None or int(fact) < self.below


@dataclass(frozen=True)
class TreeQuestion:
    """A question of the tree about one fact. It is asked for some purposes alone; empty: for all."""

    fact: str
    ask: str
    answers: tuple[TreeAnswer, ...]
    purposes: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def decision_tree() -> tuple[TreeQuestion, ...]:
    """Return the questions in their order."""
    rows = tomllib.loads((files(__package__) / "decisions.toml").read_text(encoding="utf-8"))["question"]
    return tuple(
        TreeQuestion(row["fact"], row["ask"], tuple(map(_answer, row["answer"])), tuple(row.get("purposes", ())))
        for row in rows
    )


def _answer(row: Mapping[str, str]) -> TreeAnswer:
    fields = {name: value for name, value in row.items() if name != "is"}
    return TreeAnswer(values=tuple(row.get("is", ())), **fields)  # type: ignore[arg-type]


def path_through(facts: Mapping[str, Fact], purpose: str) -> Iterator[tuple[TreeQuestion, TreeAnswer]]:
    """Yield each question that is asked for a purpose, with the answer that applies."""
    for question in decision_tree():
        if question.fact in facts and (not question.purposes or purpose in question.purposes):
            yield question, next(answer for answer in question.answers if answer.applies(facts[question.fact]))


def facts_of(
    need: Requirements,
    candidates: Sequence[ModelCandidate],
    entries: Sequence[CatalogEntry],
    speed: SpeedModel | None,
    reranking: str,
) -> dict[str, Fact]:
    """Return the facts that the tree asks for; ``reranking`` is that of ``affordable_reranker``."""
    facts: dict[str, Fact] = {
        "purpose": need.purpose,
        "tokens": need.tokens,
        "texts": need.texts,
        "reranker": reranking,
    }
    if (form := _form(need, candidates, entries, speed)) is not None:
        facts["form"] = form
    if need.aim.has_languages:
        facts["languages"] = _languages(need)
    if need.output == "scores":
        del facts["texts"]
    return facts


def _languages(need: Requirements) -> str:
    if need.languages == ("en",):
        return "english"
    if any(best_figure(need.aim.figure.replace("{language}", code)) is None for code in need.languages):
        return "unmeasured"
    return "one" if len(need.languages) == 1 else "several"


def _form(
    need: Requirements, candidates: Sequence[ModelCandidate], entries: Sequence[CatalogEntry], speed: SpeedModel | None
) -> str | None:
    """Return the form of the first candidate's vectors; None: another limit than memory rules all out, or not dense.

    Sparse vectors and those of tokens are stored whole.
    """
    if need.output != "dense":
        return None
    if not candidates:
        relaxed = replace(need, memory=None)
        return "nothing" if need.memory is not None and matching_models(relaxed, entries, speed)[0] else None
    form, entry = candidates[0].form, candidates[0].entry
    if form.dtype == "binary":
        return "bits"
    return "whole" if form.dtype == "float32" and form.dimensions == entry.dimensions else "shortened"


def affordable_reranker(
    need: Requirements, entries: Sequence[CatalogEntry], speed: SpeedModel | None
) -> tuple[str, str | None]:
    """Return whether a reranker can be afforded (yes, few, no or unknown), and the id of the first that can."""
    if speed is None:
        return "unknown", None
    second = rerank_need(need)
    candidates, _ = matching_models(second, entries, speed)
    if not candidates:
        return "no", None
    deepest = max(candidates, key=lambda candidate: candidate.reranked)
    first = next(candidate for candidate in candidates if candidate.reranked == deepest.reranked)
    return ("yes" if first.reranked >= second.reranked else "few"), first.entry.id


def rerank_need(need: Requirements) -> Requirements:
    """Return the need of a reranker for the same texts, chunks of at most 256 tokens, and queries."""
    return Requirements(
        purpose="rerank",
        languages=need.languages,
        tokens=min(need.tokens, 256),
        queries_per_second=need.queries_per_second,
        query_tokens=need.query_tokens,
        memory=need.memory,
        commercial=need.commercial,
        licences=need.licences,
        index_hours=None,
    )
