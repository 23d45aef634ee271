"""zcserve.rules.redirects_file: `_redirects` as Netlify and Cloudflare Pages document it."""

from __future__ import annotations

import pytest

from tests.support.waiting import Growth
from zcserve.http import canonical_path
from zcserve.rules import redirects_file
from zcserve.rules.lines import CLOUDFLARE, LINE_CHARACTERS_MAX, NETLIFY, Dialect
from zcserve.rules.redirects import Redirects
from zcserve.rules.redirects_file import read_redirects
from zcserve.rules.trie import SHAPES_MAX

# From the pages of both hosts.
NETLIFY_EXAMPLE = b"""
# Redirects from what the browser requests to what we serve
/home              /
/blog/my-post.php  /blog/my-post # a comment
/news              /blog
/cuties            https://www.pets.example
/authors/c%C3%A9line   /authors/about-c%C3%A9line
/my-redirect       /              302
/pass-through      /index.html    200
/ecommerce         /store-closed  404
/articles/*        /posts/:splat  301!
/news/:month/:date/:year/:slug  /blog/:year/:month/:date/:slug
/store id=:id      /blog/:id  301
/path/* param1=:value1 param2=:value2 /otherpath/:value1/:value2/:splat 301
http://blog.site.example/* https://www.site.example/blog/:splat 301!
/en/*              /en/404.html 404
/*                 /index.html 200
"""
CLOUDFLARE_EXAMPLE = b"""/home301 / 301
/home302 / 302
/querystrings /?query=string 301
/twitch https://twitch.example
/trailing /trailing/ 301
/notrailing/ /nottrailing 301
/page/ /page2/#fragment 301
/blog/* https://blog.my.domain/:splat
/products/:code/:name /products?code=:code&name=:name
/a /b 200
/b /c 200
/*.htm /:splat 303
"""


def told(data: bytes, dialect: Dialect, url: str) -> tuple[int, str, bool] | None:
    """Status, where it leads, and whether it holds over a file."""
    found = read_redirects(data, dialect=dialect)
    assert found.problems == ()
    host, slash, path = url.partition("/")
    path, _, query = (slash + path).partition("?")
    action = Redirects(found.rules).answer(canonical_path(path.encode()), query.encode(), host.encode())
    return None if action is None else (action.status, (action.location or action.key).decode(), action.rule.force)


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("/home", (301, "/", False)),
        ("/home/?a=1", (301, "/?a=1", False)),
        ("/blog/my-post.php", (301, "/blog/my-post", False)),
        ("/cuties", (301, "https://www.pets.example/", False)),
        ("/authors/c%c3%a9line", (301, "/authors/about-c%C3%A9line", False)),
        ("/my-redirect", (302, "/", False)),
        ("/pass-through", (200, "/index.html", False)),
        ("/ecommerce", (404, "/store-closed", False)),
        ("/articles/a/b", (301, "/posts/a/b", True)),
        ("/articles", (301, "/posts/", True)),
        ("/news/02/12/2004/my-story", (301, "/blog/2004/02/12/my-story", False)),
        ("/store?id=12", (301, "/blog/12", False)),
        ("/store", (200, "/index.html", False)),
        ("/path/x?param2=b&param1=a", (301, "/otherpath/a/b/x", False)),
        ("blog.site.example/x", (301, "https://www.site.example/blog/x", True)),
        ("/en/x", (404, "/en/404.html", False)),
        ("/any/thing", (200, "/index.html", False)),
    ],
)  # fmt: skip
def test_what_netlify_documents(url: str, answer: tuple[int, str, bool]) -> None:
    assert told(NETLIFY_EXAMPLE, NETLIFY, url) == answer


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("/home301", (301, "/", True)),
        ("/home302", (302, "/", True)),
        ("/querystrings?a=1", (301, "/?query=string", True)),
        ("/twitch", (302, "https://twitch.example/", True)),
        ("/trailing", (301, "/trailing/", True)),
        ("/trailing/", None),
        ("/notrailing/", (301, "/nottrailing", True)),
        ("/page/", (301, "/page2/#fragment", True)),
        ("/blog/a?b", (302, "https://blog.my.domain/a?b", True)),
        ("/products/x/y%26z", (302, "/products?code=x&name=y%26z", True)),
        ("/a", (200, "/b", True)),
        ("/b", (200, "/c", True)),
        ("/docs/a.htm", (303, "/docs/a", True)),
    ],
)
def test_what_cloudflare_documents(url: str, answer: tuple[int, str, bool] | None) -> None:
    assert told(CLOUDFLARE_EXAMPLE, CLOUDFLARE, url) == answer


