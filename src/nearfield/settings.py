"""Settings: one definition for ``nearfield.toml``, ``NEARFIELD_*`` variables and the flags of ``nearfield serve``.

A setting is one field of ``Settings``. Its type, limits and description give the key of the file, the variable, the
flag, the messages about wrong values and the row of ``docs/reference/settings.md``. Flags take precedence over
variables, variables over the file, the file over the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from nearfield.errors import SettingsError, nearest
from nearfield.setting_fields import ByteSize, Flag, SettingField, convert, describe_fields
from nearfield.strict_toml import parse_toml

PREFIX = "NEARFIELD_"
#: The keys of a model's table in ``model_settings``: keywords of ``nearfield.load``.
PER_MODEL = frozenset(
    {
        *(
            "precision",
            "backend",
            "device",
            "devices",
            "max_length",
            "revision",
            "source",
            "adapters",
            "file",
            "truncate_dim",
        ),
        "query_map",
    }
)
#: Variables that are read where they are needed, not by ``Settings``.
ELSEWHERE = frozenset(
    {
        "NEARFIELD_CACHE",
        "NEARFIELD_CHAT_KEY",
        "NEARFIELD_COLLECTIONS",
        "NEARFIELD_CONFIG",
        "NEARFIELD_KEY",
        "NEARFIELD_OFFLINE",
        "NEARFIELD_PDF_PASSWORDS",
        "NEARFIELD_PDF_PASSWORD_FILE",
        "NEARFIELD_REPORTS",
        "NEARFIELD_SERVER",
    }
)


def _check_model_settings(value: Mapping[str, Mapping[str, object]]) -> None:
    for model, options in value.items():
        for name in options:
            if name not in PER_MODEL:
                raise ValueError(f"{model}: unknown setting {name!r}. {nearest(name, PER_MODEL)}")


Names = tuple[str, ...]
Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
Timeout = Annotated[float, Meta(gt=0)]
Temperature = Annotated[float, Meta(ge=0)]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://", extra={"expected": "a URL that starts with http:// or https://"})]

# What a router has, too.
Host = Annotated[str, Meta(min_length=1, description="Address to listen on.")]
ListenPort = Annotated[Port, Meta(description="Port to listen on; 0 selects a free port.")]
TrustedProxies = Annotated[
    Names,
    Meta(description="Proxies, by address or network, whose X-Forwarded-For and -Proto headers are trusted."),
    Flag("--trusted-proxy"),
]
TlsCert = Annotated[Path | None, Meta(description="Certificate chain (PEM) for HTTPS; HTTP if not set.")]
TlsKey = Annotated[
    Path | None, Meta(description="Private key of the certificate, if the file tls_cert does not contain it.")
]
MaxBodyBytes = Annotated[
    ByteSize,
    Meta(description="Maximum size of a request body, such as 32MiB.", extra={"min_bytes": 1024}),
]
DrainTimeout = Annotated[Seconds, Meta(description="Seconds to finish accepted requests at shutdown.")]
OtelEndpoint = Annotated[
    HttpUrl | None,
    Meta(description="OpenTelemetry collector (OTLP over HTTP) to send traces to, such as http://localhost:4318."),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    Meta(description="Minimum severity of log lines: debug, info, warning or error."),
]
LogFormat = Annotated[Literal["text", "json"], Meta(description="Format of log lines: text or json.")]


def _check_devices(value: Sequence[str] | None) -> None:
    """Raise InputError if the devices are not those of this machine."""
    from nearfield.devices import check_devices  # which imports numpy: the command line does without

    check_devices(value)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of the server, with their defaults and descriptions."""

    models: Annotated[
        Names, Meta(description="Models to serve: names, aliases, Hub ids or folders."), Flag(argument=True)
    ] = ("all-MiniLM-L6-v2",)
    on_demand: Annotated[
        Names, Meta(description="Models to load on their first request: names, or patterns of ids such as BAAI/*.")
    ] = ()
    aliases: Annotated[
        dict[str, str],
        Meta(description="Additional model names, ALIAS=MODEL, such as text-embedding-3-small=bge-small."),
        Flag("--alias"),
    ] = {}
    memory_budget: Annotated[
        ByteSize | None,
        Meta(
            description="Memory limit for all models together, such as 8GiB. Idle models are unloaded to stay below "
            "it. If not set, only the memory limit of the process counts."
        ),
    ] = None
    cache_memory: Annotated[ByteSize, Meta(description="Memory for cached results; 0 disables this cache.")] = ByteSize(
        256 * 2**20
    )
    cache_disk: Annotated[
        ByteSize,
        Meta(
            description="Disk space in data_dir for cached results, such as 10GiB; they survive a restart. "
            "0 disables this cache."
        ),
    ] = ByteSize(0)
    keep_alive: Annotated[
        Seconds | None,
        Meta(description="Seconds after which an idle model that was loaded on demand is unloaded; never if not set."),
    ] = None
    model_settings: Annotated[
        dict[str, dict[str, Any]],
        Meta(
            description="Options of single models (precision, backend, max_length, truncate_dim, adapters and others), "
            """by model name. As JSON: '{"bge-m3": {"max_length": 1024}}'.""",
            extra={"check": _check_model_settings},
        ),
    ] = {}
    host: Host = "127.0.0.1"
    port: ListenPort = 8080
    uds: Annotated[
        Path | None,
        Meta(
            description="Unix socket to listen on in place of host and port. Its owner and group may connect "
            "(mode 0660)."
        ),
    ] = None
    no_discovery: Annotated[
        bool,
        Meta(
            description="Write no file by which tools of the same user on this machine find the server "
            "(NEARFIELD_SERVER=auto)."
        ),
    ] = False
    grpc_port: Annotated[
        Port | None, Meta(description="Port for TEI's gRPC API; 0 selects a free port. No gRPC if not set.")
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "int8", "int8-dynamic", "int4"],
        Meta(
            description="Precision of the models: auto (bf16 where supported), float32, int8 (weights in a quarter of "
            "the memory), int8-dynamic (inputs of matrix products in int8 too) or int4 (an eighth of the memory)."
        ),
    ] = "auto"
    backend: Annotated[str, Meta(description="Runtime that executes the models.")] = "openvino"
    accept_license: Annotated[
        Names,
        Meta(description="Models to serve although their licences forbid commercial use; 1 accepts all."),
        Flag(switch="1", help="Serve models although their licences forbid commercial use."),
    ] = ()
    threads: Annotated[
        PositiveInt | None, Meta(description="Number of CPU cores to use; all available cores if not set.")
    ] = None
    streams: Annotated[
        PositiveInt | None,
        Meta(description="Number of batches that run at the same time; chosen for the CPU if not set."),
    ] = None
    devices: Annotated[
        Names | None,
        Meta(
            description="Devices that each get a replica of every model: sets of CPUs such as cpu:0-15,cpu:16-31, or "
            "GPUs such as cuda:0,cuda:1 (with backend torch). One replica on all cores if not set.",
            extra={"check": _check_devices},
        ),
        Flag(commas=True),
    ] = None
    reproducible: Annotated[
        bool,
        Meta(
            description="Compute each input by itself, so that its result is the same, bit for bit, whatever other "
            "inputs run at the same time. Throughput falls."
        ),
    ] = False
    frontends: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Number of HTTP processes. Above 1, a separate process runs the models; this helps if HTTP is "
            "the bottleneck: small models on many cores, a GPU, or many results from the cache.",
        ),
    ] = 1
    api_keys: Annotated[
        Names,
        Meta(description="Accepted API keys; without keys every client has access.", extra={"secret": True}),
        Flag("--api-key", help="API key to accept; without keys every client has access."),
    ] = ()
    api_key_file: Annotated[
        Path | None,
        Meta(
            description="File of API keys: one per line (plain or sha256:<hex>), or TOML with scopes, models and rates."
        ),
    ] = None
    allowed_hosts: Annotated[
        Names,
        Meta(description="Additional host names accepted in requests to a server on loopback without API keys."),
        Flag("--allowed-host"),
    ] = ()
    trusted_proxies: TrustedProxies = ()
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    cors_origins: Annotated[
        Names,
        Meta(description="Origins whose pages may call the server, such as https://app.example.com; * allows all."),
        Flag("--cors-origin"),
    ] = ()
    max_body_bytes: MaxBodyBytes = ByteSize(32 * 2**20)
    max_items: Annotated[PositiveInt, Meta(description="Maximum number of inputs per request.")] = 16_384
    max_request_tokens: Annotated[PositiveInt, Meta(description="Maximum number of tokens per request.")] = 1_000_000
    max_image_bytes: Annotated[
        ByteSize, Meta(description="Maximum size of the file of one picture, such as 20MiB.", extra={"min_bytes": 1024})
    ] = ByteSize(20 * 2**20)
    max_image_pixels: Annotated[
        PositiveInt, Meta(description="Maximum number of pixels of one picture; larger ones are not decoded.")
    ] = 64_000_000
    max_audio_bytes: Annotated[
        ByteSize, Meta(description="Maximum size of the file of one sound, such as 20MiB.", extra={"min_bytes": 1024})
    ] = ByteSize(20 * 2**20)
    max_audio_seconds: Annotated[
        PositiveInt, Meta(description="Maximum number of seconds of one sound; longer ones are not decoded.")
    ] = 600
    max_video_bytes: Annotated[
        ByteSize, Meta(description="Maximum size of the file of one video, such as 20MiB.", extra={"min_bytes": 1024})
    ] = ByteSize(20 * 2**20)
    max_video_seconds: Annotated[
        PositiveInt, Meta(description="Maximum number of seconds of one video; longer ones are not decoded.")
    ] = 600
    media_urls: Annotated[
        Literal["off", "https", "http"],
        Meta(
            description="Addresses of pictures and videos that are fetched for requests: off (none), https, or http "
            "(both). Only public addresses are fetched."
        ),
    ] = "off"
    media_hosts: Annotated[
        Names,
        Meta(
            description="Hosts that pictures and videos are fetched from, such as images.example.com or *.example.com; "
            "all public hosts if not set."
        ),
        Flag("--media-host"),
    ] = ()
    max_queued_tokens: Annotated[
        PositiveInt, Meta(description="Maximum number of waiting tokens; further requests get status 429.")
    ] = 1_000_000
    max_reply_bytes: Annotated[
        ByteSize,
        Meta(
            description="Memory for replies that are being sent. A client may have half of what others do not use; "
            "further large replies wait, and get status 429 at the request's deadline."
        ),
    ] = ByteSize(128 * 2**20)
    request_timeout: Annotated[Timeout, Meta(description="Request timeout in seconds.")] = 30.0
    bulk_items: Annotated[
        int, Meta(ge=2, description="Number of inputs from which a request is bulk: smaller requests run first.")
    ] = 256
    data_dir: Annotated[
        Path | None,
        Meta(description="Folder for uploaded files and batches; the folder server in the cache folder if not set."),
    ] = None
    max_stored_bytes: Annotated[
        ByteSize, Meta(description="Maximum size of all files in data_dir together, such as 64GiB; 0 is no limit.")
    ] = ByteSize(64 * 2**30)
    max_key_stored_bytes: Annotated[
        ByteSize,
        Meta(
            description="Maximum size of the files of one API key, with results of batches and what it has sent to "
            "collections; 0 is no limit. "
            "Without keys all clients share it."
        ),
    ] = ByteSize(16 * 2**30)
    max_key_files: Annotated[int, Meta(ge=0, description="Maximum number of files of one API key; 0 is no limit.")] = (
        10_000
    )
    max_key_batches: Annotated[
        int, Meta(ge=0, description="Maximum number of unfinished batches of one API key; 0 is no limit.")
    ] = 100
    max_upload_bytes: Annotated[
        ByteSize,
        Meta(description="Maximum size of a file that is sent to a collection, such as 16GiB; 0 is no limit."),
    ] = ByteSize(16 * 2**30)
    max_key_uploads: Annotated[
        int, Meta(ge=0, description="Maximum number of unfinished uploads of one API key; 0 is no limit.")
    ] = 16
    upload_seconds: Annotated[
        float, Meta(ge=60, description="Seconds after which an unfinished upload that does not grow is removed.")
    ] = 86_400.0
    webhook_hosts: Annotated[
        Names,
        Meta(
            description="Hosts that may be notified of the end of a batch (metadata.callback_url), such as "
            "hooks.example.com; private addresses must be named too. No webhooks if not set."
        ),
        Flag("--webhook-host"),
    ] = ()
    webhook_secrets: Annotated[
        Names,
        Meta(
            description="Secrets that webhooks are signed with, as whsec_ and base64; several while one replaces "
            "another.",
            extra={"secret": True},
        ),
        Flag("--webhook-secret", help="Secret that webhooks are signed with, as whsec_ and base64."),
    ] = ()
    served_collections: Annotated[
        Names,
        Meta(description="Collections to serve, by name; all serves all of them, including new ones."),
        Flag("--collections", commas=True),
    ] = ()
    collections_dir: Annotated[
        Path | None, Meta(description="Folder of the served collections; the user's own collections if not set.")
    ] = None
    reports_dir: Annotated[
        Path | None,
        Meta(description="Folder of the reports that keys with the scope manage may read; the user's own if not set."),
    ] = None
    chat_url: Annotated[
        HttpUrl | None,
        Meta(description="Chat endpoint for answers, OpenAI-compatible or Ollama, such as http://localhost:11434."),
    ] = None
    chat_model: Annotated[
        str | None, Meta(description="Model of the chat endpoint; NEARFIELD_CHAT_KEY is the endpoint's API key.")
    ] = None
    chat_kind: Annotated[
        Literal["openai", "ollama"] | None,
        Meta(description="API of the chat endpoint: openai or ollama; detected from its URL if not set."),
    ] = None
    chat_timeout: Annotated[Timeout, Meta(description="Timeout in seconds for one answer of the chat endpoint.")] = (
        120.0
    )
    chat_max_tokens: Annotated[
        PositiveInt | None,
        Meta(description="Maximum number of tokens of an answer; the chat endpoint's own if not set."),
    ] = None
    chat_temperature: Annotated[
        Temperature | None,
        Meta(description="Temperature of the chat model, such as 0; the chat endpoint's own if not set."),
    ] = None
    drain_timeout: DrainTimeout = 30.0
    token_ids: Annotated[
        Literal["cl100k", "native", "reject"],
        Meta(
            description="Meaning of the token ids that OpenAI clients send: cl100k (of cl100k_base), native (the "
            "model's own), or reject."
        ),
    ] = "cl100k"
    tei_metrics: Annotated[bool, Meta(description="Add TEI's metrics (te_*) to /metrics.")] = False
    otel_endpoint: OtelEndpoint = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        """Check the settings that depend on each other."""
        if not self.models and not self.on_demand:
            raise SettingsError("Settings 'models' and 'on_demand' are both empty: name at least one model.")


