"""Debian's Chromium, which Playwright drives. Such tests are for `peer` alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
# What a module of such tests is marked with.
MARKS = [pytest.mark.peer, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
WITHIN_MS = 30_000
# Loads a font: its status, or the error's name.
LOAD_FONT = """async url => {
    try {
        return (await new FontFace("a", `url(${url})`).load()).status;
    } catch (error) {
        return error.name;
    }
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. The caller has asked for `playwright.sync_api` by `pytest.importorskip`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
