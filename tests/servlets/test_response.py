"""What becomes of what a servlet returned, and what it is not allowed to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from tests.support.waiting import Growth
from zcserve.servlets.response import (
    COOKIE_BYTES_MAX,
    OF_A_FILE,
    RESERVED,
    Rendered,
    Response,
    checked_fields,
    render,
)
from zcserve.site.reply import HTML_FIELDS

HTML = (b"Content-Type", b"text/html; charset=utf-8")
JSON = (b"Content-Type", b"application/json")
NOSNIFF = (b"X-Content-Type-Options", b"nosniff")


def pieces() -> Iterator[bytes]:
    yield b"a"


async def pieces_that_wait() -> AsyncIterator[bytes]:
    yield b"a"


class Bytes(bytes):
    """Bytes of another type."""


# --- values


@pytest.mark.parametrize(
    ("value", "kind", "content"),
    [
        (b"", HTML, b""),
        (b"a\xff", HTML, b"a\xff"),
        (Bytes(b"a"), HTML, b"a"),
        ("é", HTML, b"\xc3\xa9"),
        ({"a": [1, "é", None, True]}, JSON, b'{"a":[1,"\xc3\xa9",null,true]}'),
        ([], JSON, b"[]"),
        (["\ud800é"], JSON, b'["\\ud800\\u00e9"]'),
    ],
)
def test_a_value_is_html_or_json(value: Any, kind: tuple[bytes, bytes], content: bytes) -> None:
    expected = Rendered(200, (kind, NOSNIFF), content, None)
    assert render(value) == expected
    assert render(Response(value)) == expected


def test_the_fields_of_plain_html_are_a_constant() -> None:
    assert render(b"a").fields is HTML_FIELDS
    assert render(b"a").fields == (HTML, NOSNIFF)


def test_an_iterator_is_content_that_is_not_touched() -> None:
    for value in (pieces(), iter([b"a"]), pieces_that_wait()):
        for returned in (value, Response(value)):
            rendered = render(returned)
            assert rendered.content is value
            assert rendered.fields == HTML_FIELDS


@pytest.mark.parametrize("value", [None, 1, ("a",), {"a"}, bytearray(b"a"), pieces, object])
def test_anything_else_is_an_error_that_says_what_it_is_and_what_may_be(value: Any) -> None:
    expected = f"returned {type(value).__name__}; it may return bytes, str, dict, list, Response"
    for returned in (value, Response(value)):
        with pytest.raises(TypeError, match=expected):
            render(returned)


@pytest.mark.parametrize("value", [{"a": float("nan")}, [float("inf")], {"a": b"b"}, [{1}], {(1,): 2}])
def test_what_is_no_json_is_an_error(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        render(value)


# --- status


@pytest.mark.parametrize("status", [200, 299, 404, 599, HTTPStatus.CREATED])
def test_a_status_is_one_of_a_final_response(status: int) -> None:
    rendered = render(Response(b"a", status))
    assert (rendered.status, rendered.content, type(rendered.status)) == (status, b"a", int)


@pytest.mark.parametrize("status", [199, 600, 101, 0, -200, "200", 200.0, None, "200 OK\r\nX: y"])
def test_any_other_status_is_an_error_at_once(status: Any) -> None:
    with pytest.raises(ValueError, match="no status"):
        Response(b"", status)
    response = Response()
    with pytest.raises(ValueError, match="no status"):
        response.status = status
    assert response.status == 200


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_content_loses_it_and_its_type(status: int) -> None:
    for body in (b"a", {"a": 1}, pieces(), None):
        response = Response(body, status, {"X": "y", "Content-type": "text/plain", "ETag": '"z"'})  # type: ignore[arg-type]
        assert render(response) == (status, ((b"X", b"y"), (b"ETag", b'"z"')), b"", None)
    assert render(Response(status=status).send_file("/a")) == (status, (), b"", None)


# --- header fields


def test_headers_are_a_mapping_or_pairs_and_keep_their_order() -> None:
    assert Response(headers={"B": "1", "A": "2"}).headers == (("B", "1"), ("A", "2"))
    response = Response(headers=iter([("A", "1"), ("B", "2"), ("a", "3")]))
    response.add_header("C", "\xe9\t ")
    assert response.headers == (("A", "1"), ("B", "2"), ("a", "3"), ("C", "\xe9\t "))
    assert render(response).fields == (
        HTML, (b"A", b"1"), (b"B", b"2"), (b"a", b"3"), (b"C", b"\xe9\t "), NOSNIFF
    )  # fmt: skip
    assert Response().headers == ()


def test_a_type_that_is_given_stands_and_so_does_what_is_said_of_sniffing() -> None:
    assert render(Response({}, content_type="a/b")).fields == ((b"Content-Type", b"a/b"), NOSNIFF)
    assert render(Response(b"", headers={"content-type": "a/b"})).fields == ((b"content-type", b"a/b"), NOSNIFF)
    own = {"x-content-type-options": "x"}
    assert render(Response(b"", headers=own)).fields == (HTML, (b"x-content-type-options", b"x"))


def test_a_second_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="there already"):
        Response(b"", 200, {"content-TYPE": "a/b"}, content_type="c/d")


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r\nb", "a\n", "\0", "é", "\uff21", "\ud800", "a(", "\u212a"])
def test_a_name_that_is_no_token_is_an_error(name: str) -> None:
    for add in (lambda: Response(headers={name: "a"}), lambda: checked_fields([(name, "a")])):
        with pytest.raises(ValueError, match="no name of a header field"):
            add()


@pytest.mark.parametrize(
    "value", ["a\r\nb: c", "\n", "\r", "a\n b", "\0", "\x1b[0m", "\x7f", "\u0100", "\u560a\u560d", "\u2028", "\ud800"]
)
def test_a_value_with_a_control_character_or_beyond_latin_1_is_an_error(value: str) -> None:
    response = Response()
    for add in (
        lambda: Response(headers=[("X", value)]),
        lambda: Response(content_type=value),
        lambda: response.add_header("X", value),
        lambda: checked_fields([("A", "b"), ("X", value)]),
    ):
        with pytest.raises(ValueError, match="the value of"):
            add()
    assert render(response).fields == HTML_FIELDS


@pytest.mark.parametrize("name", [*RESERVED, "Content-Length", "DATE", "Transfer-encoding"])
def test_the_servers_own_fields_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not for a servlet to send: .*leave it out"):
        Response(headers={name: "1"})


@pytest.mark.parametrize("pair", [("X", 1), ("X", b"a"), ("X", None), (b"X", "a"), (1, "a")])
def test_names_and_values_are_str(pair: Any) -> None:
    with pytest.raises(TypeError, match="a pair of str"):
        Response(headers=[pair])


def test_checked_fields_are_bytes() -> None:
    assert checked_fields([]) == ()
    assert checked_fields([("A", ""), ("b", "c: \xe9")]) == ((b"A", b""), (b"b", b"c: \xe9"))


# --- cookies


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({}, "a=b; Path=/; HttpOnly; SameSite=Lax"),
        ({"httponly": False, "samesite": None, "path": None}, "a=b"),
        ({"max_age": 0}, "a=b; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"max_age": 60, "path": "/x y", "domain": ".Example.org", "secure": True, "samesite": "none"},
            "a=b; Max-Age=60; Path=/x y; Domain=.Example.org; Secure; HttpOnly; SameSite=None",
        ),
        ({"samesite": "STRICT"}, "a=b; Path=/; HttpOnly; SameSite=Strict"),
    ],
)
def test_a_cookie_has_its_attributes(arguments: dict[str, Any], value: str) -> None:
    response = Response()
    response.set_cookie("a", "b", **arguments)
    assert response.headers == (("Set-Cookie", value),)


def test_each_cookie_is_a_field_of_its_own() -> None:
    response = Response()
    response.set_cookie("a", "", samesite=None, path=None, httponly=False)
    response.set_cookie("a", '"x=y"', samesite=None, path=None, httponly=False)
    assert render(response).fields == (
        HTML, (b"Set-Cookie", b"a="), (b"Set-Cookie", b'a="x=y"'), NOSNIFF
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "arguments", "told"),
    [
        ("", "b", {}, "no name of a cookie"),
        ("a=b", "b", {}, "no name of a cookie"),
        ("a;", "b", {}, "no name of a cookie"),
        ("é", "b", {}, "no name of a cookie"),
        ("a", "b; Domain=x", {}, "encode it"),
        ("a", "b c", {}, "encode it"),
        ("a", "b,c", {}, "encode it"),
        ("a", 'b"', {}, "encode it"),
        ("a", '"', {}, "encode it"),
        ("a", "b\\c", {}, "encode it"),
        ("a", "b\n", {}, "encode it"),
        ("a", "é", {}, "encode it"),
        ("a", "b" * COOKIE_BYTES_MAX, {}, "longer than"),
        ("a", "b", {"path": "x"}, "no path"),
        ("a", "b", {"path": "/; Domain=x"}, "no path"),
        ("a", "b", {"path": "/\n"}, "no path"),
        ("a", "b", {"domain": ""}, "no domain"),
        ("a", "b", {"domain": "a;b"}, "no domain"),
        ("a", "b", {"domain": "a.\n"}, "no domain"),
        ("a", "b", {"samesite": "x"}, "no value of SameSite"),
        ("a", "b", {"samesite": "None"}, "without secure=True"),
        ("__Secure-a", "b", {}, "without secure=True"),
        ("__host-a", "b", {}, "without secure=True"),
        ("__Host-a", "b", {"secure": True, "path": "/x"}, "unless path"),
        ("__Host-a", "b", {"secure": True, "domain": "x"}, "unless path"),
        ("a", "b", {"max_age": "1; Domain=x"}, "invalid literal"),
    ],
)
def test_a_cookie_that_would_be_misread_or_dropped_is_an_error(
    name: str, value: str, arguments: dict[str, Any], told: str
) -> None:
    response = Response()
    with pytest.raises(ValueError, match=told):
        response.set_cookie(name, value, **arguments)
    assert response.headers == ()


def test_the_prefixes_of_safe_cookies_are_accepted_with_what_they_ask_for() -> None:
    response = Response()
    response.set_cookie("__Host-a", "b", secure=True)
    response.set_cookie("__Secure-a", "b", secure=True, domain="x", path="/y")
    assert len(response.headers) == 2


# --- files


def test_a_file_replaces_the_body_and_brings_its_own_type() -> None:
    response = Response("not sent", 404, {"X": "y"})
    assert response.send_file("/big.iso") is response
    assert response.file == "/big.iso"
    response.add_header("Cache-Control", "no-store")
    assert render(response) == (404, ((b"X", b"y"), (b"Cache-Control", b"no-store")), b"", "/big.iso")


@pytest.mark.parametrize("path", ["", "a", "../a", "http://a/"])
def test_a_file_is_named_from_the_root(path: str) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        Response().send_file(path)


@pytest.mark.parametrize("name", sorted(OF_A_FILE))
def test_a_file_has_fields_that_it_alone_gives(name: str) -> None:
    response = Response(headers={name.title(): "x"})
    with pytest.raises(ValueError, match=f"its own {name}"):
        response.send_file("/a")
    assert response.file is None
    response = Response().send_file("/a")
    with pytest.raises(ValueError, match=f"its own {name}"):
        response.add_header(name.title(), "x")
    assert response.headers == ()


# --- cost -------------------------------------------------------------------------------------------------


def test_fields_cost_what_they_are_long(growth: Growth) -> None:
    def make(size: int) -> None:
        response = Response()
        for _ in range(size):
            response.add_header("X-Many", "a value of some bytes")
        assert response.render().fields.count((b"X-Many", b"a value of some bytes")) == size

    assert growth(make, 10_000) < 8
