"""zcserve.rules.compiled: what all rules of a root come to, compared with a plain reading of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from zcserve.config.globs import parse_glob
from zcserve.config.tables import tables_of
from zcserve.http import FieldLines
from zcserve.rules.compiled import KEPT_MAX, NO_FIELDS, NO_RULES, ONE_BY_ONE_MAX, HeadFields, Rules, owned_by
from zcserve.rules.cors import ALLOW_ORIGIN, Cors
from zcserve.rules.hashed import is_hashed
from zcserve.rules.preset import IMMUTABLE
from zcserve.rules.reading import redirects
from zcserve.rules.redirects import Queries
from zcserve.rules.rule import HeaderRule


def plain(rules: tuple[HeaderRule, ...], cache_control: str, path: str) -> HeadFields:
    """The fields of a file, by asking each rule in turn."""
    fields: list[tuple[bytes, bytes]] = [(b"X-Content-Type-Options", b"nosniff")]
    if cache_control:
        fields.append((b"Cache-Control", cache_control.encode()))
    content_type = charset = ""
    cors: Cors | None = None

    def drop(name: bytes) -> None:
        fields[:] = [field for field in fields if field[0].lower() != name.lower()]

    for rule in rules:
        if not any(parse_glob(glob).fullmatch(path) for glob in rule.globs):
            continue
        for name in rule.remove:
            drop(name)
        for name, _ in rule.set:
            drop(name)
        if ALLOW_ORIGIN in {name for name, _ in rule.add}:
            drop(ALLOW_ORIGIN)
        if b"access-control-allow-origin" in {*rule.remove, *(name.lower() for name, _ in (*rule.set, *rule.add))}:
            cors = None
        if rule.cors is not None:
            cors = rule.cors
            drop(b"Access-Control-Allow-Origin")
        fields.extend(rule.set)
        says_of_caching = {b"cache-control"} & {*rule.remove, *(name.lower() for name, _ in rule.set)}
        if rule.immutable and is_hashed(path.rpartition("/")[2]) and not says_of_caching:
            drop(b"Cache-Control")
            fields.append((b"Cache-Control", IMMUTABLE))
        fields.extend(rule.add)
        if rule.content_type:
            content_type, charset = rule.content_type, ""
        if rule.charset:
            charset = rule.charset
    sniffing = [value for name, value in fields if name.lower() == b"x-content-type-options"]
    if sniffing == [b"nosniff"]:
        drop(b"x-content-type-options")
    if cors is not None:
        drop(ALLOW_ORIGIN)
        fields.extend(cors.lines)
    return HeadFields(tuple(fields), content_type, charset, sniffing == [b"nosniff"], cors)


def lines(rules: Rules, key: bytes) -> FieldLines:
    return rules.fields_of(key).lines


def test_no_rules_say_nothing_and_cost_no_look_up() -> None:
    assert NO_RULES.fields_of(b"/a") is NO_FIELDS
    assert NO_RULES.fields_of_answer(b"/a") is NO_FIELDS
    assert NO_RULES.everywhere == ()
    assert not NO_RULES
    cached = Rules((), "no-cache")
    assert cached.fields_of(b"/a") is cached.fields_of(b"/b")
    assert cached.fields_of(b"/a").lines == ((b"Cache-Control", b"no-cache"),)
    assert cached.fields_of_answer(b"/a") is NO_FIELDS  # --cache-control is for files


def test_all_that_match_apply_in_order_and_a_later_one_wins() -> None:
    rules = Rules(
        (
            HeaderRule(("/**",), set=((b"X-A", b"1"), (b"X-B", b"1"))),
            HeaderRule(("/a/**",), set=((b"x-a", b"2"),), add=((b"X-B", b"2"),)),
            HeaderRule(("*.css",), remove=(b"x-b",)),
        )
    )
    assert lines(rules, b"/x") == ((b"X-A", b"1"), (b"X-B", b"1"))
    assert lines(rules, b"/a/x") == ((b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"2"))
    assert lines(rules, b"/a/x.css") == ((b"x-a", b"2"),)


def test_a_rule_replaces_the_cache_control_of_all_files() -> None:
    rules = Rules((HeaderRule(("/a",), set=((b"cache-control", b"no-store"),)),), "max-age=60")
    assert lines(rules, b"/a") == ((b"cache-control", b"no-store"),)
    assert lines(rules, b"/b") == ((b"Cache-Control", b"max-age=60"),)


def test_a_hashed_name_is_immutable_until_a_later_rule_says_otherwise() -> None:
    always = HeaderRule(("/**",), immutable=True)
    later = HeaderRule(("/b/**",), set=((b"Cache-Control", b"no-cache"),))
    rules = Rules((always, later), "max-age=60")
    assert lines(rules, b"/app.8e0d62a0.js") == ((b"Cache-Control", IMMUTABLE),)
    assert lines(rules, b"/app.js") == ((b"Cache-Control", b"max-age=60"),)
    assert lines(rules, b"/b/app.8e0d62a0.js") == ((b"Cache-Control", b"no-cache"),)
    assert rules.fields_of_answer(b"/app.8e0d62a0.js").lines == ()


def test_sniffing_is_forbidden_until_a_rule_says_otherwise() -> None:
    said = HeaderRule(("/a",), set=((b"x-content-type-options", b"nosniff"),))
    taken = HeaderRule(("/b",), remove=(b"x-content-type-options",))
    rules = Rules((said, taken))
    assert rules.fields_of(b"/a") == NO_FIELDS
    assert rules.fields_of(b"/b") == HeadFields(nosniff=False)
    assert rules.fields_of(b"/b").all_lines == ()
    assert rules.fields_of(b"/c").all_lines == ((b"X-Content-Type-Options", b"nosniff"),)


def test_the_last_rule_that_says_something_of_listings_decides() -> None:
    first, but = HeaderRule(("/**",), listing=True), HeaderRule(("/a/",), listing=False)
    rules = Rules((first, but, HeaderRule(("/**",), set=((b"X", b"1"),))))
    assert [rules.listing_rule(key) for key in (b"/", b"/b/", b"/%C3%A4/")] == [first] * 3
    assert [rules.listing_rule(key) for key in (b"/a/", b"/a/b/", b"/.well-known/")] == [None] * 3
    assert (rules.has_listings, Rules((but,)).has_listings, NO_RULES.has_listings) == (True, False, False)
    assert Rules((first,)).digest != Rules((HeaderRule(("/**",)),)).digest


def test_a_key_is_matched_decoded() -> None:
    rules = Rules((HeaderRule(("/ä b.html",), set=((b"X-A", b"1"),)),))
    assert lines(rules, b"/%C3%A4%20b.html") == ((b"X-A", b"1"),)
    assert lines(rules, b"/%FF") == ()


def test_what_has_the_same_fields_shares_one_object() -> None:
    rules = Rules((HeaderRule(("*.css",), set=((b"X-A", b"1"),)),))
    assert rules.fields_of(b"/a.css") is rules.fields_of(b"/b/c.css")


def test_what_is_kept_of_combinations_is_bounded() -> None:
    rules = Rules(tuple(HeaderRule((f"/{n}",), set=((b"X-A", b"%d" % n),)) for n in range(KEPT_MAX + 10)))
    for n in (*range(KEPT_MAX + 10), 0, 5):
        assert lines(rules, b"/%d" % n) == ((b"X-A", b"%d" % n),)


def test_what_belongs_to_no_path_has_what_is_said_of_every_path_and_not_of_content() -> None:
    rules = Rules(
        (
            HeaderRule(("/**",), set=((b"X-A", b"1"), (b"Cache-Control", b"max-age=9"), (b"Link", b"<a>"))),
            HeaderRule(("/a/**", "*"), set=((b"X-B", b"2"),)),
            HeaderRule(("/a/**",), set=((b"X-C", b"3"),)),
        )
    )
    assert rules.everywhere == ((b"X-A", b"1"), (b"X-B", b"2"))


def test_a_digest_tells_whether_rules_do_the_same() -> None:
    class Here:
        def where(self, *path: str | int) -> str:
            return "here"

    rule = HeaderRule(("/a",), set=((b"X-A", b"1"),))
    assert Rules((rule,)).digest == Rules((rule._replace(written=Here()),)).digest
    others = [Rules(()), Rules((rule, rule)), Rules((rule,), "no-cache"), Rules((rule._replace(charset="x"),))]
    assert len({one.digest for one in (Rules((rule,)), *others)}) == 5


def test_several_threads_may_ask() -> None:
    rules = Rules(tuple(HeaderRule((f"/{n % 50}*",), set=((b"X-%d" % n, b"1"),)) for n in range(200)))
    wrong: list[bytes] = []

    def ask() -> None:
        for n in range(2000):
            key = b"/%d" % (n % 50)
            if len(lines(rules, key)) < 4:
                wrong.append(key)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_whatever_the_rules_a_plain_reading_of_them_says_the_same() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    names = st.sampled_from(
        [b"X-A", b"x-a", b"X-B", b"Cache-Control", b"X-Content-Type-Options", b"Link", ALLOW_ORIGIN]
    )
    values = st.sampled_from([b"1", b"nosniff", b"no-cache"])
    globs = st.sampled_from(["/**", "/a/**", "*.js", "/a/app.8e0d62a0.js", "/b", "*", "/[ab]/*", "/*"])
    rule = st.builds(
        HeaderRule,
        st.lists(globs, min_size=1, max_size=2).map(tuple),
        remove=st.lists(names.map(bytes.lower), max_size=2).map(tuple),
        set=st.lists(st.tuples(names, values), max_size=2).map(tuple),
        add=st.lists(st.tuples(names, values), max_size=2).map(tuple),
        content_type=st.sampled_from(["", "text/plain"]),
        charset=st.sampled_from(["", "latin1"]),
        immutable=st.booleans(),
        cors=st.sampled_from([None, None, Cors(), Cors((b"https://a",))]),
        written=st.none(),
    )
    paths = ["/a/app.8e0d62a0.js", "/app.8e0d62a0.js", "/b", "/a/b", "/index.html", "/b/c.js"]

    def says_origins(rule: HeaderRule) -> int:
        return sum(name == ALLOW_ORIGIN for name, _ in (*rule.set, *rule.add))

    @hypothesis.settings(database=None, deadline=None)
    @hypothesis.given(st.lists(rule, max_size=6).map(tuple), st.sampled_from(["", "max-age=1"]))
    def law(written: tuple[HeaderRule, ...], cache_control: str) -> None:
        rules = Rules(written, cache_control)
        for path in (*paths, *paths):
            fields = rules.fields_of(path.encode())
            assert fields == plain(written, cache_control, path)
            by_hand = max((says_origins(rule) for rule in written), default=0)
            assert sum(name == ALLOW_ORIGIN for name, _ in fields.lines) <= max(1, by_hand)  # which files do not allow

    law()


def led(*tables: dict[str, Any], **more: Any) -> Rules:
    return Rules(redirects=redirects(tables_of(list(tables), ("redirects",))), **more)


def test_what_leads_nowhere_else_costs_no_look_up() -> None:
    assert not NO_RULES.has_answers
    assert NO_RULES.queries(b"/a") is Queries.ANY
    assert not NO_RULES.may_force(b"/a")
    assert NO_RULES.first_segments == frozenset()


def test_they_tell_for_which_queries_a_redirect_holds() -> None:
    rules = led(
        {"from": "/exact", "to": "/a"},
        {"from": "/other", "to": "/a", "status": 302},
        {"from": "/own", "to": "/a?x=1"},
        {"from": "/part", "to": "/a#b"},
        {"from": "/asks", "to": "/a", "query": {"x": "1"}},
        {"from": "/splat/*", "to": "/:splat"},
        {"from": "/page", "to": "/a", "status": 200},
    )
    keys = [b"/exact", b"/other", b"/own", b"/part", b"/asks", b"/splat/x", b"/page", b"/none"]
    assert [rules.queries(key) for key in keys] == [
        Queries.PLAIN, Queries.PLAIN, Queries.ANY, Queries.NONE, Queries.NONE, Queries.PLAIN, Queries.ANY, Queries.ANY,
    ]  # fmt: skip
    assert set(rules.first_segments or ()) == {b"exact", b"other", b"own", b"part", b"asks", b"splat", b"page"}


def test_force_holds_where_a_file_lies() -> None:
    rules = led({"from": "/a", "to": "/x", "force": True}, {"from": "/b", "to": "/x"})
    assert rules.forced(b"/a", None) is not None
    assert rules.may_force(b"/a")
    assert rules.forced(b"/b", None) is None
    assert rules.answer(b"/b", b"q") is not None
    assert not rules.may_force(b"/b")


def test_the_page_of_an_application_is_for_what_looks_like_no_file() -> None:
    rules = led(spa=True)
    assert [rules.page_of_application(key) for key in (b"/a/b", b"/a.b/c/", b"/a/b.js", b"/", b"/b.js/")] == [
        b"/index.html", b"/index.html", b"", b"/index.html", b"",
    ]  # fmt: skip
    assert led().page_of_application(b"/a") == b""


def test_what_several_own_is_all_of_it_or_everything() -> None:
    one, two = led({"from": "/a", "to": "/x"}), led({"from": "/b/c", "to": "/x"})
    assert set(owned_by([one, two]) or ()) == {b"a", b"b"}
    assert owned_by([one, led(spa=True)]) is owned_by([led({"from": "/*", "to": "/x"}), one]) is None
    assert owned_by([]) == frozenset()


def test_a_digest_tells_of_redirects_too() -> None:
    one = {"from": "/a", "to": "/x"}
    every = [led(), led(one), led(one | {"force": True}), led(one, clean_urls=True), led(one, spa=True)]
    assert len({rules.digest for rules in every}) == 5
    assert led(one).digest == led(one).digest


# --- tags and priorities --------------------------------------------------------------------------------------------

TAGGED = (
    HeaderRule(("*.css",), tags=("css", "assets"), priority=5),
    HeaderRule(("/assets/",), tags=("assets",), priority=-3),
    HeaderRule(("/a b",), set=((b"Surrogate-Key", b"mine"),), tags=("x",)),
    HeaderRule(("/**",), tags=("all",)),
)


def test_a_tag_is_of_the_files_that_its_globs_match() -> None:
    rules = Rules(TAGGED)
    keys = [b"/a%20b", b"/a.css", b"/assets/b.css", b"/assets/b.js"]
    assert rules.tags.names == ("all", "assets", "css", "x")
    of = {tag: [key for key in keys if rules.tagged(tag)(key)] for tag in (*rules.tags.names, "none")}
    assert of == {"css": keys[1:3], "assets": keys[1:], "x": keys[:1], "all": keys, "none": []}
    assert lines(rules, b"/a.css") == ()


def test_a_tag_of_many_globs_is_of_the_same_files_as_one_of_few() -> None:
    globs = [f"/{i}/*" for i in range(ONE_BY_ONE_MAX + 1)]
    rules = Rules((HeaderRule(tuple(globs), tags=("many",)), HeaderRule(tuple(globs[1:]), tags=("few",))))
    keys = [f"/{i}/{name}".encode() for i in range(ONE_BY_ONE_MAX + 2) for name in ("a", "b%20c", "d/e")]
    many, few = ([key for key in keys if rules.tagged(tag)(key)] for tag in ("many", "few"))
    assert many == [*keys[:2], *few]
    assert len(few) == 2 * ONE_BY_ONE_MAX


def test_tags_are_sent_where_that_is_told_and_a_field_of_a_rule_replaces_them() -> None:
    rules = Rules(TAGGED, tag_header="Surrogate-Key")
    assert lines(rules, b"/assets/b.css") == ((b"Surrogate-Key", b"css assets all"),)
    assert lines(rules, b"/a%20b") == ((b"Surrogate-Key", b"mine"),)
    assert rules.fields_of_answer(b"/assets").lines == ((b"Surrogate-Key", b"all"),)
    assert rules.absent.lines == ((b"Surrogate-Key", b"all"),)
    assert rules.everywhere == ()
    assert Rules(TAGGED, tag_header="Cache-Tag").digest != rules.digest != Rules(TAGGED).digest


def test_the_last_rule_that_says_a_priority_decides() -> None:
    rules = Rules(TAGGED)
    assert rules.has_priorities
    assert [rules.priority_of(key) for key in (b"/x", b"/x.css", b"/assets/x.css")] == [0, 5, -3]
    assert not Rules((HeaderRule(("/a",), priority=0),)).has_priorities


def test_a_failure_has_what_is_said_of_a_path_but_how_its_content_is_kept() -> None:
    rule = HeaderRule(
        ("/a/**",),
        set=((b"X-A", b"1"), (b"Cache-Control", b"max-age=9"), (b"Link", b"</b>; rel=preload")),
        add=((b"Vary", b"X-B"),),
        cors=Cors((b"https://a.example",)),
    )
    rules = Rules([rule])
    common = ((b"X-A", b"1"), (b"Vary", b"X-B"), (b"Vary", b"Origin"))
    assert rules.fields_of_failure(b"/a/b", b"") == common
    assert rules.fields_of_failure(b"/a/b", b"https://a.example") == (*common, (ALLOW_ORIGIN, b"https://a.example"))
    assert rules.fields_of_failure(b"/b", b"https://a.example") == NO_RULES.fields_of_failure(b"/a/b", b"") == ()
    assert rules.has_lasting_fields
    assert not Rules([HeaderRule(("/a",), set=((b"Cache-Control", b"no-store"),), remove=(b"x-a",))]).has_lasting_fields
