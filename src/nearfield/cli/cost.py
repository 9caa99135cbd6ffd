"""nearfield cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield cost 5B --rent 0.40 --tokens-per-second 20000

nearfield cost 500M --price 1200 --years 4 --watts 65 --kwh 0.30 --tokens-per-second 6000 --utilisation 0.3

nearfield cost 2B --rent 0.10 --model all-MiniLM-L6-v2 --measure --prices my-prices.toml --json"""


def cost(
    volume: Annotated[str, typer.Argument(help="Tokens a month, such as 500M or 5B.")],
    rent: Annotated[float | None, typer.Option(help="What the machine costs an hour.")] = None,
    price: Annotated[float | None, typer.Option(help="What it cost to buy, instead.")] = None,
    years: Annotated[float, typer.Option(help="Years until a bought one is used up.")] = 3.0,
    watts: Annotated[float, typer.Option(help="Power it draws, on average.")] = 0.0,
    kwh: Annotated[float, typer.Option(help="Price of a kilowatt-hour.")] = 0.0,
    utilisation: Annotated[float, typer.Option(help="Share of its time in which there is work, above 0 to 1.")] = 0.5,
    tokens_per_second: Annotated[float | None, typer.Option(help="Its speed, where it is known.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to measure, with --measure.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the model's speed here for 3 seconds.")] = False,
    prices: Annotated[
        Path | None, typer.Option(help="Your price table; ours is nearfield/evaluate/prices.toml.")
    ] = None,
    show_prices: Annotated[bool, typer.Option("--sources", help="Show where each price was read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a month on your own machine with what APIs ask: costs, break-even volume, formulas."""
    from nearfield.cli.terminal.units import parse_count
    from nearfield.errors import InputError
    from nearfield.evaluation.planning import cost as costs

    wanted = parse_count(volume)
    currency, table = costs.read_prices(prices)
    speed, measured = tokens_per_second, False
    if speed is None and model is not None and measure:
        from nearfield.cli.size import _measured

        speed, measured = _measured(model, None)[1], True
    if speed is None:
        raise InputError("Say how fast the machine is: --tokens-per-second, or --model and --measure.")
    hardware = costs.Hardware(speed, price, years, rent, watts, kwh, utilisation)
    told = {"currency": currency, **costs.compare_costs(wanted, hardware, table), "hardware": vars(hardware)}
    told["hardware"]["measured"] = measured
    told["formulas"] = list(costs.FORMULAS)
    typer.echo(json.dumps(told) if as_json else _shown(told, sources=show_prices))


def _shown(told: dict[str, Any], *, sources: bool) -> str:
    own, currency = told["own"], told["currency"]
    capacity = f"a machine does {own['capacity'] / 1e6:,.0f}M tokens a month"
    machines = f"{own['machines']} machine{'s' if own['machines'] > 1 else ''}"
    speed = f"{told['hardware']['tokens_per_second']:,.0f} tokens/s"
    source = ", measured here" if told["hardware"]["measured"] else ""
    month = f"{own['month']:,.2f} {currency} a month, {own['per_million']:,.4f} a million tokens"
    lines = [
        f"{told['volume'] / 1e6:,.1f}M tokens a month",
        f"  own hardware: {machines} ({capacity} at {speed}{source}), {month}",
        "",
        f"  {'API':32} {'a million':>9} {'a month':>12} {'break-even':>16} {'cheaper':>8}  price of",
    ]
    for row in told["apis"]:
        meets = "never on one" if row["break_even"] is None else f"{row['break_even'] / 1e6:,.0f}M a month"
        mark = "" if row["status"] == "provider" else f" ({row['status']})"
        lines.append(
            f"  {row['name']:32} {row['per_million']:>9.3f} {row['month']:>12,.2f} {meets:>16} {row['cheaper']:>8}  "
            f"{row['date']}{mark}"
        )
        if sources:
            lines.append(f"    {row['source']}{'; ' + row['note'] if row['note'] else ''}")
    lines += ["", "Counted so:", *(f"  {each}" for each in told["formulas"])]
    lines += ["", "Not counted: work of people, traffic, disks, spare machines, free tiers, batch discounts, taxes."]
    return "\n".join(lines)
