"""zcserve.rules.cors: what other origins may read, as it is written and as it is answered."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from zcserve.config.tables import Source, tables_of
from zcserve.errors import UsageError
from zcserve.rules.compiled import Rules
from zcserve.rules.cors import ELEMENTS_MAX, MAX_AGE_MAX_S, Cors, without_cors
from zcserve.rules.reading import header_rules

A = b"https://a.example"


def read(text: str) -> Cors:
    text = "[[rules]]\npath = '/a'\n" + text
    (rule,) = header_rules(tables_of(tomllib.loads(text)["rules"], ("rules",), Source("site.toml", text)))
    assert rule.cors is not None
    return rule.cors


def test_a_star_is_any_origin_and_says_the_same_to_all() -> None:
    assert read("cors = '*'") == read("cors = { origins = ['*'] }") == Cors()
    assert Cors().lines == ((b"Access-Control-Allow-Origin", b"*"),)
    assert not Cors().reads_origin
    assert Cors().lines_for(A) == ()


def test_a_list_is_what_is_written() -> None:
    cors = read(
        "cors = { origins = ['https://a.example', 'http://*.b.example:81'], methods = ['PUT'], headers = ['X-A'], "
        "expose = 'X-B', max_age = '1h', credentials = true }"
    )
    below = ((b"http://", b".b.example:81"),)
    assert cors == Cors((A,), below, (b"PUT",), (b"x-a",), (b"X-B",), 3600, credentials=True)
    assert cors.lines == ((b"Vary", b"Origin"),)
    assert dict(cors.lines_for(A)) == {
        b"Access-Control-Allow-Origin": A,
        b"Access-Control-Allow-Credentials": b"true",
        b"Access-Control-Expose-Headers": b"X-B",
    }
    assert read("cors = { origins = ['https://a.example'], credentials = true }").headers == ()


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (b"https://x.b.example", True),
        (b"https://x.y-z.b.example", True),
        (b"https://b.example", False),
        (b"https://.b.example", False),
        (b"https://x..b.example", False),
        (b"https://evil-b.example", False),
        (b"https://evil.example/x.b.example", False),
        (b"https://a@x.b.example", False),
        (b"https://evil.example:1.b.example", False),
        (b"http://x.b.example", False),
        (b"https://x.b.example:8443", False),
        (b"https://x.b.example.evil.example", False),
        (b"HTTPS://X.B.EXAMPLE", False),
        (b"https://x.b.example, https://x.b.example", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_a_wildcard_stands_for_whole_labels_of_a_host(origin: bytes, is_allowed: bool) -> None:
    cors = Cors(below=((b"https://", b".b.example"),))
    assert cors.allows(origin) is is_allowed
    assert bool(cors.lines_for(origin)) is is_allowed


@pytest.mark.parametrize(
    ("method", "headers", "is_allowed"),
    [
        (b"GET", b"", True),
        (b"POST", b"", True),  # what a form may send is never asked for
        (b"PUT", b"", True),
        (b"put", b"", False),
        (b"DELETE", b"", False),
        (b"PUT", b"X-A,x-b", True),
        (b"PUT", b"x-a, x-c", False),
    ],
)
def test_leave_is_given_for_all_that_is_asked_or_not_at_all(method: bytes, headers: bytes, is_allowed: bool) -> None:
    answer = dict(Cors((A,), methods=(b"PUT",), headers=(b"x-a", b"x-b")).preflight(A, method, headers))
    assert (answer.get(b"Access-Control-Allow-Origin") == A) is is_allowed
    assert answer[b"Vary"] == b"Origin"


def test_a_star_for_fields_is_all_but_authorization() -> None:
    named = (b"*", b"authorization")
    assert not Cors().preflight(A, b"GET", b"authorization")
    assert Cors(headers=named).preflight(A, b"GET", b"authorization,x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cors = true", "site.toml:3:1: rules[0].cors: true is a boolean"),
        ("cors = 'https://a.example'", "site.toml:3:1: rules[0].cors: 'https://a.example' is a string"),
        ("cors = { origin = ['*'] }", "site.toml:3:10: rules[0].cors.origin: unknown word 'origin'; the nearest"),
        ("cors = { max_age = 1 }", "site.toml:3:1: rules[0].cors: no origins"),
        ("cors = { origins = [] }", "site.toml:3:10: rules[0].cors.origins: [] allows nothing"),
        ("cors = { origins = ['*', 'https://a'] }", "site.toml:3:10: rules[0].cors.origins: '*' cannot stand here"),
        (
            "cors = { origins = '*', credentials = true }",
            "site.toml:3:10: rules[0].cors.origins: '*' cannot stand here: browsers take no cookies",
        ),
        ("cors = { origins = ['null'] }", "site.toml:3:21: rules[0].cors.origins[0]: 'null' is the origin of every"),
        ("cors = { origins = ['https://a', 'a'] }", "site.toml:3:34: rules[0].cors.origins[1]: 'a' is no origin"),
        ("cors = { origins = ['https://a/'] }", "site.toml:3:21: rules[0].cors.origins[0]: 'https://a/' is no origin"),
        ("cors = { origins = ['https://A'] }", "site.toml:3:21: rules[0].cors.origins[0]: 'https://A' is no origin"),
        ("cors = { origins = ['https://a:443'] }", "site.toml:3:21: rules[0].cors.origins[0]: 'https://a:443' is no"),
        ("cors = { origins = ['https://a.*.b'] }", "site.toml:3:21: rules[0].cors.origins[0]: 'https://a.*.b' is no"),
        ("cors = { origins = [5] }", "site.toml:3:21: rules[0].cors.origins[0]: 5 is an integer"),
        ("cors = { origins = 5 }", "site.toml:3:10: rules[0].cors.origins: 5 is an integer"),
        ("cors = { origins = '*', methods = ['get'] }", "site.toml:3:36: rules[0].cors.methods[0]: 'get' is not a"),
        ("cors = { origins = '*', methods = ['TRACE'] }", "site.toml:3:36: rules[0].cors.methods[0]: 'TRACE' is not a"),
        ("cors = { origins = '*', headers = ['a b'] }", "site.toml:3:36: rules[0].cors.headers[0]: 'a b' is not the"),
        ("cors = { origins = '*', max_age = '2d' }", "site.toml:3:25: rules[0].cors.max_age: '2d' is not a duration"),
        ("cors = { origins = '*', max_age = '25h' }", "site.toml:3:25: rules[0].cors.max_age: '25h' is not a time"),
        ("cors = { origins = '*', credentials = 1 }", "site.toml:3:25: rules[0].cors.credentials: 1 is an integer"),
        (
            "cors = { origins = 'https://a', credentials = true, headers = '*' }",
            "site.toml:3:53: rules[0].cors.headers: '*' means nothing where credentials are sent",
        ),
        (
            "cors = '*'\nset = { access-control-allow-origin = '*' }",
            "site.toml:3:1: rules[0].cors: the rule says Access-Control-Allow-Origin itself",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert str(error.value).startswith(message)


def test_limits_are_what_they_are_called() -> None:
    assert read(f"cors = {{ origins = '*', max_age = {MAX_AGE_MAX_S} }}").max_age_s == MAX_AGE_MAX_S
    many = [f"https://a{number}" for number in range(ELEMENTS_MAX + 1)]
    assert len(read(f"cors = {{ origins = {many[:-1]} }}").origins) == ELEMENTS_MAX
    with pytest.raises(UsageError, match="101 elements are too many"):
        read(f"cors = {{ origins = {many} }}")
    with pytest.raises(UsageError, match="bytes of fields are too many for one rule"):
        read(f"cors = {{ origins = '*', headers = {['y' * 99] * 99} }}")


def rules(*tables: dict[str, Any]) -> Rules:
    return Rules(header_rules(tables_of([{"path": "/**"} | table for table in tables], ("rules",))))


def test_the_later_rule_wins_also_over_a_field_that_is_set_by_hand() -> None:
    listed, by_hand = {"cors": {"origins": ["https://a"]}}, {"set": {"Access-Control-Allow-Origin": "https://b"}}
    star = (b"Access-Control-Allow-Origin", b"*")
    assert rules(listed, {"cors": "*"}).fields_of(b"/x").lines == (star,)
    assert rules(by_hand, {"cors": "*"}).fields_of(b"/x").lines == (star,)
    assert rules({"cors": "*"}, listed).fields_of(b"/x").lines == ((b"Vary", b"Origin"),)
    written = rules(listed, by_hand).fields_of(b"/x")
    assert (written.cors, written.lines) == (None, ((b"Access-Control-Allow-Origin", b"https://b"),))
    assert rules({"cors": "*"}, {"remove": ["access-control-allow-origin"]}).fields_of(b"/x").lines == ()


def test_only_a_list_has_requests_asked() -> None:
    star, listed = rules({"cors": "*"}), rules({"cors": {"origins": ["https://a"]}})
    assert (star.reads_origin, star.reads_requests, star.has_answers) == (False, False, False)
    assert (listed.reads_origin, listed.reads_requests, listed.first_segments) == (True, True, None)
    assert star.digest != listed.digest != rules({"cors": {"origins": ["https://b"]}}).digest
    assert without_cors((*Cors().lines, (b"X-A", b"b"))) == ((b"X-A", b"b"),)
