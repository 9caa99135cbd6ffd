"""Serving: an app on a real socket of loopback, for as long as a test needs it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from nearfield import settings
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.app import create_app
from nearfield.server.lifecycle.listener import Listener, bind, uvicorn_config
from nearfield.server.models.model_pool import ModelPool


@contextmanager
def serving(
    models: Sequence[LoadedModel] | ModelPool, *, traces: Any = None, observed: Any = False, **given: Any
) -> Iterator[str]:
    """Serve models in a thread; yields the base URL without path. If ``observed``, it stores live figures."""
    aliases = None if isinstance(models, ModelPool) else {models[0].name: ["tiny-model"]}
    with tempfile.TemporaryDirectory(prefix="nearfield-data-") as home:
        yield from _serving(models, aliases, {"data_dir": home, **given}, traces, observed)


def _serving(models: Any, aliases: Any, given: dict[str, Any], traces: Any, observed: bool) -> Iterator[str]:
    # Most tests ask for the same over and over, and mean it to be computed.
    app = create_app(settings.load(**{"cache_memory": 0, **given}), models, aliases, traces)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", backlog=4096)
    )

    async def serve() -> None:
        if observed:
            app.state.server.observe()
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        app.state.server.close()


class Process:
    """``nearfield serve`` in a separate process."""

    #: What its first line says before its address.
    _before_url = " at "

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self._start("serve", str(folder), "--cache-memory", "0", *flags, **environment)
        #: Where it serves gRPC, if it does.
        self.grpc = self._line.partition("gRPC (TEI) at ")[2].partition(" ")[0]

    def _start(self, *words: str, **environment: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "nearfield.cli", *words[:1], "--port", "0", "--log-level", "error", *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self._popen.stdout is not None
        self._line = line = self._popen.stdout.readline()
        start = f"{self._before_url}http"
        assert start in line, line + (self._popen.stderr.read() if self._popen.stderr else "")
        #: What it wrote to stderr, once it has ended.
        self.errors = ""
        self.url = line.split(self._before_url)[1].split("/v1")[0]

    @property
    def process(self) -> psutil.Process:
        """The process, to be looked at, with its children."""
        return psutil.Process(self._popen.pid)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """Send SIGKILL, and wait for its end."""
        self._popen.kill()
        self._popen.communicate()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._popen.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end and return the exit code."""
        try:
            _, self.errors = self._popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.communicate()
            raise
        assert "Traceback" not in self.errors, self.errors
        return self._popen.returncode


class RouterProcess(Process):
    """``nearfield route`` in a separate process."""

    _before_url = " routes "

    def __init__(self, *flags: str, **environment: str) -> None:
        self._start("route", *flags, **environment)


@contextmanager
def listening(models: Sequence[LoadedModel], **options: Any) -> Iterator[Any]:
    """Serve as ``nearfield serve`` does, with its connections and their limits, in a thread; yields the app's state.

    ``state.port`` is the port (0 on a Unix socket), ``state.server`` the ``ServerState``.
    """
    up = threading.Event()
    with tempfile.TemporaryDirectory(prefix="nearfield-data-") as home:
        config = settings.load(**{"cache_memory": 0, "data_dir": home, "port": 0, **options})
        with bind(config) as bound:
            address = bound.getsockname()
            app = create_app(config, models)
            app.state.port = 0 if config.uds else int(address[1])
            listener = Listener(uvicorn_config(app, config), bound, up.set, app.state.server.stop)
            app.state.listener = listener
            thread = threading.Thread(target=listener.run, args=([bound],), daemon=True)
            thread.start()
            assert up.wait(20)
            try:
                yield app.state
            finally:
                listener.should_exit = True
                thread.join(20)
                app.state.server.close()
