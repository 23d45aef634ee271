"""zcserve.rules.reading: `[[rules]]` as they are written -> header rules, and where what is wrong in them stands."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from zcserve.config.tables import Source, tables_of
from zcserve.errors import UsageError
from zcserve.rules.reading import GLOBS_MAX, disposition, header_rules, preload_link, redirects
from zcserve.rules.rule import HeaderRule
from zcserve.rules.tagged import TAGS_MAX


def read(text: str) -> tuple[HeaderRule, ...]:
    return header_rules(tables_of(tomllib.loads(text)["rules"], ("rules",), Source("site.toml", text)))


def rule(**words: Any) -> HeaderRule:
    (made,) = header_rules(tables_of([{"path": "/a"} | words], ("rules",)))
    return made


def test_a_rule_is_what_is_written() -> None:
    (made,) = read(
        '[[rules]]\npath = ["/a/**", "*.css"]\nset = { X-A = "b" }\nremove = ["X-Frame-Options"]\n'
        'add = { Link = ["<a>", "<b>"] }\nimmutable = true\ncharset = "UTF-8"\n'
    )
    assert made.globs == ("/a/**", "*.css")
    assert made.set == ((b"X-A", b"b"),)
    assert made.remove == (b"x-frame-options",)
    assert made.add == ((b"Link", b"<a>"), (b"Link", b"<b>"))
    assert (made.immutable, made.charset) == (True, "UTF-8")
    assert made.written is not None
    assert made.written.where("set", "X-A") == "site.toml:3:9: rules[0].set.X-A"


def test_a_type_is_a_word_of_its_own_or_a_field_that_is_set() -> None:
    assert rule(type="text/plain").content_type == "text/plain"
    assert rule(set={"content-type": "text/x-a; charset=latin1"}).content_type == "text/x-a; charset=latin1"
    assert rule(set={"Content-Type": "text/plain"}).set == ()


def test_a_download_has_its_own_name_or_another() -> None:
    assert rule(download=True).set == ((b"Content-Disposition", b"attachment"),)
    assert disposition("a b.zip") == b'attachment; filename="a b.zip"'
    assert disposition("größe.zip") == b"attachment; filename=\"gr__e.zip\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.zip"


@pytest.mark.parametrize("value", ["", "a/b", "..", 'a"b', "a\\b", "a\r\nb", "x" * 201, False, 5])
def test_what_is_no_file_name_nothing_is_saved_by(value: object) -> None:
    with pytest.raises(UsageError, match="is no file name"):
        disposition(value)


@pytest.mark.parametrize(
    ("target", "link"),
    [
        ("/a.css", b"</a.css>; rel=preload; as=style"),
        ("/a.js?v=1", b"</a.js?v=1>; rel=preload; as=script"),
        ("/a.woff2", b"</a.woff2>; rel=preload; as=font; crossorigin"),
        ("https://cdn.example/a.png", b"<https://cdn.example/a.png>; rel=preload; as=image"),
    ],
)
def test_what_is_preloaded_says_as_what(target: str, link: bytes) -> None:
    assert preload_link(target) == link
    assert rule(preload=[target], add={"X-A": "b"}).add == ((b"X-A", b"b"), (b"Link", link))


@pytest.mark.parametrize("target", ["/a.zip", "/a>b.css", "/a b.css", "/é.css", 'x"', "", 5])
def test_what_browsers_do_not_preload_is_refused(target: object) -> None:
    with pytest.raises(UsageError, match="accepted: paths such as"):
        preload_link(target)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("headers = { X-A = 'b' }", "site.toml:2:1: rules[0].headers: unknown word 'headers'; write set = { NAME = "),
        ("path = '/a'\nMax-Age = 5", "site.toml:3:1: rules[0].Max-Age: unknown word 'Max-Age'; write set = { Cache"),
        ("pth = '/a'", "site.toml:2:1: rules[0].pth: unknown word 'pth'; the nearest known is path"),
        ("set = { X-A = 'b' }", "site.toml:1:1: rules[0]: a rule without a path"),
        ("path = '/a'", "site.toml:1:1: rules[0]: a rule that does nothing"),
        ("path = []\nset = {}", "site.toml:2:1: rules[0].path: 0 patterns"),
        ("path = ['/a', '']\nset = {}", "site.toml:2:15: rules[0].path[1]: '' is not a pattern"),
        ("path = '/[z-a]'\nset = {}", "site.toml:2:1: rules[0].path: '/[z-a]' is not a pattern"),
        ("path = 5\nset = {}", "site.toml:2:1: rules[0].path: 5 is no list of texts"),
        ("path = '/a'\nset = { Content-Length = '5' }", "site.toml:3:9: rules[0].set.Content-Length: 'Content-Length' "
         "cannot be set by a rule: it says how a message is framed"),
        ("path = '/a'\nset = { 'X A' = '5' }", "site.toml:3:9: rules[0].set.X A: 'X A' is not the name of a field"),
        ("path = '/a'\nset = { X-A = \"a\\r\\nb\" }", "site.toml:3:9: rules[0].set.X-A: 'a\\r\\nb' cannot be"),
        ("path = '/a'\nadd = { X-A = ['a', 5] }", "site.toml:3:21: rules[0].add.X-A[1]: 5 is an integer"),
        ("path = '/a'\nset = { X-A = 'a', x-a = 'b' }", "site.toml:3:20: rules[0].set.x-a: the same field twice"),
        ("path = '/a'\nset = 'X-A: b'", "site.toml:3:1: rules[0].set: 'X-A: b' is no table"),
        ("path = '/a'\nremove = ['X-A', 'ETag']", "site.toml:3:18: rules[0].remove[1]: 'ETag' cannot be removed"),
        ("path = '/a'\nremove = [5]", "site.toml:3:1: rules[0].remove: [5] is no list of texts"),
        ("path = '/a'\ntype = 'text'", "site.toml:3:1: rules[0].type: 'text' is not a type"),
        ("path = '/a'\nset = { Content-Type = 'text' }", "site.toml:3:9: rules[0].set.Content-Type: 'text' is not a"),
        ("path = '/a'\ncharset = 'utf8x'", "site.toml:3:1: rules[0].charset: 'utf8x' is not a charset"),
        ("path = '/a'\nimmutable = 'yes'", "site.toml:3:1: rules[0].immutable: 'yes' is a string; accepted: true or"),
        ("path = '/a'\nlisting = 1", "site.toml:3:1: rules[0].listing: 1 is an integer; accepted: true or false"),
        ("path = '/a'\nlistings = true", "site.toml:3:1: rules[0].listings: unknown word 'listings'; the nearest "
         "known is listing"),
        ("path = '/a'\npreload = ['/a.css', '/b']", "site.toml:3:22: rules[0].preload[1]: '/b' cannot be preloaded"),
        (
            "path = '/a'\nset = { Access-Control-Allow-Origin = ['https://a', 'https://b'] }",
            "site.toml:1:1: rules[0]: Access-Control-Allow-Origin 2 times; accepted: one value, or cors",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_line_and_column(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read("[[rules]]\n" + text)
    assert str(error.value).startswith(message)


def test_a_rule_has_so_many_globs_and_bytes_at_most() -> None:
    assert len(rule(path=["/a"] * GLOBS_MAX, set={"X-A": "b"}).globs) == GLOBS_MAX
    with pytest.raises(UsageError, match="101 patterns"):
        rule(path=["/a"] * (GLOBS_MAX + 1), set={"X-A": "b"})
    with pytest.raises(UsageError, match=r"^rules\[0\]: \d+ bytes of fields are too many"):
        rule(set={"X-A": ["x" * 4000] * 3})


def lead(text: str) -> Any:
    return redirects(tables_of(tomllib.loads(text)["redirects"], ("redirects",), Source("site.toml", text)))


def test_a_redirect_is_what_is_written_and_knows_where() -> None:
    first, second = lead(
        '[[redirects]]\nfrom = "/a/:b"\nto = "/c/:b"\nstatus = 308\nforce = true\nquery = { x = ":y" }\n'
        '[[redirects]]\nfrom = "/gone"\nstatus = 410\n'
    )
    assert (first.status, first.force, str(first.where)) == (308, True, "site.toml:1:1")
    assert (second.status, second.target, second.where.line) == (410, None, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to = '/a'", "site.toml:1:1: redirects[0]: a redirect without a from"),
        ("source = '/a'", "site.toml:2:1: redirects[0].source: unknown word 'source'; write from"),
        ("from = '/a'\ncode = 301", "site.toml:3:1: redirects[0].code: unknown word 'code'; write status = 301"),
        ("frm = '/a'", "site.toml:2:1: redirects[0].frm: unknown word 'frm'; the nearest known is from"),
        ("from = '/a'\nto = '/:x'", "site.toml:3:1: redirects[0].to: "),
        ("from = 'a b'\nto = '/x'", "site.toml:2:1: redirects[0].from: "),
        ("from = '/a'\nto = '/x'\nstatus = 418", "site.toml:4:1: redirects[0].status: 418 is no status"),
        ("from = '/a'\nto = '/x'\nstatus = '301'", "site.toml:4:1: redirects[0].status: '301' is a string"),
        ("from = '/a'\nto = '/x'\nforce = 1", "site.toml:4:1: redirects[0].force: 1 is an integer"),
        ("from = '/a'\nto = '/x'\nquery = { a = 1 }", "site.toml:4:1: redirects[0].query: "),
        ("from = '/a'\nto = 5", "site.toml:3:1: redirects[0].to: 5 is an integer"),
    ],
)
def test_what_is_wrong_with_a_redirect_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        lead("[[redirects]]\n" + text)
    assert str(error.value).startswith(message)


def test_tags_are_one_or_a_list_and_a_priority_is_a_number() -> None:
    assert rule(tags="a").tags == ("a",)
    assert rule(tags=["a:b", "c"]).tags == ("a:b", "c")
    assert [rule(priority=number).priority for number in (-100, 0, 100)] == [-100, 0, 100]
    assert rule(tags=["a"]).priority is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tags = ['a', 'b c']", "site.toml:3:14: rules[0].tags[1]: 'b c' is not a tag"),
        ("tags = 5", "site.toml:3:1: rules[0].tags: 5 is no list of texts"),
        (f"tags = {[f't{number}' for number in range(TAGS_MAX + 1)]}", "site.toml:3:1: rules[0].tags: 33 tags"),
        ("priority = 101", "site.toml:3:1: rules[0].priority: 101 is no priority; accepted: a whole number, from -100"),
        ("priority = true", "site.toml:3:1: rules[0].priority: true is a boolean"),
    ],
)
def test_what_is_no_tag_and_no_priority_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read("[[rules]]\npath = '/a'\n" + text)
    assert str(error.value).startswith(message)
