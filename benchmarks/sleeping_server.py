"""A server whose model sleeps for a time per input: its HTTP, queue and replies are real, and its cores stay free.

``python -m benchmarks.sleeping_server FOLDER PORT MILLISECONDS`` serves the tiny model in FOLDER until SIGTERM.
Several of them on two cores show what a router does, which several real models there could not.
"""

from __future__ import annotations

import sys

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.server.app import create_app
from nearfield.server.lifecycle.listener import Listener, bind, uvicorn_config
from tests.support.slow_engines import sleep_per_input


def main(folder: str, port: int, milliseconds: float) -> None:
    """Serve."""
    with Encoder(folder, compile_cache=False, streams=1) as encoder:
        for runner in encoder.runners:
            sleep_per_input(runner, milliseconds / 1000)
        config = settings.load(port=port, cache_memory=0, data_dir=f"{folder}-{port}", drain_timeout=10)
        with bind(config) as listening:
            app = create_app(config, [encoder])
            address = listening.getsockname()
            listener = Listener(
                uvicorn_config(app, config),
                listening,
                lambda: print(f"http://127.0.0.1:{address[1]}", flush=True),
                app.state.server.stop,
            )
            listener.run([listening])
        app.state.server.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
