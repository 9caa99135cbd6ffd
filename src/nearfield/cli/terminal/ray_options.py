"""Options of commands that can run on a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

#: ``--workers`` and ``--per-worker``.
Workers = Annotated[int | None, typer.Option(help="Of --ray: the number of workers [as many as fit].")]
PerWorker = Annotated[
    str | None,
    typer.Option(
        "--per-worker", help="Of --ray: what each worker gets, such as cpus=2 or cpus=2,gpus=0.5 [up to 4 cores]."
    ),
]
