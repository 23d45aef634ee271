"""Laws of a servlet's response: whatever text it is given, it is one response, and what was meant arrives."""

from __future__ import annotations

import http.client
import io
import json
import re
from functools import partial
from typing import Any

import pytest

from zcserve.cache.heads import encode_fields
from zcserve.http import FIELD_VALUE_BYTES, TOKEN_BYTES, FieldLines, status_line
from zcserve.servlets.request import Request
from zcserve.servlets.response import Rendered, Response, checked_fields, render

pytest.importorskip("hypothesis")
pytest.importorskip("h11")
import h11
from hypothesis import given
from hypothesis import strategies as st

# Any text, and text of what an attacker would use: some ends a line only when it is cut to a byte a character.
EVIL = 'aZ:; =,"\\\r\n\t\0\x0b\x0c\x1f\x7f\x85\xa0\xad\u010a\u010d\u560a\u560d\u2028'
ANY = st.text(max_size=12) | st.text(EVIL, max_size=12)
TOKENS = st.text(TOKEN_BYTES.decode("ascii"), min_size=1, max_size=8)
NAMES = TOKENS.map(lambda name: "X" + name)
VALUES = st.text(FIELD_VALUE_BYTES.decode("latin-1"), max_size=12)
OWN = ("Content-Type", "X-Content-Type-Options")
LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\r\n")


def lines_of(checked: FieldLines) -> list[bytes]:
    """The header lines, each of which must be one; nothing may be left."""
    fields = encode_fields(checked)
    lines = [match[0] for match in LINE.finditer(fields)]
    assert b"".join(lines) == fields
    return lines


def by_http_client(rendered: Rendered) -> list[tuple[str, str]]:
    return http.client.parse_headers(io.BytesIO(encode_fields(rendered.fields) + b"\r\n")).items()


def by_h11(rendered: Rendered) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, fields and content as h11 receives them, framed as a connection would."""
    assert isinstance(rendered.content, bytes)
    client = h11.Connection(our_role=h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    length = b"" if rendered.status in (204, 304) else b"Content-Length: %d\r\n" % len(rendered.content)
    client.receive_data(
        status_line(rendered.status) + length + encode_fields(rendered.fields) + b"\r\n" + rendered.content
    )
    client.receive_data(b"")
    head, content = client.next_event(), b""
    while type(event := client.next_event()) is h11.Data:
        content += bytes(event.data)
    assert type(event) is h11.EndOfMessage
    assert isinstance(head, h11.Response)
    return head.status_code, [field for field in head.headers if field[0] != b"content-length"], content


@given(ANY, ANY)
def test_no_text_at_all_makes_more_than_one_line(name: str, value: str) -> None:
    try:
        fields = checked_fields([(name, value)])
    except ValueError:
        return
    assert lines_of(fields) == [f"{name}: {value}\r\n".encode("latin-1")]


@given(st.lists(st.tuples(NAMES | ANY, VALUES | ANY), max_size=5), VALUES | ANY, st.integers(100, 700))
def test_a_response_has_the_lines_that_were_accepted_and_no_other(
    pairs: list[tuple[str, str]], content_type: str, status: int
) -> None:
    response = Response(b"content")
    for change in (
        partial(response.add_header, "Content-Type", content_type),
        partial(setattr, response, "status", status),
        *(partial(response.add_header, name, value) for name, value in pairs),
    ):
        try:
            change()
        except ValueError:
            continue
    lines = lines_of(render(response).fields)
    with_type = response.status not in (204, 205, 304)
    sent = [(name, value) for name, value in response.headers if with_type or name.lower() != "content-type"]
    for name, value in sent:
        assert lines.count(f"{name}: {value}\r\n".encode("latin-1")) == sent.count((name, value))
    assert len(sent) <= len(lines) <= len(sent) + 2 * with_type
    assert 200 <= render(response).status <= 599


@given(
    ANY,
    ANY,
    st.integers() | st.none(),
    st.none() | ANY | ANY.map(lambda text: "/" + text),
    st.none() | ANY | ANY.map(lambda text: f"a{text}b"),
    st.booleans(),
    st.sampled_from(["Lax", "none", None]) | ANY,
)
def test_no_text_at_all_in_a_cookie_makes_another_attribute_or_line(
    name: str, value: str, age: int | None, path: str | None, domain: str | None, secure: bool, same: str | None
) -> None:
    response = Response()
    try:
        response.set_cookie(name, value, max_age=age, path=path, domain=domain, secure=secure, samesite=same)
    except ValueError:
        return
    (line,) = lines_of(checked_fields(response.headers))
    pair, *attributes = line.decode("latin-1").removeprefix("Set-Cookie: ").removesuffix("\r\n").split("; ")
    assert pair == f"{name}={value}"
    wanted = [("Max-Age", age), ("Path", path), ("Domain", domain), ("Secure", secure or None), ("HttpOnly", True)]
    wanted.append(("SameSite", same))
    assert [attribute.partition("=")[0] for attribute in attributes] == [key for key, it in wanted if it is not None]
    assert line.count(b";") == len(attributes)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.integers(200, 599), st.binary(max_size=20))
def test_what_was_meant_arrives(pairs: list[tuple[str, str]], status: int, content: bytes) -> None:
    rendered = render(Response(content, status, pairs))
    meant = [(name, value.strip(" \t")) for name, value in pairs]
    assert [(name, value.strip(" \t")) for name, value in by_http_client(rendered) if name not in OWN] == meant
    read_status, fields, read = by_h11(rendered)
    assert (read_status, read) == (status, b"" if status in (204, 205, 304) else content)
    own = {name.lower().encode() for name in OWN}
    assert [field for field in fields if field[0] not in own] == [
        (name.lower().encode(), value.encode("latin-1")) for name, value in meant
    ]


COOKIE_OCTETS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')


@given(TOKENS, st.text(COOKIE_OCTETS, max_size=12))
def test_a_cookie_comes_back_as_it_was_set(name: str, value: str) -> None:
    response = Response()
    response.set_cookie(name, value, secure=True)
    pair = response.headers[0][1].partition(";")[0]
    head = f"GET / HTTP/1.1\r\nHost: a\r\nCookie: first=x; {pair}; last=y\r\n\r\n".encode()
    expected = {"first": "x"} | ({name: value} if name != "first" else {})
    assert Request(b"GET", b"/", head, "").cookies == {"last": "y"} | expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), JSON, max_size=3) | st.lists(JSON, max_size=3))
def test_json_arrives(value: Any) -> None:
    rendered = render(value)
    assert isinstance(rendered.content, bytes)
    assert json.loads(rendered.content.decode("utf-8")) == value
    assert Request(b"POST", b"/", b"POST / HTTP/1.1\r\n\r\n", "", rendered.content).json() == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_arrives_as_utf_8(text: str) -> None:
    assert render(text).content == text.encode("utf-8")
