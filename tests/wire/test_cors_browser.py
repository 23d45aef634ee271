"""CORS as Chromium has it: a page of one origin asks another for JSON and a font, with and without leave.

Playwright drives Debian's browser, to which two ports are two origins. The font is one that the system has for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import LOAD_FONT, MARKS, WITHIN_MS, chromium
from tests.support.site import Serve, Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api")

pytestmark = MARKS

FONTS = Path("/usr/share/fonts")
# What a page learns of an answer: its content and a field of it, or that it may not read it.
READ = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return [answer.status, await answer.text(), answer.headers.get("X-Kind")];
    } catch (error) {
        return error.name;
    }
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(WITHIN_MS)
        yield page


def test_a_page_reads_of_another_origin_what_it_may_and_nothing_else(page: Page, site: Site, live: Serve) -> None:
    font = next(FONTS.rglob("*.ttf"), None)
    site.write("index.html", b"<!doctype html><title>a page</title>")
    for folder in ("open", "mine", "theirs", "closed"):
        site.write(f"{folder}/a.json", b'{"a": 1}')
        site.write(f"{folder}/a.ttf", font.read_bytes() if font is not None else b"")
    home = live(site.root)
    here = f"http://127.0.0.1:{home.port}"
    listed: dict[str, Any] = {"headers": ["X-Token"], "methods": ["GET"], "expose": ["X-Kind"], "credentials": True}
    there = live(
        site.root,
        rules=(
            {"path": "/**", "set": {"X-Kind": "a kind"}},
            {"path": "/open/**", "cors": "*"},
            {"path": "/mine/**", "cors": listed | {"origins": [here]}},
            {"path": "/theirs/**", "cors": listed | {"origins": ["https://theirs.example"]}},
        ),
    )
    page.goto(here)

    def read(target: str, **options: Any) -> Any:
        return page.evaluate(READ, [f"http://127.0.0.1:{there.port}{target}", options | {"cache": "no-store"}])

    def load(target: str) -> Any:
        return page.evaluate(LOAD_FONT, f"http://127.0.0.1:{there.port}{target}")

    for _ in range(2):
        assert read("/open/a.json") == [200, '{"a": 1}', None]
        assert read("/open/a.json", headers={"X-Any": "1"}) == [200, '{"a": 1}', None]  # with leave
        assert read("/open/a.json", headers={"Authorization": "a"}) == "TypeError"
        assert read("/open/a.json", credentials="include") == "TypeError"
        assert read("/mine/a.json", credentials="include") == [200, '{"a": 1}', "a kind"]
        assert read("/mine/a.json", headers={"X-Token": "1"}, credentials="include") == [200, '{"a": 1}', "a kind"]
        assert read("/mine/a.json", headers={"X-Other": "1"}) == "TypeError"
        assert read("/mine/a.json", method="DELETE") == "TypeError"
        assert read("/theirs/a.json") == read("/closed/a.json") == "TypeError"
        assert read("/closed/a.json", headers={"X-Token": "1"}) == "TypeError"
    assert load("/theirs/a.ttf") == load("/closed/a.ttf") == "NetworkError"
    assert font is None or load("/open/a.ttf") == load("/mine/a.ttf") == "loaded"
