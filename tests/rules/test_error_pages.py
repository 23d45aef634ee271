"""zcserve.rules.error_pages: which paths a site's page for an error may have, and what is wrong with a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import plain_rules as plain
from zcserve.config.sites import configs_of
from zcserve.config.sources import load
from zcserve.errors import UsageError
from zcserve.rules.compiled import Rules
from zcserve.rules.error_pages import FROM_FILES, FROM_MEMORY, STATUSES, WORDS, ErrorPages
from zcserve.rules.redirects import ERRORS


def pages(*tables: dict[Any, str]) -> ErrorPages:
    return ErrorPages(tables)


def test_without_a_table_a_page_is_called_like_its_status() -> None:
    assert pages().of == {status: (b"/%d.html" % status,) for status in STATUSES}
    assert pages().in_memory == {b"/401.html", b"/404.html", b"/500.html", b"/503.html", b"/504.html"}


def test_a_status_goes_before_its_class_and_a_table_before_the_next_one_and_all_before_the_name() -> None:
    found = pages({"5xx": "/own/5", 404: "/own/4"}, {"503": "/all/503", "4xx": "/all/4"})
    assert found.of[503] == (b"/own/5", b"/all/503", b"/503.html")
    assert found.of[404] == (b"/own/4", b"/all/4", b"/404.html")
    assert found.of[410] == (b"/all/4", b"/410.html")
    assert b"/410.html" not in found.in_memory
    assert found.key_of(503, {b"/503.html", b"/all/503"}) == b"/all/503"
    assert found.key_of(503, ()) is None
    assert found.by_status({b"/own/5": b"5", b"/404.html": b"4"}) == {404: b"4", 500: b"5", 503: b"5", 504: b"5"}
    assert found.statuses_of(b"/all/4") == [401, 403, 404, 410, 451]


def test_each_error_of_a_rule_may_have_a_page() -> None:
    assert set(ERRORS) == {*FROM_FILES, 404}
    assert not set(FROM_FILES) & set(FROM_MEMORY)


def test_a_path_is_the_key_of_a_file_and_rules_of_another_table_are_other_rules() -> None:
    found = pages({404: "/f\u00e9//y"})
    assert found.of[404][0] == b"/f%C3%A9/y"
    assert Rules(error_pages=found).not_found_key == b"/f%C3%A9/y"
    assert Rules(error_pages=found).digest != Rules().digest == Rules(error_pages=pages({})).digest


def test_a_404_has_the_fields_of_its_page_whether_there_is_a_file_or_not(tmp_path: Path) -> None:
    from zcserve.config.table import Config
    from zcserve.rules.book import Rulebook

    written = ({"path": "/e/**", "set": {"X-A": "1"}},)
    rules = Rulebook(Config(root=tmp_path, rules=written, error_pages=({"404": "/e/none"},))).rules()
    assert rules.absent.lines == ((b"X-A", b"1"),)


HEAD = 'root = "w"\n[error_pages]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + '404 = "/a"\n40 = "/a"', "4:1: error_pages.40: '40' is no status with a page; the nearest known is 40"),
        (HEAD + '502 = "/a"', "3:1: error_pages.502: 502 has no page of a site: nothing is fetched"),
        (HEAD + '405 = "/a"', "3:1: error_pages.405: 405 has no page of a site: it tells a program"),
        (HEAD + '431 = "/a"', "3:1: error_pages.431: 431 has no page of a site: it ends a connection"),
        (HEAD + '5xy = "/a"', "3:1: error_pages.5xy: '5xy' is no status with a page; the nearest known is 5xx"),
        (HEAD + "404 = 1", "3:1: error_pages.404: 1 is an integer; accepted: a path in the root"),
        (HEAD + '404 = "a"', "3:1: error_pages.404: 'a' is no path in the root; accepted: a path that begins"),
        (HEAD + 'missing = "/a"', "3:1: error_pages.missing: 'missing' is no status with a page; accepted: 401, 403, "),
        (HEAD + '404 = "/a?b"', "3:1: error_pages.404: '/a?b' is no path in the root"),
        (HEAD + '404 = "https://a.example/b"', "3:1: error_pages.404: 'https://a.example/b' is no path in the root"),
        (HEAD + '404 = "/:a"', "3:1: error_pages.404: '/:a': there is no placeholder"),
        ('root = "w"\nerror_pages = "/a"', "2:1: error_pages: '/a' is a string; accepted: a table: [error_pages]"),
        ('root = "w"\n[[error_pages]]\n404 = "/a"', "2:1: error_pages: "),
        (
            '[sites.a]\nroot = "a"\nhosts = "a.example"\n[sites.a.error_pages]\n404 = ""',
            "5:1: sites.a.error_pages.404: '' is no path in the root",
        ),
        ('root = "w"\n[error_page]\n404 = "/a"', "2:1: unknown key 'error_page'; the nearest known is error_pages"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_column(tmp_path: Path, text: str, told: str) -> None:
    def read() -> list[ErrorPages]:
        return [ErrorPages(config.error_pages) for config in configs_of(load({}, {}, file)).values()]

    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        read()
    assert str(error.value).startswith(f"{tmp_path / 'site.toml'}:{told}")


def test_a_path_without_a_file_is_told_with_its_place_unless_it_is_the_servers(tmp_path: Path) -> None:
    text = (
        HEAD + '404 = "/a"\n5xx = "/b"\n[sites.x]\nroot = "x"\nhosts = "x.example"\n[sites.x.error_pages]\n410 = "/c"'
    )
    (tmp_path / "site.toml").write_text(text)
    of = {
        name: ErrorPages(config.error_pages)
        for name, config in configs_of(load({}, {}, tmp_path / "site.toml")).items()
    }
    assert list(of["default"].missing(lambda key: key == b"/b")) == [
        f"{tmp_path / 'site.toml'}:3:1: error_pages.404: no file is at /a; until there is one, another page answers "
        "with 404"
    ]
    (line,) = of["x"].missing(lambda _: False)
    assert line.startswith(f"{tmp_path / 'site.toml'}:9:1: sites.x.error_pages.410: no file is at /c")


def test_whatever_the_tables_a_plain_reading_of_them_finds_the_same_page() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    paths = st.sampled_from(["/a", "/b", "/404.html", "/503.html", "/410.html", "/none"])
    tables = st.lists(st.dictionaries(st.sampled_from(WORDS), paths, max_size=4), max_size=2)

    @hypothesis.settings(max_examples=100, database=None, deadline=None)
    @hypothesis.given(tables, st.sets(paths), st.sampled_from(STATUSES))
    def law(written: list[dict[str, str]], files: set[str], status: int) -> None:
        found = pages(*written).key_of(status, {path.encode() for path in files})
        assert (found.decode() if found else None) == plain.error_page(written, status, files)

    law()
