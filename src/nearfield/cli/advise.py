"""nearfield advise."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nearfield.evaluation.planning.calibration import Calibration
    from nearfield.evaluation.planning.requirements import Requirements

EXAMPLES = """Examples:

nearfield advise

nearfield advise --languages en --tokens 256 --texts 1M --queries 20 --memory 8GB

nearfield advise --languages de,fr --tokens 512 --texts 200k --kind multivector --json

nearfield advise --tokens 512 --licences mit --weights quality=1,speed=0.2,memory=0 --hardware elsewhere

On a terminal, what is not given as a flag is asked for; --yes takes the defaults."""

#: What is asked on a terminal: the flag, the question, and the default.
_QUESTIONS = (
    ("languages", "Languages of the texts, as codes with commas between", "en"),
    ("tokens", "Tokens of a text (of a chunk, where documents are cut)", "256"),
    ("texts", "How many texts (or chunks) there are", "100k"),
    ("queries", "Queries a second", "1"),
    ("memory", "Memory for model and vectors, such as 8GB (empty: any)", ""),
    ("commercial", "Is the use commercial (yes, no)", "yes"),
    ("hardware", "Hardware (cpu, gpu, or elsewhere: another machine)", "cpu"),
    ("kind", "Output (dense, sparse, multivector, or scores for reranking)", "dense"),
)
_HARDWARE: dict[str, dict[str, Any] | None] = {
    "cpu": {},
    "gpu": {"backend": "torch", "device": "cuda"},
    "elsewhere": None,
}


def advise(
    languages: Annotated[str | None, typer.Option(help="Codes with commas between [en].")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens of a text that are read at once [256].")] = None,
    texts: Annotated[str | None, typer.Option(help="How many texts, such as 200k [100k].")] = None,
    queries: Annotated[str | None, typer.Option(help="Queries a second [1].")] = None,
    memory: Annotated[str | None, typer.Option(help="For model and vectors, such as 8GB [any].")] = None,
    commercial: Annotated[
        str | None, typer.Option(help="yes or no: whether the licence must allow commercial use [yes].")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="cpu or gpu of this machine, or elsewhere, where no speed is told [cpu].")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="dense, sparse, multivector or scores [dense].")] = None,
    licences: Annotated[str, typer.Option("--licences", "--licenses", help="Only these, with commas between.")] = "",
    query_tokens: Annotated[int, typer.Option(help="Tokens of a query.")] = 16,
    index_hours: Annotated[float, typer.Option(help="Most hours for embedding all texts; 0 for any time.")] = 48.0,
    weights: Annotated[
        str, typer.Option(help="How much each counts in the ranking.")
    ] = "quality=0.6,speed=0.25,memory=0.15",
    count: Annotated[int, typer.Option(help="Most models to propose.", min=1)] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: defaults for what is not given.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; asks nothing.")] = False,
) -> None:
    """Propose models for a need: reasons, speed on this machine, storage, the command to try, what is not known."""
    from nearfield import hub
    from nearfield.evaluation.planning import advisor as adviser

    given = {
        "languages": languages,
        "tokens": tokens,
        "texts": texts,
        "queries": queries,
        "memory": memory,
        "commercial": commercial,
        "hardware": hardware,
        "kind": kind,
    }
    answers = _answers(given, asks=sys.stdin.isatty() and not (yes or as_json))
    need = _need(answers, licences, query_tokens, index_hours, weights)
    calibration = _calibrated(answers["hardware"], quiet=as_json)
    here = {model.name for model in hub.cached_models()}
    told = adviser.advise(need, calibration, here=here, count=count)
    typer.echo(json.dumps(told) if as_json else _shown(told))
    if not told["candidates"]:
        raise typer.Exit(1)


def _answers(given: dict[str, str | None], *, asks: bool) -> dict[str, str]:
    found = {}
    for name, question, default in _QUESTIONS:
        value = given[name]
        if value is None and asks:
            value = str(typer.prompt(question, default=default, show_default=bool(default)))
        found[name] = default if value is None else value.strip()
    return found


def _need(answers: dict[str, str], licences: str, query_tokens: int, index_hours: float, weights: str) -> Requirements:
    from nearfield.cli.terminal import units
    from nearfield.evaluation.planning.requirements import Requirements

    return Requirements(
        languages=tuple(_parts(answers["languages"].lower())),
        tokens=units.parse_count(answers["tokens"]),
        texts=units.parse_count(answers["texts"]),
        queries_per_second=_number("queries", answers["queries"]),
        query_tokens=query_tokens,
        memory=units.memory(answers["memory"]) if answers["memory"] else None,
        commercial=_yes(answers["commercial"]),
        licences=tuple(_parts(licences)),
        kind=answers["kind"],
        index_hours=index_hours or None,
        weights={
            name: _number("weights", value) for name, _, value in (part.partition("=") for part in _parts(weights))
        },
    )


def _parts(told: str) -> list[str]:
    return [part.strip() for part in told.split(",") if part.strip()]


def _number(name: str, told: str) -> float:
    from nearfield.errors import InputError

    try:
        return float(told)
    except ValueError:
        raise InputError(f"{told!r} is no number ({name}).", param=name) from None


def _yes(told: str) -> bool:
    from nearfield.errors import InputError

    if told.lower() not in ("yes", "y", "no", "n"):
        raise InputError(f"Answer yes or no to whether the use is commercial, not {told!r}.", param="commercial")
    return told.lower().startswith("y")


def _calibrated(hardware: str, *, quiet: bool) -> Calibration | None:
    """Calibrate what was named; None for a machine that is not this one."""
    from nearfield.errors import InputError, nearest

    if hardware not in _HARDWARE:
        raise InputError(f"Unknown hardware {hardware!r}. {nearest(hardware, _HARDWARE)}", param="hardware")
    options = _HARDWARE[hardware]
    if options is None:
        return None
    from nearfield.evaluation.planning.calibration import calibrate

    told = None if quiet else lambda stage: typer.echo(f"  measuring this machine: {stage} ...", err=True)
    return calibrate(on_stage=told, **options)


def _shown(told: dict[str, Any]) -> str:
    ruled_out = ", ".join(f"{count} {name}" for name, count in told["ruled_out"].items() if count)
    lines = [f"{told['fitting']} models of the catalogue fit; ruled out: {ruled_out or 'none'}."]
    if not told["candidates"]:
        return "\n".join([*lines, "Loosen what ruled out the last of them, and ask again."])
    weights = ", ".join(f"{name} {weight:g}" for name, weight in told["weights"].items())
    lines.append(
        f"Ranked by {weights} (--weights); scores compared on: {told['benchmark'] or 'none that speaks here'}."
    )
    if told["calibration"] is not None:
        lines.append(_of_calibration(told["calibration"]))
    for number, each in enumerate(told["candidates"], 1):
        lines += ["", f"{number}. {each['id']}  {_rank(each['rank'])}", *_details(each)]
    return "\n".join([*lines, "", "Not known:", *(f"  {line}" for line in told["unknown"])])


def _of_calibration(told: dict[str, Any]) -> str:
    share = told["share of the cores"]
    busy = (
        "" if share is None or share > 0.85 else f"; other work left it {share:.0%} of the cores, which is allowed for"
    )
    return f"Speeds are of this machine alone with the model, in {told['precision']}{busy}."


def _rank(told: dict[str, float]) -> str:
    parts = ", ".join(f"{name} {value:.2f}" for name, value in told.items() if name != "rank")
    return f"{told['rank']:.2f} ({parts})"


def _details(each: dict[str, Any]) -> list[str]:
    from nearfield.bulk.report import format_duration
    from nearfield.cli.terminal.units import format_bytes

    lines = [f"   {reason}" for reason in each["reasons"]]
    speed, memory, storage = each["speed"], each["memory"], each["storage"]
    if speed is not None:
        texts = f"{speed['texts_per_second']:,.1f} texts/s ({speed['tokens_per_second']:,.0f} tokens/s)"
        queries = f"{speed['queries_per_second']:,.1f} queries/s at half its speed"
        lines.append(f"   speed: {texts}, {queries}")
        if speed["seconds_to_index"] is not None:
            lines.append(f"   all texts in {format_duration(speed['seconds_to_index'])}")
    if memory["model"] is not None:
        vectors = (
            "" if memory["vectors"] is None else f", {format_bytes(memory['vectors'])} of vectors ({memory['dtype']})"
        )
        lines.append(f"   memory: {format_bytes(memory['model'])} for the model{vectors}")
    if storage is not None:
        lines.append(f"   on disk with LanceDB's index: {format_bytes(storage['lancedb'])}, texts left out")
    lines += [f"   try: {command}" for command in each["commands"]]
    return [*lines, *(f"   not known: {line}" for line in each["unknown"])]
