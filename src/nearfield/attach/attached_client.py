"""The HTTP client of attached models: msgpack in both directions, and the errors that the server raised."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from nearfield import errors
from nearfield.arrays import Array
from nearfield.attach import KEY_VARIABLE, SERVER_VARIABLE
from nearfield.attach.server_files import live_servers
from nearfield.client import NO_RETRY, Client, RetryPolicy
from nearfield.client.inputs import BATCH_SIZE
from nearfield.client.server_api import ApiCall
from nearfield.errors import (
    DeadlineExceeded,
    InputError,
    ModelNotFound,
    NearfieldError,
    Overloaded,
    ServerRefused,
    SpaceMismatch,
    TooLarge,
)

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
#: Errors by their code; where several have one code, the most general.
_CLASSES: dict[str, type[NearfieldError]] = {}
for _class in vars(errors).values():
    if isinstance(_class, type) and issubclass(_class, NearfieldError):
        _CLASSES.setdefault(_class.code, _class)
#: Fields of the native API, and the keywords that they stand for.
_KEYWORDS = {
    "dimensions": "truncate_dim",
    "force_dimensions": "force_truncate_dim",
    "normalize": "normalize_embeddings",
    "dtype": "precision",
}
#: How messages name an input by its place in the request.
_PLACE = re.compile(r"^(input|document) (\d+)", re.IGNORECASE)
#: Seconds to wait for the description of the model, and for a reply with results.
_DESCRIBE_TIMEOUT, _TIMEOUT = 10.0, 300.0
#: Once a model is attached, a server that restarts is waited for: five pauses, 15 seconds in all.
_WHILE_USED = RetryPolicy(unreachable=True)
#: Seconds to wait for the file of a server that was found by it and has ended, and between two looks.
_RESTART_SECONDS, _LOOK_SECONDS = 15.0, 0.25


class AttachedClient(Client):
    """A client of the native API for one model.

    Args:
        url: the server's.
        name: full id of the model.
        discovered: the server was found by its file. Nothing is sent unless that says that it runs, so that no text
            reaches what another user starts on its port later.

    Raises:
        ModelNotFound: the server does not have the model.
        NearfieldError: the server does not answer, or refuses the key.
    """

    def __init__(self, url: str, name: str, *, discovered: bool = False) -> None:
        #: Whether the server was found by its file.
        self.discovered = discovered
        retry = NO_RETRY if discovered else RetryPolicy()
        super().__init__(url, key=os.environ.get(KEY_VARIABLE) or None, timeout=_DESCRIBE_TIMEOUT, retry=retry)
        self._headers["Accept"] = "application/msgpack, application/json;q=0.5"
        self.model = name
        #: Fields of replies that must not change, with their values; the first reply sets those of None.
        self.expected: dict[str, object] = {"max_length": None, "precision": None}
        #: Checks the values that the first reply sets.
        self.check_settings: Callable[[Mapping[str, Any]], None] = lambda _: None
        self._batch_size = BATCH_SIZE
        try:
            #: What the server says about the model.
            self.facts: Mapping[str, Any] = self._describe_model()
        finally:
            self.close()
        self._timeout, self._retry = _TIMEOUT, _WHILE_USED

    def post(
        self, path: str, body: Mapping[str, object], first: int = 0, *, divisible: bool = False
    ) -> Mapping[str, Any]:
        """Send a request about the model and return the fields of its reply.

        Args:
            path: of the native API.
            body: fields without the model.
            first: number of the first input in the whole call, for messages.
            divisible: the caller sends smaller requests if this one takes the server too long.

        Raises:
            SpaceMismatch: the server has another model under this name, or other settings of it, than at the start.
            NearfieldError: what the server raised.
        """
        body = {"model": self.model, **body}
        call = ApiCall("POST", path, msgspec.msgpack.decode, body, raw=True, binary=True, divisible=divisible)
        try:
            reply: Mapping[str, Any] = self._send(call)
            self.check_reply(reply)
        except NearfieldError as error:
            error.args = (_PLACE.sub(lambda at: f"{at[1]} {int(at[2]) + first}", str(error)), *error.args[1:])
            raise
        return reply

    def post_parts(
        self, path: str, body: Mapping[str, object], field: str, items: Sequence[object], first: int = 0
    ) -> Iterator[Mapping[str, Any]]:
        """Send requests with several inputs, and yield their replies: one, unless the server takes only smaller ones.

        Args:
            path: of the native API.
            body: fields without the inputs.
            field: name of the inputs.
            items: the inputs.
            first: number of the first input in the whole call, for messages.

        Raises:
            TooLarge, DeadlineExceeded: it does not take a single one, or not in time.
            NearfieldError: what ``post`` raises.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self._batch_size]
            try:
                yield self.post(path, {**body, field: part}, first + start, divisible=len(part) > 1)
            except (TooLarge, DeadlineExceeded) as error:
                if len(part) == 1:
                    error.args = (f"Input {first + start}: {error}", *error.args[1:])
                    raise
                self._batch_size = min(self._batch_size, len(part) // 2)
            else:
                start += len(part)

    def check_reply(self, reply: Mapping[str, Any]) -> None:
        """Check what a reply, or the description of a loaded model, says about the model.

        Raises:
            SpaceMismatch: it is another model than at the start.
            InputError: what ``check_settings`` raises.
            NearfieldError: it says nothing.
        """
        missing = next((name for name in self.expected if name not in reply), None)
        if missing is not None:
            raise NearfieldError(f"{self.url} is a server of another version: its replies have no {missing}.")
        if None in self.expected.values():
            self.check_settings(reply)
            self.expected = {name: reply[name] if value is None else value for name, value in self.expected.items()}
        for name, value in self.expected.items():
            if reply[name] != value:
                raise SpaceMismatch(
                    f"{self.url} has another {self.model} than at the start: {name} is {reply[name]}, and was {value}. "
                    "Start it as it was, and repeat the call."
                )

    def _describe_model(self) -> Mapping[str, Any]:
        try:
            facts: Mapping[str, Any] = self.request("GET", f"/v1/models/{quote(self.model)}")
        except ModelNotFound as error:
            message = f"{self.url} does not serve {self.model}. {self._advice()}"
            raise ModelNotFound(message, name=self.model) from error
        return facts

    def _advice(self) -> str:
        served = ", ".join(remote.id for remote in self.models())
        return f"It has {served or 'no model'}. Let it serve this one, or unset {SERVER_VARIABLE} to load it here."

    def _check_server(self) -> None:
        """Wait for the file of a server that was found by it.

        Raises:
            NearfieldError: the server has ended, and none started again at its address.
        """
        until = time.monotonic() + _RESTART_SECONDS
        while self.discovered and not any(record.address == self.url for record in live_servers()):
            self.close()
            if time.monotonic() > until:
                raise NearfieldError(f"The server at {self.url} has ended. Start it again, and repeat the call.")
            time.sleep(_LOOK_SECONDS)

    def _is_final(self, response: httpx.Response, call: ApiCall[T]) -> bool:
        """Return whether a request took longer than the server's ``request_timeout``, and can be divided."""
        return call.divisible and isinstance(_error_of(response), DeadlineExceeded)

    def _check_status(self, response: httpx.Response, call: ApiCall[T]) -> None:
        if response.is_success or response.status_code in call.accepted:
            return
        raise _error_of(response) or self._refused(response, call)

    def _refused(self, response: httpx.Response, call: ApiCall[T]) -> NearfieldError:
        try:
            super()._check_status(response, call)
        except ServerRefused as error:
            return error
        raise AssertionError("a reply without an error")


def _error_of(response: httpx.Response) -> NearfieldError | None:
    """Return the error that the server raised; None if the reply is none of a Nearfield server."""
    if response.is_success:
        return None
    try:
        fields = response.json()["error"]
        code, message, param = fields["code"], str(fields["message"]), fields["param"]
    except (ValueError, KeyError, TypeError):
        return None
    error_class = _CLASSES.get(code)
    if error_class is None:
        return None
    error = error_class.__new__(error_class)
    hint = f" Set {KEY_VARIABLE} to an API key of the server." if response.status_code == 401 else ""
    error.args = (message + hint,)
    if isinstance(error, InputError):
        error.param = _KEYWORDS.get(param, param)
    if isinstance(error, Overloaded):
        error.retry_after = 1.0
    if isinstance(error, ModelNotFound):
        error.name = None
    return error


def read_array(packed: Mapping[str, Any]) -> Array:
    """Return an array of a msgpack reply: ``dtype`` as NumPy writes it, ``shape`` and ``data``, little-endian."""
    array = np.frombuffer(packed["data"], np.dtype(packed["dtype"])).reshape(packed["shape"])
    return array.astype(array.dtype.newbyteorder("="))  # a copy: arrays over bytes cannot be written to


def without_none(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Return fields that are set, as a body."""
    return {name: value for name, value in fields if value is not None}
