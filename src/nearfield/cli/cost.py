"""nearfield cost: a month on your own machine, or one job, compared with APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

if TYPE_CHECKING:
    from nearfield.evaluation.planning.bulk_job import BulkJob, WorkerPrice
    from nearfield.evaluation.planning.cost import Price, VectorStorage
    from nearfield.evaluation.planning.encoding_rate import EncodingRate
    from nearfield.evaluation.planning.speed.machines import DatedAmount

EXAMPLES = """Examples:

nearfield cost 5B --rent 0.40 --tokens-per-second 20000

nearfield cost 10M --tokens 100 --rent-month 300 --texts-per-second 4800

nearfield cost 2B --once --rent 0.40 --tokens-per-second 960000

nearfield cost 1B --tokens 128 --plan --on A100 --spot 0.60 --tokens-per-second 600000 --workers 8 --failures 0.05

nearfield cost 500M --price 1200 --years 4 --watts 65 --kwh 0.30 --tokens-per-second 6000 --utilisation 0.3

nearfield cost 2B --rent 0.10 --model all-MiniLM-L6-v2 --measure --prices my-prices.toml --json"""

#: Share of a month in which the machine has work, unless stated.
_UTILISATION = 0.5


def cost(
    volume: Annotated[
        str,
        typer.Argument(help="Tokens such as 5B (with --tokens: texts) of a month, with --once of one job."),
    ],
    once: Annotated[bool, typer.Option("--once", help="One job: only the hours used are paid.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="One job, and 1 million to 1 billion texts.")] = False,
    tokens: Annotated[float | None, typer.Option(help="Tokens per text; the volume is then a number of texts.")] = None,
    rent: Annotated[float | None, typer.Option(help="Rent of the machine per hour.")] = None,
    rent_month: Annotated[float | None, typer.Option(help="Rent of the machine per month.")] = None,
    price: Annotated[float | None, typer.Option(help="Price of the machine, if it was bought.")] = None,
    on: Annotated[
        str | None,
        typer.Option(help='Machine such as "RTX 4090", for the rent (or price) and watts of a table.'),
    ] = None,
    machines: Annotated[Path | None, typer.Option(help="File of machines (TOML) for --on.")] = None,
    spot: Annotated[float | None, typer.Option(help="Rent per hour of a spot machine, for one job.")] = None,
    billing: Annotated[str, typer.Option(help="A job's hours are rounded up to a second, minute or hour.")] = "minute",
    years: Annotated[float, typer.Option(help="Years of use of a bought machine.")] = 3.0,
    watts: Annotated[
        float, typer.Option(help="Average power of the machine in watts [with --on, that of the table].")
    ] = 0.0,
    kwh: Annotated[float, typer.Option(help="Price of a kilowatt-hour.")] = 0.0,
    utilisation: Annotated[
        float, typer.Option(help="Share of a month in which the machine has work, above 0 and up to 1.")
    ] = _UTILISATION,
    tokens_per_second: Annotated[float | None, typer.Option(help="Speed of a machine in tokens, if known.")] = None,
    texts_per_second: Annotated[
        float | None, typer.Option(help="Speed of a machine in texts of --tokens tokens, if known.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Machines that work at once on one job.")] = 1,
    efficiency: Annotated[
        float | None,
        typer.Option(help="Share of the workers' speeds that they reach together [1 worker: 1, more: 0.9]."),
    ] = None,
    failures: Annotated[float, typer.Option(help="Failures in an hour of one worker, such as 0.05.")] = 0.0,
    repeats: Annotated[float, typer.Option(help="Share of a job's work that is done again.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help="Share of texts that are encoded only once.")] = 0.0,
    dimensions: Annotated[int | None, typer.Option("--dims", help="Dimensions of vectors, for their storage.")] = None,
    dtype: Annotated[str, typer.Option(help="Number type of a job's vectors.")] = "float32",
    gb_month: Annotated[float, typer.Option(help="Price of storage, per GB (10^9 bytes) and month.")] = 0.0,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to measure, with --measure.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the model's speed here for 3 seconds.")] = False,
    prices: Annotated[
        Path | None, typer.Option(help="File of API prices (TOML) to use instead of the built-in table.")
    ] = None,
    show_prices: Annotated[bool, typer.Option("--sources", help="Print formulas, and sources of prices.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the formula of each figure.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the cost of your machine with APIs.

    Shows the cost of a month, and the volume from which your own machine is cheaper; with --once the cost of one job.
    """
    from nearfield.evaluation.planning import cost as costs
    from nearfield.evaluation.planning.amount_checks import check_positive
    from nearfield.evaluation.planning.bulk_job import BulkJob
    from nearfield.units import parse_count

    number = parse_count(volume)
    check_positive("volume", number)
    rate = _rate(tokens_per_second, texts_per_second, tokens, model if measure else None)
    owner = _OwnMachine(rent, rent_month, price, watts).completed(on, machines)
    hardware = costs.Hardware(
        rate.tokens_per_second or 0.0, owner.price, years, owner.hourly_rent, owner.watts, kwh, utilisation
    )
    currency, table = costs.read_prices(prices)
    comparison: JsonObject
    if once or plan:
        _refuse_utilisation(utilisation)
        job = BulkJob(number, _of_texts(rate, tokens), workers, efficiency, duplicates, failures, repeats)
        storage = costs.VectorStorage(dimensions, dtype, gb_month)
        comparison = _compare_job(job, hardware.as_worker(spot, billing), table, storage, plan=plan, tokens=tokens)
    else:
        stated = (workers, spot, efficiency, dimensions, gb_month, failures, repeats, duplicates, billing, dtype)
        _refuse_options(stated == (1, None, None, None, 0.0, 0.0, 0.0, 0.0, "minute", "float32"))
        comparison = costs.compare_costs(number * (tokens or 1), hardware, table, tokens_per_text=tokens)
        facts = {"hardware": {**vars(hardware), "measured": rate.measured}, "formulas": list(costs.FORMULAS)}
        comparison = {**comparison, **facts}
    machine = {"name": on, "sources": owner.sources}
    comparison = {**comparison, "currency": currency, "machine": machine, "warning": rate.warning}
    if as_json:
        typer.echo(json.dumps(comparison))
        return
    lines = (_format_job if once or plan else _format_month)(comparison, show_prices)
    typer.echo("\n".join([*lines, *_format_end(comparison, explain=explain or show_prices)]))


