"""Laws of a servlet's request: it reads what Werkzeug and the standard library read, and refuses without surprise."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from zcserve.errors import HttpError
from zcserve.http import FIELD_VALUE_BYTES
from zcserve.servlets.request import Headers, Request, Upload

pytest.importorskip("hypothesis")
pytest.importorskip("werkzeug")
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers as TheirHeaders
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request as Theirs

# Text that UTF-8 can carry; names and contents with what forms are made of.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text('a=&+%;2F"\\\r\n-é ', max_size=12)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=6)
TOKENS = st.text("ab-_.!XYZ09", min_size=1, max_size=8)
FIELD_VALUES = st.text(FIELD_VALUE_BYTES.decode("latin-1"), max_size=12)


def made(target: bytes, pairs: list[tuple[str, str]] | tuple[()] = (), body: bytes = b"") -> Request:
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1")
    return Request(b"POST", target, b"POST " + target + b" HTTP/1.1\r\n" + lines + b"\r\n", "", body)


def theirs(content_type: str, body: bytes) -> Theirs:
    environ = EnvironBuilder(method="POST", input_stream=io.BytesIO(body), content_length=len(body)).get_environ()
    return Theirs(environ | {"CONTENT_TYPE": content_type})


def everything(fields: Any) -> list[tuple[str, Any]]:
    return list(fields.items(multi=True))


def read_or_status(read: Callable[[], Any]) -> Any:
    """What was read, or the status of the refusal."""
    try:
        return read()
    except HttpError as error:
        return error.status


def by_name(pairs: Any) -> dict[str, list[Any]]:
    """Werkzeug keeps the order within a name alone."""
    named: dict[str, list[Any]] = {}
    for name, value in pairs:
        named.setdefault(name, []).append(value)
    return named


# --- queries and urlencoded forms


@given(PAIRS)
def test_a_query_comes_back_as_it_was_encoded(pairs: list[tuple[str, str]]) -> None:
    assert made(b"/?" + urlencode(pairs).encode()).query.pairs == tuple(pairs)


@given(st.text("ab=&+;%2C3aA9Ff/?", max_size=30))
def test_any_query_is_read_as_the_standard_library_reads_it(query: str) -> None:
    read = made(b"/?" + query.encode()).query
    assert list(read.pairs) == parse_qsl(query, keep_blank_values=True, errors="replace")


@given(st.text("ab=&+;%2C3Aa9/?", max_size=30))
def test_any_query_is_read_as_werkzeug_reads_it(query: str) -> None:
    read = Theirs(EnvironBuilder(query_string=query).get_environ()).args
    ours = made(b"/?" + query.encode()).query
    if "�" not in "".join(name + value for name, value in ours.pairs):  # Werkzeug leaves what is not UTF-8 encoded
        assert by_name(ours.pairs) == by_name(everything(read))


@given(PAIRS)
def test_an_urlencoded_form_is_read_as_werkzeug_reads_it(pairs: list[tuple[str, str]]) -> None:
    kind, body = "application/x-www-form-urlencoded", urlencode(pairs).encode()
    ours = made(b"/", [("Content-Type", kind)], body)
    assert ours.form.pairs == tuple(pairs)
    assert by_name(ours.form.pairs) == by_name(everything(theirs(kind, body).form))


@given(st.binary(max_size=60))
def test_any_bytes_at_all_are_an_urlencoded_form(body: bytes) -> None:
    read = made(b"/", [("Content-Type", "application/x-www-form-urlencoded")], body).form
    assert len(read.pairs) == len([field for field in body.split(b"&") if field])


# --- multipart forms

PART_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\%'), max_size=10)
BOUNDARY = "--boundary"
CONTENTS = st.binary(max_size=30) | st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r", b"--boundar", b"-", b"\n"]), max_size=8
).map(b"".join)


def submitted(fields: list[tuple[str, str]], files: list[tuple[str, str, bytes]]) -> bytes:
    """A form as a browser encodes it (Werkzeug's encoder leaves out a line end after an empty value)."""
    sent = [(f'name="{name}"', text.encode()) for name, text in fields]
    sent += [(f'name="{name}"; filename="{file}"\r\nContent-Type: Image/X; a=b', data) for name, file, data in files]
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
    parts = [f"{start}{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in sent]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@given(
    st.lists(st.tuples(PART_TEXT, PART_TEXT), max_size=4),
    st.lists(st.tuples(PART_TEXT, PART_TEXT, CONTENTS), max_size=3),
)
def test_a_multipart_form_is_read_as_werkzeug_reads_it(
    fields: list[tuple[str, str]], files: list[tuple[str, str, bytes]]
) -> None:
    pytest.importorskip("multipart")
    body = submitted(fields, files)
    kind = "multipart/form-data; boundary=" + BOUNDARY
    ours, read = made(b"/", [("Content-Type", kind)], body), theirs(kind, body)
    assert by_name(ours.form.pairs) == by_name(everything(read.form)) == by_name(fields)
    uploads = [(name, Upload(file.filename or "", file.mimetype, file.read())) for name, file in everything(read.files)]
    assert by_name(ours.files.pairs) == by_name(uploads)
    assert sorted(upload.content for _, upload in ours.files.pairs) == sorted(content for *_, content in files)


@given(
    st.lists(
        st.sampled_from(
            [
                b"--b",
                b"--b",
                b"--",
                b"\r\n",
                b"\r\n",
                b'Content-Disposition: form-data; name="a"',
                b"Content-Disposition: form-data; filename=x",
                b"Content-Type: text/plain",
                b"Content-Length: 1",
                b": ",
                b"\xff",
                b"\x00",
                b"x",
            ]
        ),
        max_size=14,
    ).map(b"".join)
)
def test_any_bytes_at_all_are_a_multipart_form_or_refused(body: bytes) -> None:
    pytest.importorskip("multipart")
    form = read_or_status(lambda: made(b"/", [("Content-Type", "multipart/form-data; boundary=b")], body).form)
    assert form == 400 or (b"--b--" in body and set(form) <= {"a"})


@given(st.text(FIELD_VALUE_BYTES.decode("latin-1"), max_size=30))
def test_any_parameters_of_a_multipart_form_are_read_or_refused(parameters: str) -> None:
    pytest.importorskip("multipart")
    kind = "multipart/form-data; boundary=" + parameters
    assert read_or_status(lambda: made(b"/", [("Content-Type", kind)], b"--b--").form) in (400, {})


# --- header fields and cookies


@given(st.lists(st.tuples(TOKENS, FIELD_VALUES), max_size=8))
def test_headers_are_found_as_werkzeug_finds_them(pairs: list[tuple[str, str]]) -> None:
    ours = made(b"/", pairs).headers
    stripped = [(name, value.strip(" \t")) for name, value in pairs]
    assert list(ours.pairs) == stripped
    their = TheirHeaders(stripped)
    for name, _ in pairs:
        assert ours.all(name.swapcase()) == their.getlist(name)
        assert ours[name.upper()] == ("; " if name.lower() == "cookie" else ", ").join(their.getlist(name))
    assert set(ours) == {name.lower() for name, _ in pairs}
    assert Headers(ours.pairs) == ours


COOKIE_OCTETS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')


@given(
    st.lists(st.tuples(TOKENS, st.text(COOKIE_OCTETS, max_size=10)), max_size=6), st.sampled_from([";", "; ", " ;\t"])
)
def test_cookies_are_read_as_werkzeug_reads_them(pairs: list[tuple[str, str]], between: str) -> None:
    cookie = between.join(f"{name}={value}" for name, value in pairs)
    read = Theirs(EnvironBuilder(headers=[("Cookie", cookie)]).get_environ()).cookies
    assert made(b"/", [("Cookie", cookie)]).cookies == read.to_dict(flat=True)


@given(FIELD_VALUES | st.text('ab=;" \\', max_size=20))
def test_any_cookie_field_is_read(cookie: str) -> None:
    cookies = made(b"/", [("Cookie", cookie)]).cookies
    assert len(cookies) <= cookie.count("=")
    assert not [name for name in cookies if not name or ";" in name or "=" in name]


# --- JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_json_comes_back(value: Any) -> None:
    assert made(b"/", body=json.dumps(value).encode()).json() == value


@given(st.binary(max_size=20))
def test_any_bytes_at_all_are_json_or_refused(body: bytes) -> None:
    value = read_or_status(made(b"/", body=body).json)
    assert value == 400 or value == json.loads(body)
