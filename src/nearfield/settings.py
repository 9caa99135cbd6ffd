"""Settings: one definition for ``nearfield.toml``, ``NEARFIELD_*`` variables and flags, the later the stronger."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from nearfield.errors import SettingsError, nearest

PREFIX = "NEARFIELD_"
#: What ``model_settings`` may say of a model: keywords of ``nearfield.load``.
PER_MODEL = frozenset(
    {"precision", "backend", "device", "max_length", "revision", "source", "adapters", "file", "truncate_dim"}
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
    }
)


def cache_dir() -> Path:
    """Return the cache folder: ``NEARFIELD_CACHE``, else ``~/.cache/nearfield``."""
    return Path(os.environ.get("NEARFIELD_CACHE") or Path.home() / ".cache" / "nearfield").expanduser()


def load(**flags: Any) -> Any:
    """Read the settings: defaults, then ``nearfield.toml``, then the environment, then ``flags`` that are not None.

    Returns:
        A frozen ``Settings`` (see ``definition``).

    Raises:
        SettingsError: an unknown name (with the nearest known one), or a value out of range.
    """
    from pydantic import ValidationError

    model = definition()
    values = {**_from_file(model), **_from_environment(model)}
    given = {name: value for name, value in flags.items() if value is not None}
    _check_names("flag", given, model.model_fields)
    try:
        return model(**{**values, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "models"  # what spans several is what to serve
        raise SettingsError(f"Setting {name!r}: {first['msg']} (got {first.get('input')!r}).") from error


@lru_cache(maxsize=1)
def definition() -> Any:
    """Return the class of all settings; imported late, because pydantic takes longer to load than ``--help`` may."""
    from typing import Literal

    from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

    class Settings(BaseModel):
        """Every setting, with its default and its meaning."""

        model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

        models: tuple[str, ...] = Field(("all-MiniLM-L6-v2",), description="Models to serve, by any of their names.")
        on_demand: tuple[str, ...] = Field(
            (), description="Models to load when asked for: names, or patterns of ids such as BAAI/*."
        )
        aliases: dict[str, str] = Field(
            {}, description="Further names of models, for clients that know only such: alias = model."
        )
        memory_budget: ByteSize | None = Field(
            None, description="Memory for all models, such as 8GiB; the idle ones leave when it is short."
        )
        cache_memory: ByteSize = Field(
            ByteSize(256 * 2**20), description="Memory for vectors that need not be computed again; 0 keeps none."
        )
        cache_disk: ByteSize = Field(
            ByteSize(0), description="Disk for them (in data_dir), where a later process finds them; 0 keeps none."
        )
        keep_alive: float | None = Field(
            None, ge=0, description="Seconds after which an idle model loaded on demand leaves; never when left out."
        )
        model_settings: dict[str, dict[str, Any]] = Field(
            {}, description="Per model, by any of its names: precision, backend, max_length, truncate_dim, adapters."
        )
        host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; loopback unless changed.")
        port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
        grpc_port: int | None = Field(
            None, ge=0, le=65535, description="Port for TEI's gRPC API, 0 for a free one; none when left out."
        )
        precision: Literal["auto", "float32"] = Field(
            "auto", description="auto: bf16 matrix units where there are any."
        )
        backend: str = Field("openvino", description="Runtime that executes the models.")
        accept_license: tuple[str, ...] = Field(
            (), description="Models to serve though their licences forbid commercial use; 1 for all."
        )
        threads: int | None = Field(None, ge=1, description="Cores to use; all that may be used when left out.")
        streams: int | None = Field(None, ge=1, description="Batches that run at once.")
        frontends: int = Field(
            1, ge=1, le=64, description="Processes that read and answer HTTP; above 1 another one runs the models."
        )
        api_keys: tuple[str, ...] = Field((), description="Accepted API keys; none leaves the server open.")
        api_key_file: Path | None = Field(
            None, description="File of keys: lines (plain or sha256:<hex>), or TOML with scopes, models, rates."
        )
        allowed_hosts: tuple[str, ...] = Field(
            (), description="Names by which a server on loopback without keys may be called, beside its own."
        )
        trusted_proxies: tuple[str, ...] = Field(
            (), description="Addresses or networks whose X-Forwarded-For and -Proto are believed."
        )
        tls_cert: Path | None = Field(None, description="Certificate chain (PEM) to serve HTTPS with.")
        tls_key: Path | None = Field(None, description="Its private key, where the file does not hold it.")
        cors_origins: tuple[str, ...] = Field((), description="Origins whose pages may call the server; * for all.")
        max_body_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body.")
        max_items: int = Field(16_384, ge=1, description="Most inputs in one request.")
        max_request_tokens: int = Field(1_000_000, ge=1, description="Most tokens in one request.")
        max_queued_tokens: int = Field(1_000_000, ge=1, description="Tokens that may wait before 429 is answered.")
        request_timeout: float = Field(30.0, gt=0, description="Seconds within which a request is done or refused.")
        bulk_items: int = Field(256, ge=2, description="Inputs from which a request gives way to smaller ones.")
        data_dir: Path | None = Field(
            None, description="Folder of uploaded files and batches; server in the cache folder when left out."
        )
        served_collections: tuple[str, ...] = Field(
            (), description="Collections to serve, by their names; all for all of them, and new ones."
        )
        collections_dir: Path | None = Field(
            None, description="Folder that those lie in; the user's own collections when left out."
        )
        chat_url: str | None = Field(
            None, pattern=r"^https?://", description="Chat endpoint for answers: OpenAI-compatible, or Ollama."
        )
        chat_model: str | None = Field(None, description="Model to ask there.")
        chat_kind: Literal["openai", "ollama"] | None = Field(
            None, description="Its API, where its URL does not tell: openai or ollama."
        )
        chat_timeout: float = Field(120.0, gt=0, description="Seconds for one answer of the chat endpoint.")
        drain_timeout: float = Field(30.0, ge=0, description="Seconds given to accepted requests at shutdown.")
        token_ids: Literal["cl100k", "native", "reject"] = Field(
            "cl100k", description="What token ids of OpenAI clients are: cl100k_base's, the model's own, or refused."
        )
        tei_metrics: bool = Field(False, description="Show TEI's metrics (te_*) beside our own.")
        otel_endpoint: str | None = Field(
            None, pattern=r"^https?://", description="OpenTelemetry collector (OTLP over HTTP) to send traces to."
        )
        log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line.")
        log_format: Literal["text", "json"] = Field("text", description="Form of log lines.")

        @field_validator(
            "models",
            "on_demand",
            "api_keys",
            "served_collections",
            "allowed_hosts",
            "trusted_proxies",
            "cors_origins",
            "accept_license",
            mode="before",
        )
        @classmethod
        def _split(cls, value: Any) -> Any:
            """Take ``a,b`` for lists, which environment variables cannot hold."""
            return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

        @field_validator("aliases", mode="before")
        @classmethod
        def _paired(cls, value: Any) -> Any:
            """Take ``a=b,c=d``, and lists of such, for where there are no tables."""
            return _pairs(value)

        @field_validator("model_settings", mode="before")
        @classmethod
        def _parsed(cls, value: Any) -> Any:
            """Take JSON, for where there are no tables."""
            try:
                return json.loads(value) if isinstance(value, str) else value
            except ValueError as error:
                raise ValueError(f"it is not JSON: {error}") from error

        @field_validator("model_settings")
        @classmethod
        def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
            for model, given in value.items():
                for name in given:
                    if name not in PER_MODEL:
                        raise ValueError(f"{model}: unknown setting {name!r}. {nearest(name, PER_MODEL)}")
            return value

        @model_validator(mode="after")
        def _some(self) -> Settings:
            if not self.models and not self.on_demand:
                raise ValueError("name at least one model, in models or on_demand")
            return self

    return Settings


def _pairs(value: Any) -> Any:
    """Return the pairs of ``a=b,c=d``, of a list of ``a=b``, or of JSON; a table is one already."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("{") else value.split(",")
    if isinstance(value, dict):
        return value
    pairs = [part.partition("=") for part in value if part.strip()]
    if any(not name.strip() or not model.strip() for name, _, model in pairs):
        raise ValueError("an alias is written ALIAS=MODEL, such as text-embedding-3-small=bge-small")
    return {name.strip(): model.strip() for name, _, model in pairs}


def config_file() -> Path:
    """Return where the settings file is looked for: ``NEARFIELD_CONFIG``, else ``nearfield.toml`` here."""
    return Path(os.environ.get("NEARFIELD_CONFIG") or "nearfield.toml")


def _from_file(model: Any) -> dict[str, Any]:
    path = config_file()
    if not path.is_file():
        if os.environ.get("NEARFIELD_CONFIG"):
            raise SettingsError(f"NEARFIELD_CONFIG names {path}, which does not exist.")
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    _check_names(str(path), values, model.model_fields)
    return values


def _from_environment(model: Any) -> dict[str, Any]:
    names = [name for name in os.environ if name.startswith(PREFIX) and name not in ELSEWHERE]
    _check_names("environment", names, [PREFIX + field.upper() for field in model.model_fields] + sorted(ELSEWHERE))
    return {name.removeprefix(PREFIX).lower(): os.environ[name] for name in names}


def _check_names(where: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise SettingsError(f"{where}: unknown setting {name!r}. {nearest(name, known)}")
