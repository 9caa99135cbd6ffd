"""Models that sleep for each input: their queues are real, and the cores of this machine stay free."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from nearfield.cluster.serving.engine_actor import EngineActor
from nearfield.cluster.serving.messages import EngineFacts

#: The variable with the milliseconds for each input, and those without it as seconds.
VARIABLE, SECONDS = "TEST_ENGINE_SLEEP_MS", 0.1


def sleep_per_input(runner: Any, seconds: float) -> None:
    """Make a model's lanes sleep for ``seconds`` for each input of a batch before they compute it."""
    create: Callable[[], Callable[[Any], Any]] = runner.create_lane_function

    def create_sleeping() -> Callable[[Any], Any]:
        run = create()

        def run_late(batch: Any) -> Any:
            time.sleep(seconds * len(batch.jobs))
            return run(batch)

        return run_late

    runner.create_lane_function = create_sleeping


def install() -> None:
    """Let the models of engines of a serving cluster sleep (Ray's ``worker_process_setup_hook``)."""
    load, seconds = EngineActor.load, float(os.environ.get(VARIABLE, 1000 * SECONDS)) / 1000

    async def load_sleeping(self: EngineActor) -> EngineFacts:
        facts = await load(self)
        for runner in self._runners if seconds else ():
            sleep_per_input(runner, seconds)
        return facts

    EngineActor.load = load_sleeping  # type: ignore[method-assign]
