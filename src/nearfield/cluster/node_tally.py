"""Rows and tokens by machine, for the progress bar and the report."""

from __future__ import annotations

from dataclasses import replace

from nearfield.bulk.report import NodeReport
from nearfield.cluster.shard_worker import ShardOutcome, WorkerFacts

#: Machines that the progress bar names; of more it shows the slowest and the fastest.
_MAX_SHOWN = 3


class NodeTally:
    """What each machine did."""

    def __init__(self) -> None:
        self._reports: dict[str, NodeReport] = {}

    def add_worker(self, facts: WorkerFacts) -> None:
        """Count a worker that is ready."""
        report = self._reports.get(facts.node, NodeReport(facts.node, facts.cpu))
        self._reports[facts.node] = replace(report, workers=report.workers + 1)

    def add_shard(self, facts: WorkerFacts, outcome: ShardOutcome) -> None:
        """Count a shard that a machine wrote."""
        report = self._reports[facts.node]
        self._reports[facts.node] = replace(
            report,
            shards=report.shards + 1,
            rows=report.rows + outcome.rows,
            tokens=report.tokens + outcome.tokens,
            seconds=round(report.seconds + outcome.seconds, 3),
        )

    def reports(self) -> tuple[NodeReport, ...]:
        """Return what each machine did, by name."""
        return tuple(self._reports[node] for node in sorted(self._reports))

    def to_text(self) -> str:
        """Return the speed of each machine, or of the slowest and the fastest."""
        reports = sorted(self._reports.values(), key=lambda report: report.tokens_per_second)
        shown = reports if len(reports) <= _MAX_SHOWN else [reports[0], reports[-1]]
        more = f"  ({len(reports)} nodes)" if len(reports) > len(shown) else ""
        return "  ".join(f"{report.node} {report.tokens_per_second:,.0f} tokens/s" for report in shown) + more
