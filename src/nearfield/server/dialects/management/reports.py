"""The routes of reports: what commands such as ``nearfield evaluate`` stored on this machine.

Both need the scope ``manage``: reports have texts of the data that was measured.
"""

from __future__ import annotations

import asyncio

import msgspec

from nearfield.errors import NotThere
from nearfield.evaluation.reports.report import Report
from nearfield.evaluation.reports.report_folder import ReportFolder, ReportList
from nearfield.server.dialects import Reply, Route
from nearfield.server.http.request_context import RequestContext


async def _list_reports(_: None, context: RequestContext) -> Reply:
    return Reply(msgspec.json.encode(await asyncio.to_thread(_folder(context).summaries)))


async def _read_report(_: None, context: RequestContext) -> Reply:
    return Reply(msgspec.json.encode(await asyncio.to_thread(_folder(context).read, context.path["name"])))


def _folder(context: RequestContext) -> ReportFolder:
    if context.reports is None:
        raise NotThere("Batches cannot read reports: send the request by itself.")
    return context.reports


REPORT_ROUTES = (
    Route(
        "/reports",
        "List the reports on this machine",
        _list_reports,
        response_type=ReportList,
        method="GET",
        scope="manage",
        rate_limit_exempt=True,
    ),
    Route(
        "/reports/{name}",
        "Return a report",
        _read_report,
        response_type=Report,
        method="GET",
        scope="manage",
        rate_limit_exempt=True,
    ),
)
