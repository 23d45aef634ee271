"""zcserve.rules.headers_file: `_headers` as Netlify and Cloudflare Pages document it."""

from __future__ import annotations

import pytest

from tests.support.waiting import Growth
from zcserve.config.globs import GLOB_CHARACTERS_MAX, parse_glob
from zcserve.errors import UsageError
from zcserve.http import encode_path
from zcserve.rules import headers_file
from zcserve.rules.headers_file import globs_of, read_headers
from zcserve.rules.lines import CLOUDFLARE, NETLIFY
from zcserve.rules.patterns import parse_pattern

# From the pages of both hosts.
EXAMPLE = b"""# a path:
/templates/index.html
  # headers for that path:
  X-Frame-Options: DENY
  X-XSS-Protection: 1; mode=block
/templates/index2.html
\tx-frame-options:SAMEORIGIN

/*
  cache-control: max-age=0
  cache-control: no-cache
  Cache-Control: no-store

/*.jpg
! Content-Security-Policy
"""


def test_blocks_of_fields_are_read_in_their_order() -> None:
    found = read_headers(EXAMPLE)
    assert found.problems == ()
    assert [(str(block.where), block.patterns[0].text, block.set, block.remove) for block in found.blocks] == [
        (
            "_headers:2:1",
            "/templates/index.html",
            ((b"X-Frame-Options", b"DENY"), (b"X-XSS-Protection", b"1; mode=block")),
            (),
        ),
        ("_headers:6:1", "/templates/index2.html", ((b"x-frame-options", b"SAMEORIGIN"),), ()),
        ("_headers:9:1", "/*", ((b"cache-control", b"max-age=0, no-cache, no-store"),), ()),
        ("_headers:14:1", "/*.jpg", (), (b"content-security-policy",)),
    ]


