"""A Ray cluster of several nodes on this machine, with workers that ``cluster_faults`` makes fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nearfield.cluster.ray_runtime import import_ray
from tests.support import cluster_faults

_OBJECT_STORE_BYTES = 80 << 20
#: Seconds after which a node that does not answer is dead: many, because tests share the processors with others.
HEALTH = {"health_check_period_ms": 1000, "health_check_failure_threshold": 15}
#: Ray starts its workers with niceness 15: on a busy machine they would wait for everything else.
AS_EAGER = {**HEALTH, "worker_niceness": 0}


@contextmanager
def unconnected_cluster(nodes: int, *, health: dict[str, int] | None = None, **head: Any) -> Iterator[Any]:
    """Yield a cluster with a head without cores and nodes of one core each; ``head`` are more arguments of the head."""
    import_ray()
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "_system_config": health or HEALTH, **head})
    try:
        for _ in range(nodes):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def simulated_cluster(nodes: int, *, health: dict[str, int] | None = None) -> Iterator[Any]:
    """Yield a cluster with a head without cores and nodes of one core each, to which this process is connected."""
    ray = import_ray()
    with unconnected_cluster(nodes, health=health) as cluster:
        try:
            _connect(cluster)
            yield cluster
        finally:
            ray.shutdown()


def _connect(cluster: Any) -> None:
    import_ray().init(
        cluster.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": cluster_faults.install},
    )


def add_node(cluster: Any, **variables: str) -> Any:
    """Add a node of one core, with variables of its environment, and return it."""
    return cluster.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE_BYTES, env_vars=variables or None)
