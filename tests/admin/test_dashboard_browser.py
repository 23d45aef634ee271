"""The page at `/` in Chromium, as its readers have it: eyes, fingers, keys, screen readers.

Playwright drives Debian's browser. What axe-core says is asked where npm has it (NODE_PATH).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import MARKS, WITHIN_MS, chromium
from tests.support.client import Client
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.admin.tickers import Ticker

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright.sync_api")

pytestmark = MARKS

TOKEN = "a-token-of-some-length"
WIDTHS = {"a desk": 1280, "a phone": 360}
# What a browser itself says of requests that the tests have refused.
REFUSED = ("with a status of 400", "with a status of 401", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING")
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """`open_page(server, width=1280, **context)`: the page, live. Afterwards nothing was told to the console, and
    nothing was asked for elsewhere."""
    said: list[str] = []
    contexts = []

    def start(server: Server, width: int = 1280, *, state: str = "live", **context: Any) -> Page:
        here = f"http://127.0.0.1:{server.admin_port}/"
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **context))
        page = contexts[-1].new_page()
        page.set_default_timeout(WITHIN_MS)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda one: said.append(one.url) if not one.url.startswith((here, "data:")) else None)
        page.goto(here)
        page.wait_for_selector(f"#link:text('{state}')")
        return page

    yield start
    for context in contexts:
        context.close()
    assert [line for line in said if not any(reason in line for reason in REFUSED)] == []


@pytest.fixture
def root(site: Site) -> Path:
    for n in range(20):
        site.write(f"assets/{n}.css", b"a {}" * n)
    return site.root


@contextmanager
def load(server: Server) -> Iterator[None]:
    """A client that asks as fast as it can."""
    is_over = threading.Event()

    def ask() -> None:
        with Client(server.port) as client:
            while not is_over.is_set():
                client.get("/assets/7.css")
                client.get("/none")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        is_over.set()
        asking.join()


def tile(label: str) -> str:
    return f"#tiles div:has(dt:text-is('{label}')) .value"


def wait_for_text(page: Page, selector: str, pattern: str) -> None:
    """Wait until the text of an element matches."""
    page.wait_for_function(
        "([found, pattern]) => new RegExp(pattern).test(found.textContent)",
        arg=[page.query_selector(selector), pattern],
    )


def tell(page: Page, verb: str) -> None:
    """Send a form, and say yes, by keys alone."""
    page.focus(f"form[data-verb={verb}] button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm[open]")
    assert page.evaluate("document.activeElement.value") == "no"  # Enter alone does nothing
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_move_under_load(root: Path, serve: Serve, open_page: Open, engine: str) -> None:
    server = serve(root, engine=engine, admin="127.0.0.1:0")
    page = open_page(server)
    assert page.text_content("#phase") == "ready"
    with load(server):
        wait_for_text(page, tile("Requests"), r"^[\d,.]*[1-9][\d,.KM]*/s$")
        wait_for_text(page, tile("Sent"), "[1-9]")
        wait_for_text(page, tile("Time to answer, p50"), "[mµ]?s$")
        wait_for_text(page, tile("Hit ratio"), r"\d%")
        wait_for_text(page, "[data-table=hottest]", "/assets/7.css")
        wait_for_text(page, "[data-table=codes]", "404")
        figure = page.locator("figure", has_text="Answers a second")
        figure.locator("summary").click()
        figure.locator("tbody tr").first.wait_for()  # a table that is opened is filled by the next event
        assert page.locator("figure canvas").count() >= 8
        first = page.text_content("#tiles")
        page.wait_for_function("text => document.getElementById('tiles').textContent !== text", arg=first)


def test_a_purge_a_reload_and_a_drain_are_told_after_a_question(root: Path, serve: Serve, open_page: Open) -> None:
    server = serve(root, admin="127.0.0.1:0")
    page = open_page(server)
    page.select_option("#purge-kind", "prefix")
    page.fill("form[data-verb=purge] input[name=what]", "/assets/")
    page.check("form[data-verb=purge] input[value=hard]")
    page.click("form[data-verb=purge] button")
    assert page.text_content("#confirm-title") == "Purge everything with the prefix /assets/?"
    page.keyboard.press("Escape")
    assert page.locator("#results li").count() == 0  # nothing was told
    page.click("form[data-verb=purge] button")
    page.click("#confirm-yes")
    wait_for_text(page, "#results", r"Purge prefix /assets/ hard true: .*\b20\b")
    assert "Purge: " in (page.text_content("#said") or "")
    tell(page, "reload")
    wait_for_text(page, "#results", "Reload: reloading")
    wait_for_text(page, tile("Generation"), "^2$")
    tell(page, "drain")
    wait_for_text(page, "#phase", "draining")
    page.wait_for_selector("form[data-verb=undrain]")
    assert page.locator("form[data-verb=drain]").is_hidden()
    tell(page, "undrain")
    wait_for_text(page, "#phase", "ready")
    page.fill("form[data-verb=purge] input[name=what]", "no-path")
    page.click("form[data-verb=purge] button")
    page.click("#confirm-yes")
    page.wait_for_selector("#results li[data-tone=bad]")  # refused, with the node's words


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_it_fits_and_is_sound_for_those_who_cannot_see_it(
    root: Path, serve: Serve, open_page: Open, width: int
) -> None:
    axe = next((found for found in map(_axe_in, os.environ.get("NODE_PATH", "").split(":")) if found.exists()), None)
    if axe is None:
        pytest.skip("axe-core is not installed (NODE_PATH)")
    server = serve(root, admin="127.0.0.1:0")
    for scheme in ("light", "dark"):
        page = open_page(server, width, color_scheme=scheme)
        with Client(server.port) as client:
            assert client.get("/assets/7.css").status == 200
        wait_for_text(page, "[data-table=hottest]", "/assets/")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.wait_for_selector("figure tbody tr")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(axe.read_text())
        assert _grave(page) == []
        page.fill("form[data-verb=purge] input[name=what]", "/")
        page.click("form[data-verb=purge] button")
        page.wait_for_selector("#confirm[open]")
        assert _grave(page) == []
        page.close()


def _axe_in(folder: str) -> Path:
    return Path(folder or "/nowhere") / "axe-core" / "axe.min.js"


def _grave(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert found["passes"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_a_token_is_asked_for_and_kept_in_the_tab(root: Path, tmp_path: Path, serve: Serve, open_page: Open) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    server = serve(root, admin="127.0.0.1:0", admin_token_file=str(file))
    page = open_page(server, state="needs the token")
    for token, then in (("wrong", "needs the token"), (TOKEN, "live")):
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-said:text('does not know')" if token == "wrong" else f"#link:text('{then}')")
    tell(page, "reload")
    wait_for_text(page, "#results", "Reload: reloading")
    page.reload()
    page.wait_for_selector("#link:text('live')")
    page.click("#forget-token")
    page.wait_for_selector("#locked:visible")


def test_a_page_that_is_hidden_has_no_connection(
    root: Path, serve: Serve, open_page: Open, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    close = Ticker.close
    monkeypatch.setattr(Ticker, "close", lambda self: (closed.append(1), close(self)))
    page = open_page(serve(root, admin="127.0.0.1:0"))
    assert not closed
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_selector("#link:text('paused')")
    wait_until(lambda: closed)
    page.evaluate(hide, False)
    page.wait_for_selector("#link:text('live')")


def test_it_connects_again_by_itself_to_a_node_that_was_started_anew(root: Path, open_page: Open) -> None:
    with Server(Config(root=root, port=0, admin="127.0.0.1:0")) as server:
        port = server.admin_port
        page = open_page(server)
    page.wait_for_selector("#link:text('trying again')")
    with Server(Config(root=root, port=0, admin=f"127.0.0.1:{port}")):
        page.wait_for_selector("#link:text('live')")
        page.close()
