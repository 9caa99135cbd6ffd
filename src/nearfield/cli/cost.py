"""nearfield cost: a month on your own machine compared with APIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

EXAMPLES = """Examples:

nearfield cost 5B --rent 0.40 --tokens-per-second 20000

nearfield cost 500M --price 1200 --years 4 --watts 65 --kwh 0.30 --tokens-per-second 6000 --utilisation 0.3

nearfield cost 2B --rent 0.10 --model all-MiniLM-L6-v2 --measure --prices my-prices.toml --json"""


def cost(
    volume: Annotated[str, typer.Argument(help="Tokens per month, such as 500M or 5B.")],
    rent: Annotated[float | None, typer.Option(help="Rent of the machine per hour.")] = None,
    price: Annotated[float | None, typer.Option(help="Price of the machine, if it was bought.")] = None,
    years: Annotated[float, typer.Option(help="Years of use of a bought machine.")] = 3.0,
    watts: Annotated[float, typer.Option(help="Average power of the machine in watts.")] = 0.0,
    kwh: Annotated[float, typer.Option(help="Price of a kilowatt-hour.")] = 0.0,
    utilisation: Annotated[
        float, typer.Option(help="Share of the time in which the machine has work, above 0 and up to 1.")
    ] = 0.5,
    tokens_per_second: Annotated[float | None, typer.Option(help="Speed of the machine, if you know it.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to measure, with --measure.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the model's speed here for 3 seconds.")] = False,
    prices: Annotated[
        Path | None, typer.Option(help="File of API prices (TOML) to use instead of the built-in table.")
    ] = None,
    show_prices: Annotated[bool, typer.Option("--sources", help="Show the source of each price.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the cost of your machine with APIs.

    Shows the cost of a month, and the volume from which your own machine is cheaper.
    """
    from nearfield.errors import InputError
    from nearfield.evaluation.planning import cost as costs
    from nearfield.units import parse_count

    tokens = parse_count(volume)
    currency, table = costs.read_prices(prices)
    speed, measured = tokens_per_second, False
    if speed is None and model is not None and measure:
        from nearfield.cli.size import measure_tokens

        speed, measured = measure_tokens(model, None)[1], True
    if speed is None:
        raise InputError("The speed of the machine is needed: --tokens-per-second, or --model and --measure.")
    hardware = costs.Hardware(speed, price, years, rent, watts, kwh, utilisation)
    comparison = {"currency": currency, **costs.compare_costs(tokens, hardware, table), "hardware": vars(hardware)}
    comparison["hardware"]["measured"] = measured
    comparison["formulas"] = list(costs.FORMULAS)
    typer.echo(json.dumps(comparison) if as_json else _format(comparison, sources=show_prices))


def _format(comparison: JsonObject, *, sources: bool) -> str:
    own, currency = comparison["own"], comparison["currency"]
    capacity = f"a machine can process {own['capacity'] / 1e6:,.0f}M tokens per month"
    machines = f"{own['machines']} machine{'s' if own['machines'] > 1 else ''}"
    speed = f"{comparison['hardware']['tokens_per_second']:,.0f} tokens/s"
    source = ", measured here" if comparison["hardware"]["measured"] else ""
    month = f"{own['month']:,.2f} {currency} per month, {own['per_million']:,.4f} per million tokens"
    lines = [
        f"{comparison['volume'] / 1e6:,.1f}M tokens per month",
        f"  Own hardware: {machines} ({capacity} at {speed}{source}), {month}",
        "",
        f"  {'API':32} {'1M tokens':>9} {'per month':>12} {'break-even':>18} {'cheaper':>8}  price read on",
    ]
    for row in comparison["apis"]:
        meets = "never" if row["break_even"] is None else f"{row['break_even'] / 1e6:,.0f}M per month"
        mark = "" if row["status"] == "provider" else f" ({row['status']})"
        lines.append(
            f"  {row['name']:32} {row['per_million']:>9.3f} {row['month']:>12,.2f} {meets:>18} {row['cheaper']:>8}  "
            f"{row['date']}{mark}"
        )
        if sources:
            lines.append(f"    {row['source']}{'; ' + row['note'] if row['note'] else ''}")
    lines += ["", "Formulas:", *(f"  {formula}" for formula in comparison["formulas"])]
    lines += ["", "Not included: staff, network traffic, disks, spare machines, free tiers, batch discounts, taxes."]
    return "\n".join(lines)
