"""Routing: several APIs on one path, exactly one fallback, and the conversion of bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nearfield.errors import InputError, MissingBody, NearfieldError, UnsupportedMedia
from nearfield.server.dialects import Route
from nearfield.server.http.request_body import convert, ignored_fields
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.routing import PathRoutes, group_routes
from nearfield.server.models.model_pool import ModelPool


class Body(msgspec.Struct):
    text: str
    count: int = 1


class Dialect:
    """A dialect with one route; ``matches`` as in ``Route``."""

    error_type = None

    def __init__(self, name: str, matches: Callable[[RequestContext], bool] | None = None, **options: Any) -> None:
        self.name = name
        self.routes: tuple[Route, ...] = (
            Route("/embed", "", lambda body, _: body, request_type=Body, matches=matches, **options),
        )

    def refuse(self, error: NearfieldError) -> Any:
        return {"error": str(error)}


def _group(*dialects: Dialect) -> PathRoutes:
    return group_routes(dialects)["/embed", "POST"]


def _context(**headers: str) -> RequestContext:
    return RequestContext(ModelPool(), {name.replace("_", "-"): value for name, value in headers.items()})


def test_the_first_route_that_matches_serves_a_request_and_the_fallback_all_others() -> None:
    fallback = Dialect("fallback")
    routes = _group(fallback, Dialect("marked", lambda context: "x-marked" in context.headers))
    assert routes.choose(_context(x_marked="1")).dialect.name == "marked"
    assert routes.choose(_context()).dialect is fallback


@pytest.mark.parametrize("matches", [[None, None], [lambda _: True]])
def test_a_path_needs_exactly_one_fallback(matches: list[Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of them must have no"):
        group_routes([Dialect(f"api {number}", match) for number, match in enumerate(matches)])


def test_a_body_is_decoded_by_its_content_type() -> None:
    routes = _group(Dialect("api", request_media=("application/json", "application/msgpack")))
    for kind, encode in (
        ("json", msgspec.json.encode),
        ("x-msgpack", msgspec.msgpack.encode),
        ("", msgspec.json.encode),
    ):
        context = _context(**({"content_type": f"application/{kind}"} if kind else {}))
        routes.decode(context, encode({"text": "cat", "count": None}))
        assert dict(context.body) == {"text": "cat"}
        assert set(context.fields) == {"text", "count"}


def test_a_form_is_read_as_json_only_if_the_route_allows_it_and_no_web_page_sent_it() -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    allowed = _context(**form)
    _group(Dialect("curl", any_content_type=True)).decode(allowed, b'{"text": "cat"}')
    assert allowed.body == {"text": "cat"}
    with pytest.raises(UnsupportedMedia):
        _group(Dialect("curl", any_content_type=True)).decode(_context(**form, origin="https://x.example"), b"{}")
    with pytest.raises(UnsupportedMedia):
        _group(Dialect("api")).decode(_context(**form), b"{}")


def test_a_missing_body_is_refused() -> None:
    with pytest.raises(MissingBody):
        _group(Dialect("api")).decode(_context(), b"")


def test_a_body_that_does_not_fit_names_the_field() -> None:
    assert convert({"text": "cat", "count": 2}, Body) == Body("cat", 2)
    for body, param in (({}, "text"), ({"text": 1}, "text"), ({"text": "cat", "count": "x" * 2000}, "count")):
        with pytest.raises(InputError, match="Invalid request") as invalid:
            convert(body, Body)
        assert invalid.value.param == param
        assert len(str(invalid.value)) < 600
    assert ignored_fields({"text": "cat", "size": 1, "age": 2}, Body) == ("age", "size")
