"""The options of ``nearfield cluster serve`` beside those of ``nearfield serve``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from nearfield.errors import SettingsError
from nearfield.settings import PositiveInt, Seconds, Settings, Timeout

#: Settings that concern one process or what it stores, with the reason why a cluster has none of it.
_REFUSED = {
    "frontends": "there is a front on each node",
    "uds": "clients are on other machines",
    "grpc_port": "the fronts speak HTTP only",
    "on_demand": "models are fixed at the start",
    "memory_budget": "models are fixed at the start",
    "devices": "an engine has the cores and GPUs that Ray gives it; start more engines",
    "served_collections": "a collection belongs to one machine",
}


class ServingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where engines run, how many, and when their number changes."""

    ray: Annotated[
        str, Meta(description="The Ray cluster: auto, HOST:PORT or ray://HOST:PORT; local starts one on this machine.")
    ] = "auto"
    engines: Annotated[
        PositiveInt, Meta(description="Engines, processes with the models; the most there are if their number varies.")
    ] = 1
    min_engines: Annotated[
        int | None,
        Meta(
            ge=0,
            description="Fewest engines: their number varies with the queued tokens. With 0, the last engine ends "
            "after idle_seconds, and the next request waits until one has loaded the models.",
        ),
    ] = None
    engine_cpus: Annotated[float, Meta(gt=0, description="Cores of an engine.")] = 1.0
    engine_gpus: Annotated[
        float,
        Meta(
            ge=0,
            description="GPUs of an engine, such as 0.5. Ray counts them only: an engine can use the memory of all.",
        ),
    ] = 0.0
    separate_models: Annotated[
        bool,
        Meta(
            description="Engines have one model each, and each model has so many engines. Otherwise each "
            "engine has all models."
        ),
    ] = False
    queue_seconds: Annotated[
        Timeout, Meta(description="Start an engine when the queue is longer than this for five seconds.")
    ] = 2.0
    idle_seconds: Annotated[Seconds, Meta(description="Stop an engine that was not needed for so long.")] = 300.0
    health_seconds: Annotated[Timeout, Meta(description="Seconds between two test batches of each engine.")] = 5.0
    health_timeout: Annotated[
        Timeout, Meta(description="Seconds after which an engine without an answer to a test batch is replaced.")
    ] = 20.0
    start_timeout: Annotated[
        Timeout,
        Meta(description="Seconds for an engine to find its place and load the models, and for a front to start."),
    ] = 300.0

    @property
    def min_count(self) -> int:
        """The fewest engines of a group."""
        return self.engines if self.min_engines is None else self.min_engines

    def check(self, settings: Settings) -> None:
        """Check these options beside the settings of the server.

        Raises:
            SettingsError: a setting has no meaning in a cluster, or there are no models or too few engines.
        """
        for name, reason in _REFUSED.items():
            if getattr(settings, name) not in (None, (), 1):
                raise SettingsError(f"Setting {name!r} cannot be used in a cluster: {reason}. Leave it out.")
        if not settings.models:
            raise SettingsError("Name the models to serve: nearfield cluster serve bge-small --ray auto")
        if self.min_count > self.engines:
            raise SettingsError(
                f"--min-engines is {self.min_count}, and --engines, the most there are, {self.engines}."
            )