def _refuse_options(by_default: bool) -> None:
    """Refuse options of one job in the cost of a month, in which they would have no effect."""
    from nearfield.errors import InputError

    if not by_default:
        raise InputError(
            "--workers, --efficiency, --failures, --repeats, --duplicates, --spot, --billing, --dims, --dtype and "
            "--gb-month are for one job: add --once."
        )


def _refuse_utilisation(utilisation: float) -> None:
    from nearfield.errors import InputError

    if utilisation != _UTILISATION:
        raise InputError("One job pays for the hours that it uses: --utilisation is for months.", param="utilisation")


def _compare_job(
    job: BulkJob,
    worker: WorkerPrice,
    table: Sequence[Price],
    storage: VectorStorage,
    *,
    plan: bool,
    tokens: float | None,
) -> JsonObject:
    """Return the comparison of one job, and of the same job with the numbers of texts of a plan."""
    from nearfield.cli.size import PLAN_TEXTS
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.cost import compare_job, job_formulas

    if tokens is None and (plan or storage.dimensions is not None):
        raise InputError("A plan, and storage, are for texts: state the tokens of a text as --tokens.", param="tokens")
    rows = [compare_job(job.with_texts(texts), worker, table, storage) for texts in PLAN_TEXTS] if plan else None
    return {
        **compare_job(job, worker, table, storage),
        "tokens_per_text": tokens,
        "worker": vars(worker),
        "plan": rows,
        "formulas": job_formulas(),
    }


# -- machine and speed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _OwnMachine:
    """Prices and power of the machine, and the source of what the table of machines says."""

    rent: float | None
    rent_month: float | None
    price: float | None
    watts: float
    sources: tuple[str, ...] = ()

    @property
    def hourly_rent(self) -> float | None:
        """The rent of an hour: of a month that is paid whole, its 730th part."""
        from nearfield.errors import InputError
        from nearfield.evaluation.planning.cost import HOURS_A_MONTH

        if self.rent_month is None:
            return self.rent
        if self.rent is not None:
            raise InputError("Give the rent of an hour or of a month, not both.", param="rent")
        return self.rent_month / HOURS_A_MONTH

    def completed(self, name: str | None, path: Path | None) -> _OwnMachine:
        """Return the machine with rent (or else price) and watts of the table, where none are stated."""
        from nearfield.errors import InputError
        from nearfield.evaluation.planning.speed.machines import read_machines

        if name is None:
            if path is not None:
                raise InputError("--machines is read for a machine that --on names.", param="machines")
            return self
        machine, result = read_machines(path).find(name), self
        if (self.rent, self.rent_month, self.price) == (None, None, None):
            amount = machine.rent or machine.price
            if amount is None:
                raise InputError(f"The table has no price of {machine.name}: --rent or --price.", param="rent")
            source = _source_of("rent" if machine.rent else "price", amount)
            rent, price = (amount.amount, None) if machine.rent else (None, amount.amount)
            result = replace(result, rent=rent, price=price, sources=(source,))
        if not self.watts and machine.watts is not None:
            sources = (*result.sources, _source_of("watts", machine.watts))
            result = replace(result, watts=machine.watts.amount, sources=sources)
        return result


