"""The process of one survey: ``python -m nearfield.server.collections.surveys.survey_process FOLDER``.

It has a low priority, and ends when the server that started it ends. If the machine runs out of memory, the system ends
this process before others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from nearfield.arrays import Array
from nearfield.errors import NearfieldError
from nearfield.fileio.atomic import write_atomic
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest
from nearfield.server.collections.surveys.surveyed_items import SHOWN_CHARACTERS, SurveyedItem, read_items

_NICE = 10
#: Groups of duplicates, and copies of one, that a result lists; all of them are counted.
_MAX_GROUPS, _MAX_COPIES = 1_000, 100
_SEED = 1
_Survey: TypeAlias = Callable[[SurveyFolder, SurveyRequest, list[SurveyedItem], Array], dict[str, Any]]


def main(folder: Path, request: bytes, collection: str) -> int:
    """Compute a survey from the files of its folder, and write its result there, or its error."""
    place, options = SurveyFolder(folder), msgspec.json.decode(request, type=SurveyRequest)
    try:
        items, vectors = read_items(place, options)
        result = SURVEYS[options.kind](place, options, items, vectors)
    except NearfieldError as error:
        place.fail(error)
        return 0
    body = {"collection": collection, "state": "done", "step": "", "share": 1.0, options.kind: result}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    write_atomic(place.result, text.encode("utf-8", "backslashreplace"))
    return 0


def _map(folder: SurveyFolder, request: SurveyRequest, items: list[SurveyedItem], vectors: Array) -> dict[str, Any]:
    """Return places, texts, regions and fields of all items, in columns."""
    from nearfield.jobs.map.layout import lay_out
    from nearfield.jobs.map.text_map import TextMap
    from nearfield.jobs.topics.find_topics import find_topics

    folder.report("finds topics", 0.2)
    texts = [item.text for item in items]
    topics = find_topics(texts, vectors=vectors, seed=_SEED)
    folder.report("places the points", 0.5)
    drawn = TextMap(texts, lay_out(vectors, _SEED), topics, _columns(items))
    folder.report("writes the map", 0.95)
    documents = {key: number for number, key in enumerate(dict.fromkeys(item.document for item in items))}
    return {
        "of": request.of,
        "feature": request.feature,
        "x": [round(value, 5) for value in drawn.places[:, 0].tolist()],
        "y": [round(value, 5) for value in drawn.places[:, 1].tolist()],
        "texts": [text[:SHOWN_CHARACTERS] for text in texts],
        "titles": [item.title[:SHOWN_CHARACTERS] for item in items],
        "documents": list(documents),
        "document": [documents[item.document] for item in items],
        "number": [item.number for item in items],
        "regions": drawn.regions(),
        "fields": {name: {"values": names, "rows": rows.tolist()} for name, (names, rows) in drawn.columns().items()},
    }


def _columns(items: list[SurveyedItem]) -> dict[str, list[object]]:
    """Return the fields that have more than one value, and not another one for each item."""
    names = dict.fromkeys(name for item in items for name in item.fields)
    columns: dict[str, list[object]] = {"kind": [item.kind for item in items]}
    columns |= {name: [item.fields.get(name, "") for item in items] for name in names}
    return {
        name: values for name, values in columns.items() if 1 < len(set(map(str, values))) <= max(2, len(items) // 2)
    }


def _duplicates(
    folder: SurveyFolder, request: SurveyRequest, items: list[SurveyedItem], vectors: Array
) -> dict[str, Any]:
    """Return groups of items that repeat each other, the largest first, with the one to keep."""
    from nearfield.jobs.duplicates.find_duplicates import find_duplicate_texts

    folder.report("compares the texts", 0.2)
    duplicates = find_duplicate_texts(
        [item.text for item in items],
        similarity=request.similarity,
        vectors=vectors if request.meaning else None,
        threshold=request.threshold,
    )
    groups = [
        {
            "keep": items[original].to_dict(),
            "copies": [
                items[copy].to_dict()
                | {
                    "measure": duplicates.links[copy].measure,
                    "similarity": round(duplicates.links[copy].value, 4),
                    "aside": items[copy].aside,
                }
                for copy in copies[:_MAX_COPIES]
            ],
            "count": len(copies),
        }
        for original, copies in list(duplicates.groups.items())[:_MAX_GROUPS]
    ]
    return {"of": request.of, "feature": request.feature, **duplicates.to_dict(), "listed": groups}


SURVEYS: Mapping[str, _Survey] = {"map": _map, "duplicates": _duplicates}


def _yield_to_others() -> None:
    """Lower the priority of this process, and let the system end it first if memory is short."""
    os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_parent() -> None:
    """End this process when the server has closed its end of the pipe, however it ended."""
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock would be held at the end of the interpreter
    os._exit(1)


if __name__ == "__main__":
    _yield_to_others()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]))