def cache_dir() -> Path:
    """Return the cache folder: ``NEARFIELD_CACHE``, else ``~/.cache/nearfield``."""
    return Path(os.environ.get("NEARFIELD_CACHE") or Path.home() / ".cache" / "nearfield").expanduser()


def config_file() -> Path:
    """Return the path of the settings file: ``NEARFIELD_CONFIG``, else ``nearfield.toml`` in the working directory."""
    return Path(os.environ.get("NEARFIELD_CONFIG") or "nearfield.toml")


def load(**flags: object) -> Settings:
    """Read the settings: defaults, then ``nearfield.toml``, then the environment, then ``flags`` that are not None.

    Raises:
        SettingsError: an unknown name (with the nearest known one), or a wrong value (with its source).
    """
    return load_as(Settings, flags)


def load_as(settings_class: type[Settings], flags: Mapping[str, object]) -> Settings:
    """Read the settings of ``Settings`` or of a class that adds fields to it. Errors as for ``load``."""
    fields = {field.name: field for field in describe_fields(settings_class)}
    sources = {**_read_file(fields), **_read_environment(fields), **_read_flags(fields, flags)}
    return settings_class(**_convert_all(fields, sources))


StructType = TypeVar("StructType", bound=msgspec.Struct)


def load_flags(settings_class: type[StructType], flags: Mapping[str, object]) -> StructType:
    """Read settings that have neither variables nor a file, from flags that are not None. Errors as for ``load``."""
    fields = {field.name: field for field in describe_fields(settings_class)}
    return settings_class(**_convert_all(fields, _read_flags(fields, flags)))