def _source_of(name: str, amount: DatedAmount) -> str:
    return f"{name} {amount.amount:g}: {amount.source.date}, {amount.source.status}, {amount.source.address}"


def _rate(
    tokens_per_second: float | None, texts_per_second: float | None, tokens: float | None, model: str | None
) -> EncodingRate:
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.amount_checks import check_positive
    from nearfield.evaluation.planning.encoding_rate import stated_rate

    if tokens is not None:
        check_positive("tokens", tokens)
    rate = stated_rate(tokens_per_second, texts_per_second, tokens)
    if rate is None and model is not None:
        from nearfield.cli.size import measure_rate

        rate = measure_rate(model, tokens)[0]
    if rate is None:
        raise InputError(
            "The speed of the machine is needed: --tokens-per-second, --texts-per-second, or --model and --measure."
        )
    if rate.tokens_per_second is None:
        raise InputError("A speed in texts a second needs the tokens of a text: --tokens.", param="tokens")
    return rate


def _of_texts(rate: EncodingRate, tokens: float | None) -> EncodingRate:
    """Return the rate for a job of so many texts; without --tokens the texts of a job are its tokens."""
    from nearfield.evaluation.planning.encoding_rate import EncodingRate

    return EncodingRate(rate.tokens_per_second or 0.0, "tokens", tokens or 1.0, rate.measured)


# -- text -----------------------------------------------------------------------------------------------------------


def _format_month(comparison: JsonObject, sources: bool) -> Iterator[str]:
    from nearfield.units import format_amount, format_count

    own, currency = comparison["own"], comparison["currency"]
    capacity = f"a machine can process {format_count(own['capacity'])} tokens per month"
    machines = f"{own['machines']:,} machine{'s' if own['machines'] > 1 else ''}"
    speed = f"{format_amount(comparison['hardware']['tokens_per_second'])} tokens/s"
    source = ", measured here" if comparison["hardware"]["measured"] else ""
    month = f"{own['month']:,.2f} {currency} per month, {own['per_million']:,.4f} per million tokens"
    yield f"{_volume(comparison['volume'], comparison['tokens_per_text'])} per month"
    yield f"  Own hardware: {machines} ({capacity} at {speed}{source}), {month}"
    if own["kwh"]:
        yield f"  Energy: {own['kwh']:,.0f} kWh per month, {own['energy']:,.2f} {currency}, which is included"
    yield ""
    yield f"  {'API':32} {'1M tokens':>9} {'per month':>14} {'break-even a month':>22} {'cheaper':>8}  price read on"
    for row in comparison["apis"]:
        yield (
            f"  {row['name']:32} {row['per_million']:>9.3f} {row['month']:>14,.2f} {_break_even(row):>22} "
            f"{row['cheaper']:>8}  {row['date']}{_status(row)}"
        )
        yield from _format_source(row, sources)


def _format_job(comparison: JsonObject, sources: bool) -> Iterator[str]:
    from nearfield.bulk.report import format_duration
    from nearfield.units import format_time

    job, own, currency = comparison["job"], comparison["own"], comparison["currency"]
    yield f"{_volume(job['tokens'], comparison['tokens_per_text'])} once"
    yield f"  Time: {format_duration(job['seconds'])} ({format_time(job['seconds'])}) on {_workers(comparison)}"
    yield from _format_price(comparison)
    if own["energy_kwh"]:
        yield f"  Energy: {own['energy_kwh']:,.3f} kWh, {own['energy_price']:,.2f} {currency}"
    yield f"  Total: {own['total']:,.2f} {currency}, {own['per_million']:,.6f} per million tokens"
    yield from _format_storage(comparison)
    yield ""
    yield f"  {'API':32} {'1M tokens':>9} {'this job':>14} {'cheaper':>8}  price read on"
    for row in comparison["apis"]:
        yield (
            f"  {row['name']:32} {row['per_million']:>9.3f} {row['cost']:>14,.2f} {row['cheaper']:>8}  "
            f"{row['date']}{_status(row)}"
        )
        yield from _format_source(row, sources)
    yield from _format_plan(comparison["plan"] or [])


