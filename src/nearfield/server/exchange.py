"""Exchange: what every dialect reads its requests into and writes its answers from, and the checks they share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelNotFound, TooLarge, nearest
from nearfield.server.limits import Limits, Pace
from nearfield.vectors import Vectors

#: Characters of a model's or prompt's name; a longer one is not even compared with those there are.
LONGEST_NAME = 512


@dataclass
class Exchange:
    """One request for vectors in neutral form. ``wanted`` are keywords of ``Encoder.encode``.

    The dialect fills ``model``, ``inputs``, ``single``, ``wanted`` and ``reply`` (whatever its ``write`` needs); the
    server adds the answer.
    """

    model: str
    inputs: Sequence[Any]
    wanted: Mapping[str, Any] = field(default_factory=dict)
    reply: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    vectors: Vectors | None = None
    encoder: Encoder | None = None

    @property
    def tokens(self) -> int:
        """Tokens the model read."""
        return 0 if self.vectors is None or self.vectors.tokens is None else int(self.vectors.tokens.sum())

    @property
    def dropped(self) -> int:
        """Tokens that were cut off."""
        return 0 if self.vectors is None or self.vectors.dropped is None else int(self.vectors.dropped.sum())


class Models:
    """The encoders that are served, each by its full id and its short name."""

    def __init__(self, encoders: Sequence[Encoder], aliases: Mapping[str, Sequence[str]] | None = None) -> None:
        self.encoders = tuple(encoders)
        self.started = int(time.time())
        claims: dict[str, set[Encoder]] = {}
        for encoder in self.encoders:
            for name in (encoder.name.rpartition("/")[2], *(aliases or {}).get(encoder.name, ())):
                claims.setdefault(name.lower(), set()).add(encoder)
        # A short name that several models could mean is nobody's: their full ids stay clear.
        self._by_name = {name: next(iter(found)) for name, found in claims.items() if len(found) == 1}
        self._by_name |= {encoder.name.lower(): encoder for encoder in self.encoders}

    def find(self, name: str) -> Encoder:
        """Return the encoder of a name, whatever its case.

        Raises:
            ModelNotFound: it is not served.
        """
        if len(name) > LONGEST_NAME:
            raise ModelNotFound(
                f"A model's name of {len(name)} characters is none of ours. {nearest('', self.names())}"
            )
        encoder = self._by_name.get(name.lower())
        if encoder is None:
            raise ModelNotFound(f"The model {name!r} is not served here. {nearest(name, self.names())}")
        return encoder

    def names(self) -> list[str]:
        """Return the full id of each served model."""
        return [encoder.name for encoder in self.encoders]


async def answer(exchange: Exchange, models: Models, limits: Limits, seconds: float, pace: Pace) -> Exchange:
    """Check the request against the limits, encode it within ``seconds``, and attach the vectors.

    Raises:
        TooLarge: it has more tokens than it may, or than this machine could ever do in time.
        NearfieldError: of the kind that the dialect's ``refuse`` turns into a reply.
    """
    encoder = exchange.encoder = models.find(exchange.model)
    encoder.require("dense")
    check(exchange.inputs, limits)
    possible = pace.most(encoder.engine, seconds)
    hopeless = possible is not None and possible < limits.tokens
    try:
        exchange.vectors = await encoder.aencode(
            list(exchange.inputs),
            bulk=len(exchange.inputs) >= limits.bulk_items,
            deadline=seconds,
            max_tokens=possible if hopeless else limits.tokens,
            **exchange.wanted,
        )
    except TooLarge as error:
        if not hopeless:
            raise
        raise TooLarge(
            f"{error} More could not be done within {limits.seconds:g} s (request_timeout) on this machine even if it "
            "had nothing else to do.",
            param=error.param,
        ) from error
    return exchange


def check(inputs: Sequence[Any], limits: Limits) -> None:
    """Refuse what no model could take, before any work is spent on it."""
    if not inputs:
        raise InputError("input is empty: give at least one text or list of token ids.", param="input")
    if len(inputs) > limits.items:
        raise TooLarge(
            f"{len(inputs)} inputs, where one request may hold {limits.items}. Send them in parts.", param="input"
        )
    for index, item in enumerate(inputs):
        if not isinstance(item, str) and not item:
            raise InputError(f"Input {index} is an empty list of token ids.", param="input")
