"""What no event tells of is found by a slow look at everything (`--recheck`), by either engine."""

from __future__ import annotations

import mmap
import os
from math import inf
from pathlib import Path
from typing import Any

import pytest
from wire.client import Client
from wire.hanging import Hanging

RECHECK = {"recheck_s": 0.05}


@pytest.fixture(params=["64M", "4K"], ids=["resident", "cold"])
def memory(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_write_through_another_hard_link(site: Any, live: Any, becomes: Any, tmp_path: Path, memory: str) -> None:
    site.write("page", b"one" * 3000)
    os.link(site.root / "page", tmp_path / "other")
    with Client(live(site.root, memory=memory, **RECHECK).port) as client:
        old = client.get("/page")
        assert old.body == b"one" * 3000
        (tmp_path / "other").write_bytes(b"two" * 3000)
        becomes(client, "/page", b"two" * 3000)
        assert client.get("/page", f"If-None-Match: {old['ETag'].decode()}").status == 200


def test_a_write_through_a_mapping(site: Any, live: Any, wait_until: Any) -> None:
    file = site.write("page", b"one")
    with Client(live(site.root, **RECHECK).port) as client:
        assert client.get("/page").body == b"one"
        fd = os.open(file, os.O_RDWR)
        try:
            with mmap.mmap(fd, 3) as mapping:
                mapping[:] = b"two"
                mapping.flush()
                wait_until(lambda: client.get("/page").body == b"two")
        finally:
            os.close(fd)


def test_a_mount_over_a_directory(site: Any, live: Any, becomes: Any, tmp_path: Path) -> None:
    (site.root / "empty/below").mkdir(parents=True)
    source = tmp_path / "source"
    (source / "e").mkdir(parents=True)
    (source / "page").write_bytes(b"mounted")
    (source / "e/more").write_bytes(b"mounted")
    with Client(live(site.root, **RECHECK).port) as client:
        with Hanging(source, site.root / "empty/below"):
            becomes(client, "/empty/below/page", b"mounted")
            becomes(client, "/empty/below/e/more", b"mounted")
        becomes(client, "/empty/below/page", None)
        site.write("empty/below/page", b"below")
        becomes(client, "/empty/below/page", b"below")


def test_after_a_flip_the_next_generation_is_looked_at(
    site: Any, live: Any, becomes: Any, wait_until: Any, tmp_path: Path
) -> None:
    site.write("page", b"one")
    os.link(site.root / "page", tmp_path / "other")
    server = live(site.root, **RECHECK)
    with Client(server.port) as client:
        server.reload()
        wait_until(lambda: server.content.counters.flips == 1)
        with (tmp_path / "other").open("r+b", buffering=0) as other:
            other.write(b"two")  # one step: it is never empty
        becomes(client, "/page", b"two")
        wait_until(lambda: server.content.counters.patches == 1)
        for _ in range(2):  # it goes on, and finds nothing more
            at = server.content._recheck_at
            wait_until(lambda at=at: server.content._recheck_at not in (at, inf))
        assert server.content.counters.patches == 1


@pytest.mark.parametrize("off", [{"recheck_s": 0}, {"watch": False, "recheck_s": 0.01}])
def test_it_can_be_off(site: Any, live: Any, off: dict[str, Any]) -> None:
    site.write("page", b"one")
    server = live(site.root, **off)
    with Client(server.port) as client:
        assert client.get("/page").body == b"one"
    assert server.content._recheck_at > server.loop.now + 1e9


def test_what_begins_to_be_written_while_a_request_finds_a_change_is_not_sent_by_halves(
    site: Any, live: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = site.write("page", b"one" * 3000)
    os.link(page, tmp_path / "other")
    server = live(site.root, memory="4K")
    look = server.loader.renew
    with page.open("r+b") as writer, Client(server.port) as client:

        def half_written(*of: Any) -> Any:
            if not writer.tell():
                writer.write(b"six" * 1500)
                writer.flush()
            return look(*of)

        monkeypatch.setattr(server.loader, "renew", half_written)
        (tmp_path / "other").write_bytes(b"two" * 3000)  # no event tells of it
        answer = client.get("/page")
        assert (answer.status, answer["Retry-After"]) == (503, b"1")
