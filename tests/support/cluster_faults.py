"""Encoders with faults in the workers of a simulated cluster: texts that end the process, once or always, or take time.

``install`` runs in each worker when it starts (Ray's ``worker_process_setup_hook``).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nearfield import Encoder

#: A text with this word ends the process.
DEADLY = "deadly"
#: A text with this word ends the process if there is no file of the name that follows, after creating it.
ONCE = "once:"
#: A picture whose file has this name ends the process if there is no file ``killed`` beside it, after creating it.
ONCE_NAME = "once.png"
#: The same does a picture from bytes that end in this and a path, if there is no such file. Decoders stop before it.
ONCE_TRAILER = b"#once:"
#: Texts with this word find the disk full on the node whose id is in the file that follows; the first node writes it.
#: With * there, on all nodes.
FULL = "full:"
#: A text with this word takes so many seconds as follow.
SLEEP = "sleep:"
#: From a text with this word on, the clock of the process is a day late.
CLOCK = "clock"
#: Variables of a node: the name of its CPU, and a folder that it does not see.
CPU_VARIABLE, HIDDEN_VARIABLE = "NEARFIELD_TEST_CPU", "NEARFIELD_TEST_HIDDEN"
_DAY = 86_400.0


def install() -> None:
    """Let ``Encoder.stream`` and ``Encoder.encode`` obey the words of texts; also obey the variables of a node."""
    _pretend_another_machine()
    stream, encode = Encoder.stream, Encoder.encode

    def obedient_stream(self: Encoder, texts: Iterable[Any], **options: Any) -> Iterator[Any]:
        return stream(self, (_obey(text) for text in texts), **options)

    def obedient_encode(self: Encoder, texts: Any, **options: Any) -> Any:
        return encode(self, [_obey(text) for text in texts] if isinstance(texts, list) else texts, **options)

    Encoder.stream = obedient_stream  # type: ignore[method-assign]
    Encoder.encode = obedient_encode  # type: ignore[method-assign]


def _pretend_another_machine() -> None:
    from nearfield.bulk import shard_encoder
    from nearfield.cluster import shard_worker
    from nearfield.cluster.model_parcel import FolderDigest

    if cpu := os.environ.get(CPU_VARIABLE):
        for module in (shard_encoder, shard_worker):
            setattr(module, "cpu_name", lambda: cpu)  # noqa: B010 - it is no name of these modules to others
    if hidden := os.environ.get(HIDDEN_VARIABLE):
        is_at = FolderDigest.is_at
        FolderDigest.is_at = (  # type: ignore[method-assign]
            lambda self, place: place != Path(hidden) and is_at(self, place)
        )


def _obey(text: Any) -> Any:
    if not isinstance(text, str):
        place = _deadly_place(text)
        if place is not None and not place.exists():
            place.touch()
            os._exit(9)
        return text
    for word in text.split():
        if word == DEADLY:
            os._exit(9)
        elif word.startswith(ONCE) and not Path(word.removeprefix(ONCE)).exists():
            Path(word.removeprefix(ONCE)).touch()
            os._exit(9)
        elif word.startswith(FULL):
            _fill_disk(Path(word.removeprefix(FULL)))
        elif word == CLOCK:
            _turn_clock_back()
        elif word.startswith(SLEEP):
            time.sleep(float(word.removeprefix(SLEEP)))
    return text


def _deadly_place(picture: Any) -> Path | None:
    """Return the file that a picture needs so that it does not end the process; None: none."""
    source = picture._source
    if isinstance(source, bytes) and ONCE_TRAILER in source:
        return Path(os.fsdecode(source.rpartition(ONCE_TRAILER)[2]))
    return Path(picture.name).with_name("killed") if picture.name.endswith(ONCE_NAME) else None


def _turn_clock_back() -> None:
    late = time.time() - _DAY
    started = time.monotonic()
    time.time = lambda: late + time.monotonic() - started


def _fill_disk(path: Path) -> None:
    import ray

    node = ray.get_runtime_context().get_node_id()
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(node)
    if path.read_text(encoding="utf-8") in (node, "*"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
