"""Generator of ``decisions.md``: the decision tree of ``nearfield advise``."""

from __future__ import annotations

from collections.abc import Iterator

from nearfield.evaluation.planning.advice.approach import TreeAnswer, TreeQuestion, decision_tree
from nearfield.evaluation.planning.advice.purposes import PURPOSES
from nearfield.evaluation.planning.advice.roles import ROLES
from nearfield.evaluation.planning.advice.vector_forms import losses
from tools.reference.markdown import join_page, render_table

PAGE = "decisions.md"
_INTRO = """What `nearfield advise` asks, and what follows from each answer. `nearfield advise --explain` prints this tree with your
answers marked. `nearfield models figures MODEL` shows where a published figure is from, task by task.

This page is generated from the tables of the advice by `python -m tools.reference`."""


def render() -> str:
    """Return the whole page."""
    questions = [part for question in decision_tree() for part in _question(question)]
    purposes = render_table(("purpose", "for", "compared by"), _purposes())
    roles = render_table(("candidate", "rule"), ((role.name, role.rule) for role in ROLES.values()))
    forms = render_table(("vectors", "share of the quality", "source"), _forms())
    parts = ["## Purposes", purposes, "## Candidates", roles, "## Shorter and coarser vectors", forms]
    return join_page("Decision tree", _INTRO, *questions, *parts)


def _question(question: TreeQuestion) -> Iterator[str]:
    yield f"## {question.ask}"
    if question.purposes:
        yield f"Asked for {', '.join(question.purposes)}."
    yield "\n".join(_answer(answer) for answer in question.answers)


def _answer(answer: TreeAnswer) -> str:
    command = f" `{answer.command}`" if answer.command else ""
    return f"- **{answer.label}**: {answer.advice} {answer.because} Source: {answer.source}.{command}"


def _purposes() -> Iterator[tuple[str, ...]]:
    for purpose in PURPOSES.values():
        instead = f"; without figures of the language: `{purpose.stand_in}`" if purpose.stand_in else ""
        yield f"`{purpose.name}`", purpose.summary, f"`{purpose.figure}`{instead}"


def _forms() -> Iterator[tuple[str, ...]]:
    for row in losses()["dtype"]:
        yield row["name"], f"{row['share']:.1%}", row["source"]
    for row in losses()["dimensions"]:
        yield f"from {row['from']:.0%} of the dimensions", f"{row['share']:.1%}", row["source"]
