"""Progress: a bar for long work, with texts and tokens a second and the time left."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any


class Progress:
    """A context manager around rich's bar; when not ``shown`` it counts and prints nothing."""

    def __init__(self, total: int | None, *, label: str = "Encoding", unit: str = "texts", shown: bool = True) -> None:
        self.texts = 0
        self.tokens = 0
        self._total = total
        self._label = label
        self._unit = unit
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None
        self._started = time.perf_counter()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._started

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        if self._shown:
            self._bar, self._task = _bar(self._label, self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def relabel(self, label: str) -> None:
        """Say what is being done now."""
        if self._bar is not None:
            self._bar.update(self._task, description=label)

    def advance(self, texts: int, tokens: int) -> None:
        """Count what was done since the last call; any thread may."""
        with self._lock:
            self.texts += texts
            self.tokens += tokens
        if self._bar is not None:
            seconds = max(self.seconds, 1e-9)
            speed = f"{self.texts / seconds:,.0f} {self._unit}/s  {self.tokens / seconds:,.0f} tokens/s"
            self._bar.update(self._task, advance=texts, speed=speed)


def _bar(label: str, total: int | None) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=False,
    )
    return bar, bar.add_task(label, total=total, speed="")
