"""Capacity: which machines, how many, for how long and at what price, for a bulk job and for queries.

    hours = texts x tokens / tokens/s / 3600
    machines for the job = the fewest whose hours are within the limit; several work at ``EFFICIENCY``
    queries/s of a machine = ``LOAD`` x the rate of requests of so many tokens
    machines for queries = queries/s / that, rounded up
    price of the job = hours of all its machines x price of an hour
    a month of queries = machines x 730 h x price of an hour
    purchase = machines x price, of those that are not rented

The price of an hour is the rent, or the energy of a machine that is bought. Machines are ordered by what the first
month costs: job, queries and purchase.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nearfield import catalog
from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.cost import HOURS_A_MONTH
from nearfield.evaluation.planning.index_size import index_size, vector_bytes
from nearfield.evaluation.planning.speed.machines import PRECISION_BYTES, DatedAmount, Machine, MachineTable
from nearfield.evaluation.planning.speed.model_shapes import ModelShape, shape_of
from nearfield.evaluation.planning.speed.roofline import MachineSpeed
from nearfield.evaluation.planning.vector_count import TokenSelection
from nearfield.evaluation.planning.vector_model import token_selection
from nearfield.units import format_bytes

#: The share of the highest rate that queries may take: those that arrive at random times would wait long above it.
LOAD = 0.5
#: The share of its speed that each of several machines reaches on one job.
EFFICIENCY = 0.9
#: A plan with more machines than this is named, but never among the first.
MAX_MACHINES = 20
#: Fields of ``--shape``; a flag is 0 or 1.
_SHAPE_FIELDS: Mapping[str, str] = MappingProxyType(
    {"hidden": "number", "layers": "number", "inner": "number", "vocabulary": "number", "gated": "flag"}
)


@dataclass(frozen=True)
class Workload:
    """What the machines have to do: a job of ``texts`` texts, and queries.

    ``hours`` is the limit of the job, None for none. ``vectors`` is the number type of vectors that lie in the memory
    of the machine, None if a database elsewhere has them.

    Raises:
        InputError: a value is negative, not finite or unknown, or there is neither text nor query.
    """

    texts: int
    tokens: float = 256.0
    hours: float | None = 24.0
    queries: float = 0.0
    query_tokens: float = 16.0
    vectors: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        amounts = {"texts": self.texts, "queries": self.queries}
        lengths = {"tokens": self.tokens, "query_tokens": self.query_tokens, "within": self.hours}
        for name, value in amounts.items():
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more, not {value}.", param=name)
        for name, length in lengths.items():
            if length is not None and not 0 < length < math.inf:
                raise InputError(f"{name} must be above 0, not {length}.", param=name)
        if self.vectors is not None:
            vector_bytes(8, self.vectors)
        if not self.texts and not self.queries:
            raise InputError("There is nothing to plan: name texts, or queries a second.", param="texts")


@dataclass(frozen=True)
class PlannedModel:
    """A model whose speed is estimated; ``dimensions`` are those of a vector, 0 if unknown; ``kind`` is its output.

    ``selection`` says which tokens get a vector in a model of late interaction; None: all of them.
    """

    name: str
    shape: ModelShape
    parameters: int
    max_length: int | None = None
    dimensions: int = 0
    kind: str = "dense"
    forbidden: tuple[str, ...] = ()
    selection: TokenSelection | None = None


def find_planned_model(name: str) -> PlannedModel:
    """Return a model of the catalogue.

    Raises:
        InputError: the catalogue has no such model or not its shape, or it is a reranker.
    """
    entry = catalog.find(name)
    if entry is None:
        raise InputError(
            f"The catalogue has no model {name!r} (nearfield models list). Describe it instead, such as with "
            "--shape hidden=768,layers=12,inner=3072,vocabulary=30522 (see config.json of the model).",
            param="model",
        )
    shape = shape_of(entry)
    if shape is None:
        raise InputError(f"The shape of {entry.id} is not known: describe it with --shape.", param="model")
    if entry.kind == "scores":
        raise InputError(f"{entry.id} is a reranker: it has no vectors to compute in bulk.", param="model")
    parameters = entry.parameters or shape.parameters
    selection = token_selection(entry) if entry.kind == "multivector" else None
    return PlannedModel(
        entry.id, shape, parameters, entry.max_length, entry.dimensions, entry.kind, tuple(entry.forbid), selection
    )


def parse_shape(text: str) -> PlannedModel:
    """Parse a description such as ``hidden=768,layers=12,inner=3072,vocabulary=30522,gated=1``.

    Raises:
        InputError: a part is unknown, missing or no number.
    """
    values: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, number = part.partition("=")
        if key not in _SHAPE_FIELDS:
            raise InputError(f"Unknown part {key!r} of --shape. {nearest(key, _SHAPE_FIELDS)}", param="shape")
        values[key] = _shape_number(key, number)
    missing = [key for key in ("hidden", "layers", "inner", "vocabulary") if not values.get(key)]
    if missing:
        raise InputError(f"--shape lacks {', '.join(missing)}.", param="shape")
    shape = ModelShape(text, **{**values, "gated": bool(values.get("gated"))})  # type: ignore[arg-type]
    return PlannedModel(text, shape, shape.parameters, dimensions=shape.hidden)


def _shape_number(key: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not (number in (0, 1) if _SHAPE_FIELDS[key] == "flag" else 0 < number < 10**7):
        raise InputError(f"--shape: {key} cannot be {text!r}.", param="shape")
    return number


def plan_capacity(
    load: Workload,
    model: PlannedModel,
    table: MachineTable,
    *,
    only: Machine | None = None,
    precision: str = "",
    kwh: float = 0.0,
) -> JsonDict:
    """Plan a load on each machine of a table, or on one.

    Returns:
        ``plans``: for each machine ``machine``, ``precision``, ``fits`` and ``obstacle``, ``memory`` (bytes),
        ``texts_per_second``, ``hours`` (one machine), ``job`` and ``serving`` (machines, hours or queries a second,
        price), ``purchase``, ``price`` (of the first month, None if unknown) and ``lines`` of arithmetic; the cheapest
        first, then those without a price, those that need more than ``MAX_MACHINES``, and those that cannot run the
        model.

    Raises:
        InputError: the texts or queries are longer than the model reads, or a number is wrong.
    """
    _check_lengths(load, model)
    _check_precision(precision)
    if not 0 <= kwh < math.inf:
        raise InputError(f"The price of a kilowatt-hour cannot be {kwh}.", param="kwh")
    machines = table.machines if only is None else (only,)
    plans = [_plan(load, model, machine, precision, kwh) for machine in machines]
    return {
        "model": model.name,
        "load": vars(load),
        "currency": table.currency,
        "error": MachineSpeed(machines[0]).error,
        "plans": sorted(plans, key=_order),
    }


def _check_lengths(load: Workload, model: PlannedModel) -> None:
    for name, tokens in (("texts", load.tokens), ("queries", load.query_tokens)):
        if model.max_length is not None and tokens > model.max_length:
            pieces = math.ceil(tokens / model.max_length)
            raise InputError(
                f"{model.name} reads {model.max_length:,} tokens, not {tokens:,.0f}: plan {name} split into {pieces} "
                f"({pieces} times as many, of {tokens / pieces:,.0f} tokens).",
                param="tokens",
            )


def _check_precision(precision: str) -> None:
    if precision and precision not in PRECISION_BYTES:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, PRECISION_BYTES)}", param="precision")


def _order(plan: JsonDict) -> tuple[int, float, str]:
    group = 3 if not plan["fits"] else 2 if plan["machines"] > MAX_MACHINES else plan["price"] is None
    amount = plan["price"] if plan["price"] is not None else plan["hours"] or 0.0
    return int(group), amount, plan["machine"]


# -- one machine -------------------------------------------------------------------------------------------------------


def _plan(load: Workload, model: PlannedModel, machine: Machine, precision: str, kwh: float) -> JsonDict:
    speed = _choose_speed(machine, model, precision)
    plan: JsonDict = {"machine": machine.name, "kind": machine.kind, "note": machine.note, **_sources(machine)}
    if speed is None:
        return {**plan, **_without_estimate(f"it has no peak in {precision or 'a precision of the model'}")}
    memory = _memory(load, model, speed)
    if memory["batch_tokens"] < load.tokens:
        return {**plan, **_without_estimate(_memory_obstacle(memory)), "precision": speed.precision, "memory": memory}
    return {**plan, **_estimate(load, model, speed, memory, kwh)}


def _choose_speed(machine: Machine, model: PlannedModel, precision: str) -> MachineSpeed | None:
    """Return estimates in the precision, by default in the first of Nearfield's that the model allows."""
    if precision:
        return MachineSpeed(machine, precision) if precision in machine.peak else None
    default = MachineSpeed(machine).precision
    allowed = (name for name in (default, "float16", "float32") if name in machine.peak)
    chosen = next((name for name in allowed if name not in model.forbidden), None)
    return None if chosen is None else MachineSpeed(machine, chosen)


