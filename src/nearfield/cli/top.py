"""nearfield top: live statistics of a running server."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.dashboard import DashboardFrame, draw

if TYPE_CHECKING:
    from rich.console import Console

    from nearfield.server.observability.live_stats import MetricsSnapshot

EXAMPLES = """Examples:

nearfield top

nearfield top --url http://search:8080 --key $KEY --interval 5

nearfield top --once

nearfield top --json > figures.jsonl

Stop with Ctrl-C. Rates and latencies are measured between two readings, --interval seconds apart, so the first reading
has none. Requests for /metrics, /ready, /health and /models are not counted, because this command sends them."""

#: Seconds to wait for a response; a server under load still reports its metrics.
_TIMEOUT = 5.0


def top(
    url: Annotated[str, typer.Option("--url", help="URL of the server.")] = "http://127.0.0.1:8080",
    key: Annotated[
        str | None, typer.Option("--key", envvar="NEARFIELD_KEY", help="API key, if the server requires keys.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show one frame after two readings, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per reading, one per line.")] = False,
) -> None:
    """Watch a running server.

    Shows its models, queues, requests, latencies, batches, cache and memory.
    """
    from nearfield.errors import NearfieldError

    view = ServerView(url, key)
    try:
        if not once:
            _watch(view, interval, as_json)
        frame = view.read()
        if not frame.error:
            time.sleep(interval)
            frame = view.read()
        if frame.error:
            raise NearfieldError(frame.error)
        if as_json:
            typer.echo(json.dumps(frame.to_dict()))
        else:
            _console().print(draw(frame))
    except KeyboardInterrupt:
        return


def _watch(view: ServerView, interval: float, as_json: bool) -> None:
    """Show one frame after another until Ctrl-C."""
    from rich.live import Live

    console = _console()
    if as_json or not console.is_terminal:
        while True:
            frame = view.read()
            if as_json:
                typer.echo(json.dumps(frame.to_dict()))
            else:
                console.print(draw(frame))
            time.sleep(interval)
    # The alternate screen: the terminal shows its earlier content again afterwards.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(view.read(), f"Stop with Ctrl-C. Read every {interval:g} s."), refresh=True)
            time.sleep(interval)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False)


class ServerView:
    """Reads the statistics of a server repeatedly, and keeps the last reading for rates."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._key = key
        self._before: MetricsSnapshot | None = None

    def read(self) -> DashboardFrame:
        """Return the present frame, with an error if the server does not answer.

        Raises:
            InputError: the URL is not valid.
        """
        from nearfield.errors import InputError, NearfieldError

        try:
            return self._read()
        except InputError:
            raise
        except NearfieldError as error:
            self._before = None  # a rate over an outage would mean nothing
            return DashboardFrame(self._url, time.time(), str(error))

    def _read(self) -> DashboardFrame:
        from nearfield.client import NO_RETRY, Client
        from nearfield.errors import NearfieldError
        from nearfield.server.observability import live_stats

        with Client(self._url, key=self._key, timeout=_TIMEOUT, retry=NO_RETRY) as client:
            page = client.metrics()
            at = time.monotonic()
            models = dataclasses.asdict(client.load_states())
            ready = dataclasses.asdict(client.readiness())
        try:
            now = live_stats.parse_metrics(page, at)
            stats = live_stats.live_stats(self._before, now)
            frame = DashboardFrame(
                self._url,
                time.time(),
                ready=ready,
                models={name: models[name] for name in ("models", "bytes", "budget")},
                figures=stats,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NearfieldError(f"{self._url} is not a Nearfield server, or has another version.") from error
        self._before = now
        return frame
