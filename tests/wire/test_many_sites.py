"""A server of hundreds of sites: what is the server's does not grow with them, and each is followed by itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.engines import ENGINES
from tests.support.hanging import Hanging
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.config.sources import load
from zcserve.content.builder import Builder
from zcserve.content.crews import HANGING_MAX, SITES_AT_ONCE

MANY = 200


class Hoster:
    """A server of many sites, each with a page that says its number, and a rule; `add` makes the file name one more."""

    def __init__(self, path: Path, engine: str, count: int, first: Path | None = None) -> None:
        self.engine = engine
        self.path = path
        self.roots: list[Path] = []
        self._first = first
        self._text: list[str] = []
        for _ in range(count):
            self.add()
        self.server = Server(self.read(), self.read)

    def add(self) -> None:
        number = len(self.roots)
        root = self._first if self._first is not None and not number else self.path / str(number)
        self.roots.append(root)
        root.mkdir(exist_ok=True)
        (root / "page").write_text(f"{number}")
        self._text.append(
            f'[sites.s{number}]\nroot = "{root}"\nhosts = ["s{number}.example", "*.s{number}.example"]\n'
            f'[[sites.s{number}.rules]]\npath = "/page"\nset = {{ X-Site = "{number}" }}\n'
        )
        (self.path / "web.toml").write_text("\n".join(self._text))

    def read(self) -> Config:
        return load({"port": 0, "engine": self.engine}, {}, self.path / "web.toml")

    def publish(self, number: int, text: str) -> None:
        aside = self.roots[number] / ".page.new"
        aside.write_text(text)
        aside.rename(self.roots[number] / "page")

    def says(self, number: int) -> tuple[bytes, bytes]:
        """The field that the rule sets, and the page."""
        with Client(self.server.port) as client:
            client.send(f"GET /page HTTP/1.1\r\nHost: s{number}.example\r\n\r\n".encode())
            answer = client.read()
        return answer["x-site"], answer.body


def of_the_process() -> tuple[int, int, int]:
    """Threads, descriptors, and how many of these are of inotify."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # of the listing itself
    return len(os.listdir("/proc/self/task")), len(links), links.count("anon_inode:inotify")


def hold_patches_of(site: int, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """As if its file system hung: what is set when a patch of this site hangs, and what has it go on."""
    hangs, go = threading.Event(), threading.Event()
    make_patch = Builder.make_patch

    def late(builder: Builder, *given: Any) -> Any:
        if builder.site.id == site:
            hangs.set()
            assert go.wait(60)
        return make_patch(builder, *given)

    monkeypatch.setattr(Builder, "make_patch", late)
    return hangs, go


@pytest.mark.parametrize("engine", ENGINES)
def test_hundreds_of_sites_have_the_threads_of_a_few_and_each_is_followed_by_itself(
    engine: str,
    tmp_path: Path,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    hangs, go = hold_patches_of(0, monkeypatch)
    hoster = Hoster(tmp_path, engine, MANY)
    before = of_the_process()
    with hoster.server as server:
        threads, descriptors, instances = (now - was for now, was in zip(of_the_process(), before, strict=True))
        kinds = 3
        assert threads <= kinds * (SITES_AT_ONCE + 1) + 10  # of loaders, the loop and the like
        assert (descriptors - 1 <= 30 + MANY, instances) == (True, 1)  # a root is a descriptor
        assert hoster.says(MANY - 1) == (b"%d" % (MANY - 1), b"%d" % (MANY - 1))

        hoster.publish(0, "hangs")
        assert hangs.wait(20)
        hoster.publish(MANY - 1, "new")
        wait_until(lambda: hoster.says(MANY - 1)[1] == b"new")
        assert hoster.says(0)[1] == b"0"
        go.set()
        wait_until(lambda: hoster.says(0)[1] == b"hangs")

        tenants, contents = list(server.sites), list(server.contents)
        hoster.add()
        server.reload()
        wait_until(lambda: f"new: s{MANY}; changed: none; gone: none" in caplog.text)
        assert list(server.sites)[:MANY] == tenants
        assert list(server.contents)[:MANY] == contents
        hoster.publish(MANY, "the newest")
        wait_until(lambda: hoster.says(MANY)[1] == b"the newest")
        assert of_the_process()[0] - before[0] <= kinds * (SITES_AT_ONCE + HANGING_MAX) + 10
        assert of_the_process()[2] - before[2] == 1
        wait_until(lambda: all(content.counters.flips for content in contents))  # so that it ends within its time
    assert of_the_process()[2] == before[2]
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_a_root_that_hangs_stops_no_other_site(tmp_path: Path, wait_until: WaitUntil) -> None:
    with Hanging(tmp_path / "far", tmp_path / "near") as hanging:
        hoster = Hoster(tmp_path, "auto", 6, hanging.path)
        with hoster.server as server:
            far, *others = server.contents
            hanging.stop()
            server.reload()
            wait_until(lambda: all(content.counters.flips for content in others))
            hoster.publish(5, "new")
            wait_until(lambda: hoster.says(5)[1] == b"new")
            assert far.counters.flips == 0
            assert hoster.says(0)[1] == b"0"  # what is in memory
            hanging.go_on()
            wait_until(lambda: far.counters.flips)
