"""nearfield route: one option for each field of ``RouterSettings``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from nearfield.cli.terminal.setting_options import read_options, with_options
from nearfield.setting_fields import describe_fields
from nearfield.settings import load_flags

EXAMPLES = """Examples:

nearfield route --to http://a:8080 --to http://b:8080

nearfield route --to http://nearfield-servers:8080 --host 0.0.0.0

nearfield route --backends-file servers.txt --home http://a:8080

Each request goes to a server that has its model, the one with the fewest queued tokens. Requests for vectors, scores
and tokens are sent once more, to another server, if the first fails."""


def build_route_command() -> Callable[..., None]:
    """Return the command function, with a parameter for each option of the router."""
    from nearfield.cluster.router.router_settings import RouterSettings

    fields = describe_fields(RouterSettings)

    def route(**options: Any) -> None:
        """Offer several servers at one address, and choose one for each request."""
        from nearfield.cluster.router.serve import route as run

        run(load_flags(RouterSettings, dict(read_options(fields, options))), announce=lambda line: typer.echo(line))

    return with_options(route, fields)


route = build_route_command()
