"""The screen of ``nearfield top``: one frame of a running server's statistics, drawn with rich."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import escape_controls, escape_lines
from nearfield.units import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from nearfield.server.observability.live_stats import Latency, LiveStats

_UNKNOWN = "-"
#: Stages of a request, in order.
_STAGES = ("tokenise", "queue", "run", "finish", "reply")


@dataclass(frozen=True)
class DashboardFrame:
    """The state of a server at one moment; ``error`` says why there is none."""

    url: str
    at: float
    error: str = ""
    ready: JsonObject = dataclasses.field(default_factory=dict)
    models: JsonObject = dataclasses.field(default_factory=dict)
    figures: LiveStats | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the frame as a JSON object."""
        values: dict[str, object] = {"url": self.url, "at": round(self.at, 3)}
        if self.figures is None:
            return {**values, "error": self.error}
        known = {"ready": self.ready["ready"], "reasons": self.ready["reasons"], **self.models}
        return {**values, **known, "figures": dataclasses.asdict(self.figures)}


def draw(frame: DashboardFrame, footer: str = "") -> RenderableType:
    """Return a frame as a rich object; texts of the server are never interpreted as markup."""
    from rich.console import Group
    from rich.text import Text

    clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
    head = Text.assemble(("Nearfield", "bold"), f" at {frame.url}, {clock}: ")
    stats = frame.figures
    tail = [Text(footer, style="dim")] if footer else []
    if stats is None:
        again = "Trying again." if footer else ""
        return Group(head.append("no answer", "bold red"), Text(escape_lines(frame.error), "red"), Text(again), *tail)
    ready = bool(frame.ready["ready"])
    head.append("ready" if ready else "not ready", "bold green" if ready else "bold red")
    notes = [Text(f"  {escape_controls(reason)}", "red") for reason in frame.ready["reasons"]]
    if stats.restarted:
        notes.append(Text("  The server was restarted since the last reading.", "yellow"))
    return Group(head, *notes, _summary(frame, stats), _models(frame, stats), _routes(stats), *tail)


def _summary(frame: DashboardFrame, stats: LiveStats) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, text in _lines(frame, stats):
        grid.add_row(name, Text(text))
    return grid


def _lines(frame: DashboardFrame, stats: LiveStats) -> Iterator[tuple[str, str]]:
    yield "requests", f"{_rate(stats.requests)}/s, {_latency(stats.latency)}"
    if stats.stages:
        known = [name for name in _STAGES if name in stats.stages]
        yield (
            "stages, p95",
            ", ".join(f"{name} {_seconds(stats.stages[name].p95, stats.stages[name])}" for name in known),
        )
    yield "work", f"{_rate(stats.tokens)} tokens/s in {_rate(stats.inputs)} inputs/s"
    waiting = (
        f"{name} {queue.tokens:,.0f} tokens of {_count(queue.inputs)} inputs" for name, queue in stats.queue.items()
    )
    yield "queue", "; ".join(waiting) or _UNKNOWN
    running = f"{_count(stats.running_batches)} running on {_count(stats.lanes_alive)} lanes"
    yield (
        "batches",
        f"{_rate(stats.batches)}/s, {running}, fill {_share(stats.batch_fill)}, padding {_share(stats.padding)}",
    )
    yield "cache", f"hits {_share(stats.cache_hits)}"
    budget = frame.models["budget"]
    most = f" of {_bytes(budget, budget)}" if budget else ""
    process, models = _bytes(stats.resident_bytes, budget), _bytes(frame.models["bytes"], budget)
    yield "memory", f"process {process}, models {models}{most}"


def _models(frame: DashboardFrame, stats: LiveStats) -> Table:
    from rich.text import Text

    table = _table("model", "state", "memory", "users", "idle", "tokens/s")
    for model in frame.models["models"]:
        state = str(model["state"])
        style = {"loaded": "green", "failed": "red", "loading": "yellow"}.get(state, "dim")
        idle = _idle(model["idle"]) if state == "loaded" else _UNKNOWN
        speed = _rate(stats.tokens_by_model.get(model["id"], 0.0 if stats.seconds else None))
        cells = (_bytes(model["bytes"], frame.models["budget"]), str(model["users"]), idle, speed)
        table.add_row(Text(escape_controls(model["id"])), Text(state, style), *cells)
    return table


def _routes(stats: LiveStats) -> Table:
    from rich.text import Text

    table = _table("route", "requests/s by status", "p50", "p95", "p99")
    for route in stats.routes:
        rates = ", ".join(f"{status}: {_rate(rate)}" for status, rate in route.rates.items())
        latency = route.latency
        times = (latency.p50, latency.p95, latency.p99) if latency is not None else (None, None, None)
        table.add_row(Text(escape_controls(route.route)), rates, *(_seconds(value, latency) for value in times))
    return table


def _table(first: str, second: str, *numbers: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column(first, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(second)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "no latency yet"
    return ", ".join(f"p{share} {_seconds(getattr(latency, f'p{share}'), latency)}" for share in (50, 95, 99))


def _seconds(value: float | None, latency: Latency | None) -> str:
    if value is None or latency is None:
        return _UNKNOWN
    if value >= latency.max_bound:
        return f"> {latency.max_bound:g} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.0f} ms" if value >= 0.1 else f"{value * 1e3:.1f} ms"


def _rate(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.0%}"


def _count(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _bytes(value: float | None, budget: int | None) -> str:
    return _UNKNOWN if value is None else format_bytes(value, budget)


def _idle(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
