"""Pictures in requests: every spelling of base64, addresses that are not fetched, and limits."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest

from nearfield.errors import InputError, TooLarge
from nearfield.media.fetch import FetchPolicy
from nearfield.media.limits import PictureLimits
from nearfield.server.exchange.encode import Encode
from nearfield.server.exchange.picture_fetcher import PictureAddress
from nearfield.server.exchange.picture_inputs import picture_from_text, picture_from_value
from nearfield.server.http.limits import RequestLimits
from tests.support import odd_pictures

DATA = dict(odd_pictures.odd_pictures())["PNG RGB"]
DIGITS = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()
CONTENT = picture_from_value(DATA, None, "Input 0").read().content


@pytest.mark.parametrize(
    "value",
    [
        f"data:image/png;base64,{DIGITS}",
        f" \nDATA:image/jpeg;charset=x;BASE64,{DIGITS}\n",
        f"data:;base64,{URL_SAFE.rstrip('=')}",
        DIGITS,
        URL_SAFE.rstrip("="),
        "\n".join(DIGITS[at : at + 76] for at in range(0, len(DIGITS), 76)),
    ],
)
def test_spellings(value: str) -> None:
    assert picture_from_text(value, None, "Input 0").read().content == CONTENT


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ftp://example.com/a.png", "Input 2 is an address that is not fetched. Send the picture as a data URI"),
        ("file:///etc/passwd", "is an address"),
        ("s3://bucket/a.png", "is an address"),
        ("", "Input 2 is empty. Send the picture as a data URI (data:image/png;base64,...) or as base64."),
        (
            "photo.png",
            "Input 2: the text is not base64: it has the character '.' at position 5. A server reads no paths",
        ),
        ("data:image/png;base64,%%%", "Input 2: the data URI is not base64: it has the character '%' at position 0."),
        ("data:image/png,abc", "Input 2: the data URI is not in base64"),
    ],
)
def test_what_is_no_picture(value: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        picture_from_text(value, None, "Input 2", request_field="images")
    assert caught.value.param == "images"


@pytest.mark.parametrize("value", ["https://example.com/a.png", "HTTP://127.0.0.1/", " http://[::1]/"])
def test_addresses_are_refused_or_fetched_later(value: str) -> None:
    address = picture_from_text(value, None, "Input 2", request_field="images")
    assert isinstance(address, PictureAddress)
    assert (address.url, address.label, address.field) == (value.strip(), "Input 2", "images")
    with pytest.raises(InputError, match="must start with 'data:'"):
        address.read()
    exchange = Encode(inputs=["a", address])
    limits = RequestLimits(body_bytes=1, items=9, tokens=9, seconds=1.0, bulk_items=9)
    with pytest.raises(InputError, match=r"Input 2 is an address, and fetching is off\. Send the picture") as caught:
        exchange.check(limits)
    assert caught.value.param == "images"
    exchange.check(replace(limits, media_urls=FetchPolicy(enabled=True)))


def test_base64_alone_where_an_api_has_none() -> None:
    with pytest.raises(InputError, match=r"Input 2 is no data URI\. Send the picture as a data URI \([^)]*\)\.$"):
        picture_from_text(DIGITS, None, "Input 2", bare_base64=False)


def test_limits() -> None:
    limits = PictureLimits(max_bytes=len(DATA) - 1)
    for value in (DIGITS, f"data:;base64,{DIGITS}"):
        with pytest.raises(TooLarge, match=r"Input 7: the .* At most"):
            picture_from_text(value, limits, "Input 7")
    with pytest.raises(TooLarge, match=r"Input 7 has .* At most"):
        picture_from_value(DATA, limits, "Input 7")
