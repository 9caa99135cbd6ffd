"""Every error Nearfield raises, on one page.

Each class carries what an HTTP reply needs (``status`` and ``code``), so that no dialect has to guess,
and each message says what was wrong, with which value, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from nearfield.message_text import quote_name

#: Characters from which on no name is compared with others: the comparison takes the product of their lengths.
_LONGEST_NAME = 200


class NearfieldError(Exception):
    """The base class of all errors that Nearfield raises on purpose."""

    status = 500
    code = "internal_error"

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled by calling its class with its message alone, which not all classes here accept.
        return _restore_error, (type(self), self.args, vars(self))


class InputError(NearfieldError, ValueError):
    """An argument or a field of a request is invalid. ``param`` is its name."""

    status = 400
    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedDimensions(InputError):
    """A model's vectors cannot be truncated to the requested dimensions, or would lose quality without notice.

    Args:
        problem: what is wrong with them; if they cannot be forced, without the name of the option before it.
        can_force: whether a call can have them all the same.
    """

    def __init__(self, problem: str, *, can_force: bool = False) -> None:
        self.problem, self.can_force = problem, can_force
        super().__init__(self.describe("truncate_dim", "force_truncate_dim=True"), param="truncate_dim")

    def describe(self, option: str, force: str | None = None) -> str:
        """Return the message with an interface's own words.

        Args:
            option: its name of the number of dimensions.
            force: what forces them there; None if nothing does.
        """
        if not self.can_force:
            return f"{option} {self.problem}"
        return f"{self.problem} Leave {option} out{f', or force it ({force})' if force else ''}."


class UnknownKeyword(InputError, TypeError):
    """A method or class of the Python API was called with a keyword argument that it does not have."""


class WrongModel(InputError):
    """The requested model, or every served model, lacks the requested kind of output."""


class InputTooLong(InputError):
    """An input has more tokens than the model reads, and truncation is off (``truncate="error"``)."""

    code = "input_too_long"


class TooLarge(InputError):
    """A request exceeds a configured limit on bytes, items or tokens."""

    status = 413
    code = "request_too_large"


class SlowBody(InputError):
    """A body did not arrive in the time that a request may take, or stalled while the server was stopping."""

    status = 408
    code = "request_timeout"


class UnsupportedMedia(InputError):
    """The body of a request is not JSON, or has an unsupported encoding."""

    status = 415
    code = "unsupported_media_type"


class MissingBody(InputError):
    """The request needs a body and has none."""

    code = "missing_body"


class NotAcceptable(InputError):
    """The route has no reply in the media type of ``Accept``."""

    status = 406
    code = "not_acceptable"


class AccessDenied(NearfieldError):
    """The request has no API key, or an unknown one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(NearfieldError):
    """The key lacks the scope or model; or, without keys, the request has a foreign ``Host`` or ``Origin``."""

    status = 403
    code = "permission_denied"


class ModelNotFound(NearfieldError, LookupError):
    """No model of this name is served, or no source has one. ``name`` is the requested name, if it is known."""

    status = 404
    code = "model_not_found"

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class SourceUnavailable(NearfieldError):
    """A model is known but its files could not be fetched (offline, blocked, gated, damaged)."""

    status = 503
    code = "source_unavailable"


class ModelRefused(NearfieldError):
    """A model's files exist, but loading them would give wrong vectors; the message says why."""

    status = 422
    code = "model_refused"


class LicenceRefused(ModelRefused):
    """A model's licence forbids commercial use, and it was not accepted."""

    status = 403
    code = "licence_not_accepted"


class WeightsError(ModelRefused):
    """A weight is missing, has another shape than the config says, or its file is damaged."""


class UnsafeFile(ModelRefused):
    """A file cannot be read without running code from it."""


class SpaceMismatch(NearfieldError, ValueError):
    """Vectors of different spaces (with different fingerprints) cannot be compared."""

    status = 409
    code = "fingerprint_mismatch"


