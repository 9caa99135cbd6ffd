"""nearfield top: what a running server does now."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from nearfield.server.observability.live_stats import Latency, LiveStats, MetricsSnapshot

EXAMPLES = """Examples:

nearfield top

nearfield top --url http://search:8080 --key $KEY --interval 5

nearfield top --once

nearfield top --json > figures.jsonl

Ctrl-C ends it. Rates and latencies are those between two readings, --interval seconds apart; a first one knows none.
Requests for /metrics, /ready, /health and /models are not counted: watching makes them itself."""

#: Seconds to wait for a reply: a server under load still tells its metrics.
_PATIENCE = 5.0
_UNKNOWN = "-"
#: In the order in which a request goes through them.
_STAGES = ("tokenise", "queue", "run", "finish", "reply")
_MIB = 2**20


def top(
    url: Annotated[str, typer.Option("--url", help="URL of the server.")] = "http://127.0.0.1:8080",
    key: Annotated[
        str | None, typer.Option("--key", envvar="NEARFIELD_KEY", help="Key of the server, if it has keys.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one frame, after two readings, and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON, an object a line for each reading.")
    ] = False,
) -> None:
    """Watch a running server: its models, queues, requests, latencies, tokens, batches, cache, memory, readiness."""
    from nearfield.errors import NearfieldError

    view = View(url, key)
    try:
        if not once:
            _watch(view, interval, as_json)
        frame = view.look()
        if not frame.error:
            time.sleep(interval)
            frame = view.look()
        if frame.error:
            raise NearfieldError(frame.error)
        if as_json:
            typer.echo(json.dumps(frame.plain()))
        else:
            _console().print(draw(frame))
    except KeyboardInterrupt:
        return


def _watch(view: View, interval: float, as_json: bool) -> None:
    """Show one frame after another until Ctrl-C."""
    from rich.live import Live

    console = _console()
    if as_json or not console.is_terminal:
        while True:
            frame = view.look()
            if as_json:
                typer.echo(json.dumps(frame.plain()))
            else:
                console.print(draw(frame))
            time.sleep(interval)
    # Another screen: what stood in the terminal before is there again afterwards.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(view.look(), f"Ctrl-C ends this; read every {interval:g} s."), refresh=True)
            time.sleep(interval)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False)


@dataclass(frozen=True)
class Frame:
    """What one look at a server found; ``error`` says why nothing."""

    url: str
    at: float
    error: str = ""
    ready: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    figures: LiveStats | None = None

    def plain(self) -> dict[str, Any]:
        """Return what JSON is to say."""
        told: dict[str, Any] = {"url": self.url, "at": round(self.at, 3)}
        if self.figures is None:
            return {**told, "error": self.error}
        known = {"ready": self.ready["ready"], "reasons": self.ready["reasons"], **self.models}
        return {**told, **known, "figures": dataclasses.asdict(self.figures)}


class View:
    """Looks at a server again and again, and remembers what it read last."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._key = key
        self._before: MetricsSnapshot | None = None

    def look(self) -> Frame:
        """Return what there is to see now; a server that does not answer is an answer, too.

        Raises:
            InputError: the URL is none.
        """
        from nearfield.errors import InputError, NearfieldError

        try:
            return self._look()
        except InputError:
            raise
        except NearfieldError as error:
            self._before = None  # rates over an outage would say nothing
            return Frame(self._url, time.time(), str(error))

    def _look(self) -> Frame:
        from nearfield.client import NO_RETRY, Client
        from nearfield.errors import NearfieldError
        from nearfield.server.observability import live_stats

        with Client(self._url, key=self._key, timeout=_PATIENCE, retry=NO_RETRY) as client:
            page = client.metrics()
            at = time.monotonic()
            models = dataclasses.asdict(client.load_states())
            ready = dataclasses.asdict(client.readiness())
        try:
            now = live_stats.parse_metrics(page, at)
            told = live_stats.live_stats(self._before, now)
            frame = Frame(
                self._url,
                time.time(),
                ready=ready,
                models={name: models[name] for name in ("models", "bytes", "budget")},
                figures=told,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NearfieldError(f"{self._url} is no Nearfield server, or one of another version.") from error
        self._before = now
        return frame


# -- drawing -----------------------------------------------------------------------------------------------------------


def draw(frame: Frame, footer: str = "") -> RenderableType:
    """Draw a frame; what the server said is shown as it is, never taken for markup."""
    from rich.console import Group
    from rich.text import Text

    clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
    head = Text.assemble(("Nearfield", "bold"), f" at {frame.url}, {clock}: ")
    told = frame.figures
    tail = [Text(footer, style="dim")] if footer else []
    if told is None:
        again = "It is asked again and again." if footer else ""
        return Group(head.append("no answer", "bold red"), Text(frame.error, "red"), Text(again), *tail)
    ready = bool(frame.ready["ready"])
    head.append("ready" if ready else "not ready", "bold green" if ready else "bold red")
    notes = [Text(f"  {reason}", "red") for reason in frame.ready["reasons"]]
    if told.restarted:
        notes.append(Text("  It was started anew since the last reading.", "yellow"))
    return Group(head, *notes, _summary(frame, told), _models(frame, told), _routes(told), *tail)


def _summary(frame: Frame, told: LiveStats) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, text in _lines(frame, told):
        grid.add_row(name, Text(text))
    return grid


def _lines(frame: Frame, told: LiveStats) -> Iterator[tuple[str, str]]:
    yield "requests", f"{_rate(told.requests)}/s, {_latency(told.latency)}"
    if told.stages:
        known = [name for name in _STAGES if name in told.stages]
        yield "stages, p95", ", ".join(f"{name} {_seconds(told.stages[name].p95, told.stages[name])}" for name in known)
    yield "work", f"{_rate(told.tokens)} tokens/s in {_rate(told.inputs)} inputs/s"
    waiting = (f"{name} {each.tokens:,.0f} tokens of {_count(each.inputs)} inputs" for name, each in told.queue.items())
    yield "queue", "; ".join(waiting) or _UNKNOWN
    running = f"{_count(told.running_batches)} running on {_count(told.lanes_alive)} lanes"
    yield (
        "batches",
        f"{_rate(told.batches)}/s, {running}, fill {_share(told.batch_fill)}, padding {_share(told.padding)}",
    )
    yield "cache", f"hits {_share(told.cache_hits)}"
    budget = frame.models["budget"]
    most = f" of {_mib(budget)}" if budget else ""
    yield "memory", f"process {_mib(told.resident_bytes)} MiB, models {_mib(frame.models['bytes'])}{most} MiB"


def _models(frame: Frame, told: LiveStats) -> Table:
    from rich.text import Text

    table = _table("model", "state", "MiB", "users", "idle", "tokens/s")
    for model in frame.models["models"]:
        state = str(model["state"])
        style = {"loaded": "green", "failed": "red", "loading": "yellow"}.get(state, "dim")
        idle = _idle(model["idle"]) if state == "loaded" else _UNKNOWN
        speed = _rate(told.tokens_by_model.get(model["id"], 0.0 if told.seconds else None))
        cells = (_mib(model["bytes"]), str(model["users"]), idle, speed)
        table.add_row(Text(model["id"]), Text(state, style), *cells)
    return table


def _routes(told: LiveStats) -> Table:
    from rich.text import Text

    table = _table("route", "requests/s by status", "p50", "p95", "p99")
    for route in told.routes:
        rates = ", ".join(f"{status}: {_rate(rate)}" for status, rate in route.rates.items())
        each = route.latency
        times = (each.p50, each.p95, each.p99) if each is not None else (None, None, None)
        table.add_row(Text(route.route), rates, *(_seconds(value, each) for value in times))
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


def _latency(told: Latency | None) -> str:
    if told is None:
        return "no latency yet"
    return ", ".join(f"p{share} {_seconds(getattr(told, f'p{share}'), told)}" for share in (50, 95, 99))


def _seconds(value: float | None, told: Latency | None) -> str:
    if value is None or told is None:
        return _UNKNOWN
    if value >= told.max_bound:
        return f"> {told.max_bound:g} s"
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


def _mib(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value / _MIB:,.0f}"


def _idle(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
