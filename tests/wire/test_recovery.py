"""A root, or what lies in it, that cannot be read for a moment is followed again, by either engine; and a reload that
failed is tried again by itself."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.following import Becomes, publish
from tests.support.site import Serve, Site
from tests.support.trees import as_its_owner, public_directory
from tests.support.waiting import WaitUntil
from zcserve.cache.root import Root
from zcserve.content import releases


@pytest.fixture
def root() -> Iterator[Path]:
    """A root of a user that may not read everything, and that can come to it."""
    with public_directory() as path:
        yield path


def harm_by_mode(path: Path) -> Callable[[], None]:
    path.chmod(0)
    return lambda: path.chmod(0o755)


def harm_by_rename(path: Path) -> Callable[[], None]:
    away = path.with_name(f"{path.name}-away")
    path.rename(away)

    def back() -> None:
        away.rename(path)

    return back


@pytest.mark.parametrize("harm", [harm_by_mode, harm_by_rename])
def test_a_root_that_comes_back_is_followed(
    root: Path, live: Serve, becomes: Becomes, wait_until: WaitUntil, harm: Callable[[Path], Callable[[], None]]
) -> None:
    (root / "page").write_bytes(b"one")
    server = live(root)
    with Client(server.port) as client, as_its_owner(root):
        for number in range(2):
            failed = server.content.counters.failed
            heal = harm(root)
            wait_until(lambda failed=failed: server.content.counters.failed > failed)
            assert client.get("/page").status == 200  # the old content goes on
            heal()
            publish(root / "page", b"%d" % number)
            becomes(client, "/page", b"%d" % number)
            (root / "page").write_bytes(b"in place")
            becomes(client, "/page", b"in place")


def test_a_directory_that_comes_back_is_followed(root: Path, live: Serve, becomes: Becomes) -> None:
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/b/c/page").write_bytes(b"one")
    server = live(root)
    with Client(server.port) as client, as_its_owner(root):
        for number, name in enumerate(("a", "a/b", "a/b/c", "a")):
            heal = harm_by_mode(root / name)
            becomes(client, "/a/b/c/page", None)
            heal()
            wanted = b"one" if number == 0 else b"%d" % (number - 1)
            becomes(client, "/a/b/c/page", wanted)
            publish(root / "a/b/c/page", b"%d" % number)
            becomes(client, "/a/b/c/page", b"%d" % number)


def test_a_reload_that_failed_is_tried_again_with_growing_waits(
    site: Site,
    live: Serve,
    becomes: Becomes,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a watcher: nothing else tells of the root's return."""
    monkeypatch.setattr(releases, "TRIED_AGAIN_AFTER_S", 0.02)
    monkeypatch.setattr(releases, "TRIED_AGAIN_MAX_S", 0.05)
    site.write("page", b"one")
    server = live(site.root, watch=False)
    with Client(server.port) as client:
        heal = harm_by_rename(site.root)
        server.reload()
        wait_until(lambda: server.content.counters.failed >= 4)
        waits = re.findall(r"tried again in ([0-9.]+) s: root", caplog.text)
        assert waits[:4] == ["0.02", "0.04", "0.05", "0.05"]
        (site.root.with_name("site-away") / "page").write_bytes(b"two")
        heal()
        becomes(client, "/page", b"two")
        wait_until(lambda: server.content.counters.flips == 1)
        server.reload()
        wait_until(lambda: server.content.counters.flips == 2)
        heal = harm_by_rename(site.root)
        caplog.clear()
        server.reload()
        wait_until(lambda: "tried again in 0.02 s" in caplog.text)  # it begins anew
        heal()


def test_a_file_system_that_does_not_work_at_the_start_is_looked_at_again(
    site: Site, live: Serve, becomes: Becomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "TRIED_AGAIN_AFTER_S", 0.02)
    site.write("page", b"a page")
    site.write("d/page", b"one")
    open_directory, broken = Root.open_directory, [1] * 3

    def disturbed(self: Root, path: bytes) -> int:
        if broken and path == b"d/":
            broken.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return open_directory(self, path)

    monkeypatch.setattr(Root, "open_directory", disturbed)
    with Client(live(site.root).port) as client:
        assert client.get("/page").body == b"a page"
        becomes(client, "/d/page", b"one")


@pytest.mark.parametrize("where", ["a directory", "a new directory", "everything"])
def test_an_error_of_the_file_system_is_no_news(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """EIO for a while: what is known is served, and what happened meanwhile is seen afterwards, without an event."""
    monkeypatch.setattr(releases, "TRIED_AGAIN_AFTER_S", 0.02)
    site.write("d/page", b"one")
    server = live(site.root)
    open_directory, broken = Root.open_directory, [True]

    def disturbed(self: Root, path: bytes) -> int:
        if broken and path.startswith(b"d"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_directory(self, path)

    monkeypatch.setattr(Root, "open_directory", disturbed)
    with Client(server.port) as client:
        if where == "everything":
            server.reload()
        elif where == "a directory":
            site.write("d/page", b"three")
        else:
            site.write("d/new/page", b"new")
        wait_until(lambda: server.content.counters.failed >= 2)
        assert client.get("/d/page").body == b"one"
        broken.clear()
        becomes(client, "/d/page", b"three" if where == "a directory" else b"one")
        if where == "a new directory":
            becomes(client, "/d/new/page", b"new")
        publish(site.root / "d/page", b"four")
        becomes(client, "/d/page", b"four")