class Overloaded(NearfieldError):
    """The queue is full. ``retry_after`` is the number of seconds after which the queue is expected to have space."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Overloaded):
    """The key has used up its tokens per minute."""

    code = "rate_limit_exceeded"


class TooManyBatches(Overloaded):
    """The key has as many unfinished batches as it may."""

    code = "too_many_batches"


class ModelUnavailable(Overloaded):
    """A served model is not available now: loading it failed a moment ago, or memory is short."""

    status = 503
    code = "model_unavailable"


class OutOfMemory(Overloaded):
    """The process may not take as much memory as the request, or the model that it loads, needs."""

    status = 503
    code = "out_of_memory"


class DeadlineExceeded(Overloaded):
    """The deadline of a request passed before its result was complete. Inputs that had not started were not run."""

    code = "deadline_exceeded"


class Cancelled(NearfieldError):
    """The client disconnected, and its work was dropped."""

    status = 499
    code = "cancelled"


class ShuttingDown(NearfieldError):
    """The engine is draining: accepted work is finished, new work is refused."""

    status = 503
    code = "shutting_down"


class ExecutionFailed(NearfieldError):
    """The runtime failed on an input that was alone in its batch, or returned numbers that are not finite."""

    status = 500
    code = "execution_failed"


class NotThere(InputError):
    """No file, batch or document has this id, or it belongs to another key."""

    status = 404
    code = "not_found"


class StorageFailed(NearfieldError):
    """The folder of uploaded files and batches (``data_dir``) cannot be read or written."""

    status = 503
    code = "storage_failed"


class StorageFull(StorageFailed):
    """The disk of ``data_dir``, of a collection or of temporary files is full."""

    status = 507
    code = "storage_full"


class QuotaExceeded(NearfieldError):
    """The key's files take as much space as they may, or are as many as they may be."""

    status = 403
    code = "quota_exceeded"


class BatchesElsewhere(NearfieldError):
    """Another process runs the batches of ``data_dir``. Two processes would run each batch twice."""

    status = 503
    code = "batches_elsewhere"


class ClusterFailed(NearfieldError):
    """There is no Ray cluster at an address, or its workers cannot run; the message says what to do."""

    status = 503
    code = "cluster_failed"


class StoreFailed(NearfieldError):
    """A database does not answer, refuses the connection, or failed to perform an operation."""

    status = 503
    code = "store_failed"


class CollectionNotFound(InputError):
    """There is no collection with this name."""

    status = 404
    code = "collection_not_found"


class CollectionBusy(NearfieldError):
    """Another process writes to the collection. Only one process may write at a time."""

    status = 409
    code = "collection_busy"


class MachineBusy(NearfieldError):
    """Other work takes too much of the processors for a measurement of speed."""

    status = 503
    code = "machine_busy"


class AnswerFailed(NearfieldError):
    """The chat endpoint cannot be reached, returned an error, or returned no answer."""

    status = 502
    code = "answer_failed"


class ServerRefused(NearfieldError):
    """Another server replied to Nearfield's client with an error; ``response_status`` is the status of the reply."""

    status = 502
    code = "server_refused"

    def __init__(self, message: str, *, response_status: int = 0) -> None:
        super().__init__(message)
        self.response_status = response_status


class SettingsError(NearfieldError, ValueError):
    """A setting in ``nearfield.toml``, the environment or a flag is unknown or out of range."""


class ForkedProcess(NearfieldError):
    """The process was forked, and this needs threads or data of its parent: create it again in the new process."""

    status = 503
    code = "forked_process"


class TrainingDiverged(NearfieldError):
    """The loss of a training run is no number any more. No weights of it were written."""

    status = 422
    code = "training_diverged"


class MissingExtra(NearfieldError, ImportError):
    """A feature needs an optional dependency. The message names the ``pip install`` command for it."""


def _restore_error(
    kind: type[NearfieldError], args: tuple[object, ...], attributes: dict[str, object]
) -> NearfieldError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def nearest(name: object, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name, such as ``Did you mean 'query'? Known: document, query.``

    What is no string, or has more than 200 characters, is no slip of the keyboard, and is compared with none.
    """
    options, name = sorted(known), name if isinstance(name, str) else ""
    short = [option for option in options if len(option) <= _LONGEST_NAME] if len(name) <= _LONGEST_NAME else []
    close = difflib.get_close_matches(name, short, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Known: {', '.join(map(quote_name, options)) or 'none'}."
