"""nearfield cluster: serve on a Ray cluster, and the jobs of ``nearfield embed --detach`` there.

``serve`` has the options of ``nearfield serve``, and one for each field of ``ServingOptions``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfield.cli.terminal.setting_options import read_options, with_options
from nearfield.message_text import escape_controls
from nearfield.setting_fields import describe_fields
from nearfield.settings import Settings, load_as, load_flags

if TYPE_CHECKING:
    from nearfield.cluster.ray_jobs import RayJobs

EXAMPLES = """Examples:

nearfield cluster serve minilm --ray auto --engines 4 --host 0.0.0.0

nearfield cluster serve minilm --ray local --engines 2 --min-engines 0

nearfield cluster serve minilm bge-small --ray head:6379 --separate-models --engine-gpus 0.5

Each node of the cluster answers HTTP at --port; any load balancer before them will do. SIGHUP replaces the engines one
by one, SIGTERM finishes accepted requests. See docs/guides/cluster.md."""

_JOBS_EXAMPLES = """Examples:

nearfield cluster jobs --ray http://10.0.0.1:8265

nearfield cluster logs nearfield-vectors-5f2c81d0-1 --follow

nearfield cluster stop nearfield-vectors-5f2c81d0-1"""

#: What names the cluster of jobs.
_Address = Annotated[
    str,
    typer.Option("--ray", help="The cluster: auto, HOST:PORT, ray://HOST:PORT or http://HOST:8265.", metavar="ADDRESS"),
]
_JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's name, which --detach printed.")]

app = typer.Typer(
    help="Serve on a Ray cluster; jobs of nearfield embed --detach.", no_args_is_help=True, rich_markup_mode=None
)


def build_cluster_command() -> Callable[..., None]:
    """Return the command function, with a parameter for each option of the server and of the cluster."""
    from nearfield.cluster.serving.serving_options import ServingOptions

    server, cluster = describe_fields(Settings), describe_fields(ServingOptions)

    def serve(**options: Any) -> None:
        """Serve models on a Ray cluster: HTTP on each node, engines on any."""
        from nearfield.cluster.serving.serve import serve as run

        settings = load_as(Settings, dict(read_options(server, options)))
        run(settings, load_flags(ServingOptions, dict(read_options(cluster, options))), lambda line: typer.echo(line))

    return with_options(serve, (*server, *cluster))


app.command("serve", epilog=EXAMPLES)(build_cluster_command())


@app.command("jobs", epilog=_JOBS_EXAMPLES)
def jobs(
    address: _Address = "auto", as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False
) -> None:
    """List the runs of nearfield embed that were submitted with --detach, the newest last."""
    listed = _jobs(address).jobs()
    if as_json:
        typer.echo(json.dumps([asdict(job) for job in listed]))
    elif not listed:
        typer.echo("No job of nearfield embed was submitted to this cluster.")
    else:
        typer.echo("\n".join(escape_controls(job.to_text()) for job in listed))


@app.command("logs", epilog=_JOBS_EXAMPLES)
def logs(
    name: _JobName,
    address: _Address = "auto",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print until the job ends; exit status 1 if it failed.")
    ] = False,
) -> None:
    """Print what a job has printed."""
    board = _jobs(address)
    if not follow:
        typer.echo(board.logs(name), nl=False)
        return
    board.follow(name, lambda text: typer.echo(text, nl=False))
    if board.find(name).state != "succeeded":
        raise typer.Exit(1)


@app.command("stop", epilog=_JOBS_EXAMPLES)
def stop(name: _JobName, address: _Address = "auto") -> None:
    """Stop a job. Its complete shards stay, and the same command continues."""
    stopped = _jobs(address).stop(name)
    typer.echo(f"{name} ends now; its complete shards stay." if stopped else f"{name} had ended before.")


def _jobs(address: str) -> RayJobs:
    from nearfield.cluster.ray_jobs import RayJobs

    return RayJobs.connect(address)