def _format_price(comparison: JsonObject) -> Iterator[str]:
    own, worker, currency = comparison["own"], comparison["worker"], comparison["currency"]
    if not worker["rented"]:
        yield f"  Wear: {own['hours']:,.3f} hours x {worker['hourly']:.4f} {currency} = {own['price']:,.2f} {currency}"
        return
    billed = f"{own['billed_hours']:,.3f} hours, rounded up to whole {worker['billing']}s of each worker"
    yield f"  Rent: {billed}, x {worker['hourly']:.4g} {currency} = {own['price']:,.2f} {currency}"
    if own["spot"] is not None:
        yield f"  On spot machines: x {worker['spot']:g} {currency}, with energy {own['spot']:,.2f} {currency}"


def _format_storage(comparison: JsonObject) -> Iterator[str]:
    from nearfield.units import format_bytes

    stored = comparison["storage"]
    if stored is not None:
        price = f", {stored['month']:,.2f} {comparison['currency']} per month" if stored["month"] else ""
        yield f"  Storage: {format_bytes(stored['bytes'])} of {stored['dtype']} vectors without an index{price}"


def _format_plan(rows: Sequence[JsonObject]) -> Iterator[str]:
    from nearfield.units import format_bytes, format_count, format_time

    if not rows:
        return
    yield ""
    head = f"{'texts':>14} {'tokens':>14} {'time':>14} {'total':>12} {'on spot':>12}"
    yield f"{head} {'storage':>10} {'cheapest API':>13}"
    for row in rows:
        spot = "not known" if row["own"]["spot"] is None else f"{row['own']['spot']:,.2f}"
        stored = "not known" if row["storage"] is None else format_bytes(row["storage"]["bytes"])
        counts = f"{format_count(row['job']['texts']):>14} {format_count(row['job']['tokens']):>14}"
        cheapest = min(price["cost"] for price in row["apis"])
        yield (
            f"{counts} {format_time(row['job']['seconds']):>14} {row['own']['total']:>12,.2f} {spot:>12} {stored:>10} "
            f"{cheapest:>13,.2f}"
        )


def _format_end(comparison: JsonObject, *, explain: bool) -> Iterator[str]:
    yield ""
    if comparison["warning"]:
        yield f"Note: {comparison['warning']}"
    for source in comparison["machine"]["sources"]:
        yield f"{comparison['machine']['name']}: {source}"
    if explain:
        yield from ("Formulas:", *(f"  {formula}" for formula in comparison["formulas"]), "")
    else:
        yield "How each figure is computed: --explain. Where each price was read: --sources."
    yield "Not included: staff, network traffic, disks, spare machines, free tiers, batch discounts, taxes."


def _volume(tokens: float, per_text: float | None) -> str:
    from nearfield.units import format_amount, format_count

    texts = f" ({format_count(tokens / per_text)} texts of {format_amount(per_text)})" if per_text else ""
    return f"{format_count(tokens)} tokens{texts}"


def _workers(comparison: JsonObject) -> str:
    from nearfield.message_text import count_of
    from nearfield.units import format_amount

    job = comparison["job"]
    texts = f", {format_amount(job['texts_per_second'])} texts/s" if comparison["tokens_per_text"] else ""
    source = "measured here" if job["measured"] else "as stated"
    more = "" if job["workers"] == 1 else f", of which {job['efficiency']:g} is reached together"
    lost = f", with {job['lost']:.2%} more work for what is lost" if job["lost"] else ""
    speed = f"{format_amount(job['tokens_per_second'])} tokens/s{texts}"
    return f"{count_of(job['workers'], 'worker')} at {speed} ({source}){more}{lost}"


def _break_even(row: JsonObject) -> str:
    from nearfield.units import format_count

    if row["break_even"] is None:
        return "never"
    texts = row["break_even_texts"]
    return f"{format_count(row['break_even'])} tokens" if texts is None else f"{format_count(texts)} texts"


def _status(row: JsonObject) -> str:
    return "" if row["status"] == "provider" else f" ({row['status']})"


def _format_source(row: JsonObject, sources: bool) -> Iterator[str]:
    if sources:
        yield f"    {row['source']}{'; ' + row['note'] if row['note'] else ''}"
