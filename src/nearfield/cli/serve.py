"""nearfield serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

nearfield serve

nearfield serve bge-small --port 9000

nearfield serve bge-small --on-demand 'BAAI/*' --memory-budget 8GiB --keep-alive 600

nearfield serve minilm ./my-model --api-key-file keys.txt --host 0.0.0.0

nearfield serve minilm --collections handbook --chat-url http://localhost:11434 --chat-model llama3.2

Each flag may also stand in nearfield.toml, or in the environment as NEARFIELD_PORT and so on; flags win."""


def serve(
    models: Annotated[list[str] | None, typer.Argument(help="Models: names, aliases, Hub ids or folders.")] = None,
    on_demand: Annotated[
        list[str] | None,
        typer.Option(help="Model to load when asked for, or a pattern of ids such as 'BAAI/*'; may be repeated."),
    ] = None,
    aliases: Annotated[
        list[str] | None,
        typer.Option("--alias", help="ALIAS=MODEL: a further name, such as text-embedding-3-small; may be repeated."),
    ] = None,
    memory_budget: Annotated[
        str | None, typer.Option(help="Memory for all models, such as 8GiB [as much as they take].")
    ] = None,
    cache_memory: Annotated[
        str | None, typer.Option(help="Memory for vectors that need not be computed again, 0 for none [256 MiB].")
    ] = None,
    cache_disk: Annotated[
        str | None, typer.Option(help="Disk for such vectors, which a later process finds again, such as 10GiB [0].")
    ] = None,
    keep_alive: Annotated[
        float | None, typer.Option(help="Seconds after which an idle model loaded on demand leaves [never].")
    ] = None,
    model_settings: Annotated[
        str | None, typer.Option(help="""Settings of single models, as JSON: '{"bge-m3": {"max_length": 1024}}'.""")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8080]; 0 picks a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for TEI's gRPC API [none]; 0 picks a free one.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto (bf16 where the CPU has it) or float32 [auto].")] = None,
    backend: Annotated[str | None, typer.Option(help="Runtime that executes the models [openvino].")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Serve models whose licences do not allow commercial use.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Cores to use [all that may be used].")] = None,
    streams: Annotated[int | None, typer.Option(help="Batches that run at once.")] = None,
    frontends: Annotated[
        int | None,
        typer.Option(
            help="Processes that read and answer HTTP [1]; more pay where one such core is busy before the models are: "
            "small models on many cores, a GPU, or many answers from the cache."
        ),
    ] = None,
    api_keys: Annotated[
        list[str] | None, typer.Option("--api-key", help="Key that clients must send; may be repeated.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of keys: lines, or TOML with scopes and rates.")
    ] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="Name that requests without a key may call it by; may be repeated."),
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option("--trusted-proxy", help="Address or network whose forwarded headers count; may be repeated."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM), to serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, if in a file of its own.")] = None,
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
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of uploaded files and batches [server, in the cache folder].")
    ] = None,
    served_collections: Annotated[
        list[str] | None,
        typer.Option("--collections", help="Collection to serve, or all [none]; may be repeated, or split by commas."),
    ] = None,
    collections_dir: Annotated[
        Path | None, typer.Option(help="Folder that those lie in [the user's own collections].")
    ] = None,
    chat_url: Annotated[
        str | None, typer.Option(help="Chat endpoint for answers, such as http://localhost:11434 [none].")
    ] = None,
    chat_model: Annotated[str | None, typer.Option(help="Model to ask there; NEARFIELD_CHAT_KEY is its key.")] = None,
    chat_kind: Annotated[str | None, typer.Option(help="Its API: openai or ollama [by the URL].")] = None,
    chat_timeout: Annotated[float | None, typer.Option(help="Seconds for one answer of it [120].")] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds for accepted requests at shutdown [30].")] = None,
    token_ids: Annotated[
        str | None, typer.Option(help="What token ids of OpenAI clients are: cl100k, native or reject [cl100k].")
    ] = None,
    tei_metrics: Annotated[
        bool, typer.Option("--tei-metrics", help="Show TEI's metrics (te_*) beside our own at /metrics.")
    ] = False,
    otel_endpoint: Annotated[
        str | None, typer.Option(help="OpenTelemetry collector to send traces to, such as http://localhost:4318.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error [info].")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json [text].")] = None,
) -> None:
    """Serve models over HTTP, for OpenAI clients and others."""
    # Zeros count: port 0 picks a free one.
    given = {name: value for name, value in locals().items() if not (value is None or value is False or value == [])}
    given.update({"accept_license": ("1",)} if accept_license else {})
    given.update({"served_collections": ",".join(served_collections)} if served_collections else {})
    from nearfield import settings

    chosen = settings.load(**given)
    if chosen.frontends > 1:
        from nearfield.server.frontends import serve as run
    else:
        from nearfield.server.run import serve as run
    run(chosen, announce=lambda line: typer.echo(line))
