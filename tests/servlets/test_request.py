"""What a servlet reads of a request, as tables of (what the client sent, what it means)."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from zcserve.errors import HttpError
from zcserve.servlets import request as module
from zcserve.servlets.request import FORM_FIELDS_MAX, Headers, Request, Upload, Values, lazy

URLENCODED = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=xyz"


def asked(target: str = "/", *lines: str, body: bytes = b"", method: str = "GET") -> Request:
    """A request whose head is as a client would send it."""
    head = "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a", *lines, "", "")).encode("latin-1")
    return Request(method.encode(), target.encode(), head, "127.0.0.1", body)


def refused(read: Any) -> int:
    """The status that an HttpError carries."""
    with pytest.raises(HttpError) as raised:
        read()
    return raised.value.status


# --- request line


def test_a_request_tells_what_it_was_given() -> None:
    request = Request(b"PUT", b"/a?b", b"PUT /a?b HTTP/1.0\r\n\r\n", "::1", b"body", {"name": "x"})
    assert (request.method, request.target, request.version) == ("PUT", "/a?b", "HTTP/1.0")
    assert (request.client, request.body, request.params) == ("::1", b"body", {"name": "x"})
    assert repr(request) == "<Request PUT /a?b>"


def test_a_request_without_a_body_or_parameters_has_empty_ones() -> None:
    request = asked()
    assert (request.body, dict(request.params)) == (b"", {})
    with pytest.raises(TypeError):
        request.params["a"] = "b"  # type: ignore[index]  # it is shared by all that have none


def test_empty_lines_before_a_request_do_not_matter() -> None:
    request = Request(b"GET", b"/", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "")
    assert request.version == "HTTP/1.1"
    assert request.headers.pairs == (("Host", "a"),)


@pytest.mark.parametrize(
    ("target", "path", "query_string"),
    [
        ("/", "/", ""),
        ("/a?", "/a", ""),
        ("/a?b?c=d#e", "/a", "b?c=d#e"),
        ("/a%20b/%C3%A9", "/a b/é", ""),
        ("//a/./b/../c%2fd/", "/a/c/d/", ""),
        ("http://a.example/b%20c?d", "/b c", "d"),
        ("http://a.example?d", "/", "d"),
        ("/csp?hello", "/csp", ""),
        ("/csp?hello&", "/csp", ""),
        ("/csp?hello&k=v&k=w&", "/csp", "k=v&k=w&"),
        ("/c%73p?hello&k=v", "/csp", "k=v"),
        ("/csp", "/csp", ""),
        ("/csp/?k=v", "/csp/", "k=v"),
        ("/cspx?hello&k=v", "/cspx", "hello&k=v"),
    ],
)
def test_a_target_has_a_decoded_path_and_a_raw_query(target: str, path: str, query_string: str) -> None:
    request = asked(target)
    assert (request.path, request.query_string) == (path, query_string)


def test_a_path_that_means_nothing_is_refused() -> None:
    assert refused(lambda: asked("/%zz").path) == 400


# --- queries


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", []),
        ("&&", []),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=b", [("", "b")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("a+b=c+d%2Be", [("a b", "c d+e")]),
        ("%C3%A9=%E2%82%AC", [("é", "€")]),
        ("a=%FF", [("a", "�")]),
        ("a=%zz%4", [("a", "%zz%4")]),
        ("a;b=c", [("a;b", "c")]),
    ],
)
def test_a_query_keeps_every_field_in_order(query: str, pairs: list[tuple[str, str]]) -> None:
    assert asked("/?" + query).query.pairs == tuple(pairs)


def test_the_query_of_a_servlet_by_name_begins_behind_its_name() -> None:
    assert asked("/csp?hello&a=b").query == {"a": "b"}


def test_values_give_the_first_and_all_of_a_name() -> None:
    values = Values([("a", "1"), ("b", "2"), ("a", "3")])
    assert (values["a"], values.all("a"), values.all("c"), values.get("c")) == ("1", ["1", "3"], [], None)
    assert (list(values), len(values), "b" in values, "c" in values) == (["a", "b"], 2, True, False)
    assert repr(values) == "Values([('a', '1'), ('b', '2'), ('a', '3')])"
    with pytest.raises(KeyError):
        values["c"]


def test_what_all_gives_is_the_callers_own() -> None:
    values = Values([("a", "1")])
    values.all("a").append("2")
    assert values.all("a") == ["1"]


# --- header fields


def test_headers_are_found_without_case_and_without_the_blanks_around_them() -> None:
    headers = asked("/", "X-One: \t a b\t ", "X-Two:").headers
    assert (headers["x-one"], headers["X-ONE"], headers["x-two"]) == ("a b", "a b", "")
    assert (headers.get("x-three"), "x-THREE" in headers, "x-TWO" in headers) == (None, False, True)
    assert list(headers) == ["host", "x-one", "x-two"]


def test_a_repeated_field_is_joined_by_commas_and_a_cookie_by_semicolons() -> None:
    headers = asked("/", "Accept: a", "COOKIE: x=1", "accept: b, c", "Cookie: y=2").headers
    assert (headers["accept"], headers.all("Accept")) == ("a, b, c", ["a", "b, c"])
    assert headers["cookie"] == "x=1; y=2"
    assert headers.pairs == (
        ("Host", "a"),
        ("Accept", "a"),
        ("COOKIE", "x=1"),
        ("accept", "b, c"),
        ("Cookie", "y=2"),
    )
    assert len(headers) == 3


def test_header_values_are_latin_1_and_hold_colons() -> None:
    assert asked("/", "X: \xe9:\x85b").headers["x"] == "\xe9:\x85b"


def test_headers_can_be_made_of_pairs() -> None:
    assert Headers([("A", "1"), ("a", "2")])["a"] == "1, 2"
    assert not Headers()


# --- cookies


@pytest.mark.parametrize(
    ("lines", "cookies"),
    [
        ([], {}),
        (["Cookie: a=1; b=2"], {"a": "1", "b": "2"}),
        (["Cookie: a=1;b=2;;"], {"a": "1", "b": "2"}),
        (["Cookie: a=1; a=2"], {"a": "1"}),
        (["Cookie: a=1", "Cookie: a=2; b=3"], {"a": "1", "b": "3"}),
        (["Cookie: \ta = x y\t; b="], {"a": "x y", "b": ""}),
        (["Cookie: a=b=c"], {"a": "b=c"}),
        (["Cookie: a; =b; c=d"], {"c": "d"}),
        (['Cookie: a="x"; b="\\073"'], {"a": '"x"', "b": '"\\073"'}),
        (['Cookie: a="x; b=1; c=y"'], {"a": '"x', "b": "1", "c": 'y"'}),
        (["Cookie: $Version=1; a=%20"], {"$Version": "1", "a": "%20"}),
        (["Cookie: a=\xc3\xa9; b=\xff"], {"a": "é", "b": "�"}),
        (["Cookie: \xc2\xa0__Host-a=1"], {"\xa0__Host-a": "1"}),
    ],
)
def test_cookies_are_what_stands_between_semicolons(lines: list[str], cookies: dict[str, str]) -> None:
    assert asked("/", *lines).cookies == cookies


# --- bodies


@pytest.mark.parametrize(
    ("line", "content_type"),
    [
        ("X: y", ""),
        ("Content-Type:", ""),
        ("Content-Type: Text/HTML ; charset=utf-8", "text/html"),
        ("content-type: application/json", "application/json"),
    ],
)
def test_a_content_type_is_lower_case_without_parameters(line: str, content_type: str) -> None:
    assert asked("/", line).content_type == content_type


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, "\xc3\xa9", null]}', {"a": [1, "é", None]}),
        (b" 1 ", 1),
        (b'"\\ud800"', "\ud800"),
    ],
)
def test_json_is_read_whatever_the_type_is_said_to_be(body: bytes, value: Any) -> None:
    assert asked(body=body).json() == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"NaN",
        b"[-Infinity]",
        b'"\xff"',
        '"a"'.encode("utf-16"),
        '\ufeff"a"'.encode(),
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=lambda body: repr(body[:10]),
)
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    assert refused(asked(body=body).json) == 400


def test_a_body_of_another_type_is_an_empty_form() -> None:
    for line in ("X: y", "Content-Type: text/plain", "Content-Type: multipart/mixed; boundary=xyz"):
        request = asked("/", line, body=b"a=b")
        assert (request.form.pairs, request.files.pairs) == ((), ())


def test_an_urlencoded_form_is_read_as_a_query_is_and_may_hold_any_bytes() -> None:
    request = asked("/", URLENCODED + "; charset=latin-1", body=b"a=1&b=%C3%A9+x&a=\xc3\xa9\xff&c")
    assert request.form.pairs == (("a", "1"), ("b", "é x"), ("a", "é�"), ("c", ""))
    assert not request.files


def test_an_urlencoded_form_has_so_many_fields_and_no_more() -> None:
    assert len(asked("/", URLENCODED, body=b"&".join([b"a=b"] * FORM_FIELDS_MAX)).form.all("a")) == FORM_FIELDS_MAX
    assert refused(lambda: asked("/", URLENCODED, body=b"&".join([b"a=b"] * (FORM_FIELDS_MAX + 1))).form) == 413


def parts(*sent: tuple[str, bytes]) -> bytes:
    """A multipart body of (header lines, content)."""
    encoded = [b"--xyz\r\n%b\r\n\r\n%b\r\n" % (lines.encode(), content) for lines, content in sent]
    return b"".join(encoded) + b"--xyz--\r\n"


def disposition(text: str, *lines: str) -> str:
    return "\r\n".join((f"Content-Disposition: form-data; {text}", *lines))


def test_a_multipart_form_has_fields_and_files() -> None:
    pytest.importorskip("multipart")
    body = parts(
        (disposition('name="a"'), "é\r\n--xy".encode()),
        (disposition('name="f"; filename="x.PNG"', "Content-Type: Image/PNG; q=1"), b"\x89\x00\r\n"),
        (disposition('name="a"'), b""),
        (disposition('name="f"; filename="../%22é"'), b"--"),
        (disposition('name="none"; filename=""', "Content-Type: application/octet-stream"), b""),
    )
    request = asked("/", MULTIPART, body=body)
    assert request.form.pairs == (("a", "é\r\n--xy"), ("a", ""))
    assert request.files["f"] == Upload("x.PNG", "image/png", b"\x89\x00\r\n")
    assert request.files.all("f")[1] == Upload('../"é', "application/octet-stream", b"--")
    assert request.files["none"].filename == ""
    assert request.files is request.files


@pytest.mark.parametrize(
    ("line", "body", "status"),
    [
        (MULTIPART, parts((disposition('name="a"'), b"b"))[:-9], 400),
        (MULTIPART, b"", 400),
        (MULTIPART, b"a=b", 400),
        (MULTIPART, parts(("X: y", b"")), 400),
        (MULTIPART, parts((disposition("filename=x"), b"")), 400),
        (MULTIPART, parts((disposition('name="a"', "no colon"), b"")), 400),
        (MULTIPART, b"--xyz\r\n\xff: x\r\n\r\n--xyz--", 400),
        ("Content-Type: multipart/form-data", parts((disposition('name="a"'), b"b")), 400),
        ('Content-Type: multipart/form-data; boundary=""', parts((disposition('name="a"'), b"b")), 400),
        ("Content-Type: multipart/form-data; boundary=" + "x" * 71, b"", 400),
        (MULTIPART, parts((disposition(f'name="{"a" * module.PART_LINE_BYTES_MAX}"'), b"")), 413),
        (MULTIPART, parts((disposition('name="a"', *["X: y"] * module.PART_LINES_MAX), b"")), 413),
        (MULTIPART, parts(*[(disposition('name="a"'), b"")] * (FORM_FIELDS_MAX + 1)), 413),
    ],
)
def test_a_malformed_or_excessive_multipart_form_is_refused(line: str, body: bytes, status: int) -> None:
    pytest.importorskip("multipart")
    request = asked("/", line, body=body)
    assert refused(lambda: request.form) == status
    assert refused(lambda: request.files) == status


@pytest.mark.parametrize("found", [None, module], ids=["nothing", "another of that name"])
def test_without_its_package_a_multipart_form_is_501_and_says_what_to_install(
    found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "multipart", found)
    request = asked("/", MULTIPART, body=parts((disposition('name="a"'), b"b")))
    with pytest.raises(HttpError, match=r"zcserve\[forms\]") as raised:
        request.form  # noqa: B018
    assert raised.value.status == 501


# --- laziness


class Counted:
    """Something lazy, of which computing is seen."""

    computed = 0

    @lazy
    def value(self) -> int:
        """A number."""
        self.computed += 1
        return self.computed


def test_what_is_lazy_is_computed_once_and_keeps_its_documentation() -> None:
    counted = Counted()
    assert counted.computed == 0
    assert (counted.value, counted.value, counted.computed) == (1, 1, 1)
    assert Counted.value.__doc__ == "A number."


def test_making_a_request_reads_nothing_of_it() -> None:
    request = Request(b"\xff", b"\xff", b"\xff", "", b"\xff")
    assert request.body == b"\xff"
    assert refused(lambda: request.path) == 400


def test_a_path_that_is_not_utf8_is_told_all_the_same() -> None:
    assert Request(b"GET", b"/%ff/a", b"HTTP/1.1", "", b"").path == "/\ufffd/a"


def test_no_thread_waits_for_what_another_thread_computes() -> None:
    waiting, go = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, waits: bool) -> None:
            self.waits = waits

        @lazy
        def value(self) -> bool:
            if self.waits:
                waiting.set()
                return go.wait(60)
            return False

    slow = Slow(True)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert waiting.wait(60)
    assert Slow(False).value is False  # functools.cached_property of CPython 3.11 would wait here for ever
    go.set()
    thread.join()
    assert slow.value is True
