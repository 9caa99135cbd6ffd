"""``nearfield cluster serve`` with engines whose models sleep for a time per input; see ``sleeping_server``.

``python -m benchmarks.sleeping_cluster ADDRESS MILLISECONDS OPTION ...`` runs it with these options on the cluster at
ADDRESS.
"""

from __future__ import annotations

import sys

from nearfield.cluster.ray_runtime import import_ray
from tests.support import slow_engines


def main(address: str, milliseconds: str, *options: str) -> None:
    """Serve."""
    from nearfield.cli import main as run

    environment = {
        "worker_process_setup_hook": slow_engines.install,
        "env_vars": {slow_engines.VARIABLE: milliseconds},
    }
    import_ray().init(address, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
    sys.argv = ["nearfield", "cluster", "serve", "--ray", address, *options]
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
