"""zcserve.content.missed: what a configuration is for and a root lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.passwords import ALICE_BCRYPT
from tests.support.site import Site
from zcserve.cache.index import Generation
from zcserve.cache.ruled import open_root
from zcserve.cache.walk import walk
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.content.missed import doubts_about_rules, idle_pin, missed_by_rules
from zcserve.rules.book import Rulebook

Look = Callable[..., tuple[Generation, Config]]


@pytest.fixture
def look(site: Site) -> Look:
    """What a configuration makes of the root, by keys, or by the text of a file."""

    def look(text: str = "", **keys: Any) -> tuple[Generation, Config]:
        file = site.root.parent / "site.toml"
        file.write_text(f'root = "{site.root}"\n{text}')
        config = load(keys, {}, file) if text else Config(root=site.root, **keys)
        return walk(open_root(config.directory, Rulebook(config)), index=config.index), config

    return look


def test_the_page_of_an_application_that_is_not_there_is_told(site: Site, look: Look) -> None:
    site.write("other.html")
    told = "/index.html is not there, which is the page for all paths that lead nowhere: they get 404 until it is"
    assert list(missed_by_rules(*look(spa=True))) == [f"--spa {told}"]
    assert list(missed_by_rules(*look("\n spa = true"))) == [f"{site.root.parent}/site.toml:3:2: spa: {told}"]
    assert list(missed_by_rules(*look())) == []
    site.write("index.html")
    assert list(missed_by_rules(*look(spa=True))) == []


RULES = """
[[rules]]
path = "/asets/**"
set = { X-A = "1" }
[[rules]]
path = ["*.css", "/assets/font/*",
        "*.woff"]
set = { X-A = "1" }
[[rules]]
path = ["/moved", "/404.html", "/old/x/*", "/app/*.json", "/new/**"]
set = { X-A = "1" }
[[rules]]
path = "/files/"
listing = true
[[redirects]]
from = "/moved"
to = "/files/"
[[redirects]]
from = "/old/:name/*"
to = "/files/"
[[redirects]]
from = "/new/*"
to = "/index.html"
status = 200
"""


def test_a_path_of_a_rule_where_nothing_is_has_its_place_and_what_may_be_meant(site: Site, look: Look) -> None:
    assert list(doubts_about_rules(*look(RULES))) == []  # an empty root
    for name in ("assets/a.css", "assets/fonts/a.woff2", "files/sub/a", "index.html"):
        site.write(name)
    file = site.root.parent / "site.toml"
    expected = [
        f"{file}:4:1: rules[0].path: '/asets/**' matches no file; did you mean '/assets/**'?",
        f"{file}:7:18: rules[1].path[1]: '/assets/font/*' matches no file; did you mean '/assets/fonts/*'?",
        f"{file}:8:9: rules[1].path[2]: '*.woff' matches no file; did you mean '*.woff2'?",
        f"{file}:11:44: rules[2].path[3]: '/app/*.json' matches no file",
        f"{file}:11:59: rules[2].path[4]: '/new/**' matches no file",  # a rewrite has the fields of its file
    ]
    told = list(doubts_about_rules(*look(RULES)))
    assert told == expected
    mounted = list(doubts_about_rules(*look(RULES, mount=("/app=wsgi:x:y",))))
    assert [line for line in told if line not in mounted] == [expected[3]]
    assert list(doubts_about_rules(*look(RULES, servlets="s"))) == []


def test_a_block_of_headers_at_which_nothing_is_has_its_place(site: Site, look: Look) -> None:
    site.write("about.html")
    site.write("_headers", b"/abut\n  X-A: 1\n/about\n  X-A: 2\n/*\n  X-B: 1\n")
    assert list(doubts_about_rules(*look())) == ["_headers:1:1: this path matches no file; did you mean '/about.html'?"]


def test_a_path_that_protects_no_file_is_told_unless_an_application_is_there(site: Site, look: Look) -> None:
    pytest.importorskip("bcrypt")
    pytest.importorskip("argon2")
    site.write("in/a")
    auth = {"path": ["/in/**", "/privat/**", "/app/x"], "users": {"alice": ALICE_BCRYPT}}
    told = "protects no file (/directory/** is all below a directory)"
    first, second = f"auth[0].path[1]: '/privat/**' {told}", f"auth[0].path[2]: '/app/x' {told}"
    assert list(missed_by_rules(*look(auth=(auth,)))) == [first, second]
    assert list(missed_by_rules(*look(auth=(auth,), mount=("/app=x:y",)))) == [first]
    assert list(missed_by_rules(*look(auth=(auth,), servlets="s"))) == []


def test_a_pin_is_named_by_its_flag_or_its_place(look: Look) -> None:
    assert idle_pin(look(pin=("*.x",))[1], "*.x") == "--pin *.x matches no file"
    assert idle_pin(look('pin = "*.x"')[1], "*.x").endswith("site.toml:2:1: pin: *.x matches no file")
    assert idle_pin(look('pin = "*.y"', pin=("*.x",))[1], "*.x") == "--pin *.x matches no file"


def test_an_index_that_no_directory_has_and_a_redirect_that_no_file_lets_through_are_told(
    site: Site, look: Look
) -> None:
    site.write("index.htm")
    site.write("page.html")
    text = """index = ["index.html, index.htm", "index.htm"]
clean_urls = true
[[redirects]]
from = "/page"
to = "/index.htm"
"""
    file = site.root.parent / "site.toml"
    assert list(doubts_about_rules(*look(text))) == [
        f"{file}:4:1: '/page' never answers: a file is at /page, and goes before; force has the rule hold",
        f"{file}:2:1: index: no directory has 'index.html, index.htm'",
    ]
    assert list(doubts_about_rules(*look(index=("none",)))) == ["--index no directory has 'none'"]
    assert list(doubts_about_rules(*look())) == []  # nothing was said, so nothing is told
