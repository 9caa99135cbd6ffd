"""A progress bar with texts and tokens per second and the remaining time, or lines with the same for a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from nearfield.fork_safety import ProcessLock
from nearfield.message_text import escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

#: How progress is shown: not at all, as a bar, or in lines for a log.
Shown: TypeAlias = bool | Literal["lines"]
#: Seconds between the lines of a log.
_SECONDS_PER_LINE = 10.0


class Progress:
    """A context manager around rich's progress bar, or lines on stderr; if not ``shown``, it only counts."""

    def __init__(self, total: int | None, *, label: str = "Encoding", unit: str = "texts", shown: Shown = True) -> None:
        self.texts: float = 0
        self.tokens = 0
        self.megapixels = 0.0
        self._total = total
        self._label = label
        self._unit = unit
        self._shown = shown
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._next_line = float("inf")
        self._started = time.perf_counter()
        self._lock = ProcessLock()

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._started

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        if self._shown == "lines":
            self._next_line = self._started + _SECONDS_PER_LINE
        elif self._shown:
            self._bar, self._task = _create_bar(self._label, self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def set_total(self, total: int) -> None:
        """Set the number of texts, once it is known."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def relabel(self, label: str) -> None:
        """Change the label of the bar."""
        self._label = label
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=escape_controls(label))

    def announce(self, label: str) -> None:
        """Change the label of the bar, and in a log write it as a line at once: nothing else happens for a while."""
        self.relabel(label)
        if self._shown == "lines":
            sys.stderr.write(f"{escape_controls(label)}\n")
            sys.stderr.flush()

    def advance(self, texts: float, tokens: int, megapixels: float = 0.0) -> None:
        """Add the texts, or a part of one, and tokens done since the last call; may be called from any thread.

        Where there are pictures, the bar shows millions of pixels in place of tokens.
        """
        with self._lock:
            self.texts += texts
            self.tokens += tokens
            self.megapixels += megapixels
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=texts, speed=self._speed())
        elif time.perf_counter() >= self._next_line:
            self._print_line()

    def _speed(self) -> str:
        seconds = max(self.seconds, 1e-9)
        amount = f"{self.tokens / seconds:,.0f} tokens/s"
        if self.megapixels:
            amount = f"{self.megapixels / seconds:,.1f} megapixels/s"
        return f"{self.texts / seconds:,.0f} {self._unit}/s  {amount}"

    def _print_line(self) -> None:
        self._next_line = time.perf_counter() + _SECONDS_PER_LINE
        share = f"{self.texts:,.0f}" if self._total is None else f"{self.texts:,.0f}/{self._total:,}"
        sys.stderr.write(f"{escape_controls(self._label)}  {share} {self._unit}  {self._speed()}\n")
        sys.stderr.flush()


def _create_bar(label: str, total: int | None) -> tuple[RichProgress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=False,
    )
    return bar, bar.add_task(escape_controls(label), total=total, speed="")
