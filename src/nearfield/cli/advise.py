"""nearfield advise: models for a purpose, languages, texts, memory and a machine."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.report_storage import keep_report
from nearfield.cli.terminal.json_types import Keywords

if TYPE_CHECKING:
    from nearfield.evaluation.planning.advice.requirements import Requirements
    from nearfield.evaluation.planning.speed.speed_model import SpeedModel

EXAMPLES = """Examples:

nearfield advise

nearfield advise --languages de,fr,pl --tokens 200 --texts 500k --queries 5 --memory 16GB

nearfield advise --for code --texts 1M --on "RTX 4090" --explain

nearfield advise --for rerank --tokens 256 --queries 2 --json

On a terminal the command asks for every value without a flag; --yes uses the defaults instead."""

#: Questions on a terminal: the flag, the question, and the default.
_QUESTIONS = (
    ("purpose", "What the vectors are for (retrieval, general, sts, classification, code, images, ...)", "retrieval"),
    ("languages", "Languages of the texts, as codes separated by commas", "en"),
    ("tokens", "Tokens per text (or per chunk, if documents are split)", "256"),
    ("texts", "Number of texts (or chunks)", "100k"),
    ("queries", "Queries per second", "1"),
    ("memory", "Memory for the model and the vectors, such as 8GB (empty: no limit)", ""),
    ("commercial", "Is the use commercial (yes, no)", "yes"),
    ("on", "Machine (cpu or gpu of this one, elsewhere, or a name such as RTX 4090)", "cpu"),
)
#: Options of ``Encoder`` for this machine.
_HERE: dict[str, Keywords] = {"cpu": {}, "gpu": {"backend": "torch", "device": "cuda"}}
_ELSEWHERE = "elsewhere"
_OLD_WEIGHTS = "quality=0.6,speed=0.25,memory=0.15"


def advise(
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Purpose: retrieval, general, sts, classification, clustering, code, long-documents, images, "
            "image-labels, pages, audio or rerank [retrieval].",
        ),
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Languages of the texts, as codes separated by commas [en].")
    ] = None,
    coverage: Annotated[str, typer.Option(help="Several languages: all have to work, or most.")] = "all",
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
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            "--hardware",
            help="cpu or gpu of this machine; the name of another, such as 'RTX 4090' or '8 vCPU'; or elsewhere: no "
            "speed is estimated [cpu].",
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Output: dense, sparse, multivector or scores [what is usual for the purpose].")
    ] = None,
    licences: Annotated[
        str, typer.Option("--licences", "--licenses", help="Only these licences, separated by commas.")
    ] = "",
    query_tokens: Annotated[int, typer.Option(help="Tokens per query.")] = 16,
    reranked: Annotated[int, typer.Option(help="Rerankers: texts per query.")] = 50,
    index_hours: Annotated[float, typer.Option(help="Maximum hours for embedding all texts; 0 for no limit.")] = 48.0,
    weights: Annotated[
        str, typer.Option(help="Without effect since figures of purposes are compared.", hidden=True)
    ] = _OLD_WEIGHTS,
    count: Annotated[int, typer.Option(help="Maximum number of models to propose.", min=1)] = 3,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the decision tree with your answers, and what ruled models out.")
    ] = False,
    measure_again: Annotated[
        bool, typer.Option("--measure-again", help="Measure this machine again; else a stored measurement is used.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; use the defaults.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and ask nothing.")] = False,
) -> None:
    """Propose models for a purpose, your texts and a machine.

    Each has its published quality with source, its speed and memory, what speaks against it, and what to measure next.
    """
    from nearfield import hub
    from nearfield.cli.terminal.advice_report import render_advice
    from nearfield.evaluation.planning.advice import advisor as adviser

    if weights != _OLD_WEIGHTS:
        typer.echo("--weights has no effect any more: speed and memory count up to what is needed.", err=True)
    flags = {
        "purpose": purpose,
        "languages": languages,
        "tokens": tokens,
        "texts": texts,
        "queries": queries,
        "memory": memory,
        "commercial": commercial,
        "on": on,
    }
    answers = _answers(flags, asks=sys.stdin.isatty() and not (yes or as_json))
    need = _requirements(answers, coverage, kind, licences, query_tokens, reranked, index_hours)
    speed = _speed_of(answers["on"], again=measure_again, quiet=as_json)
    here = {model.name for model in hub.cached_models()}
    advice = adviser.advise(need, speed, here=here, count=count)
    keep_report("advise", advice, quiet=as_json)
    typer.echo(json.dumps(advice) if as_json else render_advice(advice, answers["on"], speed, explain=explain))
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
    answers: dict[str, str],
    coverage: str,
    kind: str | None,
    licences: str,
    query_tokens: int,
    reranked: int,
    index_hours: float,
) -> Requirements:
    from nearfield import units
    from nearfield.evaluation.planning.advice.requirements import Requirements

    return Requirements(
        purpose=answers["purpose"].lower(),
        languages=tuple(_split_commas(answers["languages"])),
        coverage=coverage,
        tokens=units.parse_count(answers["tokens"]),
        texts=units.parse_count(answers["texts"]),
        queries_per_second=_number("queries", answers["queries"]),
        query_tokens=query_tokens,
        memory=units.parse_size(answers["memory"]) if answers["memory"] else None,
        commercial=_yes(answers["commercial"]),
        licences=tuple(_split_commas(licences)),
        kind=kind,
        index_hours=index_hours or None,
        reranked=reranked,
    )


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


def _speed_of(on: str, *, again: bool, quiet: bool) -> SpeedModel | None:
    """Return estimates for the machine that was named: measured here, or computed for another; None for elsewhere."""
    if on.lower() == _ELSEWHERE:
        return None
    if on.lower() in _HERE:
        from nearfield.evaluation.planning.speed.stored_calibration import calibration_for_here

        report = None if quiet else lambda stage: typer.echo(f"  measuring this machine: {stage} ...", err=True)
        return calibration_for_here(_HERE[on.lower()], again=again, on_stage=report)
    from nearfield.evaluation.planning.speed.machines import read_machines
    from nearfield.evaluation.planning.speed.roofline import MachineSpeed

    return MachineSpeed(read_machines().find(on))