def _without_estimate(obstacle: str) -> JsonDict:
    empty = dict.fromkeys(("precision", "memory", "texts_per_second", "hours", "job", "serving", "purchase", "price"))
    return {"fits": False, "obstacle": obstacle, **empty, "machines": 0, "lines": [obstacle]}


def _memory(load: Workload, model: PlannedModel, speed: MachineSpeed) -> JsonDict:
    """Return bytes of model, vectors and batch, the tokens of a batch that fits, and the bytes available.

    Vectors beside a GPU lie in the memory of its host, which the table of machines does not have.
    """
    stored, in_host = _vector_bytes(load, model), speed.machine.kind == "gpu"
    size, vectors = speed.model_bytes(model.parameters), 0 if in_host else stored
    token_bytes = max(1, speed.activation_bytes(model.shape, 1))
    tokens = min(speed.batch_tokens, max(0, speed.capacity - size - vectors) // token_bytes)
    batch = speed.activation_bytes(model.shape, tokens)
    return {
        "model": size,
        "vectors": vectors,
        "host_vectors": stored if in_host else 0,
        "batch": batch,
        "batch_tokens": tokens,
        "total": size + vectors + batch,
        "capacity": speed.capacity,
    }


def _vector_bytes(load: Workload, model: PlannedModel) -> int:
    """Return the bytes of all vectors in the number type of the load; 0 if a database elsewhere has them."""
    if load.vectors is None:
        return 0
    if not model.dimensions or model.kind not in ("dense", "multivector"):
        raise InputError(f"{model.name} ({model.kind}) has no fixed number of dimensions: plan without --vectors.")
    return index_size(math.ceil(load.texts * _vectors_per_text(load, model)), model.dimensions, load.vectors).raw


def _vectors_per_text(load: Workload, model: PlannedModel) -> float:
    if model.kind != "multivector":
        return 1.0
    return load.tokens if model.selection is None else model.selection.count(load.tokens).per_text


def _memory_obstacle(memory: JsonDict) -> str:
    needed, free = format_bytes(memory["model"] + memory["vectors"]), format_bytes(memory["capacity"])
    vectors = f" ({format_bytes(memory['vectors'])} of them vectors)" if memory["vectors"] else ""
    return f"{needed}{vectors} and a text do not fit the {free} that can be used"


def _estimate(load: Workload, model: PlannedModel, speed: MachineSpeed, memory: JsonDict, kwh: float) -> JsonDict:
    hourly = _hourly(speed.machine, kwh)
    job = _job(load, speed.tokens_per_second(model.shape, load.tokens), hourly)
    serving = _serving(load, speed.requests_per_second(model.shape, load.query_tokens), hourly)
    parts = [part for part in (job, serving) if part is not None]
    machines = max(part["machines"] for part in parts)
    purchase = _purchase(speed.machine, machines)
    return {
        "fits": True,
        "obstacle": "",
        "precision": speed.precision,
        "memory": memory,
        "texts_per_second": 1 / speed.seconds_per_text(model.shape, load.tokens),
        "hours": None if job is None else job["hours_of_one"],
        "job": job,
        "serving": serving,
        "machines": machines,
        "purchase": purchase,
        "price": None if hourly is None else purchase + sum(part["price"] for part in parts),
        "lines": [
            *_memory_lines(memory),
            *_precision_lines(speed),
            *speed.explain(model.shape, load.tokens),
            *_job_lines(load, job, hourly, speed.error),
            *_serving_lines(load, serving, hourly),
            *_purchase_lines(speed.machine, machines, purchase),
        ],
    }


def _hourly(machine: Machine, kwh: float) -> float | None:
    """Return the price of an hour: the rent, or the energy if it is bought; None if no price is known."""
    if machine.rent is not None:
        return machine.rent.amount
    watts = machine.watts.amount if machine.watts is not None else 0.0
    return None if machine.price is None else watts / 1000 * kwh


def _purchase(machine: Machine, machines: int) -> float:
    """Return the price of so many machines; 0 for those that are rented or have none."""
    return machines * machine.price.amount if machine.rent is None and machine.price is not None else 0.0


def _job(load: Workload, tokens_per_second: float, hourly: float | None) -> JsonDict | None:
    if not load.texts:
        return None
    one = load.texts * load.tokens / tokens_per_second / 3600
    machines = 1 if load.hours is None or one <= load.hours else max(2, math.ceil(one / (load.hours * EFFICIENCY)))
    total = one if machines == 1 else one / EFFICIENCY
    return {
        "machines": machines,
        "tokens_per_second": tokens_per_second,
        "hours_of_one": one,
        "hours": total / machines,
        "machine_hours": total,
        "price": None if hourly is None else total * hourly,
    }


def _serving(load: Workload, highest: float, hourly: float | None) -> JsonDict | None:
    if not load.queries:
        return None
    machines = max(1, math.ceil(load.queries / (highest * LOAD)))
    return {
        "machines": machines,
        "highest": highest,
        "queries_per_second": highest * LOAD,
        "price": None if hourly is None else machines * HOURS_A_MONTH * hourly,
    }


# -- arithmetic in words -----------------------------------------------------------------------------------------------


def _memory_lines(memory: JsonDict) -> list[str]:
    vectors = f" + vectors {format_bytes(memory['vectors'])}" if memory["vectors"] else ""
    batch = f"batch of {memory['batch_tokens']:,} tokens {format_bytes(memory['batch'])}"
    sums = f"model {format_bytes(memory['model'])} + {batch}{vectors} = {format_bytes(memory['total'])}"
    lines = [f"memory: {sums}, of {format_bytes(memory['capacity'])} that can be used"]
    if memory["host_vectors"]:
        lines.append(
            f"memory of the host: vectors {format_bytes(memory['host_vectors'])}; whether they fit is not checked"
        )
    return lines


def _precision_lines(speed: MachineSpeed) -> list[str]:
    """Say that a GPU without bfloat16 computes in float32 unless float16 is requested: some models overflow in it."""
    if speed.machine.kind != "gpu" or speed.precision != "float16" or "bfloat16" in speed.machine.peak:
        return []
    return ["precision: float16 is to be requested (precision='float16'); by itself Nearfield takes float32 here"]


def _job_lines(load: Workload, job: JsonDict | None, hourly: float | None, error: float) -> list[str]:
    if job is None:
        return []
    tokens = f"{load.texts:,} x {load.tokens:g} tokens / {job['tokens_per_second']:,.0f} tokens/s"
    one = job["hours_of_one"]
    lines = [f"job: {tokens} = {one:,.2f} h on one machine ({one / error:,.2f} to {one * error:,.2f})"]
    if load.hours is not None:
        shared = f": {one:,.2f} h / ({job['machines']} x {EFFICIENCY:g}) = {job['hours']:,.2f} h"
        lines.append(f"within {load.hours:g} h: {job['machines']} of them{shared if job['machines'] > 1 else ''}")
    if hourly is not None:
        lines.append(f"price of the job: {job['machine_hours']:,.2f} h x {hourly:,.4g} an hour = {job['price']:,.2f}")
    return lines


def _serving_lines(load: Workload, serving: JsonDict | None, hourly: float | None) -> list[str]:
    if serving is None:
        return []
    rate = f"{serving['highest']:,.1f} requests/s of {load.query_tokens:g} tokens x {LOAD:g}"
    machines = f"{load.queries:g} / {serving['queries_per_second']:,.1f}, rounded up = {serving['machines']}"
    lines = [f"queries: {rate} = {serving['queries_per_second']:,.1f}/s of a machine; machines: {machines}"]
    if hourly is not None:
        month = f"{serving['machines']} x {HOURS_A_MONTH:g} h x {hourly:,.4g} an hour"
        lines.append(f"a month of queries: {month} = {serving['price']:,.2f}")
    return lines


def _purchase_lines(machine: Machine, machines: int, purchase: float) -> list[str]:
    if not purchase or machine.price is None:
        return []
    return [f"purchase: {machines} x {machine.price.amount:,.0f} = {purchase:,.0f} ({machine.price.note or 'each'})"]


def _sources(machine: Machine) -> JsonDict:
    amounts: Sequence[tuple[str, DatedAmount | None]] = (
        ("watts", machine.watts),
        ("rent", machine.rent),
        ("price of purchase", machine.price),
    )
    rows = {"specification": {**vars(machine.source), "note": machine.note}}
    rows |= {
        name: {"amount": amount.amount, **vars(amount.source), "note": amount.note}
        for name, amount in amounts
        if amount is not None
    }
    return {"sources": rows}
