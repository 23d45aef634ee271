"""zcserve.rules.redirects: which rule answers a path, and with what."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from zcserve.http import canonical_path, host_name
from zcserve.rules.redirects import CONDITIONS_MAX, Queries, Redirects, parse_redirect
from zcserve.rules.trie import SHAPES_MAX
from zcserve.rules.where import RuleError, Where

HERE = Where("zcserve.toml", 1)


def of(*rules: tuple[Any, ...]) -> Redirects:
    """Rules as (from, to, status=301, query={}, force=False)."""
    return Redirects(
        parse_redirect(rule[0], rule[1], **dict(zip(("status", "query", "force"), rule[2:], strict=False)), where=HERE)
        for rule in rules
    )


def told(rules: Redirects, target: str, host: str = "") -> tuple[int, str] | None:
    """The status and where it leads."""
    path, _, query = target.partition("?")
    action = rules.answer(canonical_path(path.encode()), query.encode(), host_name(host.encode()))
    if action is None:
        return None
    return action.status, (action.location or action.key + b"?" * bool(action.query) + action.query).decode()


ORDER = of(
    ("/home", "/", 302),
    ("/blog/*", "/news/:splat"),
    ("/blog/2024", "/never"),
    ("/shop", "/shop-1", 302, {"id": "1"}),
    ("/shop", "/item/:id", 301, {"id": ":id", "kind": "x"}),
    ("/shop", "/shop/:id?all", 301, {"id": ":id"}),
    ("/app/*", "/app/index.html", 200),
    ("/run/:name", "/csp?:name&x", 200),
    ("/gone/*", "", 410),
    ("/de/*", "/de/404.html", 404),
    ("/slash", "/slash/"),
    ("/no-slash/", "/no-slash"),
    ("/same/:a/:b", "/same/:b/:a"),
    ("/x/*", "https://x.example/:splat", 308),
    ("/drop", "/dropped?", 307),
    ("/*.htm", "/:splat.html", 301),
    ("/slash/", "/after", 303),
)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/home", (302, "/")),
        ("/home/", (302, "/")),
        ("/home?a=1&b", (302, "/?a=1&b")),
        ("/blog", (301, "/news/")),
        ("/blog/2024", (301, "/news/2024")),
        ("/blog/2024/", (301, "/news/2024/")),
        ("/blog/%2e%2e/home", (302, "/")),
        ("/blog//a%2F%2Fevil.example", (301, "/news/a/evil.example")),
        ("/shop", None),
        ("/shop?id=1", (302, "/shop-1")),
        ("/shop?id=2", (301, "/shop/2?all")),
        ("/shop?id=2&utm=a", (301, "/shop/2?all")),
        ("/shop?kind=x&id=2", (301, "/item/2")),
        ("/shop?kind=y&id=a+b", (301, "/shop/a%20b?all")),
        ("/shop?id=2&id=1", (301, "/shop/2?all")),
        ("/shop?%69%64=%31", (302, "/shop-1")),
        ("/shop?id=", None),
        ("/shop?id=..", None),
        ("/shop?id=a/b", None),
        ("/shop?id=a%2Fb", None),
        ("/shop?id=%00", None),
        ("/shop?id=%0D%0AX:%20y", (301, "/shop/%0D%0AX:%20y?all")),
        ("/app/a/b?c", (200, "/app/index.html?c")),
        ("/run/hello?y", (200, "/csp?hello&x")),
        ("/gone/a", (410, "")),
        ("/de/a", (404, "/de/404.html")),
        ("/slash", (301, "/slash/")),
        ("/slash/", (303, "/after")),
        ("/no-slash/", (301, "/no-slash")),
        ("/no-slash", None),
        ("/same/a/b", (301, "/same/b/a")),
        ("/same/a/a", None),
        ("/x/a?b=c", (308, "https://x.example/a?b=c")),
        ("/drop?x", (307, "/dropped")),
        ("/docs/a.htm", (301, "/docs/a.html")),
        ("/", None),
    ],
)
def test_the_first_rule_that_matches_answers(target: str, answer: tuple[int, str] | None) -> None:
    assert told(ORDER, target) == answer


def test_a_redirect_to_where_the_request_is_does_not_match() -> None:
    rules = of(("/*", "/:splat", 301), ("/a", "/a?x=1", 302), ("/a", "/b", 307))
    assert told(rules, "/a") == (302, "/a?x=1")
    assert told(rules, "/a?x=1") == (307, "/b?x=1")
    assert told(of(("/*", "/a#top")), "/a?q") is None
    assert told(of(("/*", "/a"), ("/a", "/b?\u00fc")), "/a?\u00fc|") == (301, "/b?%C3%BC")
    assert told(of(("/a", "/a?\u00fc")), "/a?\u00fc") is None


def test_a_redirect_to_the_host_of_the_request_does_not_match_either() -> None:
    rules = of(("/*", "https://www.site.example/:splat"))
    assert told(rules, "/a", "site.example") == (301, "https://www.site.example/a")
    assert told(rules, "/a", "WWW.site.example:443") is None
    secure = of(("http://site.example/*", "https://site.example/:splat"))
    assert told(secure, "/a", "site.example") is None


def test_a_rule_for_one_host_is_for_no_other() -> None:
    rules = of(("https://old.example/*", "https://new.example/:splat"), ("/a", "/b"))
    assert told(rules, "/a", "OLD.example:8080") == (301, "https://new.example/a")
    assert told(rules, "/a", "new.example") == told(rules, "/a") == (301, "/b")
    assert rules.hosts == {b"old.example"}
    assert rules.reads_host(frozenset())


@pytest.mark.parametrize(
    "spellings", [("b.test", "b.test.", "B.test.:80"), ("[2001:db8::1]", "[2001:DB8:0:0:0:0:0:1]:80")]
)
def test_all_spellings_of_a_host_are_one_in_patterns_targets_and_requests(spellings: tuple[str, ...]) -> None:
    for written in spellings:
        rules = of((f"https://{written}/a", "/b"), ("/here", f"https://{written}/here"))
        for asked in spellings:
            assert told(rules, "/a", asked) == (301, "/b")
            assert told(rules, "/here", asked) is None, "it is there already"


def test_it_tells_whether_the_host_matters() -> None:
    rules = of(("/a", "https://new.example/a"))
    assert rules.hosts == frozenset()
    assert rules.reads_host(frozenset({b"new.example", b"old.example"}))
    assert not rules.reads_host(frozenset({b"old.example"}))


def test_a_rule_tells_whether_it_holds_over_a_file() -> None:
    rules = of(("/a", "/b", 302, {}, True), ("/a/*", "/c"))
    forced, plain = rules.answer(b"/a"), rules.answer(b"/a/b")
    assert forced is not None
    assert forced.rule.force
    assert plain is not None
    assert not plain.rule.force
    assert rules.has_forced
    assert not of(("/a", "/b")).has_forced


def test_it_tells_which_files_a_rule_with_force_may_hide() -> None:
    rules = of(("/a/*", "/b", 302, {"c": "1"}, True), ("/a/b", "/c", 302), ("/d", "/e"))
    assert [key for key in (b"/a", b"/a/b", b"/d", b"/e") if rules.overrides(key)] == [b"/a", b"/a/b"]
    assert not of(("/d", "/e")).overrides(b"/d")


def test_two_that_answer_the_same_have_one_digest() -> None:
    rule = ("/a/:b", "/c/:b", 302, {"d": ":e"}, True)
    assert of(rule).digest == of(rule).digest
    others = [("/a/:b", "/c", 302, {"d": ":e"}, True), (*rule[:2], 301, *rule[3:]), (*rule[:3], {}, True), rule[:4]]
    assert of(rule).digest not in [of(other).digest for other in others]
    assert of(rule, ("/x", "/y")).digest != of(rule).digest


@pytest.mark.parametrize(
    ("rule", "queries"),
    [
        (("/a", "/b"), Queries.PLAIN),
        (("/a", "/b", 308), Queries.PLAIN),
        (("/*", "/b/:splat", 302), Queries.PLAIN),
        (("/a", "/b?"), Queries.ANY),
        (("/a", "/b?c=d", 307), Queries.ANY),
        (("/a", "/b#c"), Queries.NONE),
        (("/a", "/b", 302, {"c": "1"}), Queries.NONE),
        (("/a", "/b", 200), Queries.ANY),
        (("/a", "", 410), Queries.ANY),
        (("/a", "/a"), Queries.ANY),  # it never holds
        (("/a", "/a?x=1"), Queries.NONE),  # it holds but for x=1
        (("/a", "/a?"), Queries.NONE),  # it holds where there is a query
        (("/a", "https://b.test/a"), None),  # of this host it does not hold
        (("/a", "https://b.test/c"), Queries.PLAIN),
        (("https://b.test/c", "/d"), None),
        (("/c", "/d", 302, {"e": "1"}), Queries.ANY),
    ],
)
def test_it_tells_for_which_queries_an_answer_holds(rule: tuple[Any, ...], queries: Queries | None) -> None:
    assert of(rule).queries(b"/a") is queries


def test_it_tells_which_paths_it_may_answer() -> None:
    rules = of(("/a/*", "/x", 302, {"b": ":c"}), ("/d", "/e"), ("/", "/e"))
    assert rules.first_segments == frozenset({b"a", b"d", b""})
    assert of(("/:x", "/e")).first_segments is of(("/*", "/e")).first_segments is None
    assert of(("/x*", "/e")).first_segments is None
    assert (len(rules), [rule.pattern.text for rule in rules]) == (3, ["/a/*", "/d", "/"])


@pytest.mark.parametrize(
    ("rule", "part", "problem"),
    [
        (("a", "/b"), "from", "begins with a slash"),
        (("/a", "b"), "to", "leads nowhere"),
        (("/a", "/b", 300), "status", "300 is no status of a rule; accepted: 200, 301, 302"),
        (("/a", ""), "to", "only 403, 404, 410 and 451 do without"),
        (("/a/*", "https://api.example/:splat", 200), "to", "would fetch from another server"),
        (("/a", "https://api.example/404", 404), "to", "lies in the site"),
        (("/a", "/b#c", 200), "to", "a fragment is the browser's"),
        (("/:id", "/b", 301, {"id": ":id"}), "query", ":id is taken already"),
        (("/a", "/b", 301, {"id": ":splat"}), "query", ":splat is taken already"),
        (("/a", "/:x", 301, {"a": ":x", "b": ":x"}), "query", ":x is taken already"),
        (("/a", "/b", 301, {"a": "1", "%61": "2"}), "query", "stands there once"),
        (("/a", "/b", 301, {"": "1"}), "query", "has a name"),
        (("/a", "/b", 301, {"a": "\ud800"}), "query", "no character"),
        (("/a", "/b", 301, {f"a{number}": "1" for number in range(CONDITIONS_MAX + 1)}), "query", "at most"),
    ],
)
def test_what_is_no_rule_is_refused_and_its_part_named(rule: tuple[Any, ...], part: str, problem: str) -> None:
    with pytest.raises(RuleError, match=problem) as caught:
        of(rule)
    assert caught.value.part == part


def test_rules_of_too_many_shapes_are_refused_with_their_place() -> None:
    with pytest.raises(RuleError, match=f"zcserve.toml:1: .* than the {SHAPES_MAX} that"):
        of(*(("/" + "a" * number + "*", "/x") for number in range(SHAPES_MAX + 2)))


def seconds(rules: Redirects, path: bytes, query: bytes) -> float:
    """The least that an answer takes."""
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        rules.answer(path, query)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.parametrize(
    ("form", "path", "query"),
    [
        (("/old/page-{}", "/new/{}"), "/old/page-77", ""),
        (("/s{}/*", "/t{}/:splat"), "/s77/a/b", "a=1"),
        (("/:lang/s{}/:x", "/t{}/:x/:lang"), "/de/s77/a", ""),
        (("/p.php", "/t{}", 301, "{}"), "/p.php", "id=77"),
        (("/a", "/b"), "/a", ""),
    ],
)
def test_an_answer_takes_no_longer_among_thousands(form: tuple[Any, ...], path: str, query: str) -> None:
    def rule(number: int) -> tuple[Any, ...]:
        source, target, *rest = (part.format(number) if isinstance(part, str) else part for part in form)
        return (source, target, rest[0], {"id": rest[1]}) if rest else (source, target)

    few, many = of(rule(77)), of(*(rule(number) for number in range(1500)))
    target = path + "?" * bool(query) + query
    assert told(few, target) == told(many, target) is not None
    assert seconds(many, path.encode(), query.encode()) < 10 * seconds(few, path.encode(), query.encode()) + 2e-5


def test_a_rule_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        rules = of(*((f"/old/2019/post-{number}", f"/new/posts/post-{number}") for number in range(500)))
        assert tracemalloc.get_traced_memory()[0] / len(rules) < 2500  # 970 of 10,000
    finally:
        tracemalloc.stop()


def test_only_parameters_that_rules_of_the_path_want_are_looked_at() -> None:
    rules = of(("/a", "/b/:x", 301, {"id": ":x"}), ("/*", "/c/:y", 301, {"\u00fc": ":y", "k": "1"}))
    other = "&".join(["%61=%41"] * 1000)
    assert told(rules, f"/a?{other}&%69d=%33+4&id=5") == (301, "/b/3%204")
    assert told(rules, f"/z?%C3%BC=q&{other}&k=1") == (301, "/c/q")
    assert told(rules, f"/a?{other}") is None
