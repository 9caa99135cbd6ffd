"""nearfield serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

nearfield serve

nearfield serve bge-small --port 9000

nearfield serve minilm ./my-model --api-key-file keys.txt --host 0.0.0.0

Each flag may also stand in nearfield.toml, or in the environment as NEARFIELD_PORT and so on; flags win."""


def serve(
    models: Annotated[list[str] | None, typer.Argument(help="Models: names, aliases, Hub ids or folders.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8080]; 0 picks a free one.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto (bf16 where the CPU has it) or float32 [auto].")] = None,
    backend: Annotated[str | None, typer.Option(help="Runtime that executes the models [openvino].")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Serve models whose licences do not allow commercial use.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Cores to use [all that may be used].")] = None,
    streams: Annotated[int | None, typer.Option(help="Batches that run at once.")] = None,
    api_keys: Annotated[
        list[str] | None, typer.Option("--api-key", help="Key that clients must send; may be repeated.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File of keys: plain or sha256:<hex>, a line each.")] = None,
    cors_origins: Annotated[
        list[str] | None, typer.Option("--cors-origin", help="Origin whose pages may call; may be repeated.")
    ] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest request body [32 MiB].")] = None,
    max_items: Annotated[int | None, typer.Option(help="Most inputs in one request [16384].")] = None,
    max_request_tokens: Annotated[int | None, typer.Option(help="Most tokens in one request [1000000].")] = None,
    max_queued_tokens: Annotated[int | None, typer.Option(help="Tokens that may wait before 429 [1000000].")] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds until a request is done or refused [30].")
    ] = None,
    bulk_items: Annotated[
        int | None, typer.Option(help="Inputs from which a request gives way to others [256].")
    ] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds for accepted requests at shutdown [30].")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error [info].")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json [text].")] = None,
) -> None:
    """Serve models over HTTP, for OpenAI clients and others."""
    given = {name: value for name, value in locals().items() if value not in (None, [], False)}
    given.update({"accept_license": ("1",)} if accept_license else {})
    from nearfield import settings
    from nearfield.server.run import serve as run

    run(settings.load(**given), announce=lambda line: typer.echo(line))
