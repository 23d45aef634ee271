"""Redirects as Chromium follows them: by links, by forms and by scripts, to each of the two engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import MARKS, WITHIN_MS, chromium
from tests.support.site import Serve, Site
from zcserve import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api")

pytestmark = MARKS

# Says what came to it.
ECHO = """
from html import escape
from zcserve import servlet

@servlet("/echo/{rest:path}", methods=["GET", "POST"])
def echo(request, rest):
    return escape(f"{request.method} {request.path} {sorted(request.query.items())} {request.body.decode()}")
"""
# Statuses, and the method by which Chromium asks again after POST.
AGAIN = {301: "GET", 302: "GET", 303: "GET", 307: "POST", 308: "POST"}
REDIRECTS: tuple[dict[str, Any], ...] = (
    *({"from": f"/{status}/*", "to": "/echo/:splat", "status": status} for status in AGAIN),
    {"from": "/chain/*", "to": "/307/:splat", "status": 308},
    {"from": "/year/:year/:name", "to": "/echo/:name?year=:year", "status": 302},
    {"from": "/forced.html", "to": "/plain.html", "status": 302, "force": True},
    {"from": "/plain.html", "to": "/forced.html"},  # a file lies there
    {"from": "/app/*", "to": "/plain.html", "status": 200},
)
SEND = """async ([url, content]) => {
    const answer = await fetch(url, {method: "POST", body: content});
    return [answer.redirected, new URL(answer.url).pathname, await answer.text()];
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(WITHIN_MS)
        yield page


@pytest.fixture
def server(site: Site, live: Serve) -> Server:
    folder = site.root.parent / "servlets"
    folder.mkdir()
    (folder / "echo.py").write_text(ECHO)
    site.write("plain.html", b"<!doctype html><title>plain</title>plain<form method=post><input name=a value=b>")
    site.write("forced.html", b"never")
    return live(site.root, servlets=str(folder), redirects=REDIRECTS)


def test_a_browser_goes_where_a_redirect_leads(page: Page, server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}"

    def go(target: str) -> tuple[str, str]:
        answer = page.goto(here + target)
        assert answer is not None
        assert answer.status == 200
        return page.url.removeprefix(here), page.inner_text("body")

    for _ in range(2):  # the lane has learned it, and the browser may have kept a 301
        for status in AGAIN:
            assert go(f"/{status}/a/b?x=1#part") == ("/echo/a/b?x=1#part", "GET /echo/a/b [('x', '1')]")
        assert go("/302/a%20b/%C3%BC") == ("/echo/a%20b/%C3%BC", "GET /echo/a b/ü []")
        assert go("/302/%2F%2Fevil.example")[0] == "/echo/evil.example"
        assert go("/chain/c?y=2") == ("/echo/c?y=2", "GET /echo/c [('y', '2')]")
        assert go("/year/2024/snow") == ("/echo/snow?year=2024", "GET /echo/snow [('year', '2024')]")
        assert go("/forced.html") == ("/plain.html", "plain")
        assert go("/app/any/path") == ("/app/any/path", "plain")


def test_what_a_script_sends_arrives_by_307_and_308_alone(page: Page, server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}"
    page.goto(here + "/plain.html")
    for _ in range(2):
        for status, method in AGAIN.items():
            redirected, path, text = page.evaluate(SEND, [f"/{status}/a", "content"])
            assert (redirected, path) == (True, "/echo/a")
            assert text == f"{method} /echo/a [] {'content' if method == 'POST' else ''}", status
        assert page.evaluate(SEND, ["/chain/a", "content"]) == [True, "/echo/a", "POST /echo/a [] content"]


@pytest.mark.parametrize(("status", "method"), AGAIN.items())
def test_a_form_is_sent_again_by_307_and_308_alone(page: Page, server: Server, status: int, method: str) -> None:
    here = f"http://127.0.0.1:{server.port}"
    page.goto(here + "/plain.html")
    page.eval_on_selector("form", "(form, action) => { form.action = action; form.submit(); }", f"/{status}/form?x=1")
    page.wait_for_url(here + "/echo/form?x=1")
    assert page.inner_text("body") == f"{method} /echo/form [('x', '1')]{' a=b' if method == 'POST' else ''}"
