"""nearfield cluster serve: the options of ``nearfield serve``, and one for each field of ``ServingOptions``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from nearfield.cli.terminal.setting_options import read_options, with_options
from nearfield.setting_fields import describe_fields
from nearfield.settings import Settings, load_as, load_flags

EXAMPLES = """Examples:

nearfield cluster serve minilm --ray auto --engines 4 --host 0.0.0.0

nearfield cluster serve minilm --ray local --engines 2 --min-engines 0

nearfield cluster serve minilm bge-small --ray head:6379 --separate-models --engine-gpus 0.5

Each node of the cluster answers HTTP at --port; any load balancer before them will do. SIGHUP replaces the engines one
by one, SIGTERM finishes accepted requests. See docs/guides/cluster.md."""

app = typer.Typer(help="Serve on a Ray cluster.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Make typer treat the application as a group although it has one command."""


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