def test_what_cannot_be_joined_has_its_own_lines_and_what_negotiation_needs_is_added_to() -> None:
    data = b"/a\n Set-Cookie: a=1\n set-cookie: b=2\n Vary: X\n Content-Type: text/plain; charset=utf-8"
    (block,) = read_headers(data).blocks
    assert block.add == ((b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Vary", b"X"))
    assert (block.set, block.content_type) == ((), "text/plain; charset=utf-8")


STATIC = b"/static/*\n A: *\n X-Robots-Tag: nosnippet\n/*\n X-Robots-Tag: noindex\n B: c\n"


def test_of_a_name_in_several_blocks_netlify_has_the_last_and_cloudflare_all() -> None:
    assert [(block.remove, block.set, block.add) for block in read_headers(STATIC, dialect=NETLIFY).blocks] == [
        ((), ((b"A", b"*"), (b"X-Robots-Tag", b"nosnippet")), ()),
        ((), ((b"X-Robots-Tag", b"noindex"), (b"B", b"c")), ()),
    ]
    first, *blocks = read_headers(STATIC, dialect=CLOUDFLARE).blocks
    assert ([pattern.text for pattern in first.patterns], first.remove) == (["/static/*", "/*"], (b"x-robots-tag",))
    assert [(block.remove, block.set, block.add) for block in blocks] == [
        ((), ((b"A", b"*"),), ((b"X-Robots-Tag", b"nosnippet"),)),
        ((), ((b"B", b"c"),), ((b"X-Robots-Tag", b"noindex"),)),
    ]


@pytest.mark.parametrize(
    ("line", "column", "text", "is_grave"),
    [
        ("  X A: b", 3, "neither a path nor", False),
        ("  X-A", 3, "neither a path nor", False),
        (": b", 1, "neither a path nor", False),
        ("X-A:", 5, "is no field's value", False),
        ("X-A: \u00fc", 5, "is no field's value", False),
        ("X-A: a\x01b", 5, "is no field's value", False),
        ("X-A: a\rX-B: c", 5, "is no field's value", False),
        ("! X A", 1, "is no field's name", False),
        ("X-A: for :name", 5, ":name is not filled in", False),
        ("X-A: for :splat", 5, ":splat is not filled in", False),
        ("Content-Type: a/b\n Content-Type: a/c", 2, "stands there twice", False),
        ("Basic-Auth: user:secret", 1, "open to all", True),
        ("basic-auth user", 1, "neither a path nor", True),
        ("Basic-Auth user:pass", 1, "neither a path nor", True),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_the_other_lines_hold(
    line: str, column: int, text: str, is_grave: bool
) -> None:
    found = read_headers(f"/:name/*\nX-1: a\n{line}\nX-2: b".encode(), "www/_headers")
    assert [name for name, _ in found.blocks[0].set] == [b"X-1", b"X-2"]
    (problem,) = found.problems
    assert str(problem.where) == f"www/_headers:{3 + line.count(chr(10))}:{column}"
    assert (text in problem.text, problem.is_grave) == (True, is_grave)
    assert "secret" not in problem.text


@pytest.mark.parametrize(
    ("path", "column", "text"),
    [
        ("/a b", 4, "stands alone in its line"),
        ("/a-:b", 1, "not a whole segment"),
        ("https://my.example/*", 1, "a site of its own"),
        ("https://:project.example/*", 1, "matched as a whole"),
        ("ftp://a/b", 1, "begins with a slash"),
        ("/" + "[" * (GLOB_CHARACTERS_MAX // 3), 1, "as a glob"),
    ],
)
def test_a_path_that_is_refused_takes_its_lines_with_it(path: str, column: int, text: str) -> None:
    found = read_headers(f"/x\n X: 1\n{path}\n Y: 2\n/z\n Z: 3".encode())
    assert [block.patterns[0].text for block in found.blocks] == ["/x", "/z"]
    (problem,) = found.problems
    assert (str(problem.where), text in problem.text) == (f"_headers:3:{column}", True)


def test_what_no_rule_may_touch_is_told_with_the_reason() -> None:
    asked: list[tuple[str, str, str]] = []

    def check(verb: str, name: str, value: str) -> None:
        asked.append((verb, name, value))
        if name.lower() == "date":
            raise UsageError("it is the server's")

    found = read_headers(b"/a\n X: 1\n Date: 2\n Vary: V\n ! date\n ! Y", check=check)
    assert asked[:3] == [("set", "X", "1"), ("set", "Date", "2"), ("add", "Vary", "V")]
    assert asked[3:] == [("remove", "date", ""), ("remove", "Y", "")]
    assert (found.blocks[0].set, found.blocks[0].remove) == (((b"X", b"1"),), (b"y",))
    assert [str(problem) for problem in found.problems] == [f"_headers:{line}:2: it is the server's" for line in (3, 5)]


def test_a_field_before_the_first_path_and_a_path_without_fields_are_told() -> None:
    found = read_headers(b"X: 1\n/a\n/b # why\n X: 2")
    assert [block.patterns[0].text for block in found.blocks] == ["/b"]
    assert [(problem.where.line, problem.text.split(";")[0]) for problem in found.problems] == [
        (1, "'X: 1' stands before the first path: one begins with a slash, and its headers stand below it"),
        (2, "a path without headers"),
    ]


def test_there_is_room_for_a_number_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers_file, "RULES_MAX", 1)
    found = read_headers(b"/a\n X: 1\n/b\n X: 2\n/c\n X: 3")
    assert ([block.patterns[0].text for block in found.blocks], len(found.problems)) == (["/a"], 1)


def test_a_file_takes_a_time_that_grows_with_its_lines_and_not_faster(growth: Growth) -> None:
    def read(number: int) -> None:
        data = b"".join(b"/x%d/*\n A: b\n C: d\n" % n for n in range(number))
        assert len(read_headers(data, dialect=CLOUDFLARE).blocks) == number + 1

    assert growth(read, 200) < 8


PATTERNS = [
    "/",
    "/a",
    "/a/b",
    "/:x",
    "/a/:x",
    "/:x/b",
    "/*",
    "/a/*",
    "/:x/*",
    "/*.jpg",
    "/a/*.b",
    "/x*",
    "/a/*/b",
    "/a/x*y",
    "/%5Bx%5D",
    "/a%3F",
    "/%2A",
    "/caf%C3%A9",
    "/a.css",
]
FILES = [
    "/index.html",
    "/a",
    "/a.html",
    "/a/index.html",
    "/a/b",
    "/a/b.html",
    "/a/b/index.html",
    "/b",
    "/b/b",
    "/x/y.jpg",
    "/z.jpg",
    "/a/c/d.b",
    "/a/.b",
    "/xa",
    "/xb/c",
    "/a/c/b",
    "/a/b/b.html",
    "/a/xzy",
    "/a/xy",
    "/[x]",
    "/x",
    "/a?",
    "/ab",
    "/*",
    "/café",
    "/café/index.html",
    "/a.css",
    "/a/c.css/index.html",
]


@pytest.mark.parametrize("text", PATTERNS)
def test_globs_are_of_the_files_that_answer_what_a_pattern_matches(text: str) -> None:
    pattern = parse_pattern(text)
    matched = [file for file in FILES if any(parse_glob(glob).fullmatch(file) for glob in globs_of(pattern))]
    targets = {file: (file, file.removesuffix("index.html"), file.removesuffix(".html")) for file in FILES}
    answers = [
        file for file in FILES if any(pattern.match(encode_path(path.encode())) is not None for path in targets[file])
    ]
    assert matched == answers
    assert matched


def test_index_files_have_the_names_that_a_site_gives_them() -> None:
    assert globs_of(parse_pattern("/"), ("index.htm", "home")) == ("/index.htm", "/home")
    (block,) = read_headers(b"/a\n X: 1").blocks
    assert block.globs(("i",)) == ("/a", "/a.html", "/a/i")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("X-Frame-Options DENY", "; write X-Frame-Options: DENY"),
        ("X-Frame-Options = DENY", "; write X-Frame-Options: DENY"),
        ('"X-Frame-Options": "DENY",', "; write X-Frame-Options: DENY"),
        ("add_header X-Frame-Options DENY;", "; write X-Frame-Options: DENY"),
        ('Header set X-Frame-Options "DENY"', "; write X-Frame-Options: DENY"),
        ("-X-Frame-Options", "; write ! X-Frame-Options"),
        ("! X-Frame-Options: DENY", "a removal has no value: ! X-Frame-Options"),
        ("!X-Frame-Options: DENY", "a removal has no value: ! X-Frame-Options"),
        ("assets/*", "; a path begins with a slash: /assets/*"),
        ("*", "; a path begins with a slash: /*"),
        ("// a comment", "// begins no comment; a line that begins with # is one"),
        ("Content-Type: text", "'text' is not a type"),
    ],
)
def test_a_slip_in_a_line_is_told_with_what_is_meant_and_the_others_hold(line: str, told: str) -> None:
    blocks, (problem,) = read_headers(f"/*\n  {line}\n  X-A: 1\n".encode())
    assert told in problem.text
    assert (problem.where.line, problem.is_grave) == (2, False)
    assert [block.set for block in blocks] == [((b"X-A", b"1"),)]


def test_a_comment_behind_a_value_is_told_as_part_of_it_and_the_value_holds() -> None:
    blocks, (problem,) = read_headers(b"/*\n  X-A: 1 # one\n  X-B: a#b\n")
    assert str(problem) == "_headers:2:7: X-A: '1 # one' is the value: a comment stands in a line of its own"
    assert blocks[0].set == ((b"X-A", b"1 # one"), (b"X-B", b"a#b"))