def _convert_all(fields: Mapping[str, SettingField], sources: Mapping[str, _Sourced]) -> dict[str, Any]:
    values = {}
    for name, (source, value) in sources.items():
        try:
            values[name] = convert(fields[name], value)
        except ValueError as error:
            shown = "this value" if fields[name].extra("secret") else repr(value)
            raise SettingsError(f"Setting {name!r} ({source}) cannot be {shown}: {error}") from error
    return values


class _Sourced(NamedTuple):
    source: str
    value: object


def _read_flags(fields: Mapping[str, SettingField], flags: Mapping[str, object]) -> dict[str, _Sourced]:
    values = {name: value for name, value in flags.items() if value is not None}
    _check_names("flag", values, fields)
    return {name: _Sourced(fields[name].flag_source, value) for name, value in values.items()}


def _read_environment(fields: Mapping[str, SettingField]) -> dict[str, _Sourced]:
    names = [name for name in os.environ if name.startswith(PREFIX) and name not in ELSEWHERE]
    _check_names("environment", names, [PREFIX + name.upper() for name in fields] + sorted(ELSEWHERE))
    return {name.removeprefix(PREFIX).lower(): _Sourced(f"variable {name}", os.environ[name]) for name in names}


def _read_file(fields: Mapping[str, SettingField]) -> dict[str, _Sourced]:
    path = config_file()
    if not path.is_file():
        if os.environ.get("NEARFIELD_CONFIG"):
            raise SettingsError(f"NEARFIELD_CONFIG names {path}, which does not exist.")
        return {}
    try:
        values = parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    _check_names(str(path), values, fields)
    return {name: _Sourced(f"file {path}", value) for name, value in values.items()}


def _check_names(where: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise SettingsError(f"{where}: unknown setting {name!r}. {nearest(name, known)}")
