"""nearfield advise: models for given languages, texts, memory and hardware."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject, Keywords
from nearfield.message_text import count_of

if TYPE_CHECKING:
    from nearfield.evaluation.planning.advice.requirements import Requirements
    from nearfield.evaluation.planning.speed.calibration import Calibration

EXAMPLES = """Examples:

nearfield advise

nearfield advise --languages en --tokens 256 --texts 1M --queries 20 --memory 8GB

nearfield advise --languages de,fr --tokens 512 --texts 200k --kind multivector --json

nearfield advise --tokens 512 --licences mit --weights quality=1,speed=0.2,memory=0 --hardware elsewhere

On a terminal the command asks for every value without a flag; --yes uses the defaults instead."""

#: Questions on a terminal: the flag, the question, and the default.
_QUESTIONS = (
    ("languages", "Languages of the texts, as codes separated by commas", "en"),
    ("tokens", "Tokens per text (or per chunk, if documents are split)", "256"),
    ("texts", "Number of texts (or chunks)", "100k"),
    ("queries", "Queries per second", "1"),
    ("memory", "Memory for the model and the vectors, such as 8GB (empty: no limit)", ""),
    ("commercial", "Is the use commercial (yes, no)", "yes"),
    ("hardware", "Hardware (cpu or gpu of this machine, or elsewhere)", "cpu"),
    ("kind", "Output (dense, sparse, multivector, or scores for reranking)", "dense"),
)
_HARDWARE: dict[str, Keywords | None] = {
    "cpu": {},
    "gpu": {"backend": "torch", "device": "cuda"},
    "elsewhere": None,
}


def advise(
    languages: Annotated[
        str | None, typer.Option(help="Languages of the texts, as codes separated by commas [en].")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens per text, or per chunk if documents are split [256].")
    ] = None,
    texts: Annotated[str | None, typer.Option(help="Number of texts, such as 200k [100k].")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries per second [1].")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory for the model and the vectors, such as 8GB [no limit].")
    ] = None,
    commercial: Annotated[
        str | None, typer.Option(help="yes or no: whether the licence must allow commercial use [yes].")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="cpu or gpu of this machine, or elsewhere: no speed is estimated [cpu].")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Output: dense, sparse, multivector or scores [dense].")] = None,
    licences: Annotated[
        str, typer.Option("--licences", "--licenses", help="Only these licences, separated by commas.")
    ] = "",
    query_tokens: Annotated[int, typer.Option(help="Tokens per query.")] = 16,
    index_hours: Annotated[float, typer.Option(help="Maximum hours for embedding all texts; 0 for no limit.")] = 48.0,
    weights: Annotated[
        str, typer.Option(help="Weights of quality, speed and memory in the ranking.")
    ] = "quality=0.6,speed=0.25,memory=0.15",
    count: Annotated[int, typer.Option(help="Maximum number of models to propose.", min=1)] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; use the defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and ask nothing.")] = False,
) -> None:
    """Propose models for your texts and hardware.

    Each proposal has its reasons, its speed on this machine, and its storage.
    """
    from nearfield import hub
    from nearfield.evaluation.planning.advice import advisor as adviser

    flags = {
        "languages": languages,
        "tokens": tokens,
        "texts": texts,
        "queries": queries,
        "memory": memory,
        "commercial": commercial,
        "hardware": hardware,
        "kind": kind,
    }
    answers = _answers(flags, asks=sys.stdin.isatty() and not (yes or as_json))
    requirements = _requirements(answers, licences, query_tokens, index_hours, weights)
    calibration = _calibrate(answers["hardware"], quiet=as_json)
    here = {model.name for model in hub.cached_models()}
    advice = adviser.advise(requirements, calibration, here=here, count=count)
    typer.echo(json.dumps(advice) if as_json else _format(advice))
    if not advice["candidates"]:
        raise typer.Exit(1)


def _answers(flags: dict[str, str | None], *, asks: bool) -> dict[str, str]:
    answers = {}
    for name, question, default in _QUESTIONS:
        value = flags[name]
        if value is None and asks:
            value = str(typer.prompt(question, default=default, show_default=bool(default)))
        answers[name] = default if value is None else value.strip()
    return answers


def _requirements(
    answers: dict[str, str], licences: str, query_tokens: int, index_hours: float, weights: str
) -> Requirements:
    from nearfield import units
    from nearfield.evaluation.planning.advice.requirements import Requirements

    return Requirements(
        languages=tuple(_split_commas(answers["languages"].lower())),
        tokens=units.parse_count(answers["tokens"]),
        texts=units.parse_count(answers["texts"]),
        queries_per_second=_number("queries", answers["queries"]),
        query_tokens=query_tokens,
        memory=units.parse_size(answers["memory"]) if answers["memory"] else None,
        commercial=_yes(answers["commercial"]),
        licences=tuple(_split_commas(licences)),
        kind=answers["kind"],
        index_hours=index_hours or None,
        weights=_parse_weights(weights),
    )


def _parse_weights(text: str) -> dict[str, float]:
    from nearfield.argument_checks import require_once

    parts = [part.partition("=") for part in _split_commas(text)]
    require_once("weights", (name for name, _, _ in parts))
    return {name: _number("weights", value) for name, _, value in parts}


def _split_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(name: str, text: str) -> float:
    from nearfield.errors import InputError

    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number ({name}).", param=name) from None


def _yes(text: str) -> bool:
    from nearfield.errors import InputError

    if text.lower() not in ("yes", "y", "no", "n"):
        raise InputError(f"Answer yes or no to whether the use is commercial, not {text!r}.", param="commercial")
    return text.lower().startswith("y")


def _calibrate(hardware: str, *, quiet: bool) -> Calibration | None:
    """Measure the hardware that was named; None for another machine."""
    from nearfield.errors import InputError, nearest

    if hardware not in _HARDWARE:
        raise InputError(f"Unknown hardware {hardware!r}. {nearest(hardware, _HARDWARE)}", param="hardware")
    options = _HARDWARE[hardware]
    if options is None:
        return None
    from nearfield.evaluation.planning.speed.calibration import calibrate

    report = None if quiet else lambda stage: typer.echo(f"  measuring this machine: {stage} ...", err=True)
    return calibrate(on_stage=report, **options)


def _format(advice: JsonObject) -> str:
    ruled_out = ", ".join(f"{count} {name}" for name, count in advice["ruled_out"].items() if count)
    lines = [f"Of the catalogue, {count_of(advice['fitting'], 'model')} can be used. Ruled out: {ruled_out or 'none'}."]
    if not advice["candidates"]:
        return "\n".join([*lines, "Relax one of these requirements and try again."])
    weights = ", ".join(f"{name} {weight:g}" for name, weight in advice["weights"].items())
    benchmark = advice["benchmark"] or "no common benchmark"
    lines.append(f"Ranked by {weights} (change with --weights). Scores are compared on: {benchmark}.")
    if advice["calibration"] is not None:
        lines.append(_calibration_line(advice["calibration"]))
    for number, candidate in enumerate(advice["candidates"], 1):
        lines += ["", f"{number}. {candidate['id']}  {_rank(candidate['rank'])}", *_details(candidate)]
    return "\n".join([*lines, "", "Unknown:", *(f"  {line}" for line in advice["unknown"])])


def _calibration_line(calibration: JsonObject) -> str:
    share = calibration["share of the cores"]
    busy = (
        ""
        if share is None or share > 0.85
        else f". Other work left {share:.0%} of the cores free; the speeds are corrected for that"
    )
    return f"Speeds are estimates for this machine with no other work, in {calibration['precision']}{busy}."


def _rank(scores: dict[str, float]) -> str:
    parts = ", ".join(f"{name} {value:.2f}" for name, value in scores.items() if name != "rank")
    return f"{scores['rank']:.2f} ({parts})"


def _details(candidate: JsonObject) -> list[str]:
    from nearfield.bulk.report import format_duration
    from nearfield.units import format_bytes

    lines = [f"   {reason}" for reason in candidate["reasons"]]
    speed, memory, storage = candidate["speed"], candidate["memory"], candidate["storage"]
    if speed is not None:
        texts = f"{speed['texts_per_second']:,.1f} texts/s ({speed['tokens_per_second']:,.0f} tokens/s)"
        queries = f"{speed['queries_per_second']:,.1f} queries/s at half load"
        lines.append(f"   Speed: {texts}, {queries}")
        if speed["seconds_to_index"] is not None:
            lines.append(f"   Time for all texts: {format_duration(speed['seconds_to_index'])}")
    if memory["model"] is not None:
        vectors = (
            "" if memory["vectors"] is None else f", {format_bytes(memory['vectors'])} of vectors ({memory['dtype']})"
        )
        lines.append(f"   Memory: {format_bytes(memory['model'])} for the model{vectors}")
    if storage is not None:
        lines.append(f"   Disk: {format_bytes(storage['lancedb'])} with LanceDB's index, without the texts")
    lines += [f"   Try: {command}" for command in candidate["commands"]]
    return [*lines, *(f"   Unknown: {line}" for line in candidate["unknown"])]
