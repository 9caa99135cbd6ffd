"""nearfield serve: one option for each field of ``Settings``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from nearfield.cli.terminal.setting_options import read_options, with_options
from nearfield.setting_fields import describe_fields
from nearfield.settings import Settings, load_as

EXAMPLES = """Examples:

nearfield serve

nearfield serve bge-small --port 9000

nearfield serve bge-small --on-demand 'BAAI/*' --memory-budget 8GiB --keep-alive 600

nearfield serve minilm ./my-model --api-key-file keys.txt --host 0.0.0.0

nearfield serve minilm --collections handbook --chat-url http://localhost:11434 --chat-model llama3.2

Each flag may also be set in nearfield.toml, or in the environment as NEARFIELD_PORT and so on; flags win."""


def build_command(settings_class: type[Settings] = Settings) -> Callable[..., None]:
    """Return the command function, with a parameter for each field of the settings class."""
    fields = describe_fields(settings_class)

    def serve(**options: Any) -> None:
        """Serve models over HTTP, for OpenAI clients and others."""
        settings = load_as(settings_class, dict(read_options(fields, options)))
        if settings.frontends > 1:
            from nearfield.server.frontends.supervisor import serve as run
        else:
            from nearfield.server.lifecycle.serve import serve as run
        run(settings, announce=lambda line: typer.echo(line))

    return with_options(serve, fields)


serve = build_command()
