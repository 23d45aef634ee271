"""Passwords as Chromium and curl have them: a page with pictures behind one login, a wrong one, and the next one.

Playwright drives Debian's browser, which answers a challenge with what it was given.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.passwords import ALICE, ALICE_ARGON2, BOB
from tests.support.site import Serve, Site
from zcserve import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("argon2")

CHROMIUM, CURL = shutil.which("chromium"), shutil.which("curl")
WITHIN_MS = 30_000
PICTURES = 12
GIF = bytes.fromhex("47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b")


@pytest.fixture
def server(live: Serve, site: Site) -> Server:
    pictures = "".join(f'<img src="{number}.gif">' for number in range(PICTURES))
    site.write("in/index.html", f"<!doctype html><title>inside</title>{pictures}".encode())
    for number in range(PICTURES):
        site.write(f"in/{number}.gif", GIF)
    return live(site.root, auth=({"path": "/in/**", "users": {"zoë": ALICE_ARGON2}, "realm": "Inside"},))


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_logs_in_and_resumes_a_download(server: Server) -> None:
    def status(*words: str) -> str:
        url = f"http://127.0.0.1:{server.port}/in/0.gif"
        command = [CURL or "", "-s", "-S", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", *words, url]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    zoe = ("-u", f"zoë:{ALICE}")
    assert status(*zoe) == status("--anyauth", *zoe) == f"200 {len(GIF)}"
    assert status(*zoe, "-r", "3-") == f"206 {len(GIF) - 3}"
    assert status().startswith("401 ")
    assert status("-u", f"zoë:{BOB}").startswith("401 ")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.peer
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_a_page_with_its_pictures_behind_one_login(server: Server, browser: Browser) -> None:
    url = f"http://127.0.0.1:{server.port}/in/"
    asked: list[bytes] = []
    check = server.service.keeper.checks.check

    def counted(hashed: str, password: bytes) -> bool:
        asked.append(password)
        return check(hashed, password)

    server.service.keeper.checks.check = counted
    for password, status in ((BOB, 401), (ALICE, 200)):
        with browser.new_context(http_credentials={"username": "zoë", "password": password}) as context:
            page = context.new_page()
            answer = page.goto(url, timeout=WITHIN_MS)
            assert answer is not None
            assert answer.status == status
            if status == 200:
                page.wait_for_load_state("networkidle", timeout=WITHIN_MS)
                widths = page.evaluate("[...document.images].map(one => one.naturalWidth)")
                assert widths == [1] * PICTURES
                assert page.title() == "inside"
    assert asked.count(ALICE.encode()) == 1
