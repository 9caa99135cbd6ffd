"""The route of live figures: those of the last hour, for charts."""

from __future__ import annotations

import math

import msgspec

from nearfield.errors import InputError, NotThere
from nearfield.server.dialects import Reply, Route
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.figure_points import INTERVAL, FigurePoint


class FigureHistory(msgspec.Struct):
    """Points of the last hour, oldest first, one each ``interval`` seconds; ``?since=AT`` gives those after a time."""

    interval: float
    points: list[FigurePoint]


async def _read_history(_: None, context: RequestContext) -> Reply:
    if context.history is None:
        raise NotThere("Batches cannot read metrics: send the request by itself.")
    points = await context.history.after(_since(context.query.get("since", "0")))
    return Reply(msgspec.json.encode({"interval": INTERVAL, "points": [msgspec.Raw(point) for point in points]}))


def _since(text: str) -> float:
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if math.isnan(at):
        raise InputError(f"since is a time in seconds since 1970, not {text[:100]!r}.", param="since")
    return at


HISTORY_ROUTES = (
    Route(
        "/metrics/history",
        "Return the figures of the last hour",
        _read_history,
        response_type=FigureHistory,
        method="GET",
        rate_limit_exempt=True,
    ),
)
