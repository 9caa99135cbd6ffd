"""The HTTP client of attached models: msgpack in both directions, and the errors that the server raised."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from nearfield import errors
from nearfield.arrays import Array
from nearfield.attach import KEY_VARIABLE, SERVER_VARIABLE
from nearfield.client import Client
from nearfield.client.server_api import ApiCall
from nearfield.errors import InputError, ModelNotFound, NearfieldError, Overloaded, ServerRefused

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


class AttachedClient(Client):
    """A client of the native API for one model.

    Args:
        url: the server's.
        name: full id of the model.

    Raises:
        ModelNotFound: the server does not have the model.
        NearfieldError: the server does not answer, or refuses the key.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, key=os.environ.get(KEY_VARIABLE))
        self._headers["Accept"] = "application/msgpack, application/json;q=0.5"
        self.model = name
        try:
            #: What the server says about the model.
            self.facts: Mapping[str, Any] = self._describe_model()
        except BaseException:
            self.close()
            raise

    def post(self, path: str, body: Mapping[str, object], first: int = 0) -> Mapping[str, Any]:
        """Send a request about the model and return the fields of its reply.

        Args:
            path: of the native API.
            body: fields without the model.
            first: number of the first input in the whole call, for messages.

        Raises:
            NearfieldError: what the server raised.
        """
        call = ApiCall("POST", path, msgspec.msgpack.decode, {"model": self.model, **body}, raw=True, binary=True)
        try:
            reply: Mapping[str, Any] = self._send(call)
        except NearfieldError as error:
            error.args = (_PLACE.sub(lambda at: f"{at[1]} {int(at[2]) + first}", str(error)), *error.args[1:])
            raise
        return reply

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
