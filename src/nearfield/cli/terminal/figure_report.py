"""Where a figure of quality comes from: its tasks, their published values, and the files that these are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfield.catalog.quality import quality_figures
from nearfield.catalog.quality.tasks import is_by_type, mean_of_tasks, task_values
from nearfield.cli.terminal.model_table import figure_line

if TYPE_CHECKING:
    from nearfield.catalog import CatalogEntry
    from nearfield.catalog.quality import QualityFigure
    from nearfield.catalog.quality.tasks import TaskValue

#: Subsets that are printed; the JSON has all of them.
_MAX_SUBSETS = 3


def figures_text(entry: CatalogEntry) -> str:
    """Return a line for each figure of a model."""
    lines = [f"{purpose:24} {figure_line(figure)}" for purpose, figure in quality_figures(entry.id).items()]
    if not lines:
        return f"No figures of {entry.id} are published."
    lines.append(
        f"Tasks and sources of one: nearfield models figures {entry.id} {next(iter(quality_figures(entry.id)))}"
    )
    return "\n".join([f"{entry.id}, in points of 100 (± the error of an estimate):", *lines])


@dataclass(frozen=True)
class FigureTrace:
    """A figure of a model, with the tasks that it is the mean of; none if the publisher states it."""

    model: str
    figure: QualityFigure
    tasks: tuple[TaskValue, ...]

    def to_text(self) -> str:
        """Return how the figure was computed, with each task, its value and its file."""
        lines = [f"{self.model}, {self.figure.purpose}: {figure_line(self.figure)}", self.method]
        for task in self.tasks:
            lines.append(f"  {_value(task):>6}  {_task_name(task)}{f'  {task.url}' if task.url else ''}")
        return "\n".join([*lines, *self._notes(), f"Source: {self.figure.source}"])

    def to_dict(self) -> dict[str, object]:
        """Return the form for JSON; ``task_values`` are the tasks."""
        rows = [dataclasses.asdict(task) for task in self.tasks]
        return {"model": self.model, **dataclasses.asdict(self.figure), "method": self.method, "task_values": rows}

    @property
    def method(self) -> str:
        """How the figure was computed, in a sentence."""
        figure, mean = self.figure, mean_of_tasks(self.figure.purpose, self.tasks)
        if not self.tasks or (all(task.value is None for task in self.tasks) and not figure.is_estimated):
            return "A figure as its publisher gives it; the values of its tasks are not in this table."
        if not figure.is_estimated:
            way = ", over the means of their types" if is_by_type(figure.purpose) else ""
            return f"Mean of {figure.tasks} published tasks{way}."
        known = f"The mean of {figure.published} published tasks is {mean:.1f}; the" if mean is not None else "All"
        return (
            f"Estimated. {known} {figure.tasks - figure.published} others are estimated from the model's other figures "
            f"by factor analysis; the standard error of the whole is {figure.error:.1f}."
        )

    def _notes(self) -> Iterator[str]:
        """Yield what the values of tasks leave open."""
        missing = any(task.value is None for task in self.tasks)
        if missing and self.figure.is_estimated:
            yield "Tasks marked - have no published figure, or one of a run that is broken."
        elif missing and (url := next((task.url for task in self.tasks if task.url is not None), None)) is not None:
            yield "Tasks marked ? have many subsets, which this table lacks; the mean over the benchmark has them."
            yield f"Their files are in {url.rpartition('/')[0]}"


def trace_figure(entry: CatalogEntry, figure: QualityFigure) -> FigureTrace:
    """Return where a figure of a model comes from."""
    return FigureTrace(entry.id, figure, task_values(entry.id, figure.purpose))


def _value(task: TaskValue) -> str:
    if task.value is not None:
        return f"{task.value:.2f}"
    return "-" if task.subsets else "?"


def _task_name(task: TaskValue) -> str:
    """Return a task with its subsets, unless it has but the default one."""
    if task.subsets in ((), ("default",)):
        return task.task
    more = f" and {len(task.subsets) - _MAX_SUBSETS} more" if len(task.subsets) > _MAX_SUBSETS else ""
    return f"{task.task} [{', '.join(task.subsets[:_MAX_SUBSETS])}{more}]"