@pytest.mark.parametrize(
    ("line", "key", "answer"),
    [
        ("/admin/* 200", "/admin/x", (200, "/admin/x", False)),
        ("https://a.example/x/* 200!", "a.example/x/y", (200, "/x/y", True)),
        ("/gone/* 410", "/gone/x", (410, "", False)),
        ("/secret/* 404!", "/secret/x", (404, "", True)),
    ],
)
def test_a_rule_without_a_target_is_for_what_is_asked_for(line: str, key: str, answer: tuple[int, str, bool]) -> None:
    assert told(line.encode(), NETLIFY, key) == answer


@pytest.mark.parametrize(
    ("line", "column", "text", "is_grave"),
    [
        ("/a", 1, "leads nowhere", False),
        ("  /a  # /b", 3, "leads nowhere", False),
        ("/a b", 4, "'b' leads nowhere", False),
        ("/a id=1", 4, "'id=1' leads nowhere", False),
        ("a /b", 1, "begins with a slash", False),
        ("/:a-:b /b", 1, "not a whole segment", False),
        ("/a  //evil.example", 5, "begins with two slashes", False),
        ("/a/* /b/:slug", 6, "no placeholder :slug", False),
        ("/a /b 3O1", 7, "'3O1' is no status", False),
        ("/a /b 305", 7, "305 is no status of a rule", False),
        ("/a /b 402", 7, "402 is no status of a rule", True),
        ("/a /b 401!", 7, "401 is no status of a rule", True),
        ("/a /b 301 302", 11, "'302' stands behind the status", False),
        ("/a 301 /b", 8, "'/b' stands behind the status", False),
        ("/secret-:x/* 404!", 1, "not a whole segment", True),
        ("/a id /b", 4, "'id' is no parameter", False),
        ("/a id=1 id=2 /b", 9, "'id=2' is no parameter", False),
        ("/a id=:splat /b", 4, ":splat is taken already", False),
        ("/api/* https://api.example/:splat 200", 8, "fetch from another server", False),
        ("/a /b 301 Country=au,nz", 11, "where a client is", False),
        ("/a /b Language=de", 7, "Accept-Language", False),
        ("/a /b 302 Cookie=preview", 11, "cookies", False),
        ("/a /b 200 Signed=KEY", 11, "signed", False),
        ("/a /b 200! Signed=KEY", 12, "signed", True),
        ("/admin/* /admin/:splat 200! Role=admin", 29, "open to all", True),
        ("/admin/* 200! role=admin", 15, "open to all", True),
        ("/a /b 301 Contry=us", 11, "did you mean Country?", True),
        ("/s.txt page.html 404!", 18, "leads nowhere", True),
        ("/s.txt :x 404!", 11, "leads nowhere", True),
        ("/s.txt 404 !", 12, "'!' stands behind the status", True),
        ("/s.txt 404! extra", 13, "'extra' stands behind the status", True),
        ("/s.txt 404!x", 8, "leads nowhere", True),
        ("/s.txt /p 4O4!", 11, "'4O4!' is no status", True),
        ("/s.txt /p 4O4", 11, "'4O4' is no status", True),
        ("/s.txt /p 404\uff01", 11, "is no status", True),
        ("/s.txt404!", 1, "leads nowhere", True),
        ("s.txt 404!", 1, "begins with a slash", True),
        ("/a x=1 x=2 /b 404!", 8, "'x=2' is no parameter", True),
        ("/admin/* /p 2O0 Role=admin", 13, "'2O0' is no status", True),
        ("/admin/* /p 2O0 Rolle=admin", 13, "'2O0' is no status", True),
        ("/admin/* /p 200 Country=de Role=admin", 17, "where a client is", True),
        ("/a /b 3O1 # 404! Role=x", 7, "'3O1' is no status", False),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_the_other_lines_hold(
    line: str, column: int, text: str, is_grave: bool
) -> None:
    found = read_redirects(f"/x /y\n{line}\n/z /y".encode(), "www/_redirects")
    assert [rule.pattern.text for rule in found.rules] == ["/x", "/z"]
    (problem,) = found.problems
    assert (str(problem.where), problem.is_grave) == (f"www/_redirects:2:{column}", is_grave)
    assert text in problem.text


def test_a_rule_knows_its_line() -> None:
    found = read_redirects(b"\n  /x /y\n/z /y")
    assert [str(rule.where) for rule in found.rules] == ["_redirects:2:3", "_redirects:3:1"]


def test_there_is_room_for_a_number_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirects_file, "RULES_MAX", 2)
    found = read_redirects(b"/a /b\n/c /d\n/e /f\n/g /h")
    assert len(found.rules) == 2
    assert [(str(problem.where), problem.is_grave) for problem in found.problems] == [("_redirects:3:1", True)]


def test_a_rule_of_one_more_shape_is_left_out() -> None:
    data = "".join(f"/{'a' * number}* /b\n" for number in range(SHAPES_MAX + 3)).encode()
    found = read_redirects(data)
    assert len(found.rules) == SHAPES_MAX
    assert [problem.where.line for problem in found.problems] == [SHAPES_MAX + number for number in (1, 2, 3)]
    assert len(Redirects(found.rules)) == SHAPES_MAX


def test_a_file_takes_a_time_that_grows_with_its_lines_and_not_faster(growth: Growth) -> None:
    def read(number: int) -> None:
        lines = (b"/old/%d/* /new/%d/:splat 302\n" % (n, n) for n in range(number))
        assert len(Redirects(read_redirects(b"".join(lines)).rules)) == number

    assert growth(read, 250) < 8


@pytest.mark.parametrize(("rule", "is_grave"), [(b"/s.txt 404!", True), (b"/s /p 301", False), (b"# 404!", False)])
def test_a_line_that_is_no_utf_8_is_grave_where_it_may_hide_files(rule: bytes, is_grave: bool) -> None:
    (problem,) = read_redirects(rule + b" \xff").problems
    assert problem.is_grave == is_grave


@pytest.mark.parametrize(("status", "is_grave"), [("404!", True), ("301", False)])
def test_a_line_that_is_too_long_is_grave_where_it_may_hide_files(status: str, is_grave: bool) -> None:
    (problem,) = read_redirects(f"/{'a' * LINE_CHARACTERS_MAX} {status}".encode()).problems
    assert problem.is_grave == is_grave


@pytest.mark.parametrize(
    ("line", "column", "told"),
    [
        ("// a comment", 1, "'//' begins no comment; a line that begins with # is one"),
        ("; a comment", 1, "';' begins no comment"),
        ("old /new", 1, "'old' is no path: a line begins with a slash, or with https:// and a host: /from /to 301"),
        ("Redirect 301 /old /new", 1, "'Redirect' is no path"),
        ("RewriteRule ^/old$ /new", 1, "'RewriteRule' is no path"),
        ("[[redirects]]", 1, "'[[redirects]]' is no path"),
        ("^/old/(.*)$ /new", 1, "'^/old/(.*)$' is no path"),
        ('"/old" "/new" 301', 1, '"/old": paths stand without quotes'),
        ("/old '/new'", 6, "'/new': paths stand without quotes"),
        ("/old -> /new", 6, "'->': nothing stands between a path and where it leads: /from /to 301"),
        ("/old => /new", 6, "'=>': nothing stands between"),
        ("/a b /c", 4, "'b' is no parameter; accepted: id=:id or id=1, each once; a blank in a path is written %20"),
        (
            "/old /new 301 !",
            15,
            "'!' stands behind the status, where conditions would; force is written in one word: 301!",
        ),
        (
            "/old /new id=1",
            11,
            "'id=1' is no condition; parameters of the query stand before the target: /from id=1 /to",
        ),
        ("/old /new 301 Contry=us", 15, "'Contry=us' is no condition; did you mean Country?"),
    ],
)
def test_a_slip_is_told_at_its_word_with_what_is_meant(line: str, column: int, told: str) -> None:
    rules, (problem,) = read_redirects(f"{line}\n/a /b\n".encode())
    assert told in problem.text
    assert (problem.where.line, problem.where.column) == (1, column)
    assert [rule.pattern.text for rule in rules] == ["/a"]
