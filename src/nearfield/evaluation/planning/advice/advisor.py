"""Recommend models of the catalogue for given requirements: candidates that differ in kind, with reasons, what speaks
against each, what to do beside the model, and what to measure next."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.catalog.quality import BM25, quality_figures
from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.advice.approach import affordable_reranker, facts_of, path_through
from nearfield.evaluation.planning.advice.candidates import ModelCandidate, best_left_out, matching_models, ways_out
from nearfield.evaluation.planning.advice.objections import objections, unknowns
from nearfield.evaluation.planning.advice.purposes import figure_names
from nearfield.evaluation.planning.advice.requirements import HEADROOM, Requirements
from nearfield.evaluation.planning.advice.roles import Chosen, choose, compare
from nearfield.evaluation.planning.advice.summary import summarize
from nearfield.evaluation.planning.amount_checks import check_positive
from nearfield.evaluation.planning.index_size import index_size, seconds_to_index
from nearfield.evaluation.planning.speed.speed_model import SpeedModel

_GENERAL = (
    "Quality on your own data: a published mean is no promise. Measure two or three candidates before you index.",
    "Models outside the catalogue are not considered.",
)


def advise(
    need: Requirements,
    speed: SpeedModel | None = None,
    *,
    entries: Sequence[CatalogEntry] | None = None,
    here: Collection[str] = (),
    count: int = 3,
) -> JsonDict:
    """Return up to ``count`` models that meet all requirements, the best first.

    Models are ranked by published quality for the purpose and the languages, less half its standard error, in points
    behind the best of the catalogue. Speed and memory count up to what is needed, and no more: a model that fits is
    not better for being faster. ``here`` are ids of models whose files are on this machine; ``speed`` are estimates
    for a machine, such as ``Calibration`` or ``MachineSpeed``.

    Returns:
        ``summary`` (sentences), ``candidates`` (each with id, roles, quality, reasons, against, unknown, comparison
        with the first, speed, memory, storage, commands), ``approach`` (questions of the decision tree with answers),
        ``figures`` (by language, the name of the figures that were compared), ``words`` (published figures of search
        by words), ``fitting``, ``ruled_out`` by test, ``ways_out`` where nothing fits, ``next`` (commands that measure
        the candidates on one's own data), ``unknown`` of all candidates.

    Raises:
        InputError: no model has a licence of the need, or ``count`` is not above 0.
    """
    considered = catalog.entries() if entries is None else entries
    _check_licences(need, considered)
    check_positive("count", count)
    candidates, ruled_out = matching_models(need, considered, speed)
    chosen = choose(candidates, count)
    reranking, reranker = affordable_reranker(need, considered, speed)
    facts = facts_of(need, candidates, considered, speed, reranking)
    return {
        "need": {**asdict(need), "kind": need.output},
        "summary": summarize(need, candidates, chosen, best_left_out(need, considered, speed, candidates)),
        "candidates": [_describe(need, one, chosen[0].candidate, speed, here) for one in chosen],
        "approach": [
            {
                "question": question.ask,
                "answer": answer.label,
                "advice": answer.advice,
                "because": answer.because,
                "source": answer.source,
                "command": answer.command and answer.command.replace("{reranker}", reranker or "MODEL"),
            }
            for question, answer in path_through(facts, need.purpose)
        ],
        "figures": figure_names(need.aim, need.languages),
        "words": _words(need),
        "fitting": len(candidates),
        "ruled_out": ruled_out,
        "ways_out": []
        if candidates
        else [{"change": text, "models": n} for text, n in ways_out(need, considered, speed)],
        "next": _next(need, chosen),
        "unknown": [*_GENERAL, *_without_effect(need)],
        "precision": None if speed is None else speed.precision,
    }


def _without_effect(need: Requirements) -> Iterator[str]:
    if not need.aim.has_queries and need.queries_per_second != Requirements.queries_per_second:
        yield f"Queries a second have no effect for {need.purpose}: nothing is searched. Compare with inputs/s."


def _check_licences(need: Requirements, entries: Sequence[CatalogEntry]) -> None:
    """Refuse a licence that no model has: it is misspelt, and would rule out what it means to let in."""
    known = sorted({entry.licence.lower() for entry in (*catalog.entries(), *entries)})
    unknown = next((name for name in need.licences if name.lower() not in known), None)
    if unknown is not None:
        raise InputError(f"No model has the licence {unknown!r}. {nearest(unknown, known)}", param="licences")


def _words(need: Requirements) -> dict[str, float]:
    """Return the published figures of search by words in the need's languages."""
    known = quality_figures(BM25)
    names = figure_names(need.aim, need.languages)
    return {language: known[name].value for language, name in names.items() if name is not None and name in known}


# -- description -----------------------------------------------------------------------------------------------------


def _describe(
    need: Requirements, chosen: Chosen, first: ModelCandidate, speed: SpeedModel | None, here: Collection[str]
) -> JsonDict:
    candidate = chosen.candidate
    entry, form = candidate.entry, candidate.form
    return {
        "id": entry.id,
        "roles": [role.name for role in chosen.roles],
        "rule": chosen.roles[0].rule,
        "quality": {
            language: {**asdict(figure), "estimated": figure.is_estimated}
            for language, figure in candidate.quality.figures.items()
        },
        "behind": None if candidate.quality.behind is None else round(candidate.quality.behind, 2),
        "comparison": None if candidate is first else compare(first, candidate),
        "reasons": list(_reasons(need, candidate)),
        "against": list(objections(need, candidate)),
        "unknown": list(unknowns(need, candidate, speed, entry.id in here)),
        "speed": _speed(need, candidate),
        "memory": {
            "model": candidate.model_bytes,
            "vectors": form.bytes,
            "dtype": form.dtype,
            "dimensions": form.dimensions,
            "share": form.share,
        },
        "storage": _storage(need, candidate),
        "commands": _commands(need, candidate),
    }


def _reasons(need: Requirements, candidate: ModelCandidate) -> Iterator[str]:
    entry = candidate.entry
    for language, figure in candidate.quality.figures.items():
        error = f" ± {figure.error:.1f}" if figure.is_estimated else ""
        count = f"{figure.published} of {figure.tasks} tasks published" if figure.tasks > 1 else "published"
        yield f"{figure.value:.1f}{error} points, {figure.purpose} ({count}){_in(language, need)}"
    if need.aim.reads == "text":
        yield f"reads {entry.max_length:,} tokens ({need.tokens:,} are needed)"
    use = "allows commercial use" if entry.commercial else "does not allow commercial use"
    yield f"licence {entry.licence}, which {use}"
    if entry.parameters:
        dimensions = "" if need.output == "scores" else f", {entry.dimensions:,} dimensions"
        yield f"{_count(entry.parameters)}{dimensions}"
    if not candidate.quality.figures and entry.score is not None:
        yield f"{entry.score.value:g} on {entry.score.benchmark} ({entry.score.source}), which is not compared"
    if entry.static_queries:
        yield "weights of queries are looked up in a table, without a run of the model"


def _in(language: str, need: Requirements) -> str:
    return f" for {language}" if len(need.languages) > 1 else ""


def _count(number: int) -> str:
    size = f"{number / 1e9:.1f} billion" if number >= 1e9 else f"{number / 1e6:.0f} million"
    return f"{size} parameters"


def _speed(need: Requirements, candidate: ModelCandidate) -> JsonDict | None:
    if candidate.tokens_per_second is None:
        return None
    is_indexed = need.output != "scores"
    return {
        "tokens_per_second": round(candidate.tokens_per_second, 1),
        "texts_per_second": round(candidate.tokens_per_second / candidate.tokens, 2),
        "queries_per_second": _queries_per_second(need, candidate),
        "reranked": candidate.reranked if need.output == "scores" else None,
        "seconds_to_index": seconds_to_index(need.texts, candidate.tokens, candidate.tokens_per_second)
        if is_indexed
        else None,
    }


def _queries_per_second(need: Requirements, candidate: ModelCandidate) -> float | None:
    """Return the queries at half load; None: there are none, or they need no model."""
    if candidate.query_tokens_per_second is None:
        return None
    texts = candidate.reranked if need.output == "scores" else 1
    return round(candidate.query_tokens_per_second * HEADROOM / (need.query_length * texts), 2)


def _storage(need: Requirements, candidate: ModelCandidate) -> JsonDict | None:
    """Return the bytes of the vectors in memory, and those in LanceDB with its index.

    Of vectors that are searched in two stages, whole ones are stored and indexed too: ``whole`` of ``lancedb``.
    """
    form, vectors = candidate.form, candidate.vectors
    if form.bytes is None or need.output == "scores":
        return None
    index, dtype = ("lancedb-int8", "float32") if form.dtype == "int8" else ("lancedb", form.dtype)
    whole = index_size(vectors, candidate.entry.dimensions, index="lancedb").total if form.two_stage else 0
    searched = index_size(vectors, form.dimensions, dtype, index).total
    return {"vectors": form.bytes, "lancedb": searched + whole, "whole": whole}


# -- commands --------------------------------------------------------------------------------------------------------


def short_name(entry: CatalogEntry) -> str:
    """Return the shortest name of a model that commands accept."""
    return min((entry.id, *entry.aliases), key=len)


def _commands(need: Requirements, candidate: ModelCandidate) -> list[str]:
    entry = candidate.entry
    name, accept = short_name(entry), "" if entry.commercial else " --accept-license"
    commands = [f"nearfield models pull {name}{accept}"]
    if need.output == "scores":
        return [*commands, f"nearfield rerank 'a query' 'a text' 'another' --model {name}{accept}"]
    if need.aim.reads != "text":
        return [*commands, f"nearfield embed FOLDER -o vectors/ --model {name}{accept}"]
    if not need.aim.has_queries:
        return [
            *commands,
            f"nearfield embed FILE -o vectors/ --model {name}{accept}",
            f"nearfield speed {name}{accept}",
        ]
    return [
        *commands,
        f"nearfield index trial FOLDER {_features(candidate)}{accept}",
        f"nearfield speed {name}{accept}",
    ]


def _features(candidate: ModelCandidate) -> str:
    entry, form, name = candidate.entry, candidate.form, short_name(candidate.entry)
    if entry.kind == "sparse":
        return f"--feature sparse={name}:sparse"
    if entry.kind == "multivector":
        return f"--feature tokens={name}:multivector"
    if form.two_stage:
        return f"--feature dense={name} --feature short=dense:binary"
    return f"--model {name}"


def _next(need: Requirements, chosen: Sequence[Chosen]) -> list[str]:
    """Return the commands that measure the candidates on one's own data."""
    if not chosen:
        return []
    names = [short_name(one.candidate.entry) for one in chosen]
    if need.output == "scores":
        grid = ",".join(["none", *names])
        return [
            "nearfield judge trial questions/ --queries queries.txt",
            f"nearfield compare MODEL --rerank {grid} --data questions/",
        ]
    if need.aim.reads != "text":
        return [f"nearfield speed {name}" for name in names[:1]]
    outputs = "dense,hybrid" if need.output == "dense" else need.output
    if need.purpose in ("retrieval", "long-documents", "code"):
        return [
            "nearfield judge trial questions/ --queries queries.txt",
            f"nearfield compare {' '.join(names)} --output {outputs} --data questions/",
        ]
    return [f"nearfield compare {' '.join(names)} --data labels.csv"]
