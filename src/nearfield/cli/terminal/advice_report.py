"""Advice as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import count_of

if TYPE_CHECKING:
    from nearfield.evaluation.planning.speed.speed_model import SpeedModel

_WIDTH = 110


def render_advice(advice: JsonObject, on: str, speed: SpeedModel | None, *, explain: bool) -> str:
    """Return the report: what to take, each candidate, what to do beside the model, and what to measure next."""
    lines = [*_summary(advice), *_machine(on, speed)]
    for number, candidate in enumerate(advice["candidates"], 1):
        lines += ["", *_candidate(number, candidate)]
    lines += ["", "Beside the model:", *_approach(advice, explain=explain)]
    if advice["next"]:
        lines += ["", "Measure on your own data next:", *(f"  {command}" for command in advice["next"])]
    if explain:
        lines += ["", *_tree(advice), "", *_ruled_out(advice)]
    lines += ["", "Not known:", *_wrapped(advice["unknown"])]
    return "\n".join([*lines, "", *_trace(advice)])


def _summary(advice: JsonObject) -> Iterator[str]:
    if advice["candidates"]:
        yield from _wrapped(advice["summary"], "")
        return
    yield "No model of the catalogue meets all requirements."
    yield from _ruled_out(advice)
    for way in advice["ways_out"]:
        yield f"  With {way['change']}: {count_of(way['models'], 'model')}."


def _machine(on: str, speed: SpeedModel | None) -> Iterator[str]:
    if speed is None:
        yield "No machine was named or measured (--on): nothing is ruled out for its speed."
        return
    error = getattr(speed, "error", None)
    name = {"cpu": "this machine", "gpu": "the GPU of this machine"}.get(on.lower(), on)
    how = "from measured runs of small models" if error is None else f"by arithmetic, right within {error:g} times"
    yield f"Speeds are estimates for {name} in {speed.precision}, {how}."


def _ruled_out(advice: JsonObject) -> Iterator[str]:
    parts = [f"{count} {name}" for name, count in advice["ruled_out"].items() if count]
    fitting = count_of(advice["fitting"], "model")
    yield from _wrapped([f"Of the catalogue, {fitting} can be used. Ruled out: {', '.join(parts) or 'none'}."], "")


# -- candidates ------------------------------------------------------------------------------------------------------


def _candidate(number: int, candidate: JsonObject) -> Iterator[str]:
    yield f"{number}. {candidate['id']} ({' and '.join(candidate['roles'])}: {candidate['rule']})"
    yield from _wrapped(candidate["reasons"], "   ")
    yield from _comparison(candidate["comparison"])
    yield from _estimates(candidate)
    yield from (line for text in candidate["against"] for line in _wrapped([f"Against it: {text}"], "   "))
    yield from (line for text in candidate["unknown"] for line in _wrapped([f"Not known: {text}"], "   "))
    yield from (f"   Try: {command}" for command in candidate["commands"])


def _comparison(comparison: JsonObject | None) -> Iterator[str]:
    if comparison is None:
        return
    points, verdict = comparison["points"], comparison["verdict"]
    text = f"{points:.1f} points behind {comparison['than']}: "
    text += "alike" if verdict == "alike" else verdict.replace("better", "worse")
    if comparison["share"] is not None:
        text += f" (on tasks left out of the mean, {comparison['share']:.0%} of such leads were confirmed)"
    if len(comparison["languages"]) > 1:
        text += "; by language " + ", ".join(
            f"{code} {points:+.1f}" for code, points in comparison["languages"].items()
        )
    yield from _wrapped([text], "   ")


def _estimates(candidate: JsonObject) -> Iterator[str]:
    from nearfield.bulk.report import format_duration
    from nearfield.units import format_bytes

    speed, memory, storage = candidate["speed"], candidate["memory"], candidate["storage"]
    if speed is not None:
        texts = f"{speed['texts_per_second']:,.1f} inputs/s ({speed['tokens_per_second']:,.0f} tokens/s)"
        depth = "" if speed["reranked"] is None else f", {speed['reranked']} texts each"
        rate = speed["queries_per_second"]
        queries = "" if rate is None else f", {rate:,.1f} queries/s at half load{depth}"
        yield f"   Speed: {texts}{queries}"
        if speed["seconds_to_index"] is not None:
            yield f"   Time for all: {format_duration(speed['seconds_to_index'])}"
    if memory["model"] is not None:
        form = f"{memory['dimensions']} x {memory['dtype']}"
        vectors = f", {format_bytes(memory['vectors'])} of vectors ({form})" if memory["vectors"] else ""
        yield f"   Memory: {format_bytes(memory['model'])} for the model{vectors}"
    if storage is not None:
        whole = f", of it {format_bytes(storage['whole'])} for whole vectors" if storage["whole"] else ""
        yield f"   Disk: {format_bytes(storage['lancedb'])} with LanceDB's index{whole}, without the inputs"


# -- the way ---------------------------------------------------------------------------------------------------------


def _approach(advice: JsonObject, *, explain: bool) -> Iterator[str]:
    for step in advice["approach"]:
        yield from _wrapped([f"{step['question']} {step['answer']}: {step['advice']}"])
        if explain:
            yield from _wrapped([f"Because: {step['because']} ({step['source']})"], "      ")
        if step["command"]:
            yield f"      {step['command']}"
    for language, points in advice["words"].items():
        yield f"  Search by words alone (BM25) has {points:.1f} points by the same figures in {language}."


def _tree(advice: JsonObject) -> Iterator[str]:
    """Yield the whole decision tree; the answers that apply are marked."""
    from nearfield.evaluation.planning.advice.approach import decision_tree

    taken = {step["question"]: step["answer"] for step in advice["approach"]}
    yield "The decision tree (* marks your answers):"
    for question in decision_tree():
        yield f"  {question.ask}"
        for answer in question.answers:
            mark = "*" if taken.get(question.ask) == answer.label else " "
            yield from _wrapped([f"{answer.label}: {answer.advice}"], f"    {mark} ")


def _trace(advice: JsonObject) -> Iterator[str]:
    if advice["candidates"]:
        yield f"Where a figure is from, task by task: nearfield models figures {advice['candidates'][0]['id']}"


def _wrapped(texts: list[str], indent: str = "  ") -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(
            text, _WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent), break_on_hyphens=False
        )
