"""Examples as Chromium has them: an application of one page, one that works without a network, and fonts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import LOAD_FONT, MARKS, WITHIN_MS, chromium
from tests.support.client import get
from tests.support.command import Command
from tests.support.engines import ENGINES
from tests.support.examples import Example, GetExample
from tests.support.waiting import WaitUntil

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright.sync_api")

pytestmark = MARKS

Start = Callable[[Example], Command]
ASSET = """async name => {
    try {
        return Object.keys(await import(name));
    } catch (error) {
        return error.name;
    }
}"""
REGISTER = """async name => {
    try {
        return (await navigator.serviceWorker.register(name, {scope: "/"})).scope;
    } catch (error) {
        return error.name;
    }
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(WITHIN_MS)
        yield page


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """`start(example)`: a server of this engine."""
    with ExitStack() as stack:

        def begin(example: Example) -> Command:
            server = example.start(request.param)
            stack.callback(server.end)
            server.wait_ready()
            return server

        yield begin


def shows(page: Page, text: str, path: str) -> None:
    """Wait until the application has drawn this for this path."""
    page.wait_for_selector(f'#root[data-path="{path}"]:has-text("{text}")')


def test_an_application_of_one_page_is_entered_anywhere(page: Page, example: GetExample, start: Start) -> None:
    here = start(example("spa")).url
    page.goto(here + "/notes/7")
    shows(page, "Note 7", "/notes/7")
    page.click("text=Note 8")
    shows(page, "Note 8", "/notes/8?sort=new")
    page.go_back()
    shows(page, "Note 7", "/notes/7")
    page.go_forward()
    shows(page, "Note 8", "/notes/8?sort=new")
    for _ in range(2):
        answer = page.reload()
        assert answer is not None
        assert answer.ok
        shows(page, "Note 8", "/notes/8?sort=new")
    assert page.evaluate(ASSET, "/assets/note-CnQ81vRe.js") == ["text"]
    assert page.evaluate(ASSET, "/assets/note-Old12345.js") == "TypeError"
    answer = page.goto(here + "/assets/note-Old12345.js")
    assert answer is not None
    assert answer.status == 404
    assert page.query_selector("#root") is None


def test_a_tab_of_the_last_release_finds_its_scripts(
    page: Page, example: GetExample, start: Start, wait_until: WaitUntil
) -> None:
    made = example("spa")
    releases, root = made.directory / "releases", made.directory / "dist"
    releases.mkdir()
    root.rename(releases / "1")
    root.symlink_to("releases/1")
    server = start(made)
    page.goto(server.url)
    shows(page, "All notes", "/")
    assets = releases / "2" / "assets"
    assets.mkdir(parents=True)
    (releases / "2" / "index.html").write_text("the next release")
    (made.directory / "next").symlink_to("releases/2")
    (made.directory / "next").rename(root)
    wait_until(lambda: get(server.port, "/").body == b"the next release")
    page.click("text=Note 7")  # loads a script that the next release does not have
    shows(page, "Note 7", "/notes/7")


def test_an_application_is_installed_and_works_without_a_server(page: Page, example: GetExample, start: Start) -> None:
    server = start(example("pwa"))
    page.goto(server.url)
    page.wait_for_selector(f'html[data-worker="{server.url}/"]')
    manifest = page.context.new_cdp_session(page).send("Page.getAppManifest")
    assert (manifest["url"], manifest["errors"]) == (f"{server.url}/app.webmanifest", [])
    # Another script of that directory has no leave to have the whole site.
    assert page.evaluate(REGISTER, "/js/app-5T2XKZQH.js") == "SecurityError"
    server.end()
    page.goto(server.url + "/any/page")
    assert page.inner_text("h1") == "There is no network"


def test_a_page_of_another_origin_has_the_fonts(page: Page, example: GetExample, start: Start) -> None:
    server = start(example("fonts"))
    page.goto(f"http://localhost:{server.port}/a/page/of/another/origin")
    assert page.evaluate(LOAD_FONT, f"{server.url}/box/v3/box-regular.woff2") == "loaded"
    assert page.evaluate(LOAD_FONT, f"{server.url}/box/v3/box-regular.ttf") == "loaded"
    assert page.evaluate(LOAD_FONT, f"{server.url}/box/v3/none.woff2") == "NetworkError"
    page.add_style_tag(url=f"{server.url}/box/v3/box.css")
    assert page.evaluate("async () => (await document.fonts.load('1em \"Example Box\"', 'ab')).length") == 1
